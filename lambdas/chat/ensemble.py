"""Several answers to one request, asked for at the same time, of which one is given.

Only where the project's champion is asked for as such: a model that is named, a request for several
choices (`n`), and a project that tries a challenger get one answer of one model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from dropforge.serve import ChatError, UpstreamError
from dropforge.serve.ensemble import (
    Elected,
    ballot,
    chosen,
    sense,
    shuffled,
    summed_usage,
    text_of,
    vote,
    whole_answers,
)
from dropforge.serve.options import ServedModel
from dropforge.serve.routing import Registry, Route, resolve, upstream_payload
from lambdas.chat.arms import is_failure
from lambdas.chat.chain import may_cost
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream

ASK_SHARE = 0.6
"""Of the time that is left: what the models may take, before a judge or a fallback is asked."""
PATIENCE_SECONDS = 1.0
"""Once more than half have answered, the others get as long again as those took, or this."""

Body = dict[str, Any]


class _Ask(msgspec.Struct):
    """One model that is asked, and what it answered."""

    route: Route
    payload: Body
    completion: Body | None = None
    error: ChatError | None = None

    @property
    def is_open(self) -> bool:
        return self.completion is None and self.error is None


class Ensembles:
    """Asks ensembles; lives as long as its container, and keeps one connection for each ask."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self._idle: list[Upstream] = []

    def applies(self, exchange: Exchange) -> bool:
        """Whether the project's ensemble is to answer."""
        asked = exchange.asked
        return (
            exchange.options.ensemble is not None
            and asked.arm == "champion"
            and asked.canary is None
            and not asked.named
            and exchange.fields.get("n") in (None, 1)
        )

    def ask(self, exchange: Exchange, registry: Registry) -> bool:
        """Sets the exchange's completion, route and payload: those of the answer that is given.

        Its `usage` is that of all the answers together, and of the judge. The route's arm is
        `ensemble`, which counts for none of a canary's.

        Returns:
            False where no model answered: somebody else may.

        Raises:
            ChatError: the models refused the request itself.
        """
        options = exchange.options.ensemble
        if options is None:
            return False
        began, deadline = time.monotonic(), exchange.call.deadline
        asks = _asks(exchange, registry)
        self._ask_all(asks, began + (deadline - began) * ASK_SHARE)
        answered = [ask for ask in asks if ask.completion is not None]
        metrics = exchange.call.metrics
        metrics["EnsembleAsked"] = len(asks)
        metrics["EnsembleAnswered"] = len(answered)
        if not answered:
            if refusal := next(
                (a.error for a in asks if a.error and not is_failure(a.error)), None
            ):
                raise refusal
            exchange.lost += sum(1 for a in asks if a.error is None or may_cost(a.error))
            return False
        exchange.lost += sum(1 for a in asks if a.error is not None and may_cost(a.error))
        completions = [ask.completion for ask in answered if ask.completion is not None]
        spent = list(completions)
        elected = self._elected(exchange, completions, options.judge, spent)
        metrics["EnsembleAgreed"] = elected.agreed
        given = answered[elected.place]
        exchange.route, exchange.payload = given.route, given.payload
        usage = _usage(exchange, spent, sum(ask.is_open for ask in asks))
        exchange.completion = {**completions[elected.place], **({"usage": usage} if usage else {})}
        return True

    def _ask_all(self, asks: list[_Ask], deadline: float) -> None:
        """Asks all at once; one that has not answered when this returns stays open."""
        from queue import Empty, SimpleQueue
        from threading import Thread

        done: SimpleQueue[tuple[_Ask, Body | None, ChatError | None]] = SimpleQueue()

        def work(upstream: Upstream, ask: _Ask) -> None:
            completion, failure = None, None
            try:
                completion = upstream.complete(ask.route, ask.payload, deadline)
            except ChatError as error:
                failure = error
            except Exception as error:  # a thread has nobody else to tell
                failure = UpstreamError(f"An ensemble's model failed ({type(error).__name__}).")
                failure.__cause__ = error
            self._idle.append(upstream)
            done.put((ask, completion, failure))

        began = time.monotonic()
        for ask in asks:
            upstream = self._idle.pop() if self._idle else Upstream(self._settings)
            Thread(target=work, args=(upstream, ask), daemon=True).start()
        until, answered = deadline, 0
        for _ in asks:
            try:
                ask, completion, ask.error = done.get(timeout=max(0, until - time.monotonic()))
            except Empty:
                break
            ask.completion = completion
            answered += completion is not None
            if 2 * answered > len(asks):
                now = time.monotonic()
                until = min(until, now + max(PATIENCE_SECONDS, now - began))

    def _elected(
        self, exchange: Exchange, found: list[Body], judge: ServedModel | None, spent: list[Body]
    ) -> Elected:
        """By the judge where there is one, and it has a choice and makes it; else by the vote.

        Args:
            spent: gets the judge's own answers.
        """
        form = exchange.fields.get("response_format")
        as_json = isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")
        elected = vote(found, as_json=as_json)
        if judge is None:
            return elected
        senses: dict[str, int] = {}
        for index in whole_answers(found, as_json=as_json):
            senses.setdefault(sense(found[index], as_json=as_json), index)
        if len(senses) < 2 or not all(map(text_of, found)):
            return elected
        ranked = [list(senses.values())[i] for i in shuffled(exchange.call.request_id, len(senses))]
        texts = [text_of(found[index]) for index in ranked]
        for reply in self._judged(exchange, judge, texts):
            spent.append(reply)
            place = chosen(text_of(reply), len(texts))
            if place is not None:
                said = sense(found[ranked[place]], as_json=as_json)
                same = [sense(one, as_json=as_json) for one in found].count(said)
                return Elected(ranked[place], same)
        exchange.call.metrics["EnsembleJudgeFailed"] = 1
        return elected

    def _judged(self, exchange: Exchange, judge: ServedModel, texts: list[str]) -> Iterator[Body]:
        """The judge's reply, and another one where that could not be read; no reply is no error."""
        route = Route(exchange.call.project, "judge", "ensemble", judge.backend, judge.model)
        upstream = self._idle.pop() if self._idle else Upstream(self._settings)
        settings: tuple[Body, Body] = ({"temperature": 0, "max_tokens": 16}, {})
        try:
            for settled in settings:  # some models take neither
                asked = ballot(exchange.fields["messages"], texts, os.urandom(8).hex())
                payload = upstream_payload({"messages": asked, **settled}, route, None)
                try:
                    reply = upstream.complete(route, payload, exchange.call.deadline)
                except ChatError as error:
                    exchange.lost += may_cost(error)
                    continue
                yield reply
        finally:  # as a rule the first reply is enough, and nobody asks for more
            self._idle.append(upstream)


