"""EMR Serverless's stand-in: a job run is a process of `.venv-spark`, in Spark's local mode.

It is the service integration of the state machine only: the parameters that `startJobRun` gets, the
job done for real, and GetJobRun's answer. Logs go to `spark/<run>.log` below the state folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from local.settings import ACCOUNT, REGION, ROOT

START_JOB_RUN: Final = "arn:aws:states:::emr-serverless:startJobRun"
ARN: Final = f"arn:aws:emr-serverless:{REGION}:{ACCOUNT}:/applications/local"
INHERITED: Final = ("PATH", "HOME", "LANG", "JAVA_HOME", "TMPDIR", "DROPFORGE_LOCAL_INSTANCE")
WANTED: Final = ("ApplicationId", "ExecutionRoleArn", "JobDriver")
LOG_LINES: Final = 5


def job_task(
    failure: Callable[[str, str], Exception], folder: Path, python: Path
) -> Callable[[str, Any], Any]:
    """The ASL service integration `emr-serverless:startJobRun.sync`.

    Why: ministack has no EMR Serverless, and answers this resource with States.Runtime. Not needed
    any more once it has one that runs jobs. As on AWS, a job that does not succeed fails with
    States.TaskFailed, and the cause is GetJobRun's answer in JSON, which holds StateDetails.

    Args:
        failure: makes the emulator's own execution error of (error, cause). What this machine
            lacks is told as a function would tell it, for the message beside the dropped file.
        folder: where logs go.
        python: the interpreter with PySpark.
    """

    def run(resource: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        missing = [name for name in WANTED if name not in parameters]
        if missing or not resource.endswith(".sync"):
            raise failure("States.Runtime", f"startJobRun.sync needs {', '.join(missing)}")
        if not python.exists():
            said = f"BACKEND: {python} is missing: run `make .venv-spark/.ready`, then drop again."
            raise failure("BackendError", json.dumps({"errorMessage": said}))
        submit = parameters["JobDriver"]["SparkSubmit"]
        arguments = submit.get("EntryPointArguments", [])
        if not all(isinstance(argument, str) and argument for argument in arguments):
            raise failure("States.Runtime", "EntryPointArguments has to be a list of strings")
        run_id = f"00{uuid.uuid4().hex[:14]}"
        module = f"spark.{PurePosixPath(submit['EntryPoint']).stem}"
        status, ending = _run([str(python), "-m", module, *arguments], folder / f"{run_id}.log")
        description = {
            "ApplicationId": parameters["ApplicationId"],
            "JobRunId": run_id,
            "Arn": f"{ARN}/jobruns/{run_id}",
            "Name": parameters.get("Name", ""),
            "State": "FAILED" if status else "SUCCESS",
            "StateDetails": ending if status else "",
            "UpdatedAt": int(time.time() * 1000),
        }
        if status:
            raise failure("States.TaskFailed", json.dumps(description))
        return {"JobRun": description}

    return run


def _run(command: list[str], log: Path) -> tuple[int, str]:
    """Runs the job to its end; its exit status, and the end of its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment.update({n: value for n, value in os.environ.items() if n.startswith("AWS_")})
    environment["SPARK_LOCAL_IP"] = "127.0.0.1"
    with log.open("wb") as file:
        done = subprocess.run(  # noqa: S603 - the project's own entry points
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            check=False,
        )  # fmt: skip
    lines = log.read_text(errors="replace").splitlines()
    return done.returncode, "\n".join(lines[-LOG_LINES:])
