"""A verdict -> the champion pointer: moved, given a canary, or left alone."""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import Decision, Verdict, evaluation_key
from dropforge.backends import pointers
from dropforge.backends.model_packages import approve
from dropforge.backends.registry import RUNNING
from dropforge.canary import Traffic, first_step, summary, wait_seconds
from dropforge.errors import PromotionError
from dropforge.project.judging import CanaryPlan
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
        _stop_unless_running(edge)
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
    judged = (event["plan"]["champion"] or {}).get("version", pointers.BASE)
    if (now := champion.get("version", pointers.BASE)) != judged:
        return (
            f"the champion changed from {judged} to {now} since it was judged: drop the file again"
        )
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
    _stop_unless_running(edge)
    begun = item["canary"]
    said = summary(begun, plan, Traffic())
    edge.note({"canary": {"version": version, "share": begun["share"], "said": said}})
    edge.count(CanariesStarted=1, CanaryShare=begun["share"])
    return in_canary(version, wait=wait_seconds(begun, plan, now))


def _stop_unless_running(edge: Edge) -> None:
    """Take the canary back of a run that ended meanwhile: who ended it found none to stop.

    The run's end is noted before its canary is looked for, and this is asked after the canary
    began, so one of the two sees it.

    Raises:
        PromotionError: the run has ended.
    """
    project, run_id = edge.run.project, edge.run.run_id
    status = (edge.registry.get(project, f"run#{run_id}") or {}).get("status")
    if status == RUNNING:
        return
    why = f"its run is {status or 'not known'}"
    pointers.stop_canary(edge.registry, project, who=WHO, why=why, at=time.time(), run_id=run_id)
    raise PromotionError(f"The canary was not begun: {why}.")
