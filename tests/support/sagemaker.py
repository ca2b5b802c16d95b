"""SageMaker's control plane over HTTP: takes training jobs, and fails in chosen ways."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.sagemaker import requests, serverless

Fault = Callable[["_Handler"], None]


class ControlPlane(ThreadingHTTPServer):
    """Keeps training jobs by name; a name that is taken is refused.

    `faults` are used up one a create, after the job is kept or instead of it (`keeps_job`).
    `created` counts the jobs that were kept, `asked` the creates that came in.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.keeps_job = True
        self.created = self.asked = 0
        self.released = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ControlPlane

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].removeprefix("SageMaker.")
        requests.validate(operation, given)
        getattr(self, f"_{operation}")(given)

    def _DescribeHubContent(self, given: dict[str, Any]) -> None:  # noqa: N802
        self.reply(200, serverless.describe_hub_content(given))

    def _DescribeTrainingJob(self, given: dict[str, Any]) -> None:  # noqa: N802
        job = self.server.jobs.get(given["TrainingJobName"])
        if job is None:
            self.refuse(400, "ValidationException", "Requested resource not found.")
        else:
            self.reply(200, job)

    def _CreateTrainingJob(self, given: dict[str, Any]) -> None:  # noqa: N802
        plane, name = self.server, given["TrainingJobName"]
        plane.asked += 1
        fault = plane.faults.pop(0) if plane.faults else None
        if name in plane.jobs:
            self.refuse(400, "ResourceInUse", "Training job names must be unique.")
            return
        if fault is None or plane.keeps_job:
            status = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
            plane.jobs[name] = {**given, **status, "CreationTime": 0}
            plane.created += 1
        if fault is None:
            self.reply(
                200, {"TrainingJobArn": f"arn:aws:sagemaker:us-east-1:1:training-job/{name}"}
            )
        else:
            fault(self)

    def refuse(self, status: int, code: str, message: str = "no") -> None:
        self.reply(status, {"__type": code, "message": message})

    def reply(self, status: int, body: Any) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def running_control_plane() -> Iterator[ControlPlane]:
    """A control plane on a port of this machine."""
    plane = ControlPlane()
    thread = threading.Thread(target=plane.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield plane
    plane.released.set()
    plane.shutdown()
    plane.server_close()
