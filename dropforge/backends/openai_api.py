"""Any server that speaks OpenAI's fine-tuning and chat protocol, told apart by `base_url` alone.

The SDK repeats a create that failed without an answer, which makes a second job. So creates are
sent with max_retries=0, carry the spec's hash as metadata, and are looked for among the provider's
jobs before another one is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from dropforge.artifacts import FineTuneJob
from dropforge.errors import (
    BackendError,
    RetryableError,
    TrainingFailedError,
    TrainingNotAvailableError,
)
from dropforge.train import Completed, Failed, JobState, Pending, TrainingEvent

_SHARED = {"epochs": "n_epochs"}
_RECENT = 100
"""Jobs looked through for an earlier create; the newest come first."""


class OpenAIBackend:
    """Implements `Trainer` and `ChatModel`.

    Args:
        timeout: seconds a request may take; answers of a model on a CPU take their time.
    """

    def __init__(self, base_url: str, api_key: str, timeout: float = 300.0) -> None:
        self._client = OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=2)
        self._once = self._client.with_options(max_retries=0)

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Start the job exactly once; see `Trainer.launch`.

        Raises:
            TrainingNotAvailableError: the account may not fine-tune.
            TrainingFailedError: the provider refuses the job for good.
            RetryableError: nothing was created; ask again.
        """
        metadata = {"dropforge_spec": job.spec.hash, "dropforge_attempt": str(job.attempt)}
        found = self._find(metadata)
        if found is None:
            with _translated(TrainingFailedError):
                uploaded = {name: self._upload(job, name, data) for name, data in files.items()}
            found = self._create(job, uploaded, metadata)
        return FineTuneJob(
            spec=job.spec, attempt=job.attempt, started_at=job.started_at, job_id=found
        )

    def _create(self, job: FineTuneJob, uploaded: dict[str, str], metadata: dict[str, str]) -> str:
        hyperparameters: Any = {
            _SHARED.get(name, name): value
            for name, value in job.spec.hyperparameters.items()
            if name != "seed"
        }
        validation = {"validation_file": uploaded["validation"]} if "validation" in uploaded else {}
        try:
            with _translated(TrainingFailedError):
                created = self._once.fine_tuning.jobs.create(
                    model=job.spec.model,
                    training_file=uploaded["train"],
                    method={
                        "type": "supervised",
                        "supervised": {"hyperparameters": hyperparameters},
                    },
                    seed=int(job.spec.hyperparameters.get("seed", 7)),
                    suffix=job.spec.version,
                    metadata=metadata,
                    extra_body=validation,
                ).id
        except RetryableError:
            found = self._find(metadata)
            if found is None:
                raise
            return found
        return created

    def _find(self, metadata: dict[str, str]) -> str | None:
        """The job an earlier create made, if one did; asked with and checked by its metadata."""
        with _translated():
            page = self._client.fine_tuning.jobs.list(limit=_RECENT, metadata=metadata)
            return next((job.id for job in page.data if job.metadata == metadata), None)

    def _upload(self, job: FineTuneJob, name: str, data: bytes) -> str:
        filename = f"dropforge-{job.spec.version}-{name}.jsonl"
        return self._client.files.create(file=(filename, data), purpose="fine-tune").id

    def poll(self, job: FineTuneJob) -> JobState:
        with _translated():
            try:
                found = self._client.fine_tuning.jobs.retrieve(_known(job))
            except openai.NotFoundError:
                return Failed("the provider does not know the job")
            return _state(found)

    def events(self, job: FineTuneJob) -> list[TrainingEvent]:
        with _translated():
            listed = self._client.fine_tuning.jobs.list_events(_known(job), limit=_RECENT)
            points = [_event(event.data) for event in listed]
        return sorted((p for p in points if p), key=lambda point: point.step)

    def cancel(self, job: FineTuneJob) -> None:
        if isinstance(self.poll(job), Pending):
            with _translated():
                self._client.fine_tuning.jobs.cancel(_known(job))

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        """See `ChatModel.complete`; an answer the provider held back is empty."""
        chat: Any = messages
        with _translated():
            try:
                answer = self._client.chat.completions.create(
                    model=model, messages=chat, max_tokens=max_tokens, temperature=0
                )
            except openai.BadRequestError as error:
                if error.code == "content_filter":
                    return ""
                raise
            text = (answer.choices[0].message.content or "") if answer.choices else ""
        return text.encode("utf-8", "replace").decode()


def _known(job: FineTuneJob) -> str:
    if job.job_id is None:
        raise TrainingFailedError("The job was never created.", hint="Drop the file again.")
    return job.job_id


def _state(found: FineTuningJob) -> JobState:
    if found.status == "succeeded":
        if not found.fine_tuned_model:
            return Failed("the job succeeded but names no model")
        return Completed(found.fine_tuned_model)
    if found.status in ("failed", "cancelled"):
        reason = found.error.message if found.error and found.error.message else found.status
        return Failed(reason)
    return Pending(found.status)


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


@contextmanager
def _translated(refused: type[BackendError] = BackendError) -> Iterator[None]:
    """The SDK's errors as ours; a provider's message is passed on, never a request's content.

    Args:
        refused: raised where the provider will not do it, however often it is asked.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_error(error, refused) from error
    except openai.APIConnectionError as error:
        raise RetryableError("The provider did not answer.") from error
    except (ValueError, TypeError, AttributeError) as error:
        # The SDK passes on what is no JSON or has another shape, and it fails where it is used.
        raise RetryableError("The provider's answer cannot be read.") from error


def _status_error(error: openai.APIStatusError, refused: type[BackendError]) -> BackendError:
    message = f"The provider answered {error.status_code}: {error.message}"
    if error.status_code == 403 and error.code == "training_not_available":
        return TrainingNotAvailableError(
            "This account may not fine-tune any more.",
            hint="Set `backend: sagemaker` in project.yaml, or another base URL, and drop again.",
        )
    if error.status_code in (408, 409, 429) or error.status_code >= 500:
        return RetryableError(message)
    if error.status_code in (401, 403):
        return BackendError(message, hint="Check the API key in Secrets Manager.")
    return refused(message)
