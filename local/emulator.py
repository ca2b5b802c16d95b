"""The AWS emulator (ministack), made to keep the promises that this project's template relies on.

Runs in a virtual environment of its own (`.venv-emulator`), because ministack pins botocore.
Loopback only; temporary files and saved state stay below one folder. `patches.py` reaches into
private names, so the version is checked first and `tests/contract/` probes every behaviour: after a
version bump, change VERSION and run those tests.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from local import patches

VERSION: Final = "1.5.33"


class EmulatorVersionError(RuntimeError):
    """Another ministack is installed than the one these patches were written for."""


def check_version() -> None:
    """Raises EmulatorVersionError unless ministack is exactly VERSION."""
    found = importlib.metadata.version("ministack")
    if found != VERSION:
        raise EmulatorVersionError(
            f"ministack {found} is installed in {sys.prefix}, but local/patches.py replaces private"
            f" names of {VERSION}. Install ministack=={VERSION}, or change VERSION and run"
            " tests/contract/."
        )


def configure(
    port: int, state: Path, sagemaker_url: str, environment: MutableMapping[str, str]
) -> None:
    """Writes into `environment` what ministack and its Lambda workers read from it.

    To be called before ministack is imported. Workers inherit this environment, so the SageMaker
    endpoints reach every Lambda from here. The AWS configuration files of the person at the
    keyboard are hidden from them.
    """
    temporary = state / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True, exist_ok=True)
    environment.update(
        {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_HOST": "localhost",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LAMBDA_EXECUTOR": "local",
            "PERSIST_STATE": "1",
            "S3_PERSIST": "1",
            "STATE_DIR": str(state / "emulator" / "state"),
            "S3_DATA_DIR": str(state / "emulator" / "s3"),
            "TMPDIR": str(temporary),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker_url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": sagemaker_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )


def main() -> None:
    """Serves until a signal comes; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m local.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="TCP port on 127.0.0.1")
    parser.add_argument("--state", type=Path, required=True, help="folder for all that is written")
    parser.add_argument("--sagemaker", required=True, metavar="URL", help="the SageMaker stand-in")
    arguments = parser.parse_args()
    check_version()
    configure(arguments.port, arguments.state.resolve(), arguments.sagemaker, os.environ)
    sys.argv = sys.argv[:1]
    from ministack import app

    patches.apply(arguments.state.resolve())
    app.main()


if __name__ == "__main__":
    main()
