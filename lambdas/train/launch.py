"""A dataset -> a training job, exactly one for each spec.

The intent is written before anything is asked of a provider, and one run alone may act on it: two
runs that come to the same spec at the same moment end in the same job. Nothing is uploaded before
the preflight has passed: a provider that cannot train sees no customer's data.
"""

from __future__ import annotations

import time
from math import ceil

from dropforge.artifacts import DatasetManifest, FineTuneJob, FineTuneSpec, dataset_key, train_key
from dropforge.backends import Trainer
from dropforge.backends.sagemaker import SageMakerBackend, training_request
from dropforge.chat import decode_examples, encode_lines, training_line
from dropforge.chat_rules import problems
from dropforge.cost import check_budget, estimate
from dropforge.errors import DatasetError, StartingError
from dropforge.project import ProjectConfig
from dropforge.providers import SAGEMAKER, SERVES_ON_SAGEMAKER
from dropforge.settings import TrainSettings
from dropforge.train import Failed, specify
from lambdas.edge import Edge, Event, Result, stage
from lambdas.providers import trainer

MAX_POLLS = 600
"""Of one run: what is left of its events are the canary's (`dropforge.canary.wait_seconds`)."""


@stage("train", TrainSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = TrainSettings.from_environment()
    choice = event.get("fallback", {}).get("choice", 0)
    spec = specify(edge.run.project, edge.config, event["dataset"]["hash"], choice)
    about = {"spec": spec.hash, "version": spec.version}
    edge.note({"train": {**about, "backend": spec.backend, "model": spec.model}, "progress": {}})
    provider = trainer(spec.backend, settings, edge.store)
    job = _launched(edge, settings, provider, spec, choice)
    edge.note({"train.job_id": job.job_id})
    return {
        "spec": spec.hash,
        "job_id": job.job_id,
        "poll_seconds": poll_seconds(settings.poll_seconds, edge.config),
        "webhooks": spec.backend in settings.webhooks,
        "own": spec.backend in SERVES_ON_SAGEMAKER,
        "start_training_job": spec.backend == SAGEMAKER and _starts_here(edge, provider, job),
        **training_request(edge.store.bucket, job),
    }


def poll_seconds(asked: int, config: ProjectConfig) -> int:
    """Seconds between two polls: a long job is polled less often.

    An execution may have 25,000 events (Step Functions' quota), and a poll makes up to sixteen; all
    of the project's choices may come to their turn.
    """
    hours = config.training.timeout_hours * len(config.choices)
    return max(asked, ceil(hours * 3600 / MAX_POLLS))


def _launched(
    edge: Edge, settings: TrainSettings, provider: Trainer, spec: FineTuneSpec, choice: int
) -> FineTuneJob:
    key = train_key(spec.project, spec.hash)
    job = edge.store.find_manifest(key, FineTuneJob)
    if job and job.job_id and isinstance(provider.poll(job), Failed):
        job = FineTuneJob(spec, job.attempt + 1, time.time())
    if job and job.job_id:
        return job
    intent = job or FineTuneJob(spec, 1, time.time())
    _check_cost(edge, settings.training_instance, spec, choice)
    provider.preflight(intent)
    if not _claimed(edge, intent):
        raise StartingError("Another run is starting this very job.")
    edge.store.save(key, intent)
    launched = provider.launch(intent, _files(edge, spec))
    edge.store.save(key, launched)
    return launched


def _check_cost(edge: Edge, instance: str, spec: FineTuneSpec, choice: int) -> None:
    """Raises OverBudgetError where this choice would cost more than the project allows."""
    manifest = edge.store.load(dataset_key(spec.project, spec.dataset), DatasetManifest)
    chosen = edge.config.choices[choice]
    check_budget(edge.config, estimate(edge.config, chosen, manifest.train_tokens, instance))


def _claimed(edge: Edge, job: FineTuneJob) -> bool:
    return edge.registry.claim_job(edge.run.project, job.spec.hash, job.attempt, edge.run.run_id)


def _starts_here(edge: Edge, provider: Trainer, job: FineTuneJob) -> bool:
    """Whether this run's state machine is the one to start the SageMaker job."""
    if not isinstance(provider, SageMakerBackend):
        return False
    return _claimed(edge, job) and not provider.exists(job)


def _files(edge: Edge, spec: FineTuneSpec) -> dict[str, bytes]:
    """The training files as providers take them, kept where SageMaker's channels read them.

    Raises:
        DatasetError: a line breaks the chat format's rules; nothing has been uploaded.
    """
    files = {}
    for split in ("train", "validation"):
        examples = decode_examples(
            edge.store.read(dataset_key(spec.project, spec.dataset, f"{split}.jsonl"))
        )
        prompt = edge.config.system_prompt
        data = encode_lines(training_line(example, prompt) for example in examples)
        if wrong := problems(data.splitlines()):
            number, said = wrong[0]
            raise DatasetError(
                f"{len(wrong)} lines of {split}.jsonl are no chat that a provider takes; the first "
                f"is line {number}: {said}."
            )
        edge.store.write(train_key(spec.project, spec.hash, f"input/{split}/{split}.jsonl"), data)
        if data:
            files[split] = data
    return files
