"""The models that may answer a request, asked one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from math import ceil
from typing import Any

from dropforge.backends.awsapi import AwsError
from dropforge.backends.connection import ConnectError
from dropforge.providers import is_hosted
from dropforge.serve import (
    AsleepModelError,
    ChatError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)
from dropforge.serve.breaker import Breaker, RetryBudget
from dropforge.serve.routing import Route, upstream_payload
from dropforge.serve.streams import begun
from lambdas.chat.arms import CHALLENGER_SHARE, is_failure
from lambdas.chat.exchange import Exchange
from lambdas.chat.upstream import Upstream

FIRST_SHARE = 0.5
"""Of the time that is left: what a champion may take where another can still answer.

Half of the usual 60 s is enough for an answer of a thousand tokens. A challenger has
CHALLENGER_SHARE: people are not to wait for what is only tried.
"""
FIRST_CHUNK_SECONDS = 10.0
"""At most this until a stream's first chunk, where another can still answer: a model that writes
begins within a second or two, and nothing was shown to the caller yet."""
SLOW_WEIGHT = 2
"""Failures that one of them counts for which took all its time: people waited for each, and three
in a row open a breaker."""
COLD_SECONDS = 30.0
"""How long a component without a copy is left alone. The alarm that wakes it looks at 30 s, so one
request in each is enough for it, and a copy takes minutes to start."""

Body = dict[str, Any]

_REASONS: tuple[tuple[type[ChatError], str], ...] = (
    (AsleepModelError, "ChatColdFallbacks"),
    (UpstreamRateLimitError, "ChatThrottledFallbacks"),
    (UpstreamTimeoutError, "ChatSlowFallbacks"),
)


class Chain:
    """Asks a request's model, and one other where that fails; lives as long as its container.

    A model that keeps failing is not asked for a while (`Breaker`): the other is asked in its
    place. Failures before that are each paid from one budget for all models (`RetryBudget`).
    """

    def __init__(self, upstream: Upstream, clock: Callable[[], float] = time.monotonic) -> None:
        self._upstream = upstream
        self._clock = clock
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._budget = RetryBudget(clock())

    def ask(
        self, exchange: Exchange, others: Callable[[], list[Route]], *, spare: bool = False
    ) -> None:
        """Sets the exchange's completion or chunks, and the route and payload that they came from.

        Args:
            others: who else may answer, in order; called only where it is needed.
            spare: whether there may be another, so that the first has to leave it some time.

        Raises:
            ChatError: neither answered; with the route that it is about.
        """
        now = self._clock()
        self._budget.deposit(now)
        asked, deadline = exchange.route, exchange.call.deadline
        share = CHALLENGER_SHARE if asked.fallback else FIRST_SHARE if spare else 1.0
        first_by = now + (deadline - now) * share
        if exchange.stream and share < 1.0:
            first_by = min(first_by, now + FIRST_CHUNK_SECONDS)
        payload = _payload(exchange, asked)  # a bug in it is no probe's end
        failure = self._turned_away(asked, now)
        turned_away = failure is not None
        if failure is None:
            failure = self._ask(exchange, asked, payload, deadline, first_by)
            if failure is None:
                return
        failure.route = asked
        other = self._other(exchange, failure, others, free=turned_away)
        if other is None:
            raise failure
        exchange.missed = failure
        _count(exchange, failure)
        second = self._ask(exchange, other, _payload(exchange, other), deadline, deadline)
        if second is not None:
            second.route = other
            raise second if asked.fallback else more_useful(failure, second)

    def _other(
        self,
        exchange: Exchange,
        failure: ChatError,
        others: Callable[[], list[Route]],
        *,
        free: bool,
    ) -> Route | None:
        """Who is asked after a failure, if anybody.

        A challenger's failure, and its refusal too, goes to the champion, which without the canary
        would have had the request anyway; that is no retry, and neither is the place of a model
        that was not asked.
        """
        asked = exchange.asked
        now = self._clock()
        if champion := asked.fallback:
            return champion if self._breaker(champion).closed_for(now) == 0.0 else None
        if not is_failure(failure) or now >= exchange.call.deadline:
            return None
        asleep = isinstance(failure, AsleepModelError)
        for other in others():
            breaker = self._breaker(other)
            # All components live on the base model's copies: where one sleeps, all do.
            if not breaker.allows(now) or (asleep and not is_hosted(other.backend)):
                continue
            if not free and not self._budget.withdraw():
                exchange.call.metrics["ChatRetriesSpent"] = 1
                return None
            breaker.closed_for(now)
            return other
        return None

    def _ask(
        self, exchange: Exchange, route: Route, payload: Body, deadline: float, first_by: float
    ) -> ChatError | None:
        """Asks one model; its failure, if it is one."""
        exchange.route, exchange.payload = route, payload
        try:
            if exchange.stream:
                chunks = self._upstream.stream(route, payload, deadline, first_by=first_by)
                exchange.chunks = begun(self._watched(route, chunks))
                return None
            exchange.completion = self._upstream.complete(route, payload, first_by)
        except Exception as error:
            failure = failed_answer(error)
            exchange.lost += may_cost(failure)
            self._failed(route, failure)
            return failure
        self._breaker(route).succeeded()
        return None

    def _watched(
        self, route: Route, chunks: Generator[Body, None, None]
    ) -> Generator[Body, None, None]:
        """The same chunks; how they end is known to the model's breaker.

        One that wrote until its caller hung up did answer: a probe that was told nothing would keep
        the model out of use.
        """
        try:
            yield {}  # see `begun`
            yield from chunks
        except GeneratorExit:
            self._breaker(route).succeeded()
            raise
        except Exception as error:
            failure = failed_answer(error)
            failure.route = route
            self._failed(route, failure)
            raise failure from failure.__cause__
        finally:
            chunks.close()
        self._breaker(route).succeeded()

    def _failed(self, route: Route, error: ChatError) -> None:
        breaker = self._breaker(route)
        if not is_failure(error):
            breaker.succeeded()
            return
        now = self._clock()
        seconds = None
        if isinstance(error, AsleepModelError):
            seconds = COLD_SECONDS
        elif isinstance(error, UpstreamRateLimitError):
            seconds = retry_seconds(error.retry_after)
        weight = SLOW_WEIGHT if isinstance(error, UpstreamTimeoutError) else 1
        breaker.failed(now, (type(error), error.message), seconds, weight=weight)

    def _turned_away(self, route: Route, now: float) -> ChatError | None:
        """What a request for a model is told while that is left alone."""
        breaker = self._breaker(route)
        seconds = breaker.closed_for(now)
        if seconds <= 0.0:
            return None
        reason: Any = breaker.reason
        kind, message = reason
        error: ChatError = kind(message, retry_after=str(ceil(seconds)))
        return error

    def _breaker(self, route: Route) -> Breaker:
        breaker = self._breakers.get(route.served_as)
        if breaker is None:
            breaker = self._breakers[route.served_as] = Breaker()
        return breaker


def _payload(exchange: Exchange, route: Route) -> Body:
    return upstream_payload(
        exchange.fields,
        route,
        exchange.prompt,
        stream=exchange.stream,
        output_tokens=exchange.output_tokens,
    )


def more_useful(first: ChatError, second: ChatError) -> ChatError:
    """Which of two models' errors the caller is told.

    The sooner Retry-After of the two, for it says what to do; else the error of the model that was
    meant. What only the fallback refuses (a shorter context, a parameter) is no news to the caller.
    """
    if not is_failure(second):
        return first
    told, also = retry_seconds(first.retry_after), retry_seconds(second.retry_after)
    if also is not None and (told is None or also < told):
        return second
    return first


def retry_seconds(retry_after: str | None, now: float | None = None) -> float | None:
    """The seconds of a Retry-After header, be they told as a number or as a date (RFC 9110).

    Args:
        now: seconds since the epoch.
    """
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            at = parsedate_to_datetime(retry_after).timestamp()
        except (ValueError, OverflowError, IndexError, TypeError):  # whatever its parser meets
            return None
        return max(0.0, at - (time.time() if now is None else now))


def failed_answer(error: Exception) -> ChatError:
    """What a model's failure is told as; what nobody foresaw, as an answer that made no sense."""
    if isinstance(error, ChatError):
        return error
    failure = UpstreamError("The model's answer could not be read.")
    failure.__cause__ = error
    return failure


def may_cost(error: ChatError) -> bool:
    """Whether a model that gave no whole answer may have written some of it, which is paid for."""
    if isinstance(error, UpstreamTimeoutError):
        return True
    cause = error.__cause__
    return isinstance(error, UpstreamError) and not (
        cause is None or isinstance(cause, ConnectError | AwsError)
    )


def _count(exchange: Exchange, failure: ChatError) -> None:
    """ChatFallbacks and the reason; those of a model that is waking up only among their own."""
    metrics = exchange.call.metrics
    for kind, name in _REASONS:
        if isinstance(failure, kind):
            metrics[name] = 1
            break
    else:
        metrics["ChatFailedFallbacks"] = 1
    if not isinstance(failure, AsleepModelError):
        metrics["ChatFallbacks"] = 1
