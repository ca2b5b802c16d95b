"""The monthly tick -> a run for every project that asks for one.

The run starts from the newest dropped file, and its dataset is built from all of the project's
files: nothing new gives the same dataset, the same spec and no new job.
"""

from __future__ import annotations

import time
from typing import Any

import boto3
import msgspec

from dropforge.artifacts import Run, digest
from dropforge.backends.registry import RUNNING, Registry
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
    finished = [run for run in parts if run["status"] == "succeeded"]
    config = registry.get(project, "config")
    if not finished or config is None:
        return None
    last = finished[-1]
    run_id = digest("schedule/1", project, tick)[:32]
    run = Run(run_id, project, settings.bucket, last["key"], last["version_id"], config["hash"])
    now = time.time()
    item = {"run_id": run_id, "key": run.key, "version_id": run.version_id, "stage": "drop"}
    registry.put_new(
        project,
        f"run#{run_id}",
        {**item, "status": RUNNING, "started_at": now, "updated_at": now},
    )
    client = boto3.client("stepfunctions")
    try:
        client.start_execution(
            stateMachineArn=settings.state_machine_arn,
            name=run_id,
            input=msgspec.json.encode({"run": run}).decode(),
        )
    except client.exceptions.ExecutionAlreadyExists:
        return None
    return run_id
