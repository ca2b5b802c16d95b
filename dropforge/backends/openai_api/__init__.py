"""Hosted providers: any server that speaks OpenAI's protocol, told apart by base URL and preset.

The SDK repeats a create that failed without an answer, which makes a second job. So creates are
sent once, and the job of an earlier create is looked for before and after each: by its metadata, by
the suffix of its model, or by its training file, whose name carries the spec's version and the
attempt. Presets: `dropforge/providers.py`; their dialects: `jobs.py` and `together.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import openai
from openai import OpenAI

from dropforge.artifacts import FineTuneJob
from dropforge.backends import Completion
from dropforge.backends.openai_api.chats import Chats
from dropforge.backends.openai_api.errors import not_available, retired, translated
from dropforge.backends.openai_api.jobs import (
    JobOrder,
    JobsApi,
    OpenAIJobs,
    ProviderFile,
    ProviderJob,
)
from dropforge.backends.openai_api.models import (
    ListedModel,
    can_be_trained,
    shutdown_date,
    training_ends,
)
from dropforge.backends.openai_api.together import TogetherJobs
from dropforge.errors import RetryableError, TrainingFailedError
from dropforge.providers import PRESETS, Preset
from dropforge.train import Failed, JobState, Pending, TrainingEvent

__all__ = ["ListedModel", "OpenAIBackend", "shutdown_date"]

PROBE_FILE = "file-dropforge-probe"
"""A training file that no provider has: asked for to learn whether the account may train."""
_LOOKS = 3
"""How often a job that may exist is looked for: lists lag behind creates."""
_CHECKS = 15
"""How often a provider is asked whether it has checked an uploaded file."""


_NOT_SERVED = (
    "Azure and Together answer with a model that they have trained only once it is deployed there."
)


def _today() -> date:
    return datetime.now(UTC).date()


class OpenAIBackend:
    """Implements `Trainer` and `ChatModel`.

    Args:
        timeout: seconds a request may take; answers of a model on a CPU take their time.
        settle: seconds between two looks at what the provider may not show yet.
        today: the clock of `preflight`: the date in UTC.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        timeout: float = 300.0,
        preset: Preset = PRESETS["openai"],
        *,
        settle: float = 2.0,
        today: Callable[[], date] = _today,
    ) -> None:
        self._client = OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=2)
        self._chats = Chats(base_url, api_key, timeout, not_served=_NOT_SERVED)
        dialect = TogetherJobs if preset.dialect == "together" else OpenAIJobs
        self._jobs: JobsApi = dialect(self._client, preset.takes)
        self._preset = preset
        # Another server in the provider's place does not end when the provider does.
        itself = base_url.rstrip("/") == preset.base_url
        self._training_ends = preset.training_ends if itself else None
        self._settle = settle
        self._today = today

    def preflight(self, job: FineTuneJob) -> None:
        """See `Trainer.preflight`: three questions, of which the probe alone looks like a job.

        It names a file that does not exist, so an account that may train is answered 400 or 404,
        and one that may not 403; should a provider take it, it is cancelled at once.
        """
        if self._training_ends and self._today() > self._training_ends:
            raise not_available(
                f"{job.spec.backend} takes no fine-tuning jobs since {self._training_ends}."
            )
        with translated():
            self._jobs.check()
        self._check_model(job)
        if self._preset.probe:
            self._probe(job)

    def _check_model(self, job: FineTuneJob) -> None:
        name = job.spec.model
        with translated():
            try:
                model = self._jobs.model(name)
            except openai.NotFoundError as error:
                if self._preset.lists_models:
                    raise retired(f"The model {name} is not there for this account.") from error
                return
            ends, trainable = training_ends(model), can_be_trained(model)
        if not trainable:
            raise retired(f"The model {name} cannot be fine-tuned.")
        if ends and ends <= self._today():
            raise retired(f"The model {name} cannot be fine-tuned since {ends}.")

    def _probe(self, job: FineTuneJob) -> None:
        order = JobOrder(job.spec.model, PROBE_FILE, metadata=self._metadata(job, probe=True))
        try:
            with translated(TrainingFailedError):
                taken = self._jobs.create(order)
        except TrainingFailedError:
            return
        self._stop(taken.id)

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Start the job exactly once; see `Trainer.launch`.

        Raises:
            TrainingNotAvailableError: the account may not fine-tune.
            ModelRetiredError: the provider has no such model to train.
            TrainingFailedError: the provider refuses the job for good.
            RetryableError: ask again; what was created meanwhile is found then.
        """
        earlier = self._uploads(job)
        # With its file there, an earlier try came as far as a job that may not be listed yet.
        found = self._find(job, earlier, _LOOKS if earlier else 1)
        if found is None:
            uploaded = {
                name: self._uploaded(_file_name(job, name, data), data, earlier)
                for name, data in files.items()
            }
            found = self._create(job, uploaded)
        return FineTuneJob(
            spec=job.spec, attempt=job.attempt, started_at=job.started_at, job_id=found
        )

    def _create(self, job: FineTuneJob, uploaded: dict[str, ProviderFile]) -> str:
        validation = uploaded.get("validation")
        order = JobOrder(
            model=job.spec.model,
            training_file=uploaded["train"].id,
            validation_file=validation.id if validation else None,
            hyperparameters=job.spec.hyperparameters,
            suffix=_suffix(job) if self._preset.suffix else "",
            metadata=self._metadata(job),
            key=f"{job.spec.hash}-{job.attempt}",
        )
        try:
            with translated(TrainingFailedError):
                return self._jobs.create(order).id
        except RetryableError:
            found = self._find(job, [uploaded["train"]], _LOOKS)
            if found is None:
                raise
            return found

    def _find(self, job: FineTuneJob, uploads: list[ProviderFile], looks: int) -> str | None:
        """The job that an earlier create made, if one did."""
        if not (uploads or self._preset.metadata or self._preset.suffix):
            return None
        wanted = self._metadata(job) or None
        files = {file.id for file in uploads}
        for look in range(looks):
            if look:
                time.sleep(self._settle)
            with translated():
                for found in self._jobs.jobs(wanted):
                    if _is_of(found, job, files):
                        return found.id
        return None

    def _metadata(self, job: FineTuneJob, *, probe: bool = False) -> dict[str, str]:
        if not self._preset.metadata:
            return {}
        attempt = "probe" if probe else str(job.attempt)
        return {"dropforge_spec": job.spec.hash, "dropforge_attempt": attempt}

    def _uploads(self, job: FineTuneJob) -> list[ProviderFile]:
        """The files that earlier tries of this attempt have uploaded."""
        with translated():
            return [file for file in self._jobs.files() if file.name.startswith(_file_prefix(job))]

    def _uploaded(self, name: str, data: bytes, earlier: list[ProviderFile]) -> ProviderFile:
        """The file at the provider, checked; one of the same name, and so content, is used again.

        Raises:
            TrainingFailedError: the provider cannot train on it.
            RetryableError: the provider has not checked it yet.
        """
        known = (f for f in earlier if (f.name, f.size) == (name, len(data)) and not f.problem)
        with translated(TrainingFailedError):
            file = next(known, None) or self._jobs.upload(name, data)
            for _ in range(_CHECKS):
                if file.checked:
                    break
                time.sleep(self._settle)
                file = self._jobs.file(file.id)
        if file.problem:
            raise TrainingFailedError(f"The provider cannot train on {name}: {file.problem}")
        if not file.checked:
            raise RetryableError(f"The provider has not checked {name} yet.")
        return file

    def poll(self, job: FineTuneJob) -> JobState:
        with translated():
            try:
                return self._jobs.get(_known(job)).state
            except openai.NotFoundError:
                return Failed("the provider does not know the job")

    def events(self, job: FineTuneJob) -> list[TrainingEvent]:
        with translated():
            points = self._jobs.events(_known(job))
        return sorted(points, key=lambda point: point.step)

    def cancel(self, job: FineTuneJob) -> None:
        """See `Trainer.cancel`; a job whose id was never learned is looked for first."""
        job_id = job.job_id or self._find(job, self._uploads(job), _LOOKS)
        if job_id is not None:
            self._stop(job_id)

    def _stop(self, job_id: str) -> None:
        with translated():
            try:
                if isinstance(self._jobs.get(job_id).state, Pending):
                    self._jobs.cancel(job_id)
            except (openai.NotFoundError, openai.BadRequestError, openai.ConflictError):
                if self._runs(job_id):
                    raise

    def _runs(self, job_id: str) -> bool:
        """Whether a job that was not cancelled is still there: it may have ended just then."""
        try:
            return isinstance(self._jobs.get(job_id).state, Pending)
        except openai.NotFoundError:
            return False

    def models(self) -> list[ListedModel]:
        """The models that the provider lists for this account."""
        with translated():
            return self._jobs.models()

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """See `Chats.complete`."""
        return self._chats.complete(model, messages, max_tokens)

    def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        """The texts' embeddings, in their order. May raise RetryableError or BackendError."""
        with translated():
            found = self._client.embeddings.create(model=model, input=texts)
        return [row.embedding for row in sorted(found.data, key=lambda row: row.index)]


def _known(job: FineTuneJob) -> str:
    if job.job_id is None:
        raise TrainingFailedError("The job was never created.", hint="Drop the file again.")
    return job.job_id


def _suffix(job: FineTuneJob) -> str:
    """14 characters or so: Together takes 40, OpenAI 64."""
    return f"{job.spec.version}-{job.attempt}"


def _file_prefix(job: FineTuneJob) -> str:
    return f"dropforge-{job.spec.version}-{job.attempt}-"


def _file_name(job: FineTuneJob, split: str, data: bytes) -> str:
    """The same for the same content alone: a file of this name need not be uploaded again."""
    return f"{_file_prefix(job)}{split}-{hashlib.sha256(data).hexdigest()[:16]}.jsonl"


def _is_of(found: ProviderJob, job: FineTuneJob, files: set[str]) -> bool:
    """Whether a provider's job is this attempt's: its metadata decide, where it has ours."""
    if "dropforge_spec" in found.metadata:
        attempt = found.metadata.get("dropforge_attempt")
        return (found.metadata["dropforge_spec"], attempt) == (job.spec.hash, str(job.attempt))
    return found.suffix == _suffix(job) or found.training_file in files
