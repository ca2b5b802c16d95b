"""A routed request: its model asked, another one where that fails, and a canary's numbers kept.

Without a canary nothing is written. With one, an answer's arm is counted after the answer
(registry items `arm#…`), and while the canary shadows, the request goes to the shadow queue. Both
fail open: they get WRITE_SECONDS each, and what they could not do becomes a metric.
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
from dropforge.serve.routing import Route, upstream_payload
from lambdas.chat.edge import Call
from lambdas.chat.upstream import Upstream

WRITE_SECONDS = 0.1
CHALLENGER_SHARE = 0.5
"""Of the time that is left: what a challenger may take before the champion answers instead.

A champion's answer that took longer is given, and counted as an error: one limit for both arms.
"""
MAX_SHADOW_BYTES = 256 * 1024  # the smallest limit that an SQS queue may have by default

Body = dict[str, Any]


class ShadowChat(msgspec.Struct, frozen=True):
    """A message of the shadow queue: what the champion was asked, for the canary's challenger."""

    project: str
    canary: int
    payload: Body


class Arms:
    """Asks the models that requests are routed to; lives as long as its container."""

    def __init__(
        self,
        upstream: Upstream,
        table: Table,
        shadow_queue: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._table = table
        self._shadow_queue = shadow_queue
        self._queue: Queue | None = None
        self._clock = clock

    def complete(
        self, call: Call, route: Route, fields: Body, prompt: str | None
    ) -> tuple[Body, Route]:
        """The completion, and the route that it came from: `route`, or its fallback.

        Raises:
            ChatError: the model, and its fallback where there is one, gave no answer; with its
                route.
        """
        payload = upstream_payload(fields, route, prompt)
        began = self._clock()
        allowed = (call.deadline - began) * CHALLENGER_SHARE
        deadline = began + allowed if route.fallback else call.deadline
        try:
            body = self._upstream.complete(route, payload, deadline)
        except ChatError as error:
            if route.fallback:
                return self._fall_back(call, route.fallback, fields, prompt, error)
            if route.canary and is_failure(error):
                self._count(call, route.canary, route.arm, FAILED)
            error.route = route
            raise
        if canary := route.canary:
            seconds = self._clock() - began
            late = seconds > allowed and not canary.shadow  # a shadow is given the whole time
            tally = FAILED if late else Tally.of(body, seconds, canary.slow_seconds)
            self._count(call, canary, route.arm, tally)
            if canary.shadow:
                self._shadow(call, canary, payload)
        return body, route

    def _fall_back(
        self, call: Call, route: Route, fields: Body, prompt: str | None, failure: ChatError
    ) -> tuple[Body, Route]:
        """The champion's answer to what the challenger did not answer.

        A request that both refuse is the caller's mistake, and nobody's error.
        """
        call.metrics["ChatFallbacks"] = 1
        failed = True
        try:
            payload = upstream_payload(fields, route, prompt)
            return self._upstream.complete(route, payload, call.deadline), route
        except ChatError as error:
            failed = is_failure(failure)
            error.route = route
            raise
        finally:
            if route.canary and failed:
                self._count(call, route.canary, "challenger", FAILED)

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
        body = msgspec.json.encode(ShadowChat(call.project, canary.id, payload))
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
