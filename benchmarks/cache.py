"""The cache: false hits and recall on near questions, and what a request pays for it.

The set is tests/support/near_questions.txt; figures are of its held-out half, whose wording the
guard was not tuned on. Embeddings are the local ones (MiniLM in int8).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from dropforge.serve.semantic import signature
from serving.embeddings import Embedder
from tests.support.near_questions import QuestionPair, question_pairs

DEFAULT, GPTCACHE, LOOSE = 0.93, 0.8, 0.85
"""`serve.cache.semantic.similarity`; GPTCache's default `similarity_threshold`; and between."""
MOST_FALSE = 0.01
ROUNDS, EACH = 20, 200

Hit = Callable[[QuestionPair], bool]


def figures() -> Iterator[Figure]:
    """What is served of the held-out pairs, by rule; then the CPU of the exact cache."""
    pairs = [pair for pair in question_pairs() if pair.held_out]
    embedder = Embedder()
    cosine = {pair: embedder.cosine(pair.one, pair.other) for pair in pairs}

    def near(threshold: float) -> Hit:
        return lambda pair: cosine[pair] >= threshold

    def ours(pair: QuestionPair) -> bool:
        return cosine[pair] >= DEFAULT and signature(pair.one) == signature(pair.other)

    def loose(pair: QuestionPair) -> bool:
        return cosine[pair] >= LOOSE and signature(pair.one) == signature(pair.other)

    rules: tuple[tuple[str, Hit, bool], ...] = (
        (f"cosine ≥ {GPTCACHE} alone, as GPTCache's default", near(GPTCACHE), False),
        (f"cosine ≥ {LOOSE} alone", near(LOOSE), False),
        (f"cosine ≥ {DEFAULT} alone", near(DEFAULT), False),
        (f"guard and cosine ≥ {DEFAULT}, the default", ours, True),
        (f"guard and cosine ≥ {LOOSE}", loose, True),
    )
    for name, hit, is_ours in rules:
        yield _figure(name, hit, pairs, is_ours=is_ours)
    yield from _costs()


def _figure(name: str, hit: Hit, pairs: list[QuestionPair], *, is_ours: bool) -> Figure:
    near = [pair for pair in pairs if not pair.same]
    same = [pair for pair in pairs if pair.same]
    false, right = sum(map(hit, near)), sum(map(hit, same))
    share = false / len(near)
    return Figure(
        f"semantic hits, {name}: near questions answered wrongly, paraphrases found (held out)",
        f"{false} of {len(near)} ({share:.1%}), {right} of {len(same)} ({right / len(same):.0%})",
        f"at most {MOST_FALSE:.0%} wrong" if is_ours else "–",
        share <= MOST_FALSE if is_ours else None,
    )


def _costs() -> Iterator[Figure]:
    """CPU of `AnswerCache.find` with a table that answers at once, less the table's own part."""
    for name, kept in (("miss", False), ("hit", True)):
        whole = _microseconds(kept)
        yield Figure(
            f"exact cache, CPU added to a request that is a {name}, without the table's HTTP call",
            f"{whole:.0f} µs",
        )
    yield Figure("signature of a question", f"{_signature_microseconds():.0f} µs")


def _microseconds(kept: bool) -> float:
    """The median over rounds of the mean of each."""
    from dropforge.serve.cache import Entry
    from lambdas.chat.cache import AnswerCache
    from lambdas.chat.settings import ChatSettings
    from lambdas.chat.upstream import Upstream

    settings = ChatSettings("registry", cache_table="answers")
    cache = AnswerCache(settings, Upstream(settings))
    table = _Memory()
    cache._opened = table  # type: ignore[assignment]
    first = _exchange()
    cache.find(first)
    if kept:
        answer = {"id": "c", "choices": [{"message": {"content": "It ships on Monday." * 10}}]}
        table.found = Entry.seal(first.lookup.key, "h", answer, int(first.call.at), 24)
    rounds = []
    for _ in range(ROUNDS):
        exchanges = [_exchange() for _ in range(EACH)]
        began = time.process_time()
        found = [cache.find(exchange) for exchange in exchanges]
        rounds.append((time.process_time() - began) / EACH * 1e6)
        if set(found) != {kept}:
            raise AssertionError("the cache did not do what is measured")
    return median(rounds)


class _Memory:
    """A table that answers at once with what it has."""

    found: Any = None

    def entry(self, name: str, *, deadline: float) -> Any:
        return self.found


def _exchange() -> Any:
    from dropforge.serve.options import ServeOptions
    from dropforge.serve.routing import Route
    from lambdas.chat.edge import Call
    from lambdas.chat.exchange import Exchange

    call = Call(
        "POST", "/v1/chat/completions", "r" * 32, ("shop",), "shop", "name", "t1", None,
        time.monotonic() + 60, time.time(), "", False,
        headers={"content-type": "application/json", "user-agent": "bench"}, metrics={}, after=[],
    )  # fmt: skip
    fields = {"messages": [{"role": "user", "content": "When does my lamp arrive? " * 8}]}
    route = Route("shop", "v2", "champion", "openai", "ft:shop:2")
    prompt = "You answer customers of Lumen, briefly and kindly. " * 4
    return Exchange(
        call=call, fields=fields, asked=route, route=route, options=ServeOptions(),
        collect=None, prompt=prompt, stream=False,
    )  # fmt: skip


def _signature_microseconds() -> float:
    questions = [pair.one for pair in question_pairs()]
    began = time.process_time()
    for question in questions:
        signature(question)
    return (time.process_time() - began) / len(questions) * 1e6
