"""The way of one chat request: limits, model, cache, budget, answer, and what is done after it."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from dropforge.backends.awsapi import Table
from dropforge.serve import Feedback
from dropforge.serve.arms import Asker
from dropforge.serve.limits import check_limits
from dropforge.serve.options import ServeOptions
from dropforge.serve.routing import fallbacks, has_fallbacks, resolve
from dropforge.serve.streams import Assembly, begun, chunks
from lambdas.chat.arms import Arms
from lambdas.chat.budget import Budgets
from lambdas.chat.cache import AnswerCache
from lambdas.chat.chain import Chain, failed_answer
from lambdas.chat.collecting import Collector
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings
from lambdas.chat.store import ProjectStore
from lambdas.chat.upstream import Upstream

if TYPE_CHECKING:
    from lambdas.chat.ensemble import Ensembles

Body = dict[str, Any]


class Answering:
    """Answers chat requests from one registry's models; lives as long as its container."""

    def __init__(self, settings: ChatSettings, table: Table, store: ProjectStore) -> None:
        upstream = Upstream(settings)
        self._store = store
        self._chain = Chain(upstream)
        self._settings = settings
        self._ensembles: Ensembles | None = None
        self._cache = AnswerCache(settings, upstream)
        self._budgets = Budgets(table)
        self._arms = Arms(table, settings.shadow_queue)
        self._collector = Collector(settings.collect_queue)

    def answer(
        self, call: Call, name: str | None, fields: Body, *, stream: bool, user: str | None = None
    ) -> Exchange:
        """The request's exchange, with a completion or, where `stream` is set, with chunks.

        Raises:
            ChatError: what the caller is told; with its route once that is known.
        """
        exchange = self._begin(call, name, fields, stream=stream, user=user)
        call.after.append(lambda: self._after(exchange))
        try:
            if not self._cache.find(exchange):
                self._ask(exchange)
        except Exception as error:
            exchange.error, exchange.ended = failed_answer(error), time.monotonic()
            exchange.error.route = exchange.error.route or exchange.route
            raise
        if exchange.chunks is not None:
            exchange.chunks = begun(_recorded(exchange, exchange.chunks))
            return exchange
        exchange.ended = time.monotonic()
        if stream and exchange.completion:
            exchange.chunks = chunks(exchange.completion)
        return exchange

    def rated(self, call: Call, feedback: Feedback) -> None:
        """What a rating of one of its answers changes, once the caller has been told."""
        if feedback.rating < 0:
            call.after.append(lambda: self._cache.forget(call, feedback))

    def _begin(
        self, call: Call, name: str | None, fields: Body, *, stream: bool, user: str | None
    ) -> Exchange:
        project = call.project
        served = self._store.project(project)
        options = served.serve if served else ServeOptions()
        check_limits(fields, options)
        asker = Asker(f"{project}\0{call.token_id}", call.request_id, fields, user)
        route = resolve(name, project, self._store, asker)
        return Exchange(
            call=call,
            fields=fields,
            asked=route,
            options=options,
            collect=served.collect if served else None,
            prompt=served.system_prompt if served else None,
            stream=stream,
            route=route,
            user=user,
        )

    def _ask(self, exchange: Exchange) -> None:
        self._budgets.hold(exchange)
        exchange.began = time.monotonic()
        if exchange.options.ensemble is None or not self._ask_several(exchange):
            options, asked = exchange.options, exchange.asked
            spare = has_fallbacks(asked, options, self._store)
            self._chain.ask(exchange, lambda: fallbacks(asked, options, self._store), spare=spare)
        exchange.first = time.monotonic()

    def _ask_several(self, exchange: Exchange) -> bool:
        """Whether the project's ensemble has answered; its code is read by those who have one."""
        from lambdas.chat.ensemble import Ensembles

        self._ensembles = self._ensembles or Ensembles(self._settings)
        return self._ensembles.applies(exchange) and self._ensembles.ask(exchange, self._store)

    def _after(self, exchange: Exchange) -> None:
        """Each for itself fails open: what one could not do becomes a metric of the call.

        Raises whatever nobody foresaw, once all had their turn.
        """
        crash: Exception | None = None
        settle, count = self._budgets.settle, self._arms.count
        for work in (settle, count, self._cache.keep, self._collector.keep):
            try:
                work(exchange)
            except Exception as error:
                crash = crash or error
        if crash is not None:
            raise crash


def _recorded(
    exchange: Exchange, parts: Generator[Body, None, None]
) -> Generator[Body, None, None]:
    """The same chunks; what they make is the exchange's completion when they end, or are closed."""
    assembly = Assembly()
    try:
        yield {}  # see `begun`
        for part in parts:
            assembly.add(part)
            yield part
    except Exception as error:
        exchange.error = failed_answer(error)
        raise
    finally:
        parts.close()
        exchange.completion = assembly.completion()
        exchange.ended = time.monotonic()
