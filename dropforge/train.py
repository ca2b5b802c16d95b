"""Train: a dataset -> a fine-tuned model, by any backend.

Reads `validate/<project>/<hash>/manifest.json`; the job is kept in
`train/<project>/<hash>/manifest.json`, its loss curve in `events.jsonl` beside it.
"""

from __future__ import annotations

import msgspec

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.errors import ProjectError, ProviderDownError, TrainingTimedOutError
from dropforge.project import ProjectConfig
from dropforge.providers import taken


class Pending(msgspec.Struct, frozen=True, tag="Pending"):
    """The job is queued or running; `note` says what it is doing."""

    note: str


class Completed(msgspec.Struct, frozen=True, tag="Completed"):
    """The model answers under `model_id`; on SageMaker, `package` is its entry in the registry."""

    model_id: str
    package: str | None = None


class Failed(msgspec.Struct, frozen=True, tag="Failed"):
    """The job ended without a model; `reason` is the provider's."""

    reason: str


JobState = Pending | Completed | Failed


class TrainingEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A point of the loss curve."""

    step: int
    train_loss: float | None = None
    eval_loss: float | None = None
    steps: int | None = None


def specify(project: str, config: ProjectConfig, dataset: str, choice: int = 0) -> FineTuneSpec:
    """What is to be trained for a project on a dataset, by its first or a later choice.

    Raises:
        ProjectError: the project has fewer choices.
    """
    if not 0 <= choice < len(config.choices):
        raise ProjectError(
            f"project.yaml has no choice {choice + 1} of a backend.",
            hint="List it under `fallback:`.",
        )
    chosen = config.choices[choice]
    return FineTuneSpec(
        project=project,
        dataset=dataset,
        backend=chosen.backend,
        model=chosen.model,
        hyperparameters=taken(chosen.backend, config.training.hyperparameters()),
    )


def check_deadline(job: FineTuneJob, timeout_hours: float, now: float) -> None:
    """Raises TrainingTimedOutError once a job has run longer than its project allows."""
    hours = (now - job.started_at) / 3600
    if hours > timeout_hours:
        raise TrainingTimedOutError(
            f"Job {job.job_id} has not ended after {hours:.1f} hours.",
            hint="Look at the provider's console; raise training.timeout_hours if it is only slow.",
        )


def silence(job: FineTuneJob, patience_minutes: float, now: float) -> FineTuneJob:
    """The job of a provider that has just not answered, with the time since when it has not.

    Raises:
        ProviderDownError: it has been silent for longer than the project's patience.
    """
    since = now if job.silent_since is None else job.silent_since
    minutes = (now - since) / 60
    if minutes > patience_minutes:
        raise ProviderDownError(
            f"{job.spec.backend} has not answered for {minutes:.0f} minutes while job "
            f"{job.job_id} ran.",
            hint="Raise training.patience_minutes to wait longer.",
        )
    return msgspec.structs.replace(job, silent_since=since)


def merge_events(known: list[TrainingEvent], new: list[TrainingEvent]) -> list[TrainingEvent]:
    """The loss curve with new points added, in order of steps; a later report of a step wins."""
    steps: dict[int, TrainingEvent] = {}
    for event in known + new:
        before = steps.get(event.step)
        steps[event.step] = event if before is None else _joined(before, event)
    return [steps[step] for step in sorted(steps)]


def _joined(before: TrainingEvent, after: TrainingEvent) -> TrainingEvent:
    return TrainingEvent(
        step=after.step,
        train_loss=before.train_loss if after.train_loss is None else after.train_loss,
        eval_loss=before.eval_loss if after.eval_loss is None else after.eval_loss,
        steps=before.steps if after.steps is None else after.steps,
    )
