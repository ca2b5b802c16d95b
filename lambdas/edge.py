"""What every pipeline function does around its one domain call.

Builds the backends from settings on first use, hands a stage its run and its project's
configuration, notes the stage's progress in the registry, and turns AWS's passing troubles into
`RetryableError`, which the state machine retries by name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache, cached_property, wraps
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.artifacts import Run, project_snapshot_key
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.errors import DropforgeError, RetryableError, TrainingFailedError
from dropforge.project import ProjectConfig
from dropforge.settings import Settings

logger = Logger()
Event = dict[str, Any]
Result = dict[str, Any]
_PASSING = {
    "InternalError",
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TransactionConflictException",
}


@cache
def store(bucket: str) -> Store:
    return Store(bucket)


@cache
def registry(table: str) -> Registry:
    return Registry(table)


@cache
def secret(arn: str) -> str:
    """A secret's text, read once for each container."""
    client = boto3.client("secretsmanager")
    return str(client.get_secret_value(SecretId=arn)["SecretString"])


class Edge:
    """One run at one stage: where it stands and what it may use."""

    def __init__(self, event: Event, settings: Settings) -> None:
        self.run = msgspec.convert(event["run"], Run)
        self.store = store(settings.bucket)
        self.registry = registry(settings.table)

    @cached_property
    def config(self) -> ProjectConfig:
        """The project's configuration as it was when the run began."""
        key = project_snapshot_key(self.run.project, self.run.config)
        return ProjectConfig.model_validate_json(self.store.read(key))

    def note(self, values: dict[str, Any]) -> None:
        """Write into the run's registry item, where `dropforge status` reads it."""
        self.registry.update(self.run.project, f"run#{self.run.run_id}", values)

    def count(self, **metrics: float) -> None:
        """Publish metrics of the project (CloudWatch embedded metric format)."""
        count_metrics(self.run.project, metrics)


def count_metrics(project: str, metrics: dict[str, float]) -> None:
    """Publish metrics of a project (CloudWatch embedded metric format)."""
    emf = Metrics(service=None)
    emf.add_dimension("project", project)
    for name, value in metrics.items():
        emf.add_metric(name, MetricUnit.NoUnit, value)
    emf.flush_metrics()


def said(error: Event) -> str | None:
    """What one of our own errors, as the state machine caught it, says for itself; else None."""
    try:
        cause = json.loads(str(error.get("Cause", "")))
    except ValueError:
        return None
    if not isinstance(cause, dict):
        return None
    message = str(cause.get("errorMessage", ""))
    code, colon, _ = message.partition(":")
    if colon and code.isupper() and " " not in code:
        return message
    if "FailureReason" in cause:
        job, reason = cause.get("TrainingJobName", ""), cause["FailureReason"]
        return str(TrainingFailedError(f"Job {job} ended without a model: {reason}"))
    return None


StageFunction = Callable[[Edge, Event], Result]


def stage(
    name: str, settings: type[Settings] = Settings
) -> Callable[[StageFunction], Callable[[Event, object], Result]]:
    """Make a Lambda handler of a stage's function (edge, event) -> result."""

    def decorate(function: StageFunction) -> Callable[[Event, object], Result]:
        @wraps(function)
        def handler(event: Event, context: object) -> Result:
            edge = Edge(event, settings.from_environment())
            logger.append_keys(stage=name, run_id=edge.run.run_id, project=edge.run.project)
            result = translated(noted)(edge, event)
            logger.info("stage done")
            return result

        def noted(edge: Edge, event: Event) -> Result:
            edge.note({"stage": name, "updated_at": time.time()})
            return function(edge, event)

        return handler

    return decorate


def translated(function: StageFunction) -> StageFunction:
    """AWS's passing troubles as RetryableError; every error logged by its name and code alone."""

    @wraps(function)
    def call(edge: Edge, event: Event) -> Result:
        try:
            return function(edge, event)
        except DropforgeError as error:
            logger.warning("stage failed", error=type(error).__name__, code=error.code)
            raise
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            logger.warning("AWS said no", code=code)
            if code in _PASSING:
                raise RetryableError(f"AWS answered {code}.") from error
            raise
        except BotoCoreError as error:
            raise RetryableError("AWS did not answer.") from error

    return call
