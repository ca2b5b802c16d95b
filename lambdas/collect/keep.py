"""SQS batch of answers that the champion gave -> each kept once in the registry, redacted.

Reads the project's configuration for its rules of cleaning. What is not redacted is written
nowhere: it goes from the encrypted queue through this function's memory.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Literal

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from dropforge.artifacts import project_snapshot_key
from dropforge.backends.collected import Answers
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.collect.redaction import redacted
from dropforge.project import ProjectConfig
from dropforge.serve.collecting import Answered
from dropforge.settings import Settings
from lambdas import edge

Done = Literal["kept", "repeated", "unusable", "unwanted"]

logger = Logger()
# A batch that raises would have its errors logged, and those can quote what a customer wrote.
_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


class UnkeptError(Exception):
    """A message that has to come again. The cause's own text stays out of every log."""


def handler(event: dict[str, Any], context: Any) -> Any:
    """Keep each answer on its own; those that could not be kept come again."""
    return process_partial_response(event, _record, _processor, context)


def _record(record: SQSRecord) -> None:
    try:
        project, done = _keeper().keep(record.body)
    except Exception as error:
        logger.warning("answer not kept", error=type(error).__name__)
        raise UnkeptError(type(error).__name__) from None
    if done == "kept":
        edge.count_metrics(project, {"AnswersKept": 1})
    logger.info("answer taken", project=project, done=done)


@cache
def _keeper() -> Keeper:
    settings = Settings.from_environment()
    answers = Answers(settings.table)
    return Keeper(edge.store(settings.bucket), edge.registry(settings.table), answers)


class Keeper:
    """Redacts answers and keeps them; lives as long as its container."""

    def __init__(self, store: Store, registry: Registry, answers: Answers) -> None:
        self._registry, self._answers = registry, answers

        @lru_cache(maxsize=64)
        def config(project: str, address: str) -> ProjectConfig:
            data = store.read(project_snapshot_key(project, address))
            return ProjectConfig.model_validate_json(data)

        self._config = config

    def keep(self, body: str) -> tuple[str, Done]:
        """The answer's project, and what was done.

        "repeated": one of its id is kept already. "unusable": cleaning would reject it, as an
        answer too short. "unwanted": the project collects no more.

        Raises:
            msgspec.ValidationError: no message of the chat function.
            ProjectError: the project asks for Presidio, which is not installed.
            ClientError, BotoCoreError: the registry could not be read or written.
        """
        answered = msgspec.json.decode(body, type=Answered)
        known = self._registry.get(answered.project, "config") or {}
        if not known.get("collect"):
            return answered.project, "unwanted"
        kept = redacted(answered, self._config(answered.project, str(known["hash"])))
        if kept is None:
            return answered.project, "unusable"
        done: Done = "kept" if self._answers.put(answered.project, kept) else "repeated"
        return answered.project, done
