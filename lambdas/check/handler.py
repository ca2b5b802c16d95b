"""SQS batch of semantic hits -> whether each answer was right, counted in the cache table.

Where the model has not answered the question itself, it is asked now. What it says reaches nobody
and is kept nowhere. Writes `state#<project>` of the table `cache`; the chat function serves
semantic hits only while that record proves that few are false.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from dropforge.backends.answers import AnswerTable
from dropforge.serve import ChatError
from dropforge.serve.cache import worth_keeping
from dropforge.serve.near import cosine
from dropforge.serve.routing import Route
from dropforge.serve.semantic import agree
from lambdas.chat.embedding import embed
from lambdas.chat.semantic import HitCheck
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream

TABLE_SECONDS = 2.0
EMBED_SECONDS = 10.0

logger = Logger()
# A batch that raises would have its errors logged, and those can quote what a customer wrote.
_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


class UncheckedError(Exception):
    """A message that has to come again. The cause's own text stays out of every log."""


def handler(event: dict[str, Any], context: Any) -> Any:
    """Check each message on its own; those that could not be counted come again."""
    return process_partial_response(event, _record, _processor, context)


def _record(record: SQSRecord) -> None:
    try:
        done = _checker().check(record.message_id, record.body)
    except Exception as error:
        logger.warning("hit not checked", error=type(error).__name__)
        raise UncheckedError(type(error).__name__) from None
    logger.info("hit checked", done=done)


@cache
def _checker() -> Checker:
    return Checker(ChatSettings.from_environment())


class Checker:
    """Compares answers that were found with those that the model gives; one a container."""

    def __init__(self, settings: ChatSettings) -> None:
        self._table = AnswerTable(settings.cache_table)
        self._upstream = Upstream(settings)
        self._seconds = settings.deadline_seconds

    def check(self, message_id: str, body: str) -> str:
        """Compare and count, unless the message was counted before.

        Returns what was done: "right", "false", "repeated", or "unanswered", where the model
        gives no whole answer: that says nothing about the one that was found.

        Raises:
            msgspec.ValidationError: no message of the chat function.
            ChatError: the embeddings model does not answer.
            AwsError, HttpError: the table could not be read or written.
        """
        check = msgspec.json.decode(body, type=HitCheck)
        if self._table.checked(message_id, deadline=_soon()):
            return "repeated"
        fresh = check.fresh if check.fresh is not None else self._ask(check)
        if fresh is None:
            return "unanswered"
        false = not agree(check.kept, fresh, self._cosine(check, fresh))
        key = check.project, check.about
        before = self._table.record(*key, deadline=_soon(), consistent=True)
        if not self._table.count(*key, message_id, false=false, deadline=_soon()):
            return "repeated"
        after = self._table.record(*key, deadline=_soon(), consistent=True)
        off = before.proven(check.limit) and not after.proven(check.limit)
        _tell(check.project, false=false, bound=after.bound(), off=off)
        return "false" if false else "right"

    def _ask(self, check: HitCheck) -> str | None:
        route = Route(check.project, check.version, "champion", check.backend, check.model_id)
        try:
            answer = self._upstream.complete(route, check.payload, time.monotonic() + self._seconds)
        except ChatError:
            return None
        return answer["choices"][0]["message"]["content"] if worth_keeping(answer) else None

    def _cosine(self, check: HitCheck, fresh: str) -> float:
        deadline = time.monotonic() + EMBED_SECONDS
        one, other = embed(self._upstream, check.embeddings, [check.kept, fresh], deadline)
        return cosine(one, other)


def _tell(project: str, *, false: bool, bound: float, off: bool) -> None:
    """The check as metrics, in one line without any text of a customer."""
    names = {"SemanticChecks": 1, "SemanticFalse": int(false), "SemanticBound": bound}
    numbers = {**names, "SemanticOff": int(off)}
    directive = {
        "Namespace": os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Dropforge"),
        "Dimensions": [["project"]],
        "Metrics": [{"Name": name} for name in numbers],
    }
    about = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": about, "project": project, **numbers}), flush=True)


def _soon() -> float:
    return time.monotonic() + TABLE_SECONDS
