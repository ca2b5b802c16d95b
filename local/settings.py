"""Where the local default lives: its ports, its folder, and what leads clients to it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
BASE_MODEL: Final = "smollm2-135m-instruct"
DEFAULT_PORT: Final = 4566
POLL_SECONDS: Final = 2
PROVIDERS: Final = {
    "openai": "/v1",
    "azure": "/openai/v1",
    "bedrock": "/v1",
    "together": "/together/v1",
    "local": "/v1",
}
"""Every hosted provider is the model server here, under the path of the provider's dialect."""


class SetupError(RuntimeError):
    """The local default cannot start here; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """One instance of the local default.

    `port` is the first of three consecutive ones on 127.0.0.1: emulator, model server, SageMaker
    stand-in. `state` is an absolute folder that holds everything written; wiping it starts anew.
    `over` are CDK context values over the local ones, as `-c` gives them on AWS.
    """

    port: int
    state: Path
    root: Path = ROOT
    over: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads DROPFORGE_PORT, DROPFORGE_STATE and DROPFORGE_CONTEXT (a JSON object).

        Raises:
            SetupError: the port is out of range, or the context is no JSON object.
        """
        given = environment.get("DROPFORGE_PORT") or str(DEFAULT_PORT)
        if not given.isdecimal() or not 1024 <= int(given) <= 65533:
            raise SetupError(
                f"DROPFORGE_PORT={given!r}: give the first of three free ports, 1024 to 65533."
            )
        state = Path(environment.get("DROPFORGE_STATE") or ".local")
        text = environment.get("DROPFORGE_CONTEXT") or "{}"
        try:
            over = json.loads(text)
        except ValueError:
            over = None
        if not isinstance(over, dict):
            raise SetupError(
                f"DROPFORGE_CONTEXT={text!r}: give a JSON object of CDK context values, such as"
                ' {"max_bytes": 4000000}.'
            )
        return cls(int(given), (ROOT / state).resolve(), over=over)

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
        here: dict[str, Any] = {
            "python": self.lambda_python,
            "architecture": "arm64" if arm else "x86_64",
            "providers": {name: f"{self.model_url}{path}" for name, path in PROVIDERS.items()},
            "webhooks": ["openai", "local"],
            "judge_base_url": f"{self.model_url}/v1",
            "poll_seconds": POLL_SECONDS,
            "sagemaker.base_model": BASE_MODEL,
            "spark.image": "local",
        }
        # Wheels for this machine: AWS's glibc for the emulator's Python is older than numpy's.
        system = "apple-darwin" if sys.platform == "darwin" else "manylinux_2_28"
        here["platform"] = f"{'aarch64' if arm else 'x86_64'}-{system}"
        return {**here, **self.over}

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
