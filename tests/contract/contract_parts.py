"""What the contract tests share: a fake SageMaker, waiting, names."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import boto3

from tests.support.http import Handler, Server

ROLE = "arn:aws:iam::000000000000:role/probe"

Run = Callable[..., dict[str, Any]]


def client_for(url: str, service: str) -> Any:
    """A boto3 client for an emulator, whatever the environment says."""
    session: Any = boto3.session.Session("test", "test", region_name="us-east-1")
    return session.client(service, endpoint_url=url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 60, every: float = 0.05) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(every)
    raise AssertionError(f"{condition} did not come true within {seconds} s")


class FakeSageMaker(Server):
    """Answers CreateTrainingJob and DescribeTrainingJob as the job's name says.

    `…-fails` fails, `…-taken` is refused; others complete at the second look.
    """

    def __init__(self) -> None:
        super().__init__(FakeSageMakerHandler)
        self.created: list[dict[str, Any]] = []
        self.looks: dict[str, int] = {}
        self.start()


class FakeSageMakerHandler(Handler):
    content_type = "application/x-amz-json-1.1"
    server: FakeSageMaker

    def do_POST(self) -> None:
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        request = json.loads(self.read())
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
