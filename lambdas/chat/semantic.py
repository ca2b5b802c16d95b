"""Answers of questions that mean the same, of conversations' first turns.

A would-be hit is the nearest kept question of the same tenant, model version, parameters and
signature (dropforge/serve/semantic.py). It is served only while the record of checked hits proves
that few are false (dropforge/serve/near.py); until then the model answers, and the check function
compares what both said. Of served hits a share goes on being checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from dropforge.backends.answers import AnswerTable
from dropforge.backends.awsapi import AwsError, Queue
from dropforge.backends.connection import HttpError
from dropforge.providers import Backend
from dropforge.serve import ChatError
from dropforge.serve.cache import CacheKey, Entry, hit_id
from dropforge.serve.near import Near, Record, nearest, packed
from dropforge.serve.options import Semantic, ServedModel
from dropforge.serve.semantic import signature
from lambdas.chat.cache import READ_SECONDS, WRITE_SECONDS
from lambdas.chat.embedding import embed
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream

EMBED_SECONDS = 0.4
"""What a caller waits for the embedding of a question, where there is one to compare it with."""
LATER_SECONDS = 2.0
"""And what it may take once the caller has the answer."""
RECORD_SECONDS = 10.0
MOST_CHECK_BYTES = 256 * 1024

Body = dict[str, Any]


class HitCheck(msgspec.Struct, frozen=True):
    """A message of the check queue: a hit, served or not, whose answer is to be compared.

    Attributes:
        about: which record it counts in.
        limit: the project's `max_false_hits`.
        kept: the answer that was found.
        fresh: what the model said to this very question; None where it is still to be asked.
        payload: what it is asked then.
    """

    project: str
    about: str
    limit: float
    version: str
    backend: Backend
    model_id: str
    embeddings: ServedModel
    kept: str
    fresh: str | None
    payload: Body


class _Question(msgspec.Struct):
    """What is noted of a question until its answer is kept; `would_be` is what was found."""

    text: str
    partition: CacheKey
    vector: bytes | None = None
    would_be: str | None = None


class SemanticCache:
    """Looks for and keeps questions; lives as long as its container."""

    def __init__(
        self,
        settings: ChatSettings,
        table: AnswerTable,
        upstream: Upstream,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._table = table
        self._upstream = upstream
        self._clock = clock
        self._records: dict[tuple[str, str], tuple[float, Record]] = {}
        self._queue: Queue | None = None

    def find(self, exchange: Exchange) -> bool:
        """Whether a question like this one has an answer that may be served.

        Raises:
            AwsError, HttpError: the table cannot be read.
        """
        options = exchange.options.cache.semantic
        question = _question(exchange)
        if question is None or options is None:
            return False
        record = self._record(exchange)
        if record.refuted(options.max_false_hits):
            return False
        exchange.lookup.similar = question
        soon = min(self._clock() + READ_SECONDS, exchange.call.deadline)
        others = self._table.near(question.partition.name, deadline=soon)
        if not others or not self._embed(exchange, question, EMBED_SECONDS):
            return False
        assert question.vector is not None  # noqa: S101 - it was just embedded
        cosine, near = nearest(question.vector, others)
        if near is None or cosine < options.similarity:
            return False
        return self._use(exchange, options, question, near, record)

    def keep(self, exchange: Exchange, entry: Entry) -> None:
        """Keep the question of an entry that was just written, and have a would-be hit checked."""
        question: _Question | None = exchange.lookup.similar
        if question is None:
            return
        if question.would_be is not None:
            self._check(exchange, question.would_be, _text(exchange.completion))
        if question.vector is None and not self._embed(exchange, question, LATER_SECONDS):
            return
        assert question.vector is not None  # noqa: S101 - it was just embedded
        partition, key = question.partition, exchange.lookup.key
        near = Near.of(partition, key, question.vector, entry.at, entry.expires_at)
        try:
            soon = self._clock() + WRITE_SECONDS
            self._table.keep_near(partition.name, near, deadline=soon)
        except (AwsError, HttpError):
            exchange.call.metrics["CacheWriteFailed"] = 1

    def _use(
        self,
        exchange: Exchange,
        options: Semantic,
        question: _Question,
        near: Near,
        record: Record,
    ) -> bool:
        """Serve the answer of the nearest question, or note it as a hit that would have been."""
        key = near.open(question.partition)
        soon = min(self._clock() + READ_SECONDS, exchange.call.deadline)
        entry = self._table.entry(key.name, deadline=soon) if key else None
        hours, call = exchange.options.cache.hours, exchange.call
        found = entry.open(key, call.at, hours) if entry and key else None
        if found is None or key is None:
            return False
        if not record.proven(options.max_false_hits):
            question.would_be = _text(found)
            return False
        if _sampled(call.request_id, options.check_share):
            kept = _text(found)
            call.after.append(lambda: self._check(exchange, kept, None))
        found["id"] = hit_id(key.name, call.request_id)
        exchange.completion, exchange.cache = found, "semantic"
        return True

    def _record(self, exchange: Exchange) -> Record:
        """What is known of this version's hits, remembered for a while."""
        project, about = exchange.asked.project, _about(exchange)
        now = self._clock()
        known = self._records.get((project, about))
        if known and now < known[0]:
            return known[1]
        soon = min(now + READ_SECONDS, exchange.call.deadline)
        record = self._table.record(project, about, deadline=soon)
        self._records[project, about] = (now + RECORD_SECONDS, record)
        return record

    def _embed(self, exchange: Exchange, question: _Question, seconds: float) -> bool:
        model = exchange.options.embeddings
        if model is None:
            return False
        deadline = self._clock() + seconds
        try:
            [vector] = embed(self._upstream, model, [question.text], deadline)
            question.vector = packed(vector)
        except (ChatError, ValueError):
            exchange.call.metrics["EmbeddingFailed"] = 1
            return False
        return True

    def _check(self, exchange: Exchange, kept: str, fresh: str | None) -> None:
        """Hand a hit to who compares the answers."""
        options, asked = exchange.options, exchange.asked
        if not self._settings.check_queue or not options.embeddings or not options.cache.semantic:
            return
        check = HitCheck(
            asked.project, _about(exchange), options.cache.semantic.max_false_hits,
            asked.version, asked.backend, asked.model_id,
            options.embeddings, kept, fresh, exchange.lookup.normal,
        )  # fmt: skip
        body = msgspec.json.encode(check)
        if len(body) > MOST_CHECK_BYTES:
            return
        self._queue = self._queue or Queue(self._settings.check_queue)
        try:
            self._queue.send(body.decode(), deadline=self._clock() + WRITE_SECONDS)
        except (AwsError, HttpError):
            exchange.call.metrics["CheckSendFailed"] = 1


def _question(exchange: Exchange) -> _Question | None:
    """The only user message, where nothing but a system prompt is before it.

    Its partition holds the questions of the same tenant, model, system prompt, parameters,
    embeddings and signature: those that it could share an answer with.
    """
    lookup = exchange.lookup
    *before, last = lookup.normal["messages"]
    if last["role"] != "user" or any(m["role"] not in ("system", "developer") for m in before):
        return None
    text = last.get("content")
    if not isinstance(text, str) or last.keys() - {"role", "content"}:
        return None
    known = signature(text)
    if known is None:
        return None
    asked, model = exchange.asked, exchange.options.embeddings
    rest = {**lookup.normal, "messages": before}
    about = asked.version, asked.backend, asked.model_id
    return _Question(text, CacheKey.of("near", lookup.whose, about, model, rest, known))


def _about(exchange: Exchange) -> str:
    """The record's name: hits of another version, model of embeddings or similarity are others."""
    options = exchange.options
    similarity = options.cache.semantic.similarity if options.cache.semantic else 1
    model = options.embeddings.model if options.embeddings else ""
    return f"{exchange.asked.version}#{similarity:g}#{model}"


def _sampled(request_id: str, share: float) -> bool:
    """Whether this request is one of the share that is checked; random, as request ids are."""
    import hashlib

    point = hashlib.sha256(f"check\0{request_id}".encode()).digest()[:8]
    return int.from_bytes(point) < share * 2**64


def _text(completion: Body | None) -> str:
    return str(
        (completion or {"choices": [{"message": {}}]})["choices"][0]["message"].get("content")
    )
