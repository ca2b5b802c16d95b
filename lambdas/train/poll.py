"""A training job -> where it stands; once it is done, a model version in the registry.

A job that failed, is late, or whose provider is gone ends in a typed error; what may still run is
stopped by the fallback function.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.backends import Trainer
from dropforge.backends.sagemaker import SageMakerBackend
from dropforge.chat import encode_lines
from dropforge.errors import RetryableError, TrainingFailedError, TrainingNotAvailableError
from dropforge.providers import is_hosted
from dropforge.settings import TrainSettings
from dropforge.train import Completed, Failed, TrainingEvent, check_deadline, merge_events, silence
from lambdas.edge import Edge, Event, Result, stage
from lambdas.providers import trainer


@stage("train", TrainSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = TrainSettings.from_environment()
    key = train_key(edge.run.project, event["job"]["spec"])
    job = edge.store.load(key, FineTuneJob)
    provider = trainer(job.spec.backend, settings, edge.store)
    try:
        state = provider.poll(job)
        latest = _keep_curve(edge, provider, job)
    except RetryableError:
        return _unanswered(edge, key, job)
    if isinstance(state, Failed):
        raise TrainingFailedError(f"Job {job.job_id} ended without a model: {state.reason}")
    if _was_refused(event, provider, job):
        raise TrainingNotAvailableError(f"SageMaker refused the job: {_reason(event)}")
    if isinstance(state, Completed):
        return {"state": "Completed", "model": _registered(edge, job, state, settings)}
    check_deadline(job, edge.config.training.timeout_hours, time.time())
    if job.silent_since is not None:
        edge.store.save(key, msgspec.structs.replace(job, silent_since=None))
    edge.note({"progress": {**latest, "note": state.note}})
    return {"state": "Pending"}


def _was_refused(event: Event, provider: Trainer, job: FineTuneJob) -> bool:
    """Whether the state machine could not create this SageMaker job."""
    if "not_started" not in event or not isinstance(provider, SageMakerBackend):
        return False
    return not provider.exists(job)


def _reason(event: Event) -> str:
    error = event["not_started"]
    return f"{error.get('Error')}: {error.get('Cause')}"[:500]


def _unanswered(edge: Edge, key: str, job: FineTuneJob) -> Result:
    """A provider that does not answer is asked again, as long as the project has patience.

    Raises:
        ProviderDownError: it has none left.
        TrainingTimedOutError: the job would be late by now.
    """
    now = time.time()
    check_deadline(job, edge.config.training.timeout_hours, now)
    waiting = silence(job, edge.config.training.patience_minutes, now)
    if waiting != job:
        edge.store.save(key, waiting)
    edge.note({"progress.note": f"{job.spec.backend} does not answer"})
    return {"state": "Pending"}


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
        "base_model_id": spec.model if is_hosted(spec.backend) else settings.base_component,
        "spec": spec.hash,
        "dataset": spec.dataset,
        "job_id": job.job_id,
        "package": state.package,
    }
    item = {**model, "run_id": edge.run.run_id, "created_at": time.time(), "status": "trained"}
    edge.registry.put_new(spec.project, f"model#{spec.version}", item)
    edge.store.save(
        train_key(spec.project, spec.hash), msgspec.structs.replace(job, model_id=state.model_id)
    )
    return model