def _usage(exchange: Exchange, spent: list[Body], unknown: int) -> Body | None:
    """Of all answers together. Those of servers that told none are reckoned, as those not awaited.

    Where no server told any, one answer is paid for as a whole ask for want of it, and all others
    are as good as lost.
    """
    told = sum(isinstance(one.get("usage"), dict) for one in spent)
    unknown += len(spent) - told
    if not told:
        exchange.lost += unknown - 1
    return summed_usage(spent, unknown=unknown)


def _asks(exchange: Exchange, registry: Registry) -> list[_Ask]:
    """Whom to ask what: `n` times in turn, each model once where it would repeat itself.

    A model repeats itself at temperature 0. Where the caller chose a seed, each further ask of the
    same model has the next one.
    """
    options = exchange.options.ensemble
    if options is None:
        return []
    routes = _routes(options.models, exchange, registry)
    fields = exchange.fields
    greedy = fields.get("temperature") == 0 or fields.get("top_p") == 0
    asks = []
    for number in range(min(options.n, len(routes)) if greedy else options.n):
        again, which = divmod(number, len(routes))
        payload = upstream_payload(
            fields, routes[which], exchange.prompt, output_tokens=exchange.output_tokens
        )
        if again and isinstance(payload.get("seed"), int):
            payload["seed"] += again
        asks.append(_Ask(routes[which], payload))
    return asks


def _routes(names: tuple[str, ...], exchange: Exchange, registry: Registry) -> list[Route]:
    """The models that there are, each once, by their names in the API, or `previous`."""
    project = exchange.call.project
    found: dict[tuple[str, str], Route] = {}
    for name in names:
        try:
            version: str | None = name
            if name == "previous":
                champion = registry.champion(project)
                version = champion.previous if champion else None
            if version:
                route = resolve(f"{project}/{version}", project, registry)
                found.setdefault((route.backend, route.model_id), route)
        except ChatError:
            continue
    routes = list(found.values()) or [exchange.asked]
    return [msgspec.structs.replace(route, arm="ensemble") for route in routes]
