"""Fault 31 for SageMaker: a create that was taken, and whose answer never came, is one job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.serverless import ONCE, ServerlessBackend
from dropforge.backends.store import Store
from dropforge.errors import BackendError, RetryableError, TrainingNotAvailableError
from local.sagemaker.serverless import HUB_MODEL
from tests.support.http import Fault, hangs, resets
from tests.support.sagemaker import ControlPlane, running_control_plane

SPEC = FineTuneSpec("shop", "d" * 64, "sagemaker-serverless", HUB_MODEL, {"epochs": 2, "seed": 7})
JOB = FineTuneJob(SPEC, 1, 0.0)
FILES = {"train": b"{}\n", "validation": b"{}\n"}


def answers(status: int, code: str) -> Fault:
    return lambda handler: handler.refuse(status, code)


def garbles(handler: Any) -> None:
    """Half a JSON with a 200."""
    handler.reply(200, b'{"TrainingJobArn": "arn:')


@pytest.fixture
def plane() -> Iterator[ControlPlane]:
    with running_control_plane() as plane:
        yield plane


@pytest.fixture
def backend(plane: ControlPlane) -> ServerlessBackend:
    """The backend with its own client for creates, which waits two seconds at most."""
    quick = ONCE.merge(Config(read_timeout=2.0))
    return ServerlessBackend(
        "dropforge", "base", Store("bucket"),
        role_arn="arn:aws:iam::123456789012:role/training",
        package_group_arn="arn:aws:sagemaker:us-east-1:123456789012:model-package-group/dropforge",
        client=boto3.client("sagemaker", endpoint_url=plane.url),
        once=boto3.client("sagemaker", endpoint_url=plane.url, config=quick),
    )  # fmt: skip


FAULTS = {
    "500": answers(500, "InternalFailure"),
    "503": answers(503, "ServiceUnavailable"),
    "throttled": answers(400, "ThrottlingException"),
    "409": answers(409, "ResourceInUse"),
    "dropped": resets,
    "timeout": hangs,
    "half a JSON": garbles,
}


@pytest.mark.parametrize(
    ("fault", "kept"),
    [(name, True) for name in FAULTS] + [(name, False) for name in FAULTS if name != "half a JSON"],
)
def test_fault_31_unanswered_create_makes_exactly_one_job(
    plane: ControlPlane, backend: ServerlessBackend, fault: str, kept: bool
) -> None:
    """Whether or not the job was kept, and however often the stage is retried."""
    plane.faults, plane.keeps_job = [FAULTS[fault]], kept
    launched = None
    for _ in range(4):
        try:
            launched = backend.launch(JOB, FILES)
        except RetryableError:
            continue
    assert launched is not None
    assert plane.created == len(plane.jobs) == 1
    assert list(plane.jobs) == [launched.job_id]


def test_fault_31_create_is_sent_once_by_the_sdk(
    plane: ControlPlane, backend: ServerlessBackend
) -> None:
    plane.faults, plane.keeps_job = [answers(500, "InternalFailure")] * 9, False
    with pytest.raises(RetryableError):
        backend.launch(JOB, FILES)
    assert plane.asked == 1


def test_fault_31_another_attempt_is_another_job(
    plane: ControlPlane, backend: ServerlessBackend
) -> None:
    backend.launch(JOB, FILES)
    backend.launch(FineTuneJob(SPEC, 2, 0.0), FILES)
    assert len(plane.jobs) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDeniedException", TrainingNotAvailableError),
        ("ResourceLimitExceeded", TrainingNotAvailableError),
        ("ValidationException", BackendError),
    ],
)
def test_fault_34_refusal_is_typed_so_that_the_run_can_go_elsewhere(
    plane: ControlPlane, backend: ServerlessBackend, code: str, kind: type[BackendError]
) -> None:
    plane.faults, plane.keeps_job = [answers(400, code)], False
    with pytest.raises(BackendError) as refused:
        backend.launch(JOB, FILES)
    assert type(refused.value) is kind
    assert plane.created == 0
