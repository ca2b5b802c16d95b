"""The models that may answer a request, asked one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from dropforge.serve import ChatError
from dropforge.serve.routing import Route, upstream_payload
from lambdas.chat.exchange import Exchange
from lambdas.chat.upstream import Upstream


class Chain:
    """Asks a request's model, and one other where that fails; lives as long as its container."""

    def __init__(self, upstream: Upstream, clock: Callable[[], float] = time.monotonic) -> None:
        self._upstream = upstream
        self._clock = clock

    def ask(self, exchange: Exchange, others: Callable[[], list[Route]]) -> None:
        """Sets the exchange's completion or chunks, and the route and payload that they came from.

        Args:
            others: who else may answer, in order; called only where it is needed.

        Raises:
            ChatError: neither answered.
        """
        began = self._clock()
        route = exchange.route
        share = 0.5 if route.fallback else 1.0
        try:
            self._ask(exchange, route, began + (exchange.call.deadline - began) * share)
        except ChatError:
            if route.fallback is None:
                raise
            exchange.call.metrics["ChatFallbacks"] = 1
            self._ask(exchange, route.fallback, exchange.call.deadline)

    def _ask(self, exchange: Exchange, route: Route, deadline: float) -> None:
        exchange.route = route
        payload = upstream_payload(exchange.fields, route, exchange.prompt, stream=exchange.stream)
        exchange.payload = payload
        if exchange.stream:
            exchange.chunks = self._upstream.stream(route, payload, deadline)
        else:
            exchange.completion = self._upstream.complete(route, payload, deadline)
