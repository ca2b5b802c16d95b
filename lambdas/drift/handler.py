"""A scheduled tick, or a project's name -> a look at each model in production: has it drifted?

Projects have their turn one after the other, the one whose last look was begun longest ago first,
and each may take an equal share of the time that is left. What goes wrong with one keeps none of
the others from theirs: it is written into the project's registry item `drift` and counted as
`DriftFailed`. An invocation that is repeated finds the same and writes it over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, date, datetime

from dropforge.backends.registry import Registry
from dropforge.drift import Look
from dropforge.errors import DropforgeError
from dropforge.settings import JudgeSettings
from lambdas import edge
from lambdas.drift.looking import Looking, Skipped
from lambdas.edge import Event, Result, logger

RESERVE_SECONDS = 20.0
"""Kept of the function's time for writing what was found."""


def handler(event: Event, context: object) -> Result:
    """What was found of each project, in words: `event["project"]`, or all that want to be seen.

    `event["time"]` is the scheduled time; without it, the day is the clock's.
    """
    settings = JudgeSettings.from_environment()
    registry = edge.registry(settings.table)
    time_left = _time_left(context)
    one = event.get("project")
    due = [str(one)] if one else _due(registry)
    said = {}
    for place, project in enumerate(due):
        seconds = max(0.0, time_left() - RESERVE_SECONDS) / (len(due) - place)
        looking = Looking(project, settings, _day(event), seconds, asked_for=bool(one))
        said[project] = _look(looking, registry)
    return said


def _day(event: Event) -> date:
    try:
        return datetime.fromisoformat(str(event.get("time", ""))).date()
    except ValueError:
        return datetime.fromtimestamp(time.time(), UTC).date()


def _time_left(context: object) -> Callable[[], float]:
    """Seconds until Lambda ends the invocation; 15 minutes where nobody says."""
    told = getattr(context, "get_remaining_time_in_millis", None)
    left = told() / 1000 if told else 900.0
    end = time.monotonic() + left
    return lambda: end - time.monotonic()


def _due(registry: Registry) -> list[str]:
    return sorted(registry.projects(), key=lambda p: (_state(registry, p).get("started_at", 0), p))


def _state(registry: Registry, project: str) -> Result:
    return registry.get(project, "drift") or {}


def _look(looking: Looking, registry: Registry) -> str:
    """Look at one project, note and count what came of it; returns it in words."""
    project = looking.project
    try:
        found = looking.look()
    except Skipped as reason:
        return f"not looked at: {reason}"
    except Exception as error:  # whatever it is, the other projects have their turn
        said = str(error) if isinstance(error, DropforgeError) else type(error).__name__
        logger.warning("project not looked at", project=project, error=type(error).__name__)
        edge.count_metrics(project, {"DriftFailed": 1})
        registry.update(project, "drift", {"failed": said, "ended_at": time.time()})
        return f"failed: {said}"
    registry.update(project, "drift", {"failed": None, "ended_at": time.time()})
    edge.count_metrics(project, _metrics(found))
    logger.info("looked", project=project, version=found.version, drifted=found.drifted)
    return found.sentence


def _metrics(found: Look) -> dict[str, float]:
    metrics = {"DriftDetected": float(found.drifted), "DriftFailed": 0.0}
    if found.share_right is not None:
        metrics["DriftRight"] = found.share_right
    if found.win_rate is not None:
        metrics["DriftWinRate"] = found.win_rate.point
    return metrics
