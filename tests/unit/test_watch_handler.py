"""The daily look at what providers have announced."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from botocore.client import BaseClient

from dropforge.backends import pointers
from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED
from dropforge.errors import TrainingFailedError
from dropforge.lifecycle import NO_END_DAYS, RETRY_SECONDS
from lambdas.watch import handler as watch_handler
from tests.support.moves import JUDGING, NEW, TWO, moved, promoted
from tests.support.provider import Provider, answers
from tests.support.world import World

RETRAIN = TWO + "shutdown: {retrain: true, days: 30}\n"
DAY = date(2026, 11, 22)
Tick = Callable[..., dict[str, Any]]
MODEL = {
    "base_model": "gpt-4.1-mini",
    "base_model_id": "gpt-4.1-mini",
    "dataset": "d",
    "spec": "s",
    "status": "trained",
    "created_at": 1,
}


@pytest.fixture
def tick(world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Tick:
    """The schedule's call; `openai` and `local` are the deployment's providers."""
    access = {"base_url": provider.url, "secret_arn": f"{world.bucket}-key"}
    two = json.dumps({"openai": access, "local": access})
    monkeypatch.setenv("DROPFORGE_PROVIDERS", two)

    def call(day: date = DAY) -> dict[str, Any]:
        return watch_handler.handler({"time": f"{day}T03:00:00Z"}, None)

    return call


def give_model(world: World, version: str, backend: str = "openai", **more: Any) -> None:
    item = {**MODEL, "version": version, "backend": backend, "model_id": f"ft:{version}", **more}
    world.registry.put("shop", f"model#{version}", item)


def give_champion(world: World, version: str = "old") -> None:
    give_model(world, version)
    model = world.registry.get("shop", f"model#{version}") or {}
    pointers.promote(world.registry, "shop", model, who="test", why="test", at=1.0)


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], float]:
    """(project or provider, metric) -> its last value."""
    found = {}
    for line in capsys.readouterr().out.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        for group in told.get("_aws", {}).get("CloudWatchMetrics", []):
            owner = told.get("project") or told.get("provider")
            found |= {(owner, m["Name"]): told[m["Name"]][0] for m in group["Metrics"]}
    return found


# --- what is recorded and published


def test_ends_are_recorded_with_where_they_are_known_from(
    world: World, provider: Provider, tick: Tick, capsys: pytest.CaptureFixture[str]
) -> None:
    give_champion(world)
    give_model(world, "listed")
    give_model(world, "own", backend="sagemaker")
    give_model(world, "free", backend="local", base_model="small")
    provider.models = {"ft:listed": {"shutdown_date": "2026-12-01"}, "ft:old": {}}
    assert tick() == {"projects": 1, "started": [], "unanswered": [], "failed": []}
    ends = {m["version"]: m["shutdown"] for m in world.registry.models("shop")}
    assert ends == {"old": "2027-01-14", "listed": "2026-12-01", "own": None, "free": None}
    listed = world.registry.model("shop", "listed") or {}
    assert listed["shutdown_from"] == "openai lists it for ft:listed"
    watch = world.registry.get("shop", "watch") or {}
    assert (watch["day"], watch["champion"], watch["days"]) == ("2026-11-22", "old", 53)
    assert watch["unanswered"] == []
    seen = metrics(capsys)
    assert seen["shop", "DaysUntilShutdown"] == 53
    assert seen["shop", "OthersDaysUntilShutdown"] == 9
    assert seen["openai", "ProviderUnanswered"] == 0


def test_project_whose_first_choice_ends_training_is_told(
    world: World, tick: Tick, capsys: pytest.CaptureFixture[str]
) -> None:
    tick()
    assert metrics(capsys)["shop", "TrainingDaysLeft"] == 45
    tick(date(2027, 2, 1))
    assert metrics(capsys)["shop", "TrainingDaysLeft"] == 0
    world.put_project("backend: local\nmodel: small\n" + JUDGING)
    tick()
    seen = metrics(capsys)
    assert seen["shop", "TrainingDaysLeft"] == NO_END_DAYS
    assert seen["shop", "DaysUntilShutdown"] == NO_END_DAYS


def test_silent_provider_is_counted_and_its_earlier_word_holds(
    world: World, provider: Provider, tick: Tick, capsys: pytest.CaptureFixture[str]
) -> None:
    give_model(world, "v1")
    provider.models = {"ft:v1": {"shutdown_date": "2026-12-01"}}
    tick()
    provider.refuses = answers(503)
    metrics(capsys)
    assert tick()["unanswered"] == ["local", "openai"]
    assert (world.registry.model("shop", "v1") or {})["shutdown"] == "2026-12-01"
    seen = metrics(capsys)
    assert seen["openai", "ProviderUnanswered"] == 1
    assert seen["shop", "OthersDaysUntilShutdown"] == 9


def test_postponed_end_is_recorded_anew(world: World, provider: Provider, tick: Tick) -> None:
    give_model(world, "v1", base_model="other")
    for told in ("2026-12-01", "2027-03-01", None):
        provider.models = {"ft:v1": {"shutdown_date": told}}
        tick()
        assert (world.registry.model("shop", "v1") or {})["shutdown"] == told


def test_project_that_cannot_be_read_does_not_stop_the_others(
    world: World, tick: Tick, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put_project(name="bank")
    config = world.registry.get("bank", "config") or {}
    world.store.delete(f"projects/bank/versions/{config['hash']}.json")
    give_champion(world)
    assert tick()["failed"] == ["bank"]
    seen = metrics(capsys)
    assert seen["bank", "WatchFailed"] == 1
    assert seen["shop", "DaysUntilShutdown"] == 53


def test_tick_without_a_time_takes_the_clocks_day(world: World, tick: Tick) -> None:
    watch_handler.handler({}, None)
    day = (world.registry.get("shop", "watch") or {})["day"]
    assert abs(date.fromisoformat(day) - datetime.now(UTC).date()) <= timedelta(days=1)


# --- what is started


def test_same_dataset_is_trained_on_the_next_choice_once_the_end_is_near(
    world: World, provider: Provider, tick: Tick
) -> None:
    first = promoted(world, provider, RETRAIN)
    assert tick(date(2026, 12, 14))["started"] == []
    (run_id,) = tick(date(2026, 12, 15))["started"]
    state = world.executions()[-1]
    assert state["run"]["run_id"] == run_id
    assert state["dataset"] == first["dataset"]
    assert state["fallback"] == {"choice": 1}
    item = world.run_item(state)
    assert (item["status"], item["stage"], item["choice"]) == (RUNNING, "train", 1)
    assert item["why"].endswith("gpt-4.1-mini on openai is shut down on 2027-01-14")
    assert item["key"] == first["run"]["key"]
    assert tick(date(2026, 12, 16))["started"] == []
    assert len(world.executions()) == 2
    after = moved(world, provider, state)
    assert after["poll"]["model"]["dataset"] == first["dataset"]["hash"]
    champion = world.registry.champion("shop") or {}
    assert (champion["backend"], champion["model_id"]) == ("local", NEW)
    assert champion["previous"] == first["poll"]["model"]["version"]


def test_dark_champion_is_moved_too_and_nothing_twice(
    world: World, provider: Provider, tick: Tick
) -> None:
    promoted(world, provider, RETRAIN)
    assert len(tick(date(2027, 3, 1))["started"]) == 1
    state = world.executions()[-1]
    world.registry.update("shop", f"run#{state['run']['run_id']}", {"status": SUCCEEDED})
    assert tick(date(2027, 3, 20))["started"] == []


def test_nothing_starts_where_the_project_does_not_want_it(
    world: World, provider: Provider, tick: Tick
) -> None:
    promoted(world, provider, TWO)
    assert tick(date(2027, 1, 10))["started"] == []
    assert len(world.executions()) == 1


def test_project_with_nowhere_to_go_is_counted_every_day(
    world: World, provider: Provider, tick: Tick, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = "backend: openai\nmodel: gpt-4.1-mini\nshutdown: {retrain: true}\n" + JUDGING
    promoted(world, provider, alone)
    for day in (date(2027, 1, 10), date(2027, 1, 11)):
        metrics(capsys)
        assert tick(day) == {"projects": 1, "started": [], "unanswered": [], "failed": []}
        assert metrics(capsys)["shop", "MigrationFailed"] == 1


def test_failed_move_is_counted_and_tried_again_after_a_week(
    world: World,
    provider: Provider,
    tick: Tick,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    promoted(world, provider, RETRAIN)
    near = date(2027, 1, 1)
    (run_id,) = tick(near)["started"]
    state = world.executions()[-1]
    world.fail(state, TrainingFailedError("No luck."))
    metrics(capsys)
    assert tick(near)["started"] == []
    assert metrics(capsys)["shop", "MigrationFailed"] == 1
    later = time.time() + RETRY_SECONDS + 1
    monkeypatch.setattr("lambdas.watch.handler.time.time", lambda: later)
    (again,) = tick(near)["started"]
    assert again != run_id
    assert (world.registry.get("shop", f"run#{run_id}") or {})["status"] == FAILED
    assert tick(near)["started"] == []


def test_run_that_was_noted_but_never_begun_begins_an_hour_later(
    world: World, provider: Provider, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function was killed between the registry and Step Functions."""
    promoted(world, provider, RETRAIN)
    near = date(2027, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr("botocore.client.BaseClient._make_api_call", _dies_at_start())
        with pytest.raises(KeyboardInterrupt):
            tick(near)
    assert len(world.executions()) == 1
    assert tick(near)["started"] == []
    later = time.time() + 3601
    monkeypatch.setattr("lambdas.watch.handler.time.time", lambda: later)
    (run_id,) = tick(near)["started"]
    assert world.executions()[-1]["run"]["run_id"] == run_id
    assert len([r for r in world.registry.items("shop", "run#") if "migrates" in r]) == 1


def _dies_at_start() -> Callable[..., Any]:
    call = BaseClient._make_api_call

    def instead(self: Any, operation: str, request: dict[str, Any]) -> Any:
        if operation == "StartExecution":
            raise KeyboardInterrupt
        return call(self, operation, request)

    return instead
