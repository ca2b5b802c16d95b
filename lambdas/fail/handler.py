"""A failed execution -> a message beside the dropped file, and in the run's registry item."""

from __future__ import annotations

import json
import time
from typing import Any

import boto3

from dropforge.artifacts import error_key
from dropforge.backends.pointers import stop_canary
from dropforge.backends.registry import FAILED
from dropforge.settings import Settings
from lambdas.edge import Edge, Event, Result, said


def handler(event: Event, context: object) -> Result:
    """Takes the state machine's state with `error`, or EventBridge's word of an execution's end."""
    state = _state(event)
    edge = Edge(state, Settings.from_environment())
    try:
        return {"message": _noted(edge, state["error"])}
    finally:
        _end_canary(edge)


def _noted(edge: Edge, error: dict[str, Any]) -> str:
    """The message, written to both places; or the one that was written before."""
    item = edge.registry.get(edge.run.project, f"run#{edge.run.run_id}") or {}
    if item.get("status") == FAILED:
        return str(item.get("error", ""))
    message = _message(error, str(item.get("stage", "drop")), edge.run.run_id)
    edge.store.write(error_key(edge.run.key), f"{message}\n")
    edge.note({"status": FAILED, "error": message, "ended_at": time.time()})
    edge.count(RunsFailed=1)
    return message


def _end_canary(edge: Edge) -> None:
    """A canary that no run looks after any more must not go on.

    Only after the failure was noted: a promote stage that begins the canary at this moment looks at
    the run afterwards, and takes it back.
    """
    run, now = edge.run, time.time()
    about: dict[str, Any] = {"who": "fail", "why": "its run did not go on"}
    if stop_canary(edge.registry, run.project, **about, at=now, run_id=run.run_id):
        edge.count(CanariesEnded=1, CanaryShare=0)


def _state(event: Event) -> dict[str, Any]:
    """The run and its error. The event of an execution may leave its input out: it is encrypted."""
    if "detail" not in event:
        return event
    ended = event["detail"]
    if not ended.get("input"):
        client = boto3.client("stepfunctions")
        ended = {**ended, **client.describe_execution(executionArn=ended["executionArn"])}
    error = {"Error": ended.get("error") or ended["status"], "Cause": ended.get("cause") or ""}
    state: dict[str, Any] = json.loads(ended["input"])
    return {**state, "error": error}


def _message(error: dict[str, Any], stage: str, run_id: str) -> str:
    """Our own errors speak for themselves; any other is named, with where to look."""
    return said(error) or (
        f"INTERNAL: The {stage} stage ended with {error.get('Error')}. Nothing was promoted and "
        f"the champion still answers. The logs of run {run_id} tell more; drop the file again to "
        "try again."
    )
