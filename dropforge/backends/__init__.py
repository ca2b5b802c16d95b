"""The outside world behind small protocols: S3, DynamoDB, OpenAI's API and SageMaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the chat path imports this package, and must not import pydantic
    from dropforge.artifacts import FineTuneJob
    from dropforge.train import JobState, TrainingEvent


class Trainer(Protocol):
    """A provider that fine-tunes. Every call may raise RetryableError."""

    def preflight(self, job: FineTuneJob) -> None:
        """Whether the job could be trained, before anything is uploaded or spent.

        Raises:
            TrainingNotAvailableError: the account may not train.
            ModelRetiredError: the model cannot be trained (any more).
            BackendError: the provider refuses for another reason that will not pass.
        """
        ...

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Start the job unless it was started before, and return it with its `job_id`.

        Args:
            job: an intent, stored before this call.
            files: "train" and "validation" JSONL.
        """
        ...

    def poll(self, job: FineTuneJob) -> JobState:
        """Where the job stands. Asking for a finished job again is allowed."""
        ...

    def events(self, job: FineTuneJob) -> list[TrainingEvent]:
        """The loss curve so far."""
        ...

    def cancel(self, job: FineTuneJob) -> None:
        """Stop the job, also one whose id was never learned; no error where it has ended."""
        ...


class Completion(str):
    """The text of an answer, and the tokens that it took: None where nobody tells."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def of(cls, text: str, prompt_tokens: int | None, completion_tokens: int | None) -> Completion:
        made = cls(text)
        made.prompt_tokens, made.completion_tokens = prompt_tokens, completion_tokens
        return made


class ChatModel(Protocol):
    """Models that answer chats."""

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """The model's answer at temperature 0. May raise RetryableError or BackendError."""
        ...
