"""Answers that are given again: to the same request, and where a project says so to ones like it.

Reads and writes the table `cache` (dropforge/backends/answers.py). Fails open: what cannot be read
within READ_SECONDS is a miss, and the table is then left alone for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from dropforge.backends.awsapi import AwsError, ConditionFailedError
from dropforge.backends.connection import HttpError
from dropforge.serve import Feedback
from dropforge.serve.options import Cache
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream

if TYPE_CHECKING:
    from dropforge.backends.answers import AnswerTable
    from dropforge.serve.cache import CacheKey, Tenant
    from lambdas.chat.semantic import SemanticCache

READ_SECONDS = 0.15
WRITE_SECONDS = 0.2
QUIET_SECONDS = 5.0
"""How long a table that did not answer is left alone: nobody waits for it twice."""

_COUNTED = {"miss": "CacheMisses", "hit": "CacheHits", "semantic": "CacheSemanticHits"}

Body = dict[str, Any]


class Lookup(msgspec.Struct):
    """What is known of a request between looking for its answer and keeping one.

    Attributes:
        normal: what its model is asked, in one spelling.
        blocked: an answer to it was rated badly, so none is kept.
        similar: the semantic cache's own notes.
    """

    key: CacheKey
    whose: Tenant
    normal: Body
    blocked: bool = False
    similar: Any = None


class AnswerCache:
    """One registry's answers; lives as long as its container."""

    def __init__(
        self,
        settings: ChatSettings,
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._upstream = upstream
        self._clock = clock
        self._opened: AnswerTable | None = None
        self._similar: SemanticCache | None = None
        self._quiet_until = 0.0

    def find(self, exchange: Exchange) -> bool:
        """Whether there is an answer; it is then the exchange's, under an id of its own.

        Sets `exchange.cache`: "off" where no answer may be given again, because of the settings,
        the kind of request or the caller's `Cache-Control: no-store`.
        """
        options = exchange.options.cache
        if not self._settings.cache_table or not (options.exact or options.semantic):
            return False
        wishes = exchange.call.header("cache-control").lower()
        lookup = None if "no-store" in wishes else _lookup(exchange)
        if lookup is None:
            return False
        exchange.cache, exchange.lookup = "miss", lookup
        if "no-cache" in wishes or _is_tried(exchange) or self._clock() < self._quiet_until:
            return False
        found, metrics = False, exchange.call.metrics
        try:
            found = self._find(exchange, lookup, options)
        except (AwsError, HttpError):
            metrics["CacheReadFailed"] = 1
            self._quiet_until = self._clock() + QUIET_SECONDS
        metrics[_COUNTED[exchange.cache]] = 1
        return found

    def keep(self, exchange: Exchange) -> None:
        """Keep the answer of a miss, if it is a whole one of the very model that was asked."""
        lookup, call, asked = exchange.lookup, exchange.call, exchange.asked
        if lookup is None or exchange.cache != "miss" or exchange.error or lookup.blocked:
            return
        from dropforge.serve.cache import MOST_ENTRY_BYTES, Entry, given_name, holder, worth_keeping

        whole, route = exchange.completion, exchange.route
        itself = (route.version, route.arm) == (asked.version, asked.arm) and not route.replaces
        if not itself or whole is None or not worth_keeping(whole):
            return
        key, by = lookup.key, holder(call.project, call.token_id)
        hours = exchange.options.cache.hours
        entry = Entry.seal(key, by, whole, int(call.at), hours)
        if len(entry.body) > MOST_ENTRY_BYTES:
            return
        try:
            self._table.keep(key.name, entry, deadline=self._clock() + WRITE_SECONDS)
            given = given_name(call.project, call.token_id, _answer_id(exchange))
            soon = self._clock() + WRITE_SECONDS
            self._table.note_given(given, key.name, entry.expires_at, deadline=soon)
        except ConditionFailedError:  # its like was rated badly
            return
        except (AwsError, HttpError):
            call.metrics["CacheWriteFailed"] = 1
            return
        if exchange.options.cache.semantic:
            self._semantic.keep(exchange, entry)

    def forget(self, call: Call, feedback: Feedback) -> None:
        """A badly rated answer is not given again, nor is another one kept until it had expired."""
        if not self._settings.cache_table:
            return
        from dropforge.serve.cache import given_name, hit_name, holder

        soon = self._clock() + 2 * WRITE_SECONDS
        try:
            name = hit_name(feedback.id) or self._table.given(
                given_name(call.project, call.token_id, feedback.id), deadline=soon
            )
            if name:
                self._table.block(name, holder(call.project, call.token_id), deadline=soon)
        except (AwsError, HttpError):
            call.metrics["CacheWriteFailed"] = 1

    @property
    def _table(self) -> AnswerTable:
        if self._opened is None:
            from dropforge.backends.answers import AnswerTable

            self._opened = AnswerTable(self._settings.cache_table)
        return self._opened

    @property
    def _semantic(self) -> SemanticCache:
        if self._similar is None:
            from lambdas.chat.semantic import SemanticCache

            self._similar = SemanticCache(self._settings, self._table, self._upstream)
        return self._similar

    def _find(self, exchange: Exchange, lookup: Lookup, options: Cache) -> bool:
        from dropforge.serve.cache import hit_id

        now, key = exchange.call.at, lookup.key
        soon = self._clock() + READ_SECONDS
        if options.exact:
            entry = self._table.entry(key.name, deadline=min(soon, exchange.call.deadline))
            if entry and entry.blocked and now < entry.expires_at:
                lookup.blocked = True
                return False
            if entry and (found := entry.open(key, now, options.hours)):
                found["id"] = hit_id(key.name, exchange.call.request_id)
                exchange.completion, exchange.cache = found, "hit"
                return True
        return options.semantic is not None and self._semantic.find(exchange)


def _lookup(exchange: Exchange) -> Lookup | None:
    """The request's key, or None where its answer is not to be given again.

    An ensemble's is not: it may be any member's, and a rating of it is none of the champion's.
    """
    from dropforge.serve.cache import CacheKey, cacheable, tenant

    asked, call = exchange.asked, exchange.call
    if exchange.options.ensemble and asked.arm == "champion":
        return None
    normal = cacheable(exchange.fields, asked, exchange.prompt)
    if normal is None:
        return None
    whose = tenant(call.project, call.token_id, exchange.fields, exchange.user)
    model = asked.version, asked.backend, asked.model_id
    return Lookup(CacheKey.of(whose, model, normal), whose, normal)


def _is_tried(exchange: Exchange) -> bool:
    """Whether a canary counts this request.

    Answers from here count for no arm, and the arms do not find equally many: so that both are
    counted on the same questions, a canary's are asked of the models. A shadowing challenger is
    asked just what the champion was, so there nothing is shifted.
    """
    canary = exchange.asked.canary
    return canary is not None and not canary.shadow


def _answer_id(exchange: Exchange) -> str:
    """The id under which the caller got the answer."""
    from dropforge.serve.arms import answer_id

    route, upstream = exchange.route, exchange.completion or {}
    return answer_id(upstream.get("id"), exchange.call.request_id, route.version, route.arm)
