"""The promote stage and the looks of a canary, on moto's registry."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from dropforge.backends import pointers
from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED
from dropforge.backends.traffic import read_traffic
from dropforge.cli.watch import describe
from dropforge.errors import PromotionError
from lambdas.edge import Edge
from lambdas.fail import handler as fail
from lambdas.promote import handler as promote_handler
from tests.support.promotions import (
    APPROVAL,
    CANARY,
    PROJECT,
    count,
    judged,
    let_pass,
    look,
    promote,
    rate,
    reigns,
)
from tests.support.world import World

HOUR = 3600


def pointer(world: World) -> dict[str, Any]:
    return world.registry.get("shop", "champion") or {}


def raw(world: World) -> str:
    """The stored champion, byte for byte."""
    return json.dumps(pointer(world), sort_keys=True)


def said(world: World, state: dict[str, Any]) -> str:
    return describe(world.run_item(state), "promote")


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in capsys.readouterr().out.splitlines():
        told = json.loads(line) if line.startswith("{") else {}
        for group in told.get("_aws", {}).get("CloudWatchMetrics", []):
            for metric in group["Metrics"]:
                value = told[metric["Name"]]
                found.setdefault(metric["Name"], []).append(
                    value[0] if isinstance(value, list) else value
                )
    return found


# --- without a canary


def test_winner_becomes_the_champion_at_once(world: World) -> None:
    reigns(world)
    state = judged(world, "new")
    assert promote(state) == {
        "promoted": True,
        "canary": False,
        "running": False,
        "version": "new",
    }
    assert (pointer(world)["version"], pointer(world)["previous"]) == ("new", "old")
    assert (pointer(world)["who"], pointer(world)["why"]) == ("pipeline", "wins 90 % [83 %, 94 %]")
    item = world.run_item(state)
    assert (item["status"], item["promoted"], item["stage"]) == (SUCCEEDED, True, "promote")
    assert said(world, state) == "new is the champion now"


@pytest.mark.parametrize("decision", ["reject", "not enough evidence"])
@pytest.mark.parametrize("project", [CANARY, APPROVAL])
def test_fault_37_without_a_win_the_pointer_is_the_same_byte_for_byte(
    world: World, decision: str, project: str
) -> None:
    reigns(world)
    before, moves = raw(world), world.registry.items("shop", "move#")
    state = judged(world, "new", project, decision)
    assert not promote(state)["promoted"]
    assert raw(world) == before
    assert world.registry.items("shop", "move#") == moves
    assert world.registry.items("shop", "standing#new") == []
    assert world.run_item(state)["status"] == SUCCEEDED
    assert said(world, state) == "the champion stays as it was"


def test_stage_killed_after_the_move_promotes_once_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = judged(world, "new")
    with monkeypatch.context() as patch:
        patch.setattr(promote_handler, "ended", _dies)
        with pytest.raises(KeyboardInterrupt):
            promote(state)
    assert world.run_item(state)["status"] == RUNNING
    before = raw(world)
    assert promote(state)["promoted"]
    assert raw(world) == before
    assert (world.run_item(state)["status"], world.run_item(state)["promoted"]) == (SUCCEEDED, True)


def test_another_run_of_the_champion_promotes_nothing(world: World) -> None:
    promote(judged(world, "new"))
    again = judged(world, "new")
    again["run"]["run_id"] = "another"
    world.registry.put("shop", "run#another", {"train": {"version": "new"}})
    assert not promote(again)["promoted"]
    assert said(world, again) == "the champion stays as it was (new answers already)"
    assert pointer(world)["revision"] == 1


def test_version_that_was_rolled_back_is_left_where_it_is(world: World) -> None:
    reigns(world)
    promote(judged(world, "new"))
    pointers.roll_back(world.registry, "shop", who="ann", why="rude", at=2.0)
    again = judged(world, "new")
    again["run"]["run_id"] = "monthly"
    world.registry.put("shop", "run#monthly", {"train": {"version": "new"}})
    assert not promote(again)["promoted"]
    assert "only `dropforge promote` brings it back" in said(world, again)
    assert pointer(world)["version"] == "old"


def test_two_runs_at_once_one_moves_the_pointer_and_the_other_says_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reigns(world)
    first, second = judged(world, "one"), judged(world, "two")
    stale = world.registry.champion("shop")
    assert promote(first)["promoted"]
    with monkeypatch.context() as patch:
        patch.setattr("dropforge.backends.registry.Registry.champion", lambda *_: stale)
        with pytest.raises(PromotionError, match="Somebody else moved"):
            promote(second)
    assert pointer(world)["version"] == "one"
    assert not promote(second)["promoted"], "it was not judged against what stands now"
    assert (pointer(world)["version"], pointer(world)["previous"]) == ("one", "old")


@pytest.mark.parametrize("project", [PROJECT, CANARY])
@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("old", "third", "from old to third"),
        (None, "third", "from base to third"),
        ("old", "base", "from old to base"),
    ],
)
def test_model_that_was_judged_against_another_champion_is_not_promoted(
    world: World, project: str, before: str | None, after: str, changed: str
) -> None:
    if before:
        reigns(world, before)
    state = judged(world, "new", project)
    reigns(world, after)
    was = raw(world)
    assert promote(state) | {"version": ""} == {
        "promoted": False,
        "canary": False,
        "running": False,
        "version": "",
    }
    assert raw(world) == was
    why = f"the champion changed {changed} since it was judged: drop the file again"
    assert said(world, state) == f"the champion stays as it was ({why})"


def test_base_that_holds_the_champions_place_is_no_change(world: World) -> None:
    """It holds it since a first canary began; a run that was judged before names no champion."""
    promote(judged(world, "first", CANARY))
    pointers.stop_canary(world.registry, "shop", who="ann", why="", at=1.0)
    assert pointer(world)["version"] == "base"
    assert promote(judged(world, "new", CANARY))["running"]


def test_file_whose_model_was_left_can_be_dropped_again(world: World) -> None:
    """After an alarm, too little traffic, nobody's yes or another champion; not after harm."""
    world.put_project(CANARY)
    state = world.drop("x")
    run_id = state["run"]["run_id"]
    noted = {"status": SUCCEEDED, "promoted": False, "train": {"version": "new"}}
    world.registry.update("shop", f"run#{run_id}", noted)
    again = world.drop("x")
    assert again["run"]["run_id"] == run_id, "the gate said no: the same file is the same answer"
    world.registry.update("shop", f"run#{run_id}", {"not_promoted": "nobody approved it in time"})
    again = world.drop("x")
    assert again["run"]["run_id"] != run_id
    third = {**noted, "not_promoted": "the canary ended: errors"}
    world.registry.update("shop", f"run#{again['run']['run_id']}", third)
    world.registry.put("shop", "standing#new", {"state": "rolled back"})
    assert world.drop("x") == again


