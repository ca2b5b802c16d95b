"""An emulator, every corpus cleaned on one machine, and one Spark session that does the same.

Spark runs in `.venv-spark` (`make .venv-spark/.ready`) on Java 17; without them the folder is
skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-spark" / "bin" / "python"
EMULATOR = ROOT / ".venv-emulator" / "bin" / "python"
BUCKET = "dropforge-spark"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = "no java" if shutil.which("java") is None else ""
    missing = missing or ("" if PYTHON.exists() else "no .venv-spark: make .venv-spark/.ready")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)
            item.add_marker(pytest.mark.slow)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that leads to an emulator of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    state = tmp_path_factory.mktemp("emulator")
    with (state / "log").open("wb") as log:
        command = [str(EMULATOR), "-m", "local.emulator", "--port", str(port)]
        command += ["--state", str(state), "--sagemaker", "http://127.0.0.1:1"]
        process = subprocess.Popen(
            command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _await(f"{url}/_ministack/health")
            yield {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _await(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.1)


@pytest.fixture(scope="session")
def s3(aws: dict[str, str]) -> Any:
    """A client for the emulator, with a versioned bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return client


def spark(aws: dict[str, str], specs: list[dict[str, Any]]) -> str:
    """Runs jobs in one session; what it printed."""
    environment = {"PATH": os.environ["PATH"], "SPARK_LOCAL_IP": "127.0.0.1", **aws}
    if "JAVA_HOME" in os.environ:
        environment["JAVA_HOME"] = os.environ["JAVA_HOME"]
    done = subprocess.run(
        [str(PYTHON), "-m", "tests.spark.spark_run", json.dumps(specs)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout
