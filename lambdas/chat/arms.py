"""A canary's numbers, kept once the caller has the answer.

Without a canary nothing is written. With one, an answer's arm is counted (registry items `arm#…`),
and while the canary shadows, the request goes to the shadow queue. Both fail open: they get
WRITE_SECONDS each, and what they could not do becomes a metric.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from dropforge.backends.awsapi import AwsError, Queue, Table
from dropforge.backends.connection import HttpError
from dropforge.serve import ChatError
from dropforge.serve.arms import FAILED, Arm, Challenger, Tally
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange

WRITE_SECONDS = 0.1
CHALLENGER_SHARE = 0.5
"""Of the time that is left: what a challenger may take before the champion answers instead.

A champion's answer that took longer is given, and counted as an error: one limit for both arms. Of
a stream it is the time to its first chunk.
"""
MAX_SHADOW_BYTES = 256 * 1024  # the smallest limit that an SQS queue may have by default

Body = dict[str, Any]


class ShadowChat(msgspec.Struct, frozen=True):
    """A message of the shadow queue: what the champion was asked, for the canary's challenger."""

    project: str
    canary: int
    payload: Body


class Arms:
    """Counts the requests of canaries, and hands them to who shadows."""

    def __init__(
        self, table: Table, shadow_queue: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = table
        self._shadow_queue = shadow_queue
        self._queue: Queue | None = None
        self._clock = clock

    def count(self, exchange: Exchange) -> None:
        """Adds an exchange to the numbers of its arm; what no canary is about counts for none.

        Answers from the cache count for none, nor does what the caller did wrong, nor what never
        came to an end. Where a fallback answered, what is counted is that the model that was meant
        did not.
        """
        asked, call, error = exchange.asked, exchange.call, exchange.error
        canary = asked.canary
        if canary is None or not exchange.began or not exchange.ended:
            return
        if exchange.missed is not None:  # another was asked, whose answer counts for nobody
            if is_failure(exchange.missed) or error is None:
                self._count(call, canary, asked.arm, FAILED)
            return
        if error is not None:
            if is_failure(error):
                self._count(call, canary, asked.arm, FAILED)
            return
        seconds = exchange.ended - exchange.began
        waited = exchange.first - exchange.began if exchange.stream else seconds
        allowed = (call.deadline - exchange.began) * CHALLENGER_SHARE
        late = waited > allowed and not canary.shadow  # a shadow is given the whole time
        whole = exchange.completion or {}
        tally = FAILED if late else Tally.of(whole, seconds, canary.slow_seconds)
        self._count(call, canary, asked.arm, tally)
        if canary.shadow:
            self._shadow(call, canary, exchange.payload)

    def _count(self, call: Call, canary: Challenger, arm: Arm, tally: Tally) -> None:
        numbers = msgspec.structs.asdict(tally)
        deadline = self._clock() + WRITE_SECONDS
        try:
            key = f"project#{call.project}", canary.counter(arm)
            self._table.add(*key, numbers, deadline=deadline)
        except (AwsError, HttpError):
            call.metrics["ArmCountFailed"] = 1

    def _shadow(self, call: Call, canary: Challenger, payload: Body) -> None:
        """What the champion was asked, to the challenger's queue."""
        if not self._shadow_queue:
            return
        whole = {k: v for k, v in payload.items() if k not in ("stream", "stream_options")}
        body = msgspec.json.encode(ShadowChat(call.project, canary.id, whole))
        if len(body) > MAX_SHADOW_BYTES:
            return
        self._queue = self._queue or Queue(self._shadow_queue)
        try:
            self._queue.send(body.decode(), deadline=self._clock() + WRITE_SECONDS)
        except (AwsError, HttpError):
            call.metrics["ShadowSendFailed"] = 1


def is_failure(error: ChatError) -> bool:
    """Whether the model gave no answer, rather than refusing what it was asked."""
    return error.status == 429 or error.status >= 500
