"""SageMaker: training jobs that the state machine starts, adapters served as inference components.

After training, the adapter becomes a version in the model registry and an inference component on
the endpoint's base component.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import boto3
import msgspec
from botocore.exceptions import ClientError

from dropforge.artifacts import MODELS, FineTuneJob, train_key
from dropforge.backends import Completion, model_packages
from dropforge.backends.sagemaker_endpoint import Endpoint
from dropforge.backends.sagemaker_errors import is_missing, translated
from dropforge.backends.store import Store
from dropforge.errors import BackendError
from dropforge.parity import Served
from dropforge.train import Completed, Failed, JobState, Pending, TrainingEvent

if TYPE_CHECKING:
    from types_boto3_sagemaker import SageMakerClient

CREATED_WITHIN_S: Final = 3600
"""Seconds after which a job that SageMaker does not know counts as never created."""
RECORDING: Final = "parity.json"


def component_name(job: FineTuneJob) -> str:
    """The adapter's inference component, at most 63 characters: a spec makes one model."""
    return f"dropforge-{job.spec.project[:34]}-{job.spec.version}"


def job_name(job: FineTuneJob) -> str:
    """The training job's name, which SageMaker takes once: an attempt makes one job."""
    return job.job_id or f"{component_name(job)}-{job.attempt}"


