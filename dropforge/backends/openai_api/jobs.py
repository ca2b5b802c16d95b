"""Fine-tuning jobs and files of a provider, and how OpenAI's protocol asks for them.

A dialect (`JobsApi`) speaks one provider's words and knows nothing of Dropforge's specs; its
methods raise the OpenAI SDK's errors, and ValueError, TypeError or AttributeError for an answer
that cannot be read. Shapes: developers.openai.com/api/reference/resources/fine_tuning; Azure adds
the states `pending` and `canceled`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from openai import OpenAI

from dropforge.artifacts import Hyperparameters
from dropforge.backends.openai_api.models import ListedModel, listed
from dropforge.train import Completed, Failed, JobState, Pending, TrainingEvent

PAGE = 100
_UNCHECKED = ("pending", "running", "queued", "processing", "notrunning")


class ProviderJob(msgspec.Struct, frozen=True):
    """A job as a provider lists it; what the provider does not keep is empty."""

    id: str
    state: JobState
    training_file: str = ""
    suffix: str = ""
    metadata: dict[str, str] = {}


class ProviderFile(msgspec.Struct, frozen=True):
    """An uploaded file: `size` in bytes; `checked`: the provider has looked at it.

    `problem` is why it cannot be trained on.
    """

    id: str
    name: str
    size: int
    checked: bool = True
    problem: str = ""


class JobOrder(msgspec.Struct, frozen=True):
    """What a create asks for. `key` goes into the header Idempotency-Key, where it is not empty."""

    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters = {}
    suffix: str = ""
    metadata: dict[str, str] = {}
    key: str = ""


class JobsApi(Protocol):
    """What a dialect can do."""

    def check(self) -> None:
        """Ask for a job or two: whether the account may ask at all."""
        ...

    def create(self, order: JobOrder) -> ProviderJob:
        """Create a job by one request, never repeated."""
        ...

    def jobs(self, metadata: dict[str, str] | None) -> Iterator[ProviderJob]:
        """All jobs; only those with these metadata, where the provider can tell."""
        ...

    def get(self, job_id: str) -> ProviderJob: ...

    def cancel(self, job_id: str) -> None: ...

    def events(self, job_id: str) -> list[TrainingEvent]:
        """The loss curve, in any order."""
        ...

    def files(self) -> Iterator[ProviderFile]:
        """All files for fine-tuning."""
        ...

    def file(self, file_id: str) -> ProviderFile: ...

    def upload(self, name: str, data: bytes) -> ProviderFile:
        """Upload a file by one request, never repeated."""
        ...

    def model(self, model_id: str) -> object:
        """The base model. Raises openai.NotFoundError where it is not there."""
        ...

    def models(self) -> list[ListedModel]: ...


class _Error(msgspec.Struct):
    message: str | None = None


class _Job(msgspec.Struct):
    id: str
    status: str
    fine_tuned_model: str | None = None
    error: _Error | None = None
    metadata: dict[str, str] | None = None
    training_file: str | None = None
    user_provided_suffix: str | None = None
    suffix: str | None = None


class _File(msgspec.Struct):
    id: str
    filename: str = ""
    bytes: int = -1
    status: str | None = None
    status_details: str | None = None


class OpenAIJobs:
    """OpenAI's own dialect.

    Args:
        takes: the hyperparameters that the provider takes, in project.yaml's words.
    """

    def __init__(self, client: OpenAI, takes: frozenset[str]) -> None:
        self._client = client
        self._once = client.with_options(max_retries=0)
        self._takes = takes

    def check(self) -> None:
        self._client.fine_tuning.jobs.list(limit=1).data  # noqa: B018 - an answer of another shape

    def create(self, order: JobOrder) -> ProviderJob:
        taken = {k: v for k, v in order.hyperparameters.items() if k in self._takes}
        seed = taken.pop("seed", None)
        hyperparameters = {"n_epochs" if k == "epochs" else k: v for k, v in taken.items()}
        more: dict[str, Any] = {
            "validation_file": order.validation_file,
            "seed": None if seed is None else int(seed),
            "suffix": order.suffix,
            "metadata": order.metadata,
        }
        body = {name: value for name, value in more.items() if value not in (None, "", {})}
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        created = self._once.fine_tuning.jobs.create(
            model=order.model,
            training_file=order.training_file,
            method=method,
            extra_body=body,
            extra_headers={"Idempotency-Key": order.key} if order.key else None,
        )
        return _job(created.to_dict(warnings=False))

    def jobs(self, metadata: dict[str, str] | None) -> Iterator[ProviderJob]:
        wanted: Any = {"metadata": metadata} if metadata else {}
        api = self._client.fine_tuning.jobs

        def page(after: Any) -> Any:
            return api.list(limit=PAGE, **after, **wanted)

        return (_job(found) for found in _all(page))

    def get(self, job_id: str) -> ProviderJob:
        return _job(self._client.fine_tuning.jobs.retrieve(job_id).to_dict(warnings=False))

    def cancel(self, job_id: str) -> None:
        self._client.fine_tuning.jobs.cancel(job_id)

    def events(self, job_id: str) -> list[TrainingEvent]:
        listed = self._client.fine_tuning.jobs.list_events(job_id, limit=PAGE)
        points = [_event(event.data) for event in listed]
        return [point for point in points if point]

    def files(self) -> Iterator[ProviderFile]:
        def page(after: Any) -> Any:
            return self._client.files.list(purpose="fine-tune", **after)

        return (_file(found) for found in _all(page))

    def file(self, file_id: str) -> ProviderFile:
        return _file(self._client.files.retrieve(file_id).to_dict(warnings=False))

    def upload(self, name: str, data: bytes) -> ProviderFile:
        return _file(
            self._once.files.create(file=(name, data), purpose="fine-tune").to_dict(warnings=False)
        )

    def model(self, model_id: str) -> object:
        return self._client.models.retrieve(model_id).to_dict(warnings=False)

    def models(self) -> list[ListedModel]:
        return [listed(model.to_dict(warnings=False)) for model in self._client.models.list().data]


def _all(page: Callable[[Any], Any]) -> Iterator[dict[str, Any]]:
    """The entries of all pages; a server that does not page, and says nothing of it, has one."""
    after: dict[str, str] = {}
    while True:
        found = page(after)
        yield from (entry.to_dict(warnings=False) for entry in found.data)
        last = found.data[-1].id if found.data else None
        if not found.has_more or last is None or after.get("after") == last:
            return
        after = {"after": last}


def _job(answer: object) -> ProviderJob:
    found = msgspec.convert(answer, _Job)
    return ProviderJob(
        id=found.id,
        state=_state(found),
        training_file=found.training_file or "",
        suffix=found.user_provided_suffix or found.suffix or "",
        metadata=found.metadata or {},
    )


def _state(found: _Job) -> JobState:
    if found.status == "succeeded":
        if not found.fine_tuned_model:
            return Failed("the job succeeded but names no model")
        return Completed(found.fine_tuned_model)
    if found.status in ("failed", "cancelled", "canceled"):
        reason = found.error.message if found.error and found.error.message else found.status
        return Failed(reason)
    return Pending(found.status)


def _file(answer: object) -> ProviderFile:
    found = msgspec.convert(answer, _File)
    status = (found.status or "").lower()
    failed = status in ("error", "failed")
    return ProviderFile(
        id=found.id,
        name=found.filename,
        size=found.bytes,
        checked=status not in _UNCHECKED,
        problem=(found.status_details or status) if failed else "",
    )


def _event(data: object) -> TrainingEvent | None:
    if not isinstance(data, dict) or not isinstance(data.get("step"), int | float):
        return None
    losses = (data.get("valid_loss"), data.get("full_valid_loss"), data.get("eval_loss"))
    return TrainingEvent(
        step=int(data["step"]),
        train_loss=data.get("train_loss"),
        eval_loss=next((loss for loss in losses if loss is not None), None),
        steps=data.get("total_steps"),
    )
