"""A verdict -> the champion pointer: moved, given a canary, or left alone."""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import Decision, Verdict, evaluation_key
from dropforge.backends import pointers
from dropforge.backends.model_packages import approve
from dropforge.canary import Traffic, first_step, summary, wait_seconds
from dropforge.project import CanaryPlan
from lambdas.edge import Edge, Event, Result, stage
from lambdas.promote.end import ended, in_canary

WHO = "pipeline"


@stage("promote")
def handler(edge: Edge, event: Event) -> Result:
    project, version = edge.run.project, event["poll"]["model"]["version"]
    done = [move["action"] for move in pointers.moved_by(edge.registry, project, edge.run.run_id)]
    if "promote" in done:
        return ended(edge, version, promoted=True)
    if "canary" in done:
        return in_canary(version, wait=1)
    key = evaluation_key(project, event["evaluation"]["hash"])
    decision = edge.store.load(key, Verdict).decision
    model = edge.registry.model(project, version) or {}
    if decision.verdict != "promote":
        return ended(edge, version, promoted=False)
    if why_not := _why_not(edge, event, model):
        return ended(edge, version, promoted=False, why=why_not)
    why = _why(event, decision)
    if edge.config.canary:
        return _begin(edge, model, edge.config.canary, why)
    approve(model, why)
    pointers.promote(
        edge.registry, project, model, who=WHO, why=why, at=time.time(), run_id=edge.run.run_id
    )
    return ended(edge, version, promoted=True)


def _why_not(edge: Edge, event: Event, model: dict[str, Any]) -> str:
    """What speaks against a model that passed the gate; "" where nothing does."""
    champion = edge.registry.champion(edge.run.project) or {}
    if champion.get("version") == model["version"]:
        return f"{model['version']} answers already"
    if model["standing"] == pointers.ROLLED_BACK:
        return f"{model['version']} was rolled back before: only `dropforge promote` brings it back"
    if edge.config.approval:
        answer = event.get("approval")
        if answer is None:
            return "nobody approved it in time"
        if not answer["approved"]:
            return f"declined by {answer['who']}" + (f": {answer['why']}" if answer["why"] else "")
    return ""


def _why(event: Event, decision: Decision) -> str:
    approved = event.get("approval")
    by = [f"approved by {approved['who']}"] if approved else []
    return "; ".join([*decision.reasons, *by])


def _begin(edge: Edge, model: dict[str, Any], plan: CanaryPlan, why: str) -> Result:
    """Let the model at its first share of the traffic, beside the champion or the base."""
    version, base = str(model["version"]), model.get("base_model_id")
    canary = {
        **{name: model[name] for name in ("version", "backend", "model_id")},
        **first_step(plan),
        "run_id": edge.run.run_id,
        "slow_seconds": plan.slow_seconds,
        "sticky": plan.sticky,
    }
    now = time.time()
    item = pointers.start_canary(
        edge.registry,
        edge.run.project,
        canary,
        base={"backend": model["backend"], "model_id": base} if base else None,
        who=WHO,
        why=why,
        at=now,
    )
    begun = item["canary"]
    said = summary(begun, plan, Traffic())
    edge.note({"canary": {"version": version, "share": begun["share"], "said": said}})
    edge.count(CanariesStarted=1, CanaryShare=begun["share"])
    return in_canary(version, wait=wait_seconds(begun, plan, now))
