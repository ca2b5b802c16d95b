"""Where the local default lives: its ports, its folder, and what leads clients to it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
BASE_MODEL: Final = "smollm2-135m-instruct"
DEFAULT_PORT: Final = 4566
POLL_SECONDS: Final = 2


class SetupError(RuntimeError):
    """The local default cannot start here; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """One instance of the local default.

    `port` is the first of three consecutive ones on 127.0.0.1: emulator, model server, SageMaker
    stand-in. `state` is an absolute folder that holds everything written; wiping it starts anew.
    `spark_from` are the bytes from which on an export goes to Spark; None: as many as on AWS.
    """

    port: int
    state: Path
    root: Path = ROOT
    spark_from: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads DROPFORGE_PORT, DROPFORGE_STATE and DROPFORGE_SPARK_FROM.

        Raises:
            SetupError: the port is out of range, or the bytes are no number.
        """
        given = environment.get("DROPFORGE_PORT") or str(DEFAULT_PORT)
        if not given.isdecimal() or not 1024 <= int(given) <= 65533:
            raise SetupError(
                f"DROPFORGE_PORT={given!r}: give the first of three free ports, 1024 to 65533."
            )
        state = Path(environment.get("DROPFORGE_STATE") or ".local")
        spark_from = environment.get("DROPFORGE_SPARK_FROM") or None
        if spark_from is not None and not spark_from.isdecimal():
            raise SetupError(f"DROPFORGE_SPARK_FROM={spark_from!r}: give a number of bytes.")
        bytes_ = int(spark_from) if spark_from else None
        return cls(int(given), (ROOT / state).resolve(), spark_from=bytes_)

    @property
    def emulator_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def model_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 1}"

    @property
    def sagemaker_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}"

    @property
    def assembly(self) -> Path:
        """The CDK cloud assembly that was synthesised last."""
        return self.state / "cdk.out"

    @property
    def env_file(self) -> Path:
        """A shell file to source: clients then reach this instance."""
        return self.state / "env"

    @property
    def emulator_python(self) -> Path:
        """The emulator's interpreter, which is also the one that Lambdas run on."""
        return self.root / ".venv-emulator" / "bin" / "python"

    @property
    def spark_python(self) -> Path:
        """The interpreter with PySpark, if `make .venv-spark/.ready` has made it."""
        return self.root / ".venv-spark" / "bin" / "python"

    @cached_property
    def lambda_python(self) -> str:
        """The minor version for which Lambda assets must be built, such as `3.11`.

        Raises SetupError when the emulator's virtual environment is missing.
        """
        if not self.emulator_python.exists():
            raise SetupError(f"{self.emulator_python} is missing: run `make setup`.")
        question = "import sys; print('%d.%d' % sys.version_info[:2])"
        command = [str(self.emulator_python), "-c", question]
        asked = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return asked.stdout.strip()

    @property
    def context(self) -> dict[str, Any]:
        """The CDK context values that differ from AWS: interpreter, URLs, model, pace, Spark."""
        machine = platform.machine().lower()
        arm = machine in ("arm64", "aarch64")
        over: dict[str, Any] = {
            "python": self.lambda_python,
            "architecture": "arm64" if arm else "x86_64",
            "openai_base_url": f"{self.model_url}/v1",
            "judge_base_url": f"{self.model_url}/v1",
            "poll_seconds": POLL_SECONDS,
            "sagemaker.base_model": BASE_MODEL,
            "spark.image": "local",
        }
        if self.spark_from is not None:
            over["max_bytes"] = self.spark_from
        # Wheels for this machine: AWS's glibc for the emulator's Python is older than numpy's.
        system = "apple-darwin" if sys.platform == "darwin" else "manylinux_2_28"
        return {**over, "platform": f"{'aarch64' if arm else 'x86_64'}-{system}"}

    @property
    def client_environment(self) -> dict[str, str]:
        """What an AWS client needs to reach this instance and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.emulator_url,
            "AWS_ENDPOINT_URL_SAGEMAKER": self.sagemaker_url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.sagemaker_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }
