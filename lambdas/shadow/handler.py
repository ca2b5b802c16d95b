"""SQS batch of chats that the champion answered -> the same asked of the challenger, and counted.

Reads the project's `champion` item; adds to the registry's `arm#<canary>#shadow#challenger`. What
the challenger says reaches nobody and is kept nowhere. The models are asked as the chat function
asks them, with its own client, so that the two arms' times can be compared.
"""

from __future__ import annotations

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

from dropforge.backends.awsapi import ConditionFailedError, Table
from dropforge.serve import ChatError
from dropforge.serve.arms import FAILED, Challenger, Tally
from dropforge.serve.routing import Champion, Route, upstream_payload
from lambdas.chat.arms import ShadowChat
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream

REGISTRY_SECONDS = 2.0
KEPT_SECONDS = 86400
"""How long a message is remembered: longer than the queue can deliver it again."""

logger = Logger()
# A batch that raises would have its errors logged, and those can quote what a customer wrote.
_processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


class UncountedError(Exception):
    """A message that has to come again. The cause's own text stays out of every log."""


def handler(event: dict[str, Any], context: Any) -> Any:
    """Ask for each message on its own; those that could not be counted come again."""
    return process_partial_response(event, _record, _processor, context)


def _record(record: SQSRecord) -> None:
    try:
        done = _shadow().ask(record.message_id, record.body)
    except Exception as error:
        logger.warning("chat not counted", error=type(error).__name__)
        raise UncountedError(type(error).__name__) from None
    logger.info("challenger asked", done=done)


@cache
def _shadow() -> Shadow:
    return Shadow(ChatSettings.from_environment())


class Shadow:
    """Asks challengers what champions were asked; lives as long as its container."""

    def __init__(self, settings: ChatSettings) -> None:
        self._table = Table(settings.table)
        self._upstream = Upstream(settings)
        self._seconds = settings.deadline_seconds

    def ask(self, message_id: str, body: str) -> str:
        """Ask and count, unless the canary is over or the message was counted before.

        An answer and a failure are counted alike: neither comes again. A refusal is a failure too,
        since the champion answered the same request.

        Returns what was done: "counted", "over" or "repeated".

        Raises:
            msgspec.ValidationError: no message of the chat function.
            AwsError, HttpError: the registry could not be read or written.
        """
        chat = msgspec.json.decode(body, type=ShadowChat)
        canary = self._canary(chat)
        if canary is None:
            return "over"
        claim = f"shadowed#{message_id}"
        if self._table.get(_pk(chat), claim, deadline=_soon(), consistent=True):
            return "repeated"
        tally = self._answer(chat, canary)
        if not self._claim(chat, claim):
            return "repeated"
        numbers = msgspec.structs.asdict(tally)
        self._table.add(_pk(chat), canary.counter("challenger"), numbers, deadline=_soon())
        return "counted"

    def _canary(self, chat: ShadowChat) -> Challenger | None:
        """The message's canary, where it still runs and still shadows."""
        item = self._table.get(_pk(chat), "champion", deadline=_soon())
        canary = msgspec.convert(item, Champion).canary if item else None
        return canary if canary and canary.shadow and canary.id == chat.canary else None

    def _answer(self, chat: ShadowChat, canary: Challenger) -> Tally:
        route = Route(chat.project, canary.version, "challenger", canary.backend, canary.model_id)
        payload = upstream_payload(chat.payload, route, None)  # the champion's prompt is in it
        began = time.monotonic()
        try:
            answer = self._upstream.complete(route, payload, began + self._seconds)
        except ChatError:
            return FAILED
        return Tally.of(answer, time.monotonic() - began, canary.slow_seconds)

    def _claim(self, chat: ShadowChat, claim: str) -> bool:
        """Whether this delivery is the one that counts. Two at once can both have asked."""
        now = time.time_ns()
        item = {"pk": _pk(chat), "sk": claim, "taken_at": now}
        item["expires_at"] = now // 10**9 + KEPT_SECONDS
        condition = "attribute_not_exists(pk) OR taken_at = :now"
        try:
            self._table.put(item, condition=condition, values={":now": now}, deadline=_soon())
        except ConditionFailedError:
            return False
        return True


def _pk(chat: ShadowChat) -> str:
    return f"project#{chat.project}"


def _soon() -> float:
    return time.monotonic() + REGISTRY_SECONDS
