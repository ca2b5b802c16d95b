"""A failed execution -> a message beside the dropped file, and in the run's registry item."""

from __future__ import annotations

import json
import time
from typing import Any

from dropforge.artifacts import error_key
from dropforge.backends.registry import FAILED
from dropforge.settings import Settings
from lambdas.edge import Edge, Event, Result


def handler(event: Event, context: object) -> Result:
    """Takes the state machine's state with `error`, or EventBridge's word of an execution's end."""
    edge = Edge(_state(event), Settings.from_environment())
    item = edge.registry.get(edge.run.project, f"run#{edge.run.run_id}") or {}
    if item.get("status") == FAILED:
        return {"message": item.get("error", "")}
    message = _message(event, str(item.get("stage", "drop")), edge.run.run_id)
    edge.store.write(error_key(edge.run.key), f"{message}\n")
    edge.note({"status": FAILED, "error": message, "ended_at": time.time()})
    edge.count(RunsFailed=1)
    return {"message": message}


def _state(event: Event) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(event["detail"]["input"]) if "detail" in event else event
    return state


def _message(event: Event, stage: str, run_id: str) -> str:
    """Our own errors speak for themselves; any other is named, with where to look."""
    error = event.get("error") or {"Error": event.get("detail", {}).get("status", "FAILED")}
    name, cause = str(error.get("Error", "")), str(error.get("Cause", ""))
    try:
        said = str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        said = ""
    code, colon, _ = said.partition(":")
    if colon and code.isupper() and " " not in code:
        return said
    return (
        f"INTERNAL: The {stage} stage ended with {name}. Nothing was promoted and the champion "
        f"still answers. The logs of run {run_id} tell more; drop the file again to try again."
    )
