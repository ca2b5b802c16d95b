"""The stand-in for EMR Serverless: what the state machine hands over, and what it gets back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.spark import job_task

SYNC = "arn:aws:states:::emr-serverless:startJobRun.sync"
PARAMETERS = {
    "Name": "dropforge-clean",
    "ApplicationId": "a",
    "ExecutionRoleArn": "r",
    "JobDriver": {
        "SparkSubmit": {
            "EntryPoint": "local:///opt/dropforge/spark/clean.py",
            "EntryPointArguments": ["bucket", "shop"],
        }
    },
}


class Failure(Exception):  # noqa: N818
    """Stands for the emulator's execution error."""


def interpreter(folder: Path, status: int) -> Path:
    """What is called instead of Python: prints its arguments, and exits."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\necho got $*\nexit {status}\n")
    script.chmod(0o755)
    return script


def test_a_job_runs_its_entry_point_with_its_arguments(tmp_path: Path) -> None:
    run = job_task(Failure, tmp_path / "logs", interpreter(tmp_path, 0))
    job = run(SYNC, PARAMETERS)["JobRun"]
    assert job["State"] == "SUCCESS"
    [log] = (tmp_path / "logs").iterdir()
    assert log.name == f"{job['JobRunId']}.log"
    assert log.read_text() == "got -m spark.clean bucket shop\n"


def test_a_job_that_fails_fails_the_task_with_its_description(tmp_path: Path) -> None:
    run = job_task(Failure, tmp_path / "logs", interpreter(tmp_path, 1))
    with pytest.raises(Failure) as raised:
        run(SYNC, PARAMETERS)
    error, cause = raised.value.args
    assert error == "States.TaskFailed"
    assert json.loads(cause)["State"] == "FAILED"
    assert "got -m spark.clean" in json.loads(cause)["StateDetails"]


def test_without_pyspark_the_task_says_what_to_do(tmp_path: Path) -> None:
    run = job_task(Failure, tmp_path, tmp_path / "missing")
    with pytest.raises(Failure, match=r"make \.venv-spark/\.ready"):
        run(SYNC, PARAMETERS)