# --- approval


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "nobody approved it in time"),
        ({"approved": False, "who": "ann", "why": ""}, "declined by ann"),
        ({"approved": False, "who": "ann", "why": "too terse"}, "declined by ann: too terse"),
    ],
)
def test_without_a_persons_yes_the_champion_stays(
    world: World, answer: dict[str, Any] | None, why: str
) -> None:
    reigns(world)
    before = raw(world)
    state = judged(world, "new", APPROVAL)
    if answer:
        state["approval"] = answer
    assert not promote(state)["promoted"]
    assert raw(world) == before
    assert world.run_item(state)["status"] == SUCCEEDED
    assert said(world, state) == f"the champion stays as it was ({why})"


def test_persons_yes_is_kept_with_the_move(world: World) -> None:
    state = judged(world, "new", APPROVAL)
    state["approval"] = {"approved": True, "who": "ann", "why": ""}
    assert promote(state)["promoted"]
    assert pointer(world)["why"].endswith("; approved by ann")


# --- canary


def begun(world: World, project: str = CANARY) -> dict[str, Any]:
    """A run whose canary has just begun, beside a champion."""
    reigns(world)
    state = judged(world, "new", project)
    promote(state)
    return state


def test_winner_with_a_canary_gets_its_first_share(world: World) -> None:
    state = begun(world)
    assert state["promotion"] == {
        "promoted": False,
        "version": "new",
        "canary": True,
        "running": True,
        "wait_seconds": 60,
    }
    found = pointer(world)
    assert (found["version"], found["model_id"]) == ("old", "ft:old")
    assert found["canary"] | {"step_at": 0, "started_at": 0} == {
        "id": 2,
        "version": "new",
        "backend": "openai",
        "model_id": "ft:new",
        "share": 0.1,
        "shadow": False,
        "step": 0,
        "step_at": 0,
        "started_at": 0,
        "run_id": "run-of-new",
        "slow_seconds": 5,
        "sticky": "user",
    }
    assert world.run_item(state)["status"] == RUNNING
    assert said(world, state).startswith("canary 10 %: 0 of 100 requests")


