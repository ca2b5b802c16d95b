"""SageMaker's control plane over HTTP: takes training jobs, and fails in chosen ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from local.sagemaker import requests, serverless
from tests.support.http import Fault, Handler, Server


class ControlPlane(Server):
    """Keeps training jobs by name; a name that is taken is refused.

    `faults` are used up one a create, after the job is kept or instead of it (`keeps_job`).
    `created` counts the jobs that were kept, `asked` the creates that came in.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.keeps_job = True
        self.created = self.asked = 0
        self.start()


class _Handler(Handler):
    content_type = "application/x-amz-json-1.1"
    server: ControlPlane

    def do_POST(self) -> None:
        given = json.loads(self.read())
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


@contextmanager
def running_control_plane() -> Iterator[ControlPlane]:
    """A control plane on a port of this machine."""
    plane = ControlPlane()
    yield plane
    plane.stop()
