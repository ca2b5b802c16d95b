"""Fault 40: another number or a negation, another tenant, an old model version, a poisoned answer.

Against a real HTTP server that plays the table. Every answer names what it was given for, so that
a hit shows by itself whether it is somebody else's, old or forged. FUZZ_CASES are ten times as
many as are tried: 10,000 by `make fuzz`.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from dropforge.serve import Feedback
from dropforge.serve.arms import Arm, answer_id
from dropforge.serve.options import Cache, Semantic, ServedModel, ServeOptions
from dropforge.serve.routing import Route
from lambdas.chat.cache import AnswerCache
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings
from lambdas.chat.upstream import Upstream
from tests.support.near_questions import question_pairs
from tests.unit.cache_table import CACHE_TABLE, CacheTable
from tests.unit.chat_front import served, shop
from tests.unit.http_stub import Stub, replies

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

CASES = int(os.environ.get("FUZZ_CASES", "20000")) // 10
HOURS = 1.0
QUESTIONS = ("Where is my order?", "Where is my order 2?", "Is it not here?", "Is it here?")
PROMPTS = ("You answer for Lumen.", "You answer for Lumen. Be brief.", None)


class World:
    """Tenants, versions and time; what may be found is what `tag` says."""

    def __init__(self, rows: CacheTable, seed: int) -> None:
        self.rows = rows
        self.chance = random.Random(seed)
        settings = ChatSettings("registry", cache_table=CACHE_TABLE)
        self.cache = AnswerCache(settings, Upstream(settings))
        self.now = time.time()
        self.version = {"shop": 1, "club": 1}
        self.prompt: dict[str, str | None] = {"shop": PROMPTS[0], "club": PROMPTS[0]}
        self.kept_at: dict[str, float] = {}
        self.blocked: dict[str, float] = {}
        self.requests = 0

    def exchange(self) -> Exchange:
        """Anybody's request for anything that there is."""
        pick, self.requests = self.chance.choice, self.requests + 1
        project = pick(("shop", "club"))
        extras = {"user": pick(("ann", "ben")), "temperature": pick((0, 1))}
        fields: dict[str, Any] = {
            "messages": [{"role": "user", "content": pick(QUESTIONS)}],
            **{name: value for name, value in extras.items() if self.chance.random() < 0.3},
        }
        arms: tuple[Arm, ...] = ("champion", "champion", "base", "pinned")
        arm = pick(arms)
        champion = self.version[project]
        number = {"champion": champion, "base": 0, "pinned": max(1, champion - 1)}[arm]
        version = f"v{number}" if number else "base"
        route = Route(project, version, arm, "openai", f"ft:{project}:{number}")
        call = Call(
            "POST", "/v1/chat/completions", f"{self.requests:032x}", (project,), project, "name",
            pick(("t1", "t2")), None, time.monotonic() + 60, self.now, "", False,
            headers={}, metrics={}, after=[],
        )  # fmt: skip
        return Exchange(
            call=call, fields=fields, asked=route, route=route, collect=None, stream=False,
            options=ServeOptions(cache=Cache(hours=HOURS)), prompt=self.prompt[project],
        )  # fmt: skip

    def all_blocked(self) -> list[dict[str, Any]]:
        """The entries that are not to be given again."""
        return [item for item in self.rows.of("answer#") if "blocked" in item]

    def answered(self, exchange: Exchange) -> None:
        """The model's answer, which names all that decides it."""
        exchange.completion = {
            "id": f"up-{exchange.call.request_id}",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": tag(exchange)},
                    "finish_reason": "stop",
                }
            ],
        }

    def happens(self) -> None:
        """Now and then a promotion, an edit, a pause, a bad rating, or a hand in the table."""
        point = self.chance.random()
        project = self.chance.choice(("shop", "club"))
        if point < 0.02:
            self.version[project] = self.chance.randint(1, 4)  # forwards or back
        elif point < 0.04:
            self.prompt[project] = self.chance.choice(PROMPTS)
        elif point < 0.06:
            self.now += self.chance.choice((60, 1800, 3700))
        elif point < 0.30:
            self.poison()

    def poison(self) -> None:
        """Copies, swaps, cuts or edits an entry, as somebody with write access might."""
        entries = [key for key in self.rows.answers if key[0].startswith("answer#")]
        if len(entries) < 2:
            return
        key, other = self.chance.sample(entries, 2)
        item, donor = deepcopy(self.rows.answers[key]), deepcopy(self.rows.answers[other])
        if not all("B" in entry.get("body", {}) for entry in (item, donor)):
            return
        later = {"N": str(int(self.now) + 10**6)}
        change: dict[str, Any] = self.chance.choice(
            (
                {name: donor[name] for name in donor if name not in ("pk", "sk")},
                {"body": donor["body"]},
                {"body": {"B": item["body"]["B"][: 4 * (len(item["body"]["B"]) // 8)]}},
                {"at": later, "expires_at": later},
                {"expires_at": later},
                {"code": {"B": ""}},
                {"at": {"S": "yesterday"}},
                {"body": {"S": "text"}},
            )
        )
        self.rows.answers[key] = {**item, **change}


def tag(exchange: Exchange) -> str:
    call, asked = exchange.call, exchange.asked
    user, heat = exchange.fields.get("user"), exchange.fields.get("temperature")
    question = exchange.fields["messages"][0]["content"]
    parts = call.project, call.token_id, user, asked.version, exchange.prompt, heat, question
    return json.dumps(parts)


@pytest.fixture
def rows() -> CacheTable:
    return CacheTable(shop())


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: CacheTable) -> Iterator[Stub]:
    limits = ("cache.READ_SECONDS", "cache.WRITE_SECONDS", "semantic.READ_SECONDS")
    for limit in (*limits, "semantic.WRITE_SECONDS", "semantic.EMBED_SECONDS"):
        monkeypatch.setattr(f"lambdas.chat.{limit}", 30.0)  # nothing here is slow but the machine
    with served(monkeypatch, rows) as server:
        yield server


@pytest.mark.slow
def test_no_foreign_old_or_forged_answer_in_thousands_of_cases(
    stub: Stub, rows: CacheTable
) -> None:
    world, hits, refused = World(rows, 40), 0, 0
    for _ in range(CASES):
        world.happens()
        exchange = world.exchange()
        called = tag(exchange)
        is_blocked = world.now < world.blocked.get(called, 0)
        if not world.cache.find(exchange):
            refused += is_blocked
            world.answered(exchange)
            world.cache.keep(exchange)
            world.kept_at[called] = world.now
        else:
            hits += 1
            whole = exchange.completion or {}
            assert whole["choices"][0]["message"]["content"] == called
            assert world.now - world.kept_at[called] <= HOURS * 3600
            assert not is_blocked
        if not is_blocked and world.chance.random() < 0.01 and _rate_down(world, exchange):
            world.blocked[called] = world.kept_at[called] + HOURS * 3600 - 1
        assert "CacheReadFailed" not in exchange.call.metrics
    assert hits > CASES / 5
    assert refused > CASES / 500


def _rate_down(world: World, exchange: Exchange) -> bool:
    """Rates the answer badly; whether that blocked an entry, which a spoiled one cannot be."""
    route = exchange.route
    upstream = (exchange.completion or {}).get("id")
    called = answer_id(upstream, exchange.call.request_id, route.version, route.arm)
    before = len(world.all_blocked())
    world.cache.forget(exchange.call, Feedback(id=called, rating=-1))
    return len(world.all_blocked()) > before


def test_no_near_question_is_served_though_embeddings_cannot_tell_it(
    stub: Stub, rows: CacheTable
) -> None:
    """All vectors are the same here, so that only the guard is left."""
    stub.routes["/v1/embeddings"] = replies(200, {"data": [{"index": 0, "embedding": [1.0, 0.5]}]})
    ask = _semantic(stub, rows)
    near = [pair for pair in question_pairs() if not pair.same]
    served_wrongly = []
    for pair in near:
        rows.answers = {key: item for key, item in rows.answers.items() if key[0] == "state#shop"}
        ask(pair.one)
        if ask(pair.other) == "semantic":
            served_wrongly.append(pair)
    assert ask(near[-1].other) == "hit"
    assert len(served_wrongly) <= 0.01 * len(near), served_wrongly


def _semantic(stub: Stub, rows: CacheTable) -> Callable[[str], str]:
    """Asks a question, keeps the answer of a miss, and says what the cache did."""
    world = World(rows, 1)
    settings = ChatSettings.from_environment()
    settings = ChatSettings("registry", providers=settings.providers, cache_table=CACHE_TABLE)
    cache = AnswerCache(settings, Upstream(settings))
    options = ServeOptions(
        cache=Cache(semantic=Semantic(check_share=1e-9)),
        embeddings=ServedModel("openai", "blind"),
    )
    record = {"pk": {"S": "state#shop"}, "sk": {"S": "v1#0.93#blind"}}
    rows.answers["state#shop", "v1#0.93#blind"] = {
        **record, "checks": {"N": "1000"}, "false": {"N": "0"}
    }  # fmt: skip
    route = Route("shop", "v1", "champion", "openai", "ft:shop:1")

    def ask(question: str) -> str:
        exchange = world.exchange()
        exchange.fields = {"messages": [{"role": "user", "content": question}]}
        exchange.asked = exchange.route = route
        exchange.options, exchange.prompt = options, None
        exchange.call.project, exchange.call.token_id = "shop", "t1"
        if not cache.find(exchange):
            world.answered(exchange)
            cache.keep(exchange)
        assert not exchange.call.metrics.keys() & {"CacheReadFailed", "EmbeddingFailed"}
        return exchange.cache

    assert ask("How do I return a lamp?") == "miss"
    assert ask("How can I send back a lamp?") == "semantic"
    return ask
