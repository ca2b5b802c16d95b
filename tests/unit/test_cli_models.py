"""The commands that move the pointer, as a person uses them."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import Result

from dropforge.approval import VALID_S
from dropforge.backends import pointers
from dropforge.backends.approvals import Approvals
from tests.support.promotions import CANARY, count, judged, promote, rate, reigns
from tests.support.world import World
from tests.unit.http_stub import Stub, replies

Dropforge = Callable[..., Result]
END = pointers.end_canary


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")


def pointer(world: World) -> dict[str, Any]:
    return world.registry.champion("shop") or {}


def begun(world: World) -> None:
    """A canary that has just begun, beside a champion."""
    reigns(world)
    promote(judged(world, "new", CANARY))


# --- canary


def test_models_show_the_challenger_with_its_share(dropforge: Dropforge, world: World) -> None:
    begun(world)
    lines = dropforge("models").stdout.splitlines()
    roles = {line.split()[0]: line for line in lines[1:3]}
    assert "canary 10%" in roles["new"]
    assert "champion" in roles["old"]
    assert lines[3] == "shop: old answers now, new 10% of the chats"


def test_models_say_that_the_base_answers_beside_a_first_canary(
    dropforge: Dropforge, world: World
) -> None:
    promote(judged(world, "new", CANARY.replace("steps:", "shadow_minutes: 5, steps:")))
    said = dropforge("models").stdout
    assert "shadow" in said.splitlines()[1]
    last = "shop: the base model answers now; new is asked beside it and answers nobody"
    assert said.splitlines()[2] == last


def test_canary_shows_both_arms_and_the_evidence(dropforge: Dropforge, world: World) -> None:
    begun(world)
    count(world, "challenger", 40, errors=2, slow=1)
    count(world, "champion", 360, errors=3)
    rate(world, "new", "challenger", True, 0)
    rate(world, "old", "champion", False, 1)
    said = dropforge("canary").stdout
    assert "shop: canary 10 %: 40 of 100 requests, errors 5 % of 40 against 0.833 % of 360" in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert rows["challenger"] == ["challenger", "new", "40", "2", "1", "0.50", "100"]
    assert rows["champion"] == ["champion", "old", "360", "3", "0", "0.50", "100"]
    assert "answers over 5 s 2.5 % of 40 against 0 % of 360: e-value" in said
    assert "good ratings 100 % of 1 against 0 % of 1: e-value" in said


def test_canary_where_none_runs_says_who_answers(dropforge: Dropforge, world: World) -> None:
    assert "No canary of shop runs. Nothing was promoted yet." in dropforge("canary").stderr
    reigns(world)
    result = dropforge("canary", "--stop")
    assert result.exit_code == 1
    assert "No canary of shop runs. old answers now" in result.stderr


@pytest.mark.parametrize("command", [("canary", "--stop"), ("rollback",)])
def test_canary_is_ended_by_hand_and_the_champion_stays(
    dropforge: Dropforge, world: World, command: tuple[str, ...]
) -> None:
    begun(world)
    said = dropforge(*command, "--why", "rude").stdout
    assert said == "shop: the canary of new is over\nshop: old answers now\n"
    assert (pointer(world)["version"], pointer(world)["why"]) == ("old", "rude")
    assert pointer(world)["who"] == "ann"
    assert "rolled back" in dropforge("models").stdout
    assert dropforge("rollback").exit_code == 1


def test_challenger_is_promoted_by_hand(dropforge: Dropforge, world: World) -> None:
    begun(world)
    assert dropforge("canary", "--promote").stdout == "shop: new answers now\n"
    assert (pointer(world)["version"], pointer(world)["previous"]) == ("new", "old")
    assert "canary" not in pointer(world)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ("canary", "--stop"),
            "Nothing was ended: the canary of new was over already. old answers",
        ),
        (("rollback",), "Nothing was ended: the canary of new was over already. old answers"),
        (("canary", "--promote"), "The canary of new is over."),
    ],
)
def test_canary_that_an_alarm_ended_at_the_same_moment(
    dropforge: Dropforge,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    said: str,
) -> None:
    """The alarm comes after the command has read the pointer, and before it moves it."""
    begun(world)
    for name in ("end_canary", "promote"):
        monkeypatch.setattr(pointers, name, _alarmed(world, getattr(pointers, name)))
    result = dropforge(*command)
    assert result.exit_code == 1
    assert said in result.stderr
    assert (pointer(world)["version"], pointer(world)["who"]) == ("old", "alarm")


def _alarmed(world: World, move: Callable[..., Any]) -> Callable[..., Any]:
    def moved(*arguments: Any, **about: Any) -> Any:
        alarm: dict[str, Any] = {
            "who": "alarm",
            "why": "alarm",
            "at": time.time(),
            "rolled_back": False,
        }
        END(world.registry, "shop", "new", **alarm)
        return move(*arguments, **about)

    return moved


def test_canary_is_not_ended_both_ways(dropforge: Dropforge, world: World) -> None:
    begun(world)
    assert "one of --stop and --promote" in dropforge("canary", "--stop", "--promote").stderr
    assert "canary" in pointer(world)


# --- rollback


def test_rollback_says_what_it_cannot_do(dropforge: Dropforge, world: World) -> None:
    reigns(world)
    promote(judged(world, "new"))
    assert dropforge("rollback").stdout == "shop: old answers now\n"
    result = dropforge("rollback")
    assert result.exit_code == 1
    assert "The previous champion new was itself rolled back" in result.stderr
    assert pointer(world)["version"] == "old"


# --- approve


@pytest.fixture
def states(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Step Functions, which takes every token."""
    stub = Stub()
    stub.routes["/"] = replies(200, {})
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", stub.url)
    yield stub
    stub.stop()


