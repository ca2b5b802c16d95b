"""The regular look at the models in production, against a provider that answers over HTTP."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dropforge.artifacts import dataset_key, drift_key, golden_key, golden_snapshot_key
from dropforge.chat import ChatExample, Message, encode_lines
from dropforge.drift import BASELINE, Look, decode_baseline
from lambdas.drift import handler as drift_handler
from lambdas.drift import looking
from tests.support.provider import Messages, Provider, answers
from tests.support.world import World

DAY, NEXT = "2026-11-02", "2026-11-09"
GOLDEN = [
    {"id": f"q{n}", "question": f"How many days for item {n}?", "reference": f"{n} days."}
    for n in range(100, 112)
]
SECRET = "Zanzibar"
Tick = Callable[..., dict[str, str]]


def number(messages: Messages) -> str:
    """The item that a question is about."""
    found = re.search(r"item (\d+)", messages[-1]["content"])
    return found[1] if found else "?"


class Models:
    """A provider's models: each item is `days` wide in the answer; the judge prefers the right."""

    def __init__(self) -> None:
        self.answer: Callable[[str], str] = lambda item: f"It is {item} days, {SECRET}."
        self.judged = 0

    def __call__(self, model: str, messages: Messages) -> str:
        if model != "judge":
            return self.answer(number(messages))
        self.judged += 1
        text = messages[-1]["content"]
        shown = {m[1].upper(): m[2] for m in re.finditer(_ANSWER, text)}
        item = re.search(r"item (\d+)", text)
        right = {side for side, said in shown.items() if item and f"{item[1]} days" in said}
        winner = right.pop() if len(right) == 1 else "tie"
        return json.dumps({"winner": winner, "confidence": 0.9, "rationale": "facts"})


_ANSWER = re.compile(r"<answer_([ab]) nonce=[^>]*>\n(.*?)\n</answer", re.DOTALL)


@pytest.fixture
def models(provider: Provider) -> Models:
    models = Models()
    provider.chat = models
    return models


@pytest.fixture
def tick(world: World, monkeypatch: pytest.MonkeyPatch) -> Tick:
    """The schedule's call, in a project whose model v1 is in production."""
    monkeypatch.setattr(looking, "PAUSES", (0.0, 0.0))
    put_golden(world, GOLDEN)
    promote(world, "v1")

    def call(day: str = DAY, **event: Any) -> dict[str, str]:
        return drift_handler.handler({"time": f"{day}T04:00:00Z", **event}, None)

    return call


def put_golden(world: World, lines: list[dict[str, Any]], project: str = "shop") -> None:
    text = "\n".join(map(json.dumps, lines))
    world.take(world.put(golden_key(project), text))


def promote(world: World, version: str, project: str = "shop") -> None:
    model = {"version": version, "backend": "openai", "model_id": f"ft:{version}", "dataset": "d"}
    world.registry.put_new(project, f"model#{version}", model)
    world.registry.put(project, "champion", {**model, "revision": 1, "previous": None, "at": 1.0})


def look_of(world: World, day: str = DAY, project: str = "shop") -> Look:
    return world.store.load(drift_key(project, day), Look)


def item_of(world: World, day: str, version: str = "v1", project: str = "shop") -> dict[str, Any]:
    return world.registry.get(project, f"drift#{day}#{version}") or {}


def metrics(text: str) -> dict[tuple[str, str], float]:
    """(project, metric) -> its last value."""
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        for group in told.get("_aws", {}).get("CloudWatchMetrics", []):
            found |= {(told["project"], m["Name"]): told[m["Name"]][0] for m in group["Metrics"]}
    return found


# --- golden questions in force


def test_valid_golden_file_is_in_force(world: World) -> None:
    put_golden(world, GOLDEN)
    item = world.registry.get("shop", "golden") or {}
    assert item["questions"] == len(GOLDEN)
    kept = world.store.read(golden_snapshot_key("shop", item["hash"]))
    assert kept.count(b"\n") == len(GOLDEN)
    assert world.executions() == []


def test_wrong_golden_file_is_told_and_the_last_valid_one_stays(world: World) -> None:
    put_golden(world, GOLDEN)
    before = world.registry.get("shop", "golden")
    put_golden(world, [*GOLDEN, {"question": SECRET, "reference": "Gladly."}])
    said = world.store.read("projects/shop/golden.jsonl.error.txt").decode()
    assert said.startswith("PROJECT: golden.jsonl is wrong: line 13: `reference` has no number")
    assert SECRET not in said
    assert world.registry.get("shop", "golden") == before
    assert world.registry.items("shop", "run#") == []
    put_golden(world, GOLDEN)
    assert world.listed("projects/shop/golden.jsonl.error.txt") == []
    assert world.registry.get("shop", "golden") == before


def test_empty_golden_file_ends_the_questions(world: World) -> None:
    put_golden(world, GOLDEN)
    put_golden(world, [])
    assert (world.registry.get("shop", "golden") or {})["questions"] == 0


# --- drift


def test_model_that_is_silently_replaced_by_a_worse_one_is_found(
    world: World, tick: Tick, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tick() == {"shop": "12 of 12 answers right; its first answers are kept"}
    models.answer = lambda item: "It is 1 day." if int(item) % 2 else f"It is {item} days."
    said = tick(NEXT)["shop"]
    assert said.startswith("drift: 6 of 12 answers are right, 12 were at first")
    seen = metrics(capsys.readouterr().out)
    assert seen["shop", "DriftDetected"] == 1
    assert seen["shop", "DriftRight"] == 0.5
    assert seen["shop", "DriftWinRate"] == pytest.approx(0.25)
    item = item_of(world, NEXT)
    assert (item["right"], item["right_then"], item["since"]) == (6, 12, DAY)
    assert item["findings"]
    assert item["changed"] == []
    changed = look_of(world, NEXT).changed
    assert len(changed) == 12
    assert sum(one.is_worse for one in changed) == 6


def test_model_that_answers_the_same_has_not_drifted_and_no_judge_is_asked(
    world: World, tick: Tick, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    tick()
    assert tick(NEXT) == {"shop": "12 of 12 answers right, 12 at first; no drift"}
    found = look_of(world, NEXT)
    assert (found.same, found.drifted) == (12, False)
    assert models.judged == 0
    assert metrics(capsys.readouterr().out)["shop", "DriftDetected"] == 0


def test_other_words_that_are_as_right_are_no_drift(
    world: World, tick: Tick, models: Models
) -> None:
    tick()
    models.answer = lambda item: f"{item} days it is."
    assert tick(NEXT)["shop"].endswith("no drift")
    found = look_of(world, NEXT)
    assert (found.same, found.compared, models.judged) == (0, 12, 24)
    assert found.win_rate is not None
    assert found.win_rate.point == 0.5


def test_baseline_is_made_once(world: World, tick: Tick, models: Models) -> None:
    key = drift_key("shop", "baseline-v1", BASELINE)
    tick()
    first = world.store.read(key)
    models.answer = lambda item: "It is 1 day."
    for day in (NEXT, "2026-11-16"):
        assert tick(day)["shop"].startswith("drift")
        assert world.store.read(key) == first
        assert look_of(world, day).since == DAY


def test_new_question_gets_a_first_answer_and_the_others_keep_theirs(
    world: World, tick: Tick, models: Models
) -> None:
    tick()
    new = {"id": "new", "question": "And item 500?", "reference": "500 days."}
    put_golden(world, [*GOLDEN, new])
    models.answer = lambda item: f"{item} days it is."
    tick(NEXT)
    first = decode_baseline(world.store.read(drift_key("shop", "baseline-v1", BASELINE)))
    assert sorted(one.day for one in first.values()) == [DAY] * 12 + [NEXT]
    found = look_of(world, NEXT)
    assert (found.asked, found.compared) == (13, 12)


def test_new_champion_has_a_new_baseline(world: World, tick: Tick, models: Models) -> None:
    tick()
    promote(world, "v2")
    models.answer = lambda item: "It is 1 day."
    assert tick(NEXT) == {"shop": "0 of 12 answers right; its first answers are kept"}
    assert item_of(world, NEXT, "v2")["win_rate"] is None
    assert world.store.find(drift_key("shop", "baseline-v2", BASELINE))


def test_second_look_of_a_day_is_held_against_the_first(
    world: World, tick: Tick, models: Models
) -> None:
    tick()
    models.answer = lambda item: "It is 1 day."
    assert tick(project="shop")["shop"].startswith("drift")


def test_tickets_of_its_dataset_stand_for_golden_questions(
    world: World, tick: Tick, models: Models
) -> None:
    put_golden(world, [])
    tickets = [
        ChatExample(
            f"t{n}", "", n, (Message("user", f"item {n}"), Message("assistant", f"{n} days."))
        )
        for n in range(100, 150)
    ]
    world.store.write(dataset_key("shop", "d", "test.jsonl"), encode_lines(tickets))
    assert tick() == {"shop": "30 of 30 answers right; its first answers are kept"}
    assert look_of(world).golden is None


def test_project_without_champion_or_questions_is_skipped(
    world: World, tick: Tick, models: Models, provider: Provider
) -> None:
    for name in ("bank", "club", "dorm"):
        world.put_project(name=name)
    put_golden(world, GOLDEN, "bank")
    promote(world, "v1", "club")
    world.put_project("backend: openai\nmodel: small\ndrift: {enabled: false}\n", name="dorm")
    put_golden(world, GOLDEN, "dorm")
    promote(world, "v1", "dorm")
    said = tick()
    assert said["bank"] == "not looked at: no model is in production"
    assert said["club"].startswith("not looked at: there are no golden questions")
    assert said["dorm"] == "not looked at: project.yaml switches it off"
    assert said["shop"].startswith("12 of 12")
    assert len(provider.chats) == len(GOLDEN)
    assert tick(project="dorm")["dorm"].startswith("12 of 12")


def test_ratings_since_an_earlier_look_are_counted(
    world: World, tick: Tick, models: Models
) -> None:
    def rate(name: str, rating: int, at: float, version: str = "v1") -> None:
        item = {"rating": rating, "at": at, "arm": "champion", "comment": SECRET}
        world.registry.put("shop", f"feedback#{version}#{name}", item)

    rate("a", 1, 5.0)
    rate("b", -1, 5.0)
    rate("c", 1, 5.0, version="v2")
    tick()
    assert item_of(world, DAY)["ratings"] == {"up": 1, "down": 1}
    rate("d", 1, time.time() + 5)
    for _ in range(2):
        tick(NEXT)
        assert item_of(world, NEXT)["ratings"] == {"up": 1, "down": 0}


# --- what goes wrong


def test_silent_provider_is_tried_again_then_counted_and_the_others_go_on(
    world: World,
    tick: Tick,
    models: Models,
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.put_project(name="bank")
    put_golden(world, GOLDEN[:1], "bank")
    promote(world, "v9", "bank")
    tried = []

    def chat(model: str, messages: Messages) -> str | dict[str, Any]:
        if model == "ft:v9":
            tried.append(model)
            raise ConnectionError  # the handler's thread ends: the connection is cut
        return models(model, messages)

    provider.chat = chat
    said = tick()
    assert said["bank"].startswith("failed: RETRYABLE")
    assert len(tried) >= 3
    assert said["shop"].startswith("12 of 12")
    seen = metrics(capsys.readouterr().out)
    assert (seen["bank", "DriftFailed"], seen["shop", "DriftFailed"]) == (1, 0)
    assert (world.registry.get("bank", "drift") or {})["failed"].startswith("RETRYABLE")
    assert (world.registry.get("shop", "drift") or {})["failed"] is None


def test_provider_that_recovers_is_looked_at(
    world: World, tick: Tick, models: Models, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PAUSES", (0.05, 0.05))
    provider.refuses = answers(503)
    healed = threading.Timer(0.1, lambda: setattr(provider, "refuses", None))
    healed.start()
    assert tick()["shop"].startswith("12 of 12")
    healed.join()


def test_broken_project_keeps_none_of_the_others_from_theirs(
    world: World, tick: Tick, models: Models
) -> None:
    world.put_project(name="bank")
    config = world.registry.get("bank", "config") or {}
    world.store.delete(f"projects/bank/versions/{config['hash']}.json")
    assert tick()["bank"].startswith("failed: PROJECT")
    world.put_project(name="club")
    put_golden(world, GOLDEN, "club")
    promote(world, "v1", "club")
    world.store.write(drift_key("club", "baseline-v1", BASELINE), "no JSON\n")
    said = tick(NEXT)
    assert said["club"] == "failed: DecodeError"
    assert said["shop"].endswith("no drift")


def test_hanging_provider_takes_no_more_than_its_time(
    world: World, tick: Tick, models: Models, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 1000

    monkeypatch.setattr(drift_handler, "RESERVE_SECONDS", 0.5)
    provider.chat = lambda model, messages: str(provider.released.wait(20))
    began = time.monotonic()
    said = drift_handler.handler({"time": f"{DAY}T04:00:00Z"}, Context())
    assert time.monotonic() - began < 15, "the provider hangs for 20 s"
    assert said["shop"].startswith("failed: PROVIDER_DOWN")


def test_where_time_is_short_some_are_asked_and_others_the_next_day(
    world: World, tick: Tick, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_project("backend: openai\nmodel: small\njudge: {model: judge, concurrency: 2}\n")
    clock = iter([100.0, 50.0, -1.0])
    monkeypatch.setattr(looking.Looking, "_left", lambda self: next(clock, -1.0))
    monkeypatch.setattr(looking, "_within", lambda seconds, call: call())
    tick()
    found = look_of(world)
    assert 0 < found.asked < found.questions == 12


def test_project_whose_look_is_the_oldest_is_the_first(
    world: World, tick: Tick, models: Models
) -> None:
    for name in ("bank", "club"):
        world.put_project(name=name)
        world.registry.put(name, "drift", {"started_at": {"bank": 9.0, "club": 3.0}[name]})
    assert list(tick()) == ["shop", "club", "bank"]


def test_no_log_tells_what_was_asked_or_answered(
    world: World,
    tick: Tick,
    models: Models,
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tick()
    models.answer = lambda item: f"It is 1 day, {SECRET}."
    tick(NEXT)
    provider.chat = lambda model, messages: {"error": {"message": f"no {messages}"}}
    tick("2026-11-16")
    provider.refuses = answers(400)
    tick("2026-11-23")
    logged = str([vars(record) for record in caplog.records]) + "".join(capsys.readouterr())
    assert "looked" in logged
    assert "project not looked at" in logged
    for text in (SECRET, "How many days", "100 days"):
        assert text not in logged


def test_summary_reads_back_as_a_look(world: World, tick: Tick, models: Models) -> None:
    tick()
    models.answer = lambda item: f"{item} days it is."
    tick(NEXT)
    kept = msgspec.convert(item_of(world, NEXT), Look)
    assert msgspec.structs.replace(look_of(world, NEXT), changed=(), at=0.0) == (
        msgspec.structs.replace(kept, at=0.0)
    )
