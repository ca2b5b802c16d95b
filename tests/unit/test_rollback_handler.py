"""An alarm of the API ends every canary, at once and for everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dropforge.backends import pointers
from lambdas.rollback import handler as rollback
from tests.support.promotions import CANARY, judged, look, model, promote, reigns
from tests.support.world import World

EVENT = Path(__file__).parents[1] / "events" / "cloudwatch_alarm.json"


@pytest.fixture
def alarm() -> dict[str, Any]:
    event: dict[str, Any] = json.loads(EVENT.read_text())
    return event


def canaries(world: World) -> dict[str, bool]:
    names = world.registry.projects()
    return {name: "canary" in (world.registry.champion(name) or {}) for name in names}


def test_alarm_ends_the_canary_of_every_project(
    world: World, alarm: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reigns(world)
    state = judged(world, "new", CANARY)
    promote(state)
    world.put_project(name="bank")
    world.put_project(name="calm")
    how = {"share": 0.5, "shadow": False, "step": 1, "run_id": "r", "slow_seconds": 5}
    about: dict[str, Any] = {"who": "ann", "why": "", "at": 1.0}
    base = {"backend": "openai", "model_id": "small"}
    canary = {**model("other"), **how, "sticky": "user"}
    pointers.start_canary(world.registry, "bank", canary, base=base, **about)
    capsys.readouterr()
    assert rollback.handler(alarm, None) == {"ended": ["bank", "shop"]}
    assert canaries(world) == {"bank": False, "calm": False, "shop": False}
    champion = world.registry.champion("shop") or {}
    assert (champion["version"], champion["who"]) == ("old", "alarm")
    assert champion["why"] == "alarm dropforge-ApiServerErrors"
    assert (world.registry.model("shop", "new") or {})["standing"] == "", "nobody is blamed"
    assert capsys.readouterr().out.count('"CanariesEnded":[1') == 2
    assert look(state)["promoted"] is False


def test_same_event_again_changes_nothing(world: World, alarm: dict[str, Any]) -> None:
    reigns(world)
    promote(judged(world, "new", CANARY))
    rollback.handler(alarm, None)
    before = world.registry.items("shop", "move#")
    assert rollback.handler(alarm, None) == {"ended": []}
    assert world.registry.items("shop", "move#") == before


def test_alarm_that_is_over_ends_nothing(world: World, alarm: dict[str, Any]) -> None:
    reigns(world)
    promote(judged(world, "new", CANARY))
    alarm["detail"]["state"]["value"] = "OK"
    assert rollback.handler(alarm, None) == {"ended": []}
    assert canaries(world) == {"shop": True}
