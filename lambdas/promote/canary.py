"""One look at a running canary -> the next share, the champion's place, or back to the champion.

Called again and again by the state machine, which waits in between for as long as this says.
"""

from __future__ import annotations

import time
from typing import Any

from dropforge.backends import pointers
from dropforge.backends.model_packages import approve
from dropforge.backends.traffic import read_traffic
from dropforge.canary import End, Finish, Step, Traffic, decide, guards, summary, wait_seconds
from dropforge.errors import PromotionError
from dropforge.project.judging import CanaryPlan
from lambdas.edge import Edge, Event, Result, logger, stage
from lambdas.promote.end import ended, in_canary

WHO = "canary"


@stage("promote")
def handler(edge: Edge, event: Event) -> Result:
    version = event["promotion"]["version"]
    pointer = edge.registry.champion(edge.run.project) or {}
    if (pointer.get("canary") or {}).get("run_id") != edge.run.run_id:
        return _over(edge, pointer, version)
    traffic = read_traffic(edge.registry, edge.run.project, pointer)
    plan = edge.config.canary or CanaryPlan()
    try:
        return _acted(edge, pointer["canary"], plan, traffic)
    except PromotionError as error:  # somebody moved the pointer: look at what it is now
        logger.info("pointer moved meanwhile", code=error.code)
        return in_canary(version, wait=1)


def _acted(edge: Edge, canary: dict[str, Any], plan: CanaryPlan, traffic: Traffic) -> Result:
    now, version, project = time.time(), str(canary["version"]), edge.run.project
    decision = decide(canary, plan, traffic, now)
    about: dict[str, Any] = {"who": WHO, "why": decision.why, "at": now}
    match decision:
        case End():
            about |= {"rolled_back": decision.harm}
            if not pointers.end_canary(edge.registry, project, version, **about):
                return in_canary(version, wait=1)  # somebody was faster: look at what it is now
            return _back(edge, version, decision.why)
        case Finish():
            approve(edge.registry.model(project, version) or {}, decision.why)
            model = {name: canary[name] for name in ("version", "backend", "model_id")}
            about |= {"run_id": edge.run.run_id, "from_canary": True}
            pointers.promote(edge.registry, project, model, **about)
            _note(edge, version, 1.0, decision.why, traffic, plan)
            return ended(edge, version, promoted=True)
        case Step():
            about |= {"step": decision.step, "share": decision.share}
            canary = pointers.step_canary(edge.registry, project, version, **about)["canary"]
    _note(edge, version, canary["share"], summary(canary, plan, traffic), traffic, plan)
    return in_canary(version, wait=wait_seconds(canary, plan, now))


def _note(
    edge: Edge, version: str, share: float, said: str, traffic: Traffic, plan: CanaryPlan
) -> None:
    edge.note({"canary": {"version": version, "share": share, "said": said}})
    evidence = max(guard.evidence for guard in guards(plan, traffic))
    edge.count(CanaryShare=share, CanaryEvidence=evidence)


def _back(edge: Edge, version: str, why: str) -> Result:
    """The canary went back by itself."""
    edge.note({"canary": {"version": version, "share": 0.0, "said": why}})
    edge.count(CanariesEnded=1, CanaryShare=0.0)
    return ended(edge, version, promoted=False, why=f"the canary ended: {why}")


def _over(edge: Edge, pointer: dict[str, Any], version: str) -> Result:
    """Somebody ended the canary or promoted the model; or this function did, and was cut off."""
    if pointer.get("version") == version:
        return ended(edge, version, promoted=True)
    move = _last_move(edge)
    if move.get("who") == WHO:
        return _back(edge, version, str(move["why"]))
    edge.count(CanaryShare=0.0)
    said = f"the canary was ended by {move.get('who')}: {move.get('why')}"
    return ended(edge, version, promoted=False, why=said)


def _last_move(edge: Edge) -> dict[str, Any]:
    """The move that took this run's canary away."""
    moves = edge.registry.items(edge.run.project, "move#")
    begun = [m["revision"] for m in moves if m.get("run_id") == edge.run.run_id and "canary" in m]
    after = [m for m in moves if begun and m["revision"] > begun[-1]]
    return next((m for m in after if _of(m) != edge.run.run_id), {})


def _of(move: dict[str, Any]) -> str | None:
    run_id = (move.get("canary") or {}).get("run_id")
    return None if run_id is None else str(run_id)
