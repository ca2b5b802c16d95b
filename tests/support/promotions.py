"""Runs of project `shop` that have their verdict, and the traffic of their canaries."""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import (
    Comparison,
    Decision,
    Evaluation,
    Interval,
    Verdict,
    evaluation_key,
)
from dropforge.backends import pointers
from dropforge.backends.registry import RUNNING
from lambdas.promote import canary, handler
from tests.support.world import World

PROJECT = "backend: openai\nmodel: small\n"
CANARY = PROJECT + (
    "canary: {steps: [0.1, 0.5], step_minutes: 60, min_requests: 100, slow_seconds: 5}\n"
)
APPROVAL = PROJECT + "approval: true\n"


def model(version: str, **more: Any) -> dict[str, Any]:
    """A model version as poll writes it."""
    about = {"backend": "openai", "base_model": "small", "base_model_id": "small", "spec": "s"}
    item = {"version": version, "model_id": f"ft:{version}", **about, "dataset": "d"}
    return {**item, "status": "trained", "created_at": 1.0, **more}


def verdict(version: str, decision: str = "promote") -> Verdict:
    """90 wins of 100 against the base, whatever was decided."""
    rate = Interval(0.9, 0.83, 0.94)
    base = Comparison("base", 90, 10, 0, 0, 0, rate, 0.9)
    evaluation = Evaluation(
        project="shop",
        hash=f"e-{version}",
        version=version,
        dataset="d",
        judge="judge",
        samples=100,
        comparisons={"base": base},
        fact_recall={"challenger": 0.8, "base": 0.2},
        samples_with_facts=50,
    )
    return Verdict(evaluation, Decision(decision, ("wins 90 % [83 %, 94 %]",)))  # type: ignore[arg-type]


def judged(
    world: World, version: str, project: str = PROJECT, decision: str = "promote"
) -> dict[str, Any]:
    """A run's state after the verdict, as the state machine has it."""
    world.put_project(project)
    config = world.registry.get("shop", "config") or {}
    run_id = f"run-of-{version}"
    run = {
        "run_id": run_id,
        "project": "shop",
        "bucket": world.bucket,
        "key": f"exports/shop/{version}.csv",
        "version_id": "1",
        "config": config["hash"],
    }
    noted = {**run, "status": RUNNING, "stage": "judge", "started_at": 1.0, "updated_at": 1.0}
    world.registry.put("shop", f"run#{run_id}", {**noted, "train": {"version": version}})
    world.registry.put_new("shop", f"model#{version}", model(version))
    found = verdict(version, decision)
    world.store.save(evaluation_key("shop", found.evaluation.hash), found)
    asks = decision == "promote" and "approval: true" in project
    champion = world.registry.champion("shop")
    is_opponent = champion is not None and champion["version"] not in (version, pointers.BASE)
    return {
        "run": run,
        "plan": {"champion": champion if is_opponent else None},
        "poll": {"model": model(version)},
        "evaluation": {"hash": found.evaluation.hash, "verdict": decision, "approval": asks},
    }


def promote(state: dict[str, Any]) -> dict[str, Any]:
    """The promote function's result, placed in the state as the state machine does."""
    state["promotion"] = handler.handler(state, None)
    return dict(state["promotion"])


def look(state: dict[str, Any]) -> dict[str, Any]:
    """One look of the canary function, placed as the state machine does."""
    state["promotion"] = canary.handler(state, None)
    return dict(state["promotion"])


def reigns(world: World, version: str = "old") -> None:
    """A champion from before."""
    world.registry.put_new("shop", f"model#{version}", model(version))
    about: dict[str, Any] = {"who": "ann", "why": "first", "at": 1.0}
    pointers.promote(world.registry, "shop", model(version), **about)


def count(world: World, arm: str, requests: int, *, step: str = "00", **more: int) -> None:
    """What the chat path has counted of an arm in a step of the running canary."""
    canary_id = (world.registry.champion("shop") or {})["canary"]["id"]
    answers = requests - more.get("errors", 0)
    sums = {"requests": requests, "errors": 0, "slow": 0, "milliseconds": 500 * answers}
    tokens = {"prompt_tokens": 40 * answers, "completion_tokens": 60 * answers}
    sk = f"arm#{canary_id:06d}#{step}#{arm}"
    world.registry.put("shop", sk, {**sums, **tokens, **more})


def let_pass(world: World, seconds: float) -> None:
    """Make the running canary, and its step, older."""
    pointer = world.registry.get("shop", "champion") or {}
    older = {name: pointer["canary"][name] - seconds for name in ("step_at", "started_at")}
    values = {f"canary.{name}": value for name, value in older.items()}
    world.registry.update("shop", "champion", values)


def rate(world: World, version: str, arm: str, good: bool, number: int) -> None:
    """One answer's rating, as the chat path writes it."""
    item = {"rating": 1 if good else -1, "arm": arm, "at": time.time() + number, "by": "site"}
    world.registry.put("shop", f"feedback#{version}#chatcmpl-{number}.{version}.{arm}", item)
