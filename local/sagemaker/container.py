"""What a training container finds, on this machine: folders, configuration, variables, process.

The folder `opt/ml` of a job stands for `/opt/ml`; an entry point's arguments that begin with
`/opt/ml` are moved there. Variables follow sagemaker-training-toolkit's ENVIRONMENT_VARIABLES.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from local.sagemaker.records import Record

HOST: Final = "algo-1"
FAILURE_LENGTH: Final = 1024
TAIL_LINES: Final = 12
PYTHONS: Final = ("python", "python3")


@dataclass
class Container:
    """A training job's process and its folders below `folder`."""

    folder: Path
    job: Record
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def ml(self) -> Path:
        return self.folder / "opt" / "ml"

    @property
    def model(self) -> Path:
        return self.ml / "model"

    @property
    def checkpoints(self) -> Path:
        return self.ml / "checkpoints"

    @property
    def output_data(self) -> Path:
        return self.ml / "output" / "data"

    def channel(self, name: str) -> Path:
        return self.ml / "input" / "data" / name

    def prepare(self) -> None:
        """Makes the folders and writes `input/config`."""
        config = self.ml / "input" / "config"
        for folder in (config, self.model, self.checkpoints, self.output_data):
            folder.mkdir(parents=True, exist_ok=True)
        (self.ml / "output" / "failure").unlink(missing_ok=True)
        channels = {
            channel["ChannelName"]: {"TrainingInputMode": "File", "S3DistributionType": "None"}
            for channel in self.job.get("InputDataConfig", [])
        }
        for name, content in (
            ("hyperparameters", self.job.get("HyperParameters", {})),
            ("inputdataconfig", channels),
            ("resourceconfig", {"current_host": HOST, "hosts": [HOST]}),
        ):
            (config / f"{name}.json").write_text(json.dumps(content))

    def command(self) -> list[str]:
        """The entry point and its arguments, in this interpreter and below this folder."""
        algorithm = self.job["AlgorithmSpecification"]
        first, *rest = [
            re.sub(r"^/opt/ml(?=/|$)", str(self.ml), part)
            for part in algorithm["ContainerEntrypoint"] + algorithm.get("ContainerArguments", [])
        ]
        return [sys.executable if Path(first).name in PYTHONS else first, *rest]

    def environment(self) -> dict[str, str]:
        """This process's variables, the job's own, and SageMaker's."""
        channels = [channel["ChannelName"] for channel in self.job.get("InputDataConfig", [])]
        hyperparameters = self.job.get("HyperParameters", {})
        named = {f"SM_CHANNEL_{name.upper()}": str(self.channel(name)) for name in channels}
        named |= {
            f"SM_HP_{re.sub('[^A-Z0-9]', '_', name.upper())}": value
            for name, value in hyperparameters.items()
        }
        return {
            **os.environ,
            **named,
            "SAGEMAKER_BASE_DIR": str(self.ml),
            "SM_INPUT_DIR": str(self.ml / "input"),
            "SM_INPUT_CONFIG_DIR": str(self.ml / "input" / "config"),
            "SM_MODEL_DIR": str(self.model),
            "SM_OUTPUT_DIR": str(self.ml / "output"),
            "SM_OUTPUT_DATA_DIR": str(self.output_data),
            "SM_CHECKPOINT_DIR": str(self.checkpoints),
            "SM_CHANNELS": json.dumps(channels),
            "SM_HPS": json.dumps(hyperparameters),
            "SM_HOSTS": json.dumps([HOST]),
            "SM_CURRENT_HOST": HOST,
            "SM_NUM_CPUS": str(os.cpu_count() or 1),
            "SM_NUM_GPUS": "0",
            "SM_LOG_LEVEL": "20",
            "TRAINING_JOB_NAME": self.job["TrainingJobName"],
            "TRAINING_JOB_ARN": self.job["TrainingJobArn"],
            "PYTHONUNBUFFERED": "1",
            **self.job.get("Environment", {}),
        }

    def run(self) -> int:
        """Runs the entry point to its end; its exit status, negative for a signal.

        Output goes to the job's `log`; lines that match a metric definition set that metric.
        """
        patterns = [
            (definition["Name"], re.compile(definition["Regex"]))
            for definition in self.job["AlgorithmSpecification"].get("MetricDefinitions", [])
        ]
        self._process = subprocess.Popen(  # noqa: S603 - running the job's script is the point
            self.command(), cwd=self.ml, env=self.environment(), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        with (self.folder / "log").open("a") as log:
            for line in self._lines(self._process):
                log.write(line)
                log.flush()
                self._tail.append(line.rstrip())
                self._measure(patterns, line)
        return self._process.wait()

    @staticmethod
    def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
        yield from process.stdout or ()

    def _measure(self, patterns: list[tuple[str, re.Pattern[str]]], line: str) -> None:
        for name, pattern in patterns:
            for match in pattern.finditer(line):
                with contextlib.suppress(ValueError, IndexError):
                    value = float(match[1])
                    self.metrics[name] = {
                        "MetricName": name, "Value": value, "Timestamp": time.time()
                    }  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Signals the process and its children; nothing happens once it has ended."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def failure(self, status: int) -> str:
        """Why the entry point failed: what it wrote to `output/failure`, else its last lines."""
        file = self.ml / "output" / "failure"
        said = file.read_text(errors="replace").strip() if file.exists() else ""
        said = said or "\n".join(self._tail)
        return f"AlgorithmError: {said[: FAILURE_LENGTH - 50]}, exit code: {status}"
