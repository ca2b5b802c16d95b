"""Together's dialect: fine-tuning jobs in words of its own; files, models and chat nearly OpenAI's.

Shapes: docs.together.ai/reference (post-fine-tunes, get-fine-tunes-id-metrics, upload-file) and
the `together` package, 3.1. Together keeps no metadata and lists all jobs on one page.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from openai import OpenAI

from dropforge.backends.openai_api.jobs import (
    JobOrder,
    ProviderFile,
    ProviderJob,
)
from dropforge.backends.openai_api.models import ListedModel, listed
from dropforge.train import Completed, Failed, JobState, Pending, TrainingEvent

EVALUATIONS = 10
"""How often the validation loss is measured; Together's default is never."""
_FAILED = ("error", "user_error", "cancelled")
_UNCHECKED = ("PENDING", "QUEUED", "RUNNING")
_REFUSED = ("FAILED", "INVALID_FORMAT")


class _Event(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Job(msgspec.Struct):
    id: str
    status: str
    model_output_name: str | None = None
    training_file: str | None = None
    suffix: str | None = None
    events: list[_Event] | None = None


class _Report(msgspec.Struct):
    error: str | None = None


class _File(msgspec.Struct):
    id: str
    filename: str = ""
    bytes: int = -1
    processing_status: str | None = None
    validation_report: _Report | None = None


class _Jobs(msgspec.Struct):
    data: list[_Job]


class _Files(msgspec.Struct):
    data: list[_File]


class _Metrics(msgspec.Struct):
    metrics: list[dict[str, Any]] | None = None


class TogetherJobs:
    """Implements `JobsApi` with an OpenAI client whose base URL is Together's."""

    def __init__(self, client: OpenAI, takes: frozenset[str]) -> None:
        self._client = client
        self._once = client.with_options(max_retries=0)
        self._takes = takes

    def check(self) -> None:
        next(self.jobs(None), None)

    def create(self, order: JobOrder) -> ProviderJob:
        answer = self._once.post(
            "/fine-tunes",
            cast_to=object,
            body=self._body(order),
            options={"headers": {"Idempotency-Key": order.key}} if order.key else {},
        )
        return _job(msgspec.convert(answer, _Job))

    def _body(self, order: JobOrder) -> dict[str, Any]:
        taken = {k: v for k, v in order.hyperparameters.items() if k in self._takes}
        body: dict[str, Any] = {
            "model": order.model,
            "training_file": order.training_file,
            "training_method": {"method": "sft", "train_on_inputs": "auto"},
            "n_checkpoints": 1,
        }
        renamed = {"epochs": "n_epochs", "seed": "random_seed"}
        for name in ("epochs", "batch_size", "learning_rate", "seed"):
            if name in taken:
                body[renamed.get(name, name)] = taken[name]
        if "lora_rank" in taken:
            rank = taken["lora_rank"]
            lora = {"lora_r": rank, "lora_alpha": taken.get("lora_alpha", 2 * rank)}
            body["training_type"] = {"type": "Lora", **lora}
        if order.validation_file:
            body |= {"validation_file": order.validation_file, "n_evals": EVALUATIONS}
        return body | ({"suffix": order.suffix} if order.suffix else {})

    def jobs(self, metadata: dict[str, str] | None) -> Iterator[ProviderJob]:
        found = msgspec.convert(self._get("/fine-tunes"), _Jobs)
        return (_job(job) for job in found.data)

    def get(self, job_id: str) -> ProviderJob:
        return _job(msgspec.convert(self._get(f"/fine-tunes/{job_id}"), _Job))

    def cancel(self, job_id: str) -> None:
        self._client.post(f"/fine-tunes/{job_id}/cancel", cast_to=object)

    def events(self, job_id: str) -> list[TrainingEvent]:
        """Its metrics; training and validation loss of a step come as two entries."""
        found = msgspec.convert(self._get(f"/fine-tunes/{job_id}/metrics"), _Metrics)
        points = [_point(metrics) for metrics in found.metrics or []]
        return [point for point in points if point]

    def files(self) -> Iterator[ProviderFile]:
        found = msgspec.convert(self._get("/files"), _Files)
        return (_file(file) for file in found.data)

    def file(self, file_id: str) -> ProviderFile:
        return _file(msgspec.convert(self._get(f"/files/{file_id}"), _File))

    def upload(self, name: str, data: bytes) -> ProviderFile:
        answer = self._once.post(
            "/files/upload",
            cast_to=object,
            body={"purpose": "fine-tune", "file_name": name, "file_type": "jsonl"},
            files=[("file", (name, data))],
            options={"headers": {"Content-Type": "multipart/form-data"}},
        )
        return _file(msgspec.convert(answer, _File))

    def model(self, model_id: str) -> object:
        """The limits of training it: most models that can be trained are not among `models`."""
        return self._client.get(
            "/fine-tunes/models/limits",
            cast_to=object,
            options={"params": {"model_name": model_id}},
        )

    def models(self) -> list[ListedModel]:
        """A bare list, where OpenAI has it under `data`."""
        found = msgspec.convert(self._get("/models"), list[dict[str, Any]])
        return [listed(model) for model in found]

    def _get(self, path: str) -> object:
        return self._client.get(path, cast_to=object)


def _job(found: _Job) -> ProviderJob:
    return ProviderJob(
        id=found.id,
        state=_state(found),
        training_file=found.training_file or "",
        suffix=found.suffix or "",
    )


def _state(found: _Job) -> JobState:
    if found.status == "completed":
        if not found.model_output_name:
            return Failed("the job succeeded but names no model")
        return Completed(found.model_output_name)
    if found.status in _FAILED:
        errors = [event.message for event in found.events or [] if event.type == "job_error"]
        return Failed(errors[-1] if errors and errors[-1] else found.status)
    return Pending(found.status)


def _file(found: _File) -> ProviderFile:
    status = found.processing_status or "COMPLETED"
    said = found.validation_report.error if found.validation_report else None
    return ProviderFile(
        id=found.id,
        name=found.filename,
        size=found.bytes,
        checked=status not in _UNCHECKED,
        problem=(said or status) if status in _REFUSED else "",
    )


def _point(metrics: dict[str, Any]) -> TrainingEvent | None:
    step, loss = metrics.get("train/global_step"), metrics.get("train/loss")
    eval_loss = metrics.get("eval/loss")
    if not isinstance(step, int | float) or (loss is None and eval_loss is None):
        return None
    return TrainingEvent(step=int(step), train_loss=loss, eval_loss=eval_loss)