def waits(world: World, version: str, project: str = "shop") -> None:
    now = int(time.time())
    question = {
        "token": f"token-{version}",
        "version": version,
        "evaluation": "e",
        "numbers": [["win rate against the base", "90%"]],
        "asked_at": now,
        "expires_at": now + VALID_S,
    }
    Approvals(world.registry).ask(project, f"run-{version}", question)


def test_what_waits_is_listed_with_its_numbers(
    dropforge: Dropforge, world: World, states: Stub
) -> None:
    assert dropforge("approve").stdout == "Nothing waits for approval.\n"
    world.put_project(name="bank")
    waits(world, "aaa111")
    waits(world, "bbb222", "bank")
    said = dropforge("approve").stdout
    assert "shop aaa111\n  win rate against the base: 90%\n" in said
    assert "dropforge approve bbb222 -p bank, or with --decline" in said
    assert "aaa111" not in dropforge("approve", "-p", "bank").stdout


@pytest.mark.parametrize(
    ("options", "approved", "verb"), [((), True, "approved"), (("--decline",), False, "declined")]
)
def test_person_decides_from_the_terminal(
    dropforge: Dropforge,
    world: World,
    states: Stub,
    options: tuple[str, ...],
    approved: bool,
    verb: str,
) -> None:
    waits(world, "aaa111")
    said = dropforge("approve", "aaa", *options, "--why", "looked at it").stdout
    assert said.startswith(f"shop: aaa111 was {verb} by ann on ")
    assert ": looked at it\n" in said
    assert "the run goes on: dropforge status -p shop" in said
    [request] = states.seen
    assert request.json()["taskToken"] == "token-aaa111"
    assert f'"approved":{str(approved).lower()}' in request.json()["output"]


def test_version_that_does_not_wait_is_refused_with_those_that_do(
    dropforge: Dropforge, world: World, states: Stub
) -> None:
    waits(world, "aaa111")
    result = dropforge("approve", "zzz")
    assert result.exit_code == 1
    assert "names 0 models that wait; there are: shop aaa111" in result.stderr
    assert not states.seen


def test_run_that_waits_no_more_is_told(dropforge: Dropforge, world: World, states: Stub) -> None:
    waits(world, "aaa111")
    states.routes["/"] = replies(400, {"__type": "TaskTimedOut", "message": "gone"})
    result = dropforge("approve", "aaa111")
    assert result.exit_code == 1
    assert "does not wait any more" in result.stderr
