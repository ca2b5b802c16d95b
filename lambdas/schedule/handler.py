"""The monthly tick -> a run for every project that asks for one.

The run starts from the newest dropped file, and its dataset is built from all of the project's
files: nothing new gives the same dataset, the same spec and no new job.
"""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import Run, digest
from dropforge.backends.registry import Registry
from dropforge.backends.runs import Runs
from dropforge.settings import StarterSettings
from lambdas import edge


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """`event["time"]` is the scheduled time, so that a tick delivered twice starts one run."""
    settings = StarterSettings.from_environment()
    registry = edge.registry(settings.table)
    tick = str(event.get("time", ""))
    due = [p for p in registry.projects() if (registry.get(p, "config") or {}).get("monthly")]
    started = [run for p in due if (run := _start(registry, settings, p, tick))]
    return {"started": started}


def _start(registry: Registry, settings: StarterSettings, project: str, tick: str) -> str | None:
    parts = sorted(registry.items(project, "run#"), key=lambda run: run["started_at"])
    finished = [run for run in parts if run["status"] == "succeeded" and "migrates" not in run]
    config = registry.get(project, "config")
    if not finished or config is None:
        return None
    last = finished[-1]
    run_id = digest("schedule/1", project, tick)[:32]
    run = Run(run_id, project, settings.bucket, last["key"], last["version_id"], config["hash"])
    runs = Runs(registry, settings.state_machine_arn)
    return run_id if runs.start(run, stage="drop", now=time.time()) else None
