"""A backend that could not train -> the next one of the project's list, if there is one.

Before that, whatever may still run at the one given up is stopped, so that a run leaves at most one
job behind. Its spec's next attempt begins anew.
"""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.errors import BackendError
from dropforge.settings import TrainSettings
from dropforge.train import specify
from lambdas.edge import Edge, Event, Result, logger, said, stage
from lambdas.providers import trainer


@stage("train", TrainSettings)
def handler(edge: Edge, event: Event) -> Result:
    before = event.get("fallback", {})
    choice = before.get("choice", 0)
    chosen = edge.config.choices[choice]
    _give_up(edge, event["dataset"]["hash"], choice)
    error = said(event["error"]) or f"ended with {event['error'].get('Error')}"
    given_up = {"backend": chosen.backend, "model": chosen.model, "error": error}
    tried: list[Any] = [*before.get("tried", []), given_up]
    edge.note({"tried": tried})
    edge.count(Fallbacks=1)
    return {"choice": choice + 1, "left": choice + 1 < len(edge.config.choices), "tried": tried}


def _give_up(edge: Edge, dataset: str, choice: int) -> None:
    """Stop this run's job; that it cannot be stopped must keep nobody from going on elsewhere."""
    spec = specify(edge.run.project, edge.config, dataset, choice)
    key = train_key(spec.project, spec.hash)
    job = edge.store.find_manifest(key, FineTuneJob)
    if job is None or not edge.registry.claim_job(
        spec.project, spec.hash, job.attempt, edge.run.run_id
    ):
        return  # nothing was begun, or another run began it and waits for it
    try:
        trainer(spec.backend, TrainSettings.from_environment(), edge.store).cancel(job)
    except (BackendError, ClientError, BotoCoreError) as error:
        logger.warning("job not cancelled", job_id=job.job_id, error=type(error).__name__)
    edge.store.save(key, FineTuneJob(spec, job.attempt + 1, time.time()))