def test_first_canary_of_a_project_stands_beside_its_base(world: World) -> None:
    promote(judged(world, "new", CANARY))
    found = pointer(world)
    assert (found["version"], found["backend"], found["model_id"]) == ("base", "openai", "small")


def test_stage_killed_after_the_canary_began_begins_no_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = judged(world, "new", CANARY)
    with monkeypatch.context() as patch:
        patch.setattr(promote_handler, "in_canary", _dies)
        with pytest.raises(KeyboardInterrupt):
            promote(state)
    before = raw(world)
    assert promote(state)["running"]
    assert raw(world) == before


def test_second_run_is_refused_while_a_canary_runs(world: World) -> None:
    begun(world)
    with pytest.raises(PromotionError, match="running already, of new"):
        promote(judged(world, "third", CANARY))


def test_canary_goes_from_share_to_share_to_the_champions_place(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    state = begun(world)
    count(world, "challenger", 43)
    count(world, "champion", 400)
    before = raw(world)
    assert look(state) == {**state["promotion"], "wait_seconds": 60}
    assert raw(world) == before, "a look that decides nothing writes nothing"
    assert said(world, state).startswith(
        "canary 10 %: 43 of 100 requests, errors 0 % of 43 against 0 % of 400"
    )
    count(world, "challenger", 120)
    let_pass(world, HOUR)
    assert look(state)["running"]
    assert (pointer(world)["canary"]["share"], pointer(world)["canary"]["step"]) == (0.5, 1)
    assert said(world, state).startswith("canary 50 %: 0 of 100 requests")
    count(world, "challenger", 100, step="01")
    count(world, "champion", 100, step="01")
    let_pass(world, HOUR)
    metrics(capsys)
    assert look(state) | {"version": ""} == {
        "promoted": True,
        "canary": False,
        "running": False,
        "version": "",
    }
    found = pointer(world)
    assert (found["version"], found["previous"], "canary" in found) == ("new", "old", False)
    actions = [move["action"] for move in world.registry.items("shop", "move#")]
    assert actions == ["promote", "canary", "step", "promote"]
    assert said(world, state) == "new is the champion now"
    seen = metrics(capsys)
    assert (seen["CanaryShare"], seen["Promotions"]) == ([1.0], [1])


def test_canary_with_errors_goes_back_by_itself(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    state = begun(world)
    count(world, "challenger", 60, errors=20)
    count(world, "champion", 500, errors=2)
    metrics(capsys)
    assert look(state)["running"] is False
    found = pointer(world)
    assert (found["version"], "canary" in found) == ("old", False)
    assert found["why"].startswith("errors 33.3 % of 60 against 0.4 % of 500: e-value")
    item = world.run_item(state)
    assert (item["status"], item["promoted"]) == (SUCCEEDED, False)
    assert "the canary ended: errors 33.3 % of 60" in said(world, state)
    assert metrics(capsys)["CanariesEnded"] == [1]
    assert (world.registry.model("shop", "new") or {})["standing"] == "rolled back"


def test_canary_with_bad_ratings_goes_back(world: World) -> None:
    state = begun(world)
    for number in range(40):
        rate(world, "new", "challenger", number % 10 == 0, 3 * number)
        rate(world, "old", "champion", True, 3 * number + 1)
        rate(world, "new", "pinned", True, 3 * number + 2)
    assert look(state)["running"] is False
    assert pointer(world)["why"].startswith("good ratings 10 % of 40 against 100 % of 40")


def test_ratings_that_do_not_count_are_not_sent_over(world: World) -> None:
    """A champion may have been rated for 400 days, and often by who named it."""
    begun(world)
    for number in range(30):
        rate(world, "old", "champion", True, -HOUR * (number + 1))
        rate(world, "old", "pinned", True, number)
    for number in range(3):
        rate(world, "old", "champion", True, number)
        rate(world, "new", "challenger", False, number)
    sent: list[dict[str, Any]] = []
    events = world.registry._table.meta.client.meta.events

    def note(parsed: dict[str, Any], **_: Any) -> None:
        sent.extend(parsed["Items"])

    events.register("after-call.dynamodb.Query", note)
    try:
        traffic = read_traffic(world.registry, "shop", pointer(world))
    finally:
        events.unregister("after-call.dynamodb.Query", note)
    assert [(r.challengers, r.good) for r in traffic.ratings].count((False, True)) == 3
    assert [(r.challengers, r.good) for r in traffic.ratings].count((True, False)) == 3
    assert len(sent) == 6
    assert all(set(item) == {"at", "rating"} for item in sent)


def test_canary_that_nobody_asks_ends_without_blame(world: World) -> None:
    state = begun(world)
    let_pass(world, 73 * HOUR)
    assert look(state)["running"] is False
    assert "not enough traffic in 72 hours" in said(world, state)
    assert (world.registry.model("shop", "new") or {})["standing"] == ""


def test_canary_whose_answers_cost_too_much_ends_without_blame(world: World) -> None:
    state = begun(world)
    count(world, "challenger", 100, completion_tokens=10**6)
    count(world, "champion", 99)
    assert look(state)["running"]
    count(world, "champion", 900)
    assert look(state)["running"] is False
    assert "10,040 tokens an answer against 100: 100.4 times, allowed 2" in said(world, state)
    assert (world.registry.model("shop", "new") or {})["standing"] == ""


def test_shadow_is_counted_before_the_first_share(world: World) -> None:
    shadowed = CANARY.replace("steps:", "shadow_minutes: 10, steps:")
    state = begun(world, shadowed)
    canary = pointer(world)["canary"]
    assert (canary["shadow"], canary["share"], canary["step"]) == (True, 0, -1)
    count(world, "challenger", 100, step="shadow")
    count(world, "champion", 100, step="shadow")
    let_pass(world, 600)
    assert look(state)["running"]
    canary = pointer(world)["canary"]
    assert (canary["shadow"], canary["share"], canary["step"]) == (False, 0.1, 0)


def test_run_notices_a_canary_that_somebody_ended(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    state = begun(world)
    about: dict[str, Any] = {
        "who": "alarm",
        "why": "alarm dropforge-ApiServerErrors",
        "at": time.time(),
    }
    assert pointers.stop_canary(world.registry, "shop", **about) == "new"
    metrics(capsys)
    assert look(state)["promoted"] is False
    ended = "the canary was ended by alarm: alarm dropforge-ApiServerErrors"
    assert said(world, state) == f"the champion stays as it was ({ended})"
    assert "CanariesEnded" not in metrics(capsys), "the alarm's function has counted it"


def test_run_notices_that_somebody_promoted_its_model_or_another(world: World) -> None:
    state = begun(world)
    about: dict[str, Any] = {"who": "ann", "why": "sure", "at": time.time()}
    pointers.promote(world.registry, "shop", state["poll"]["model"], **about)
    assert look(dict(state))["promoted"] is True
    reigns(world, "third")
    assert look(state)["promoted"] is False
    assert "the canary was ended by ann: sure" in said(world, state)


def test_look_killed_after_the_end_tells_it_at_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = begun(world)
    count(world, "challenger", 60, errors=20)
    count(world, "champion", 500)
    with monkeypatch.context() as patch:
        patch.setattr(Edge, "count", _dies)
        with pytest.raises(KeyboardInterrupt):
            look(state)
    assert "canary" not in pointer(world)
    metrics(capsys)
    assert look(state)["running"] is False
    assert metrics(capsys)["CanariesEnded"] == [1]
    assert "the canary ended: errors" in said(world, state)


def test_look_that_loses_a_race_looks_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = begun(world)
    count(world, "challenger", 60, errors=20)
    count(world, "champion", 500)
    with monkeypatch.context() as patch:
        patch.setattr("dropforge.backends.registry.Registry.write_pointer", lambda *_, **__: False)
        assert look(state) | {"version": ""} == {
            "promoted": False,
            "canary": True,
            "running": True,
            "wait_seconds": 1,
            "version": "",
        }
    assert look(state)["running"] is False


def test_alarm_between_look_and_end_is_what_the_run_tells(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The look decides to end a canary that an alarm has just ended."""
    state = begun(world)
    count(world, "challenger", 60, errors=20)
    count(world, "champion", 500)
    end = pointers.end_canary

    def alarmed(*arguments: Any, **more: Any) -> bool:
        about: dict[str, Any] = {"who": "alarm", "why": "5xx", "at": 1.0, "rolled_back": False}
        assert end(world.registry, "shop", "new", **about)
        return end(*arguments, **more)

    metrics(capsys)
    with monkeypatch.context() as patch:
        patch.setattr(pointers, "end_canary", alarmed)
        assert look(state) | {"version": ""} == {
            "promoted": False,
            "canary": True,
            "running": True,
            "wait_seconds": 1,
            "version": "",
        }
    assert look(state)["running"] is False
    assert "the canary was ended by alarm: 5xx" in said(world, state)
    assert "CanariesEnded" not in metrics(capsys), "the alarm's function has counted it"
    assert (world.registry.model("shop", "new") or {})["standing"] == ""


def test_alarm_between_look_and_finish_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look decides to finish by a pointer that an alarm has just changed."""
    state = begun(world)
    world.registry.update("shop", "champion", {"canary.step": 1})
    count(world, "challenger", 100, step="01")
    count(world, "champion", 100, step="01")
    let_pass(world, 2 * HOUR)
    move = pointers.promote

    def alarmed(*arguments: Any, **more: Any) -> Any:
        about: dict[str, Any] = {"who": "alarm", "why": "alarm", "at": time.time()}
        pointers.stop_canary(world.registry, "shop", **about)
        return move(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(pointers, "promote", alarmed)
        assert look(state)["running"] is True
    assert pointer(world)["version"] == "old"
    assert look(state)["promoted"] is False


def test_run_that_fails_takes_its_canary_along(world: World) -> None:
    state = begun(world)
    caught = {"Error": "States.Timeout", "Cause": ""}
    fail.handler({**state, "error": caught}, None)
    assert "canary" not in pointer(world)
    assert pointer(world)["who"] == "fail"
    assert world.run_item(state)["status"] == FAILED


def test_canary_is_ended_after_the_failure_was_noted_even_where_no_message_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = begun(world)
    caught = {**state, "error": {"Error": "States.Timeout", "Cause": ""}}
    stop, seen = pointers.stop_canary, []

    def stops(*arguments: Any, **about: Any) -> Any:
        seen.append(world.run_item(state)["status"])
        return stop(*arguments, **about)

    monkeypatch.setattr(fail, "stop_canary", stops)
    with monkeypatch.context() as patch:
        patch.setattr("dropforge.backends.store.Store.write", _dies)
        with pytest.raises(KeyboardInterrupt):
            fail.handler(caught, None)
    assert "canary" not in pointer(world)
    fail.handler(caught, None)
    assert seen == [RUNNING, FAILED]


def test_canary_that_begins_while_its_run_fails_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is told after the stage has looked, and before it begins the canary."""
    reigns(world)
    state = judged(world, "new", CANARY)
    start = pointers.start_canary

    def aborted(*arguments: Any, **more: Any) -> Any:
        fail.handler({**state, "error": {"Error": "ABORTED", "Cause": ""}}, None)
        return start(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(pointers, "start_canary", aborted)
        with pytest.raises(PromotionError, match="its run is failed"):
            promote(state)
    assert "canary" not in pointer(world)
    assert pointer(world)["version"] == "old"
    assert world.run_item(state)["status"] == FAILED
    assert (world.registry.model("shop", "new") or {})["standing"] == ""


def test_stage_killed_before_it_looked_at_its_run_looks_when_it_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reigns(world)
    state = judged(world, "new", CANARY)
    with monkeypatch.context() as patch:
        patch.setattr(promote_handler, "_stop_unless_running", _dies)
        with pytest.raises(KeyboardInterrupt):
            promote(state)
    world.registry.update("shop", "run#run-of-new", {"status": FAILED})
    assert pointer(world)["canary"]["version"] == "new"
    with pytest.raises(PromotionError, match="its run is failed"):
        promote(state)
    assert "canary" not in pointer(world)


def test_run_that_fails_leaves_the_canary_of_another(world: World) -> None:
    begun(world)
    other = judged(world, "third")
    fail.handler({**other, "error": {"Error": "States.Timeout", "Cause": ""}}, None)
    assert pointer(world)["canary"]["version"] == "new"


def _dies(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt
