"""A verdict -> the champion pointer, moved or left alone; the end of a run."""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import Verdict, evaluation_key
from dropforge.backends.model_packages import approve
from dropforge.backends.registry import SUCCEEDED
from lambdas.edge import Edge, Event, Result, stage

WHO = "pipeline"


@stage("promote")
def handler(edge: Edge, event: Event) -> Result:
    key = evaluation_key(edge.run.project, event["evaluation"]["hash"])
    decision = edge.store.load(key, Verdict).decision
    version = event["poll"]["model"]["version"]
    model = edge.registry.get(edge.run.project, f"model#{version}") or {}
    promoted = decision.verdict == "promote" and _promote(edge, model, decision.reasons)
    edge.note({"status": SUCCEEDED, "promoted": promoted, "ended_at": time.time()})
    edge.count(RunsSucceeded=1, Promotions=int(promoted))
    return {"promoted": promoted, "version": version}


def _promote(edge: Edge, model: dict[str, Any], reasons: tuple[str, ...]) -> bool:
    """Move the pointer, unless it is there already or a person took this version out of service."""
    champion = edge.registry.champion(edge.run.project)
    if champion and champion["version"] == model["version"]:
        return False
    if model["status"] == "rolled back":
        return False
    approve(model, "; ".join(reasons))
    edge.registry.move_champion(
        edge.run.project, model, who=WHO, why="; ".join(reasons), at=time.time()
    )
    return True
