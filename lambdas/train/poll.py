"""A training job -> where it stands; once it is done, a model version in the registry."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.backends import Trainer
from dropforge.chat import encode_lines
from dropforge.errors import BackendError, TrainingFailedError, TrainingTimedOutError
from dropforge.settings import TrainSettings
from dropforge.train import Completed, Failed, TrainingEvent, check_deadline, merge_events
from lambdas.edge import Edge, Event, Result, logger, stage
from lambdas.providers import trainer


@stage("train", TrainSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = TrainSettings.from_environment()
    job = edge.store.load(train_key(edge.run.project, event["job"]["spec"]), FineTuneJob)
    provider = trainer(job.spec.backend, settings)
    state = provider.poll(job)
    latest = _keep_curve(edge, provider, job)
    if isinstance(state, Failed):
        raise TrainingFailedError(f"Job {job.job_id} ended without a model: {state.reason}")
    if isinstance(state, Completed):
        return {"state": "Completed", "model": _registered(edge, job, state, settings)}
    try:
        check_deadline(job, edge.config.training.timeout_hours, time.time())
    except TrainingTimedOutError:
        _cancel(provider, job)
        raise
    edge.note({"progress": {**latest, "note": state.note}})
    return {"state": "Pending"}


def _cancel(provider: Trainer, job: FineTuneJob) -> None:
    """Stop paying for a late job; that it cannot be stopped must not hide that it is late."""
    try:
        provider.cancel(job)
    except (BackendError, ClientError) as error:
        logger.warning("late job not cancelled", job_id=job.job_id, error=type(error).__name__)


def _keep_curve(edge: Edge, provider: Trainer, job: FineTuneJob) -> dict[str, Any]:
    """Store the loss curve so far; returns its last point."""
    key = train_key(job.spec.project, job.spec.hash, "events.jsonl")
    known = msgspec.json.Decoder(TrainingEvent).decode_lines(edge.store.find(key) or b"")
    curve = merge_events(known, provider.events(job))
    if curve != known:
        edge.store.write(key, encode_lines(curve))
    return dict(msgspec.to_builtins(curve[-1])) if curve else {}


def _registered(
    edge: Edge, job: FineTuneJob, state: Completed, settings: TrainSettings
) -> dict[str, Any]:
    """Write the model version once; versions never change."""
    spec = job.spec
    model = {
        "version": spec.version,
        "backend": spec.backend,
        "model_id": state.model_id,
        "base_model": spec.model,
        "base_model_id": settings.base_component if spec.backend == "sagemaker" else spec.model,
        "spec": spec.hash,
        "dataset": spec.dataset,
        "job_id": job.job_id,
    }
    item = {**model, "run_id": edge.run.run_id, "created_at": time.time(), "status": "trained"}
    edge.registry.put_new(spec.project, f"model#{spec.version}", item)
    edge.store.save(
        train_key(spec.project, spec.hash), msgspec.structs.replace(job, model_id=state.model_id)
    )
    return model
