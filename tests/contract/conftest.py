"""One emulator for the folder: a free port, a fake SageMaker behind it, a probe Lambda inside."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from contract_parts import ROLE, FakeSageMaker, Run, client_for, free_port, until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-emulator" / "bin" / "python"
PROBE = (Path(__file__).parent / "probe.py").read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)


@pytest.fixture(scope="session")
def sagemaker() -> Iterator[FakeSageMaker]:
    server = FakeSageMaker()
    yield server
    server.stop()


@contextmanager
def running_emulator(port: int, state: Path, sagemaker: FakeSageMaker) -> Iterator[str]:
    """An emulator that keeps its state in a folder; its URL."""
    log = (state / "log").open("ab")
    process = subprocess.Popen(
        [
            *(PYTHON, "-m", "local.emulator", "--port", str(port), "--state", str(state)),
            *("--sagemaker", f"http://127.0.0.1:{sagemaker.server_address[1]}"),
        ],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (state / "log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    try:
        until(answers)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        log.close()


@pytest.fixture(scope="session")
def emulator(sagemaker: FakeSageMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator's URL."""
    with running_emulator(free_port(), tmp_path_factory.mktemp("emulator"), sagemaker) as url:
        yield url


@pytest.fixture
def restarting(sagemaker: FakeSageMaker, tmp_path: Path) -> Callable[[], Any]:
    """Starts an emulator, the same one each time, as a context manager that yields its URL."""
    port = free_port()
    return lambda: running_emulator(port, tmp_path, sagemaker)


@pytest.fixture(scope="session")
def aws(emulator: str) -> Callable[[str], Any]:
    """Makes boto3 clients for the emulator, whatever the environment says."""
    return lambda service: client_for(emulator, service)


@pytest.fixture(scope="session")
def function(aws: Callable[[str], Any]) -> Callable[[str], str]:
    """Deploys probe.py under a name; the function's ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("probe.py", PROBE)

    def deploy(name: str) -> str:
        arn: str = aws("lambda").create_function(
            FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="probe.handler", Timeout=60,
            Code={"ZipFile": archive.getvalue()},
        )["FunctionArn"]  # fmt: skip
        return arn

    return deploy


@pytest.fixture(scope="session")
def probe(function: Callable[[str], str]) -> str:
    """The ARN of a probe Lambda."""
    return function("probe")


@pytest.fixture(scope="session")
def run_states(aws: Callable[[str], Any]) -> Run:
    """`run(states, input)` runs a state machine to its end; DescribeExecution's answer."""
    client = aws("stepfunctions")
    made = iter(range(1000))

    def run(states: dict[str, Any], given: dict[str, Any] | None = None) -> dict[str, Any]:
        definition = json.dumps({"StartAt": next(iter(states)), "States": states})
        machine = client.create_state_machine(
            name=f"m{next(made)}", definition=definition, roleArn=ROLE
        )
        started = client.start_execution(
            stateMachineArn=machine["stateMachineArn"], input=json.dumps(given or {})
        )

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = client.describe_execution(executionArn=started["executionArn"])
            return None if found["status"] == "RUNNING" else found

        execution: dict[str, Any] = until(ended)
        return execution

    return run
