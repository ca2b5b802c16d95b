"""SageMaker: training jobs that the state machine starts, adapters served as inference components.

The base model is one inference component of the endpoint; every fine-tuned adapter is another one
on top of it, so a new version costs no new instance.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.artifacts import MODELS, FineTuneJob, train_key
from dropforge.errors import BackendError, RetryableError
from dropforge.train import Completed, Failed, JobState, Pending, TrainingEvent

if TYPE_CHECKING:
    from types_boto3_sagemaker import SageMakerClient

_RETRYABLE = {
    "ThrottlingException",
    "ServiceUnavailable",
    "InternalFailure",
    "ModelNotReadyException",
    "InternalDependencyException",
}


def _name(job: FineTuneJob) -> str:
    return f"dropforge-{job.spec.project[:34]}-{job.spec.version}"


class SageMakerBackend:
    """Implements `Trainer` and `ChatModel`.

    Args:
        endpoint: name of the endpoint that serves the base model and the adapters.
        base_component: name of the base model's inference component.
        max_wait: seconds an answer may take.
    """

    def __init__(
        self,
        endpoint: str,
        base_component: str = "base",
        *,
        max_wait: float = 300.0,
        client: SageMakerClient | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._base = base_component
        self._sagemaker: SageMakerClient = client or boto3.client("sagemaker")
        self._runtime: Any = boto3.client(
            "sagemaker-runtime", config=Config(read_timeout=max_wait, retries={"max_attempts": 0})
        )

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Name the job; the state machine starts it (`createTrainingJob.sync`)."""
        return FineTuneJob(
            spec=job.spec,
            attempt=job.attempt,
            started_at=job.started_at,
            job_id=f"{_name(job)}-{job.attempt}",
        )

    def exists(self, job: FineTuneJob) -> bool:
        """Whether the training job was started before."""
        return self._training_job(job) is not None

    def poll(self, job: FineTuneJob) -> JobState:
        """Training, then deployment: a finished job's adapter becomes an inference component."""
        found = self._training_job(job)
        if found is None:
            return Pending("starting")
        status = found["TrainingJobStatus"]
        if status in ("Failed", "Stopped"):
            return Failed(found.get("FailureReason") or f"the training job is {status.lower()}")
        if status != "Completed":
            return Pending(f"training: {found.get('SecondaryStatus', status)}")
        return self._deploy(_name(job), found["ModelArtifacts"]["S3ModelArtifacts"])

    def _deploy(self, component: str, artifact: str) -> JobState:
        try:
            found = self._sagemaker.describe_inference_component(InferenceComponentName=component)
        except ClientError as error:
            if not _is_missing(error):
                raise
            self._sagemaker.create_inference_component(
                InferenceComponentName=component,
                EndpointName=self._endpoint,
                Specification={
                    "BaseInferenceComponentName": self._base,
                    "Container": {"ArtifactUrl": artifact},
                },
            )
            return Pending("deploying")
        if found["InferenceComponentStatus"] == "InService":
            return Completed(component)
        if found["InferenceComponentStatus"] == "Failed":
            return Failed(found.get("FailureReason", "the adapter could not be deployed"))
        return Pending("deploying")

    def events(self, job: FineTuneJob) -> list[TrainingEvent]:
        """The final losses: SageMaker keeps the curve itself in CloudWatch."""
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

    def cancel(self, job: FineTuneJob) -> None:
        found = self._training_job(job)
        if found and found["TrainingJobStatus"] == "InProgress":
            self._sagemaker.stop_training_job(TrainingJobName=found["TrainingJobName"])

    def _training_job(self, job: FineTuneJob) -> dict[str, Any] | None:
        try:
            found: Any = self._sagemaker.describe_training_job(
                TrainingJobName=job.job_id or f"{_name(job)}-{job.attempt}"
            )
        except ClientError as error:
            if _is_missing(error):
                return None
            raise
        return dict(found)

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> str:
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
        try:
            answer = self._runtime.invoke_endpoint(
                EndpointName=self._endpoint,
                InferenceComponentName=model,
                ContentType="application/json",
                Body=json.dumps(body).encode(),
            )
            text = json.loads(answer["Body"].read())["choices"][0]["message"]["content"] or ""
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = RetryableError if code in _RETRYABLE else BackendError
            raise kind(f"The endpoint answered {code}.") from error
        except BotoCoreError as error:
            raise RetryableError("The endpoint did not answer.") from error
        except (ValueError, LookupError, TypeError) as error:
            raise BackendError("The endpoint's answer is no chat completion.") from error
        return str(text).encode("utf-8", "replace").decode()


def _is_missing(error: ClientError) -> bool:
    """SageMaker answers ValidationException for a name that does not exist, whatever is asked."""
    return error.response.get("Error", {}).get("Code") in (
        "ValidationException",
        "ResourceNotFound",
    )


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