class SageMakerBackend:
    """Implements `Trainer` and `ChatModel`.

    Args:
        endpoint: name of the endpoint that serves the base model and the adapters.
        base_component: name of the base model's inference component.
        store: the deployment's bucket. Without it, for those who only ask models, nothing is
            registered and no loss curve is read.
        max_wait: seconds an answer may take.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        endpoint: str,
        base_component: str = "base",
        store: Store | None = None,
        *,
        max_wait: float = 300.0,
        client: SageMakerClient | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sagemaker: SageMakerClient = client or boto3.client("sagemaker")
        self._store = store
        self._clock = clock
        self.endpoint = Endpoint(endpoint, base_component, self._sagemaker, max_wait)

    def preflight(self, job: FineTuneJob) -> None:
        """See `Trainer.preflight`: there are weights to train, and an endpoint that serves them.

        Raises:
            TrainingNotAvailableError: there is no working endpoint, or no permission.
            BackendError: the weights are missing, or the endpoint serves another base model.
        """
        served = self.endpoint.base_model().weights.rstrip("/")
        model = job.spec.model
        if served.rpartition("/")[2] != model:
            raise BackendError(
                f"The endpoint serves {served or 'no weights from S3'}, not {model}.",
                hint=f"Deploy with `-c sagemaker.base_model={model}`, or choose the served model.",
            )
        if self._store and self._store.find(f"{MODELS}/{model}/config.json") is None:
            raise BackendError(
                f"The bucket holds no weights of {model}.",
                hint=f"Upload its Hugging Face directory to {MODELS}/{model}/.",
            )

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Name the job; the state machine starts it (`createTrainingJob.sync`)."""
        return msgspec.structs.replace(job, job_id=job_name(job))

    def exists(self, job: FineTuneJob) -> bool:
        """Whether the training job was started before."""
        return self._training_job(job) is not None

    def poll(self, job: FineTuneJob) -> JobState:
        """Training, then registration and deployment of the adapter."""
        found = self._training_job(job)
        if found is None:
            late = self._clock() - job.started_at > CREATED_WITHIN_S
            return Failed("the training job was never created") if late else Pending("starting")
        status = found["TrainingJobStatus"]
        if status in ("Failed", "Stopped"):
            return Failed(found.get("FailureReason") or f"the training job is {status.lower()}")
        if status != "Completed":
            return Pending(f"training: {found.get('SecondaryStatus', status)}")
        return self._deployed(job, found)

    def _deployed(self, job: FineTuneJob, found: dict[str, Any]) -> JobState:
        state = self.endpoint.deploy(component_name(job), self._adapter(found))
        if not isinstance(state, Completed) or not self._store:
            return state
        package = self._package(job, found, self._store)
        if package is None:
            return Pending("registering")
        return Completed(state.model_id, package=package)

    def _adapter(self, found: dict[str, Any]) -> str:
        """Where the trained adapter is."""
        return str(found["ModelArtifacts"]["S3ModelArtifacts"])

    def _package(self, job: FineTuneJob, found: dict[str, Any], store: Store) -> str | None:
        if known := model_packages.registered(store, job):
            return known
        image = self.endpoint.base_model().image
        return model_packages.register(self._sagemaker, store, job, self._adapter(found), image)

    def events(self, job: FineTuneJob) -> list[TrainingEvent]:
        """The loss curve so far, from the checkpoint folder, which SageMaker copies to S3 while the
        job runs; of a job that leaves none, the final losses.
        """
        if curve := self._curve(job):
            return curve
        found = self._training_job(job) or {}
        final = {m["MetricName"]: m["Value"] for m in found.get("FinalMetricDataList", [])}
        if "train_loss" not in final:
            return []
        return [
            TrainingEvent(
                step=int(final.get("step", 0)),
                train_loss=final["train_loss"],
                eval_loss=final.get("eval_loss"),
            )
        ]

    def _curve(self, job: FineTuneJob) -> list[TrainingEvent]:
        key = train_key(job.spec.project, job.spec.hash, "checkpoints/events.jsonl")
        data = (self._store.find(key) if self._store else None) or b""
        events = []
        for line in data.splitlines():
            try:
                events.append(msgspec.json.decode(line, type=TrainingEvent))
            except msgspec.MsgspecError:
                continue  # copied while the line was being written
        return events

    def cancel(self, job: FineTuneJob) -> None:
        """See `Trainer.cancel`. A job ends two minutes after it is told to."""
        found = self._training_job(job)
        if not found or found["TrainingJobStatus"] != "InProgress":
            return
        with translated("to stop the training job"):
            try:
                self._sagemaker.stop_training_job(TrainingJobName=found["TrainingJobName"])
            except ClientError as error:
                # A job that has ended since then cannot be stopped: a ValidationException.
                if not is_missing(error):
                    raise

    def _training_job(self, job: FineTuneJob) -> dict[str, Any] | None:
        with translated("to describe the training job"):
            try:
                found: Any = self._sagemaker.describe_training_job(TrainingJobName=job_name(job))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
        return dict(found)

    def recorded(self, job: FineTuneJob) -> bytes | None:
        """What training wrote down for `dropforge.parity`; None where it wrote nothing.

        Raises:
            BackendError: the job's output is no archive.
        """
        output = f"output/{job_name(job)}/output/output.tar.gz"
        key = train_key(job.spec.project, job.spec.hash, output)
        packed = self._store.find(key) if self._store else None
        if packed is None:
            return None
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                names = (m for m in archive if m.isfile() and m.name.endswith(RECORDING))
                file = next((archive.extractfile(member) for member in names), None)
                return file.read() if file else None
        except (tarfile.TarError, OSError, EOFError) as error:
            raise BackendError("The training job's output.tar.gz cannot be read.") from error

    def answer(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Served:
        """See `Endpoint.answer`."""
        return self.endpoint.answer(model, messages, max_tokens)

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """See `ChatModel.complete`. An endpoint that sleeps is a RetryableError."""
        return self.endpoint.complete(model, messages, max_tokens)


def training_request(bucket: str, job: FineTuneJob) -> dict[str, Any]:
    """What the state machine fills into `createTrainingJob`; hyperparameters are strings there."""
    spec = job.spec
    prefix = f"s3://{bucket}/{train_key(spec.project, spec.hash, '')}"
    return {
        "training_job_name": job.job_id,
        "hyperparameters": {
            "base_model": spec.model,
            **{name: str(value) for name, value in spec.hyperparameters.items()},
        },
        "train_uri": f"{prefix}input/train/",
        "validation_uri": f"{prefix}input/validation/",
        "model_uri": f"s3://{bucket}/{MODELS}/{spec.model}/",
        "output_uri": f"{prefix}output/",
        "checkpoint_uri": f"{prefix}checkpoints/",
    }
