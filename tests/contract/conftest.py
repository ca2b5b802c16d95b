"""One emulator for the folder, on a free port, with a fake SageMaker behind it and a probe Lambda inside it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-emulator" / "bin" / "python"
ROLE = "arn:aws:iam::000000000000:role/probe"
PROBE = (Path(__file__).parent / "probe.py").read_text()

Run = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 15, every: float = 0.05) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"{condition} did not come true within {seconds} s")


class FakeSageMaker(ThreadingHTTPServer):
    """Answers CreateTrainingJob and DescribeTrainingJob as scripted by the job's name: `…-fails` fails, `…-taken` is
    refused; others complete at the second look."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeSageMakerHandler)
        self.created: list[dict[str, Any]] = []
        self.looks: dict[str, int] = {}


class FakeSageMakerHandler(BaseHTTPRequestHandler):
    server: FakeSageMaker

    def do_POST(self) -> None:
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = request["TrainingJobName"]
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:training-job/{name}"
        if operation == "CreateTrainingJob":
            if name.endswith("-taken"):
                return self.reply(
                    400, {"__type": "ResourceInUse", "message": "Training job names must be unique"}
                )
            self.server.created.append(request)
            return self.reply(200, {"TrainingJobArn": arn})
        looks = self.server.looks[name] = self.server.looks.get(name, 0) + 1
        ended = "Failed" if name.endswith("-fails") else "Completed"
        body = {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": ended if looks > 1 else "InProgress",
            "SecondaryStatus": ended if looks > 1 else "Training",
            "CreationTime": 1_700_000_000.5,
        }
        if ended == "Failed":
            body["FailureReason"] = "AlgorithmError: the loss is not a number"
        return self.reply(200, body)

    def reply(self, status: int, body: dict[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="session")
def sagemaker() -> Iterator[FakeSageMaker]:
    server = FakeSageMaker()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def emulator(sagemaker: FakeSageMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator's URL."""
    port, state = free_port(), tmp_path_factory.mktemp("emulator")
    log = (state / "log").open("wb")
    process = subprocess.Popen(
        [PYTHON, "-m", "local.emulator", "--port", str(port), "--state", str(state)]
        + ["--sagemaker", f"http://127.0.0.1:{sagemaker.server_address[1]}"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (state / "log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=1) as response:
                return bool(response.status == 200)
        except urllib.error.URLError:
            return False

    until(answers)
    yield url
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)
    log.close()


@pytest.fixture(scope="session")
def aws(emulator: str) -> Callable[[str], Any]:
    """Makes boto3 clients for the emulator, whatever the environment says."""
    session = boto3.session.Session("test", "test", region_name="us-east-1")

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=emulator)  # type: ignore[call-overload]

    return client


@pytest.fixture(scope="session")
def function(aws: Callable[[str], Any]) -> Callable[[str], str]:
    """Deploys probe.py under a name; the function's ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("probe.py", PROBE)

    def deploy(name: str) -> str:
        arn: str = aws("lambda").create_function(
            FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="probe.handler", Timeout=10,
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
    """Runs a state machine to its end: `run(states, input)` with the first state first; DescribeExecution's answer."""
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
