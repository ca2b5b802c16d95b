"""The monthly tick -> a run for every project that asks for one.

First a project that collects gets its export of answers that were rated well (dropforge/collect),
and its run starts from that; any other starts from the newest dropped file. The dataset is built
from all of the project's files either way: nothing new gives the same bytes, the same dataset, the
same spec and no new job.

Each project has its turn whatever becomes of the others. If one could not be started the invocation
fails at the end, so that Lambda tries it again and what fails each time is seen (dead letters).
"""

from __future__ import annotations

import time
from typing import Any

from dropforge.artifacts import Run, collected_key, digest
from dropforge.backends.collected import Answers, Collection
from dropforge.backends.registry import Registry
from dropforge.backends.runs import Runs
from dropforge.errors import BackendError
from dropforge.settings import StarterSettings
from lambdas import edge
from lambdas.edge import logger


def handler(event: dict[str, Any], context: object) -> dict[str, list[str]]:
    """`event["time"]` is the scheduled time, so that a tick delivered twice starts one run.

    Raises:
        BackendError: some projects could not be started; all others were.
    """
    settings = StarterSettings.from_environment()
    registry = edge.registry(settings.table)
    tick = str(event.get("time", ""))
    started, failed = [], []
    for project in registry.projects():
        try:
            if run := _start(registry, settings, project, tick):
                started.append(run)
        except Exception as error:  # its cause may quote what a customer wrote
            logger.error("project not started", project=project, error=type(error).__name__)
            failed.append(project)
    if failed:
        raise BackendError(f"The monthly run of {', '.join(failed)} could not be started.")
    return {"started": started}


def _start(registry: Registry, settings: StarterSettings, project: str, tick: str) -> str | None:
    config = registry.get(project, "config")
    if config is None or not config.get("monthly"):
        return None
    parts = sorted(registry.items(project, "run#"), key=lambda run: run["started_at"])
    own = collected_key(project)
    finished = [
        (run["key"], run["version_id"])
        for run in parts
        if run["status"] == "succeeded" and "migrates" not in run and run["key"] != own
    ]
    if not finished:
        return None
    key, version = _collected(registry, settings, project) or finished[-1]
    run_id = digest("schedule/1", project, tick)[:32]
    run = Run(run_id, project, settings.bucket, key, version, config["hash"])
    runs = Runs(registry, settings.state_machine_arn)
    return run_id if runs.start(run, stage="drop", now=time.time()) else None


def _collected(
    registry: Registry, settings: StarterSettings, project: str
) -> tuple[str, str] | None:
    """The project's export of collected answers as it should be now; None where it has none.

    A former export was cleaned only by runs that began with it: an older one is never begun again.
    """
    store, answers = edge.store(settings.bucket), Answers(settings.table)
    export = Collection(store, registry, answers).export(project)
    return (export.key, export.version_id) if export else None
