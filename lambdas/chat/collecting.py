"""Answers on their way to training data, once the caller has them.

Only of projects that collect (`collect:` in project.yaml): all others pay one comparison. An
answer's rating does not travel: the store has written it before its caller was told, and it is
read there when the training data is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from dropforge.backends.awsapi import AwsError, Queue
from dropforge.backends.connection import HttpError
from dropforge.serve.arms import Asker, answer_id
from dropforge.serve.collecting import (
    MAX_MESSAGE_BYTES,
    Answered,
    is_drawn,
    is_plain,
    pseudonym,
    said,
    whole_answer,
)
from lambdas.chat.exchange import Exchange

WRITE_SECONDS = 0.3


class Collector:
    """Sends answers to the collect queue; lives as long as its container."""

    def __init__(self, queue_url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = queue_url
        self._queue: Queue | None = None
        self._clock = clock

    def keep(self, exchange: Exchange) -> None:
        """Sends the exchange's answer, if it is one to learn from. Fails open."""
        if exchange.collect is None or not self._url:
            return
        answered = _answered(exchange)
        if answered is None or not is_drawn(answered.conversation, exchange.collect.share):
            return
        body = msgspec.json.encode(answered)
        if len(body) > MAX_MESSAGE_BYTES:
            exchange.call.metrics["CollectTooLong"] = 1
            return
        self._queue = self._queue or Queue(self._url)
        try:
            self._queue.send(body.decode(), deadline=self._clock() + WRITE_SECONDS)
        except (AwsError, HttpError):
            exchange.call.metrics["CollectFailed"] = 1


def _answered(exchange: Exchange) -> Answered | None:
    """The champion's whole answer in words, given to this request and to no other; else None."""
    call, route, asked = exchange.call, exchange.route, exchange.asked
    if exchange.error is not None or exchange.cache not in ("off", "miss"):
        return None
    if asked.arm != "champion" or route.version != asked.version or route.replaces:
        return None
    # Of an ensemble the champion's own answer may be the one that is given.
    if route.arm != ("ensemble" if "EnsembleAsked" in call.metrics else "champion"):
        return None
    if not is_plain(exchange.fields, exchange.prompt):
        return None
    answer = whole_answer(exchange.completion or {})
    turns = said(exchange.fields["messages"])
    if answer is None or not turns:
        return None
    named = (exchange.completion or {}).get("id")
    asker = Asker(f"{call.project}\0{call.token_id}", call.request_id, exchange.fields)
    return Answered(
        project=call.project,
        id=answer_id(named, call.request_id, route.version, route.arm),
        at=call.at,
        conversation=pseudonym(asker.subject("conversation")),
        user=_user(exchange),
        turns=turns,
        answer=answer,
    )


def _user(exchange: Exchange) -> str:
    """What stands for who asks; "" where the request does not say."""
    project = exchange.call.project
    subject = Asker(project, "", exchange.fields, exchange.user).subject("user")
    return pseudonym(subject) if subject.startswith(f"{project}\0user\0") else ""
