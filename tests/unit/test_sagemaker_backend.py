from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.sagemaker import SageMakerBackend, training_request
from dropforge.errors import BackendError, RetryableError
from dropforge.train import Completed, Failed, Pending, TrainingEvent

SPEC = FineTuneSpec("shop", "d", "sagemaker", "llama", {"epochs": 2, "learning_rate": 0.0002})
COMPONENT = f"dropforge-shop-{SPEC.version}"
JOB = FineTuneJob(SPEC, 1, 10.0, job_id=f"{COMPONENT}-1")
ARTIFACT = "s3://bucket/train/shop/x/output/model.tar.gz"
QUESTION = [{"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def client() -> Any:
    return boto3.client("sagemaker")


@pytest.fixture
def sagemaker(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def backend(client: Any, sagemaker: Stubber) -> SageMakerBackend:
    return SageMakerBackend("dropforge", "base", client=client)


@pytest.fixture
def runtime(backend: SageMakerBackend) -> Iterator[Stubber]:
    with Stubber(backend._runtime) as stubber:
        yield stubber


def job_is(sagemaker: Stubber, status: str, **about: Any) -> None:
    found = {
        "TrainingJobName": JOB.job_id,
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x",
        "TrainingJobStatus": status,
        "SecondaryStatus": "Training",
        "ModelArtifacts": {"S3ModelArtifacts": ARTIFACT},
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "ResourceConfig": {"VolumeSizeInGB": 1},
        "StoppingCondition": {},
        "CreationTime": 0,
        **about,
    }
    sagemaker.add_response("describe_training_job", found, {"TrainingJobName": JOB.job_id})


def component_is(sagemaker: Stubber, status: str, **about: Any) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:inference-component/x"
    found = {
        "InferenceComponentName": COMPONENT,
        "InferenceComponentArn": arn,
        "EndpointName": "dropforge",
        "EndpointArn": arn,
        "CreationTime": 0,
        "LastModifiedTime": 0,
        "InferenceComponentStatus": status,
        **about,
    }
    wanted = {"InferenceComponentName": COMPONENT}
    sagemaker.add_response("describe_inference_component", found, wanted)


def is_missing(sagemaker: Stubber, operation: str) -> None:
    sagemaker.add_client_error(operation, "ValidationException", "Could not find it")


def test_launch_only_names_the_job(backend: SageMakerBackend) -> None:
    """The state machine creates it, and SageMaker takes a name once."""
    launched = backend.launch(FineTuneJob(SPEC, 1, 10.0), {})
    assert launched == JOB
    assert backend.launch(FineTuneJob(SPEC, 2, 10.0), {}).job_id == f"{COMPONENT}-2"


def test_names_keep_sagemakers_limit_for_the_longest_project() -> None:
    spec = FineTuneSpec("p" * 41, "d", "sagemaker", "m", {})
    backend = SageMakerBackend("dropforge", client=boto3.client("sagemaker"))
    name = backend.launch(FineTuneJob(spec, 99, 0.0), {}).job_id
    assert name is not None
    assert len(name) <= 63
    assert spec.version in name


def test_job_that_was_not_created_does_not_exist(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    is_missing(sagemaker, "describe_training_job")
    assert not backend.exists(JOB)
    job_is(sagemaker, "InProgress")
    assert backend.exists(JOB)


def test_job_not_yet_created_is_pending(backend: SageMakerBackend, sagemaker: Stubber) -> None:
    is_missing(sagemaker, "describe_training_job")
    assert backend.poll(JOB) == Pending("starting")


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        ("InProgress", {}, Pending("training: Training")),
        ("Stopping", {}, Pending("training: Training")),
        ("Failed", {"FailureReason": "CUDA out of memory"}, Failed("CUDA out of memory")),
        ("Failed", {}, Failed("the training job is failed")),
        ("Stopped", {}, Failed("the training job is stopped")),
    ],
)
def test_training_job_is_polled(
    backend: SageMakerBackend,
    sagemaker: Stubber,
    status: str,
    reason: dict[str, str],
    state: object,
) -> None:
    job_is(sagemaker, status, **reason)
    assert backend.poll(JOB) == state


def test_finished_job_is_deployed_on_top_of_the_base(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    job_is(sagemaker, "Completed")
    is_missing(sagemaker, "describe_inference_component")
    sagemaker.add_response(
        "create_inference_component",
        {"InferenceComponentArn": "arn:aws:sagemaker:us-east-1:123456789012:inference-component/x"},
        {
            "InferenceComponentName": COMPONENT,
            "EndpointName": "dropforge",
            "Specification": {
                "BaseInferenceComponentName": "base",
                "Container": {"ArtifactUrl": ARTIFACT},
            },
        },
    )
    assert backend.poll(JOB) == Pending("deploying")


@pytest.mark.parametrize(
    ("status", "reason", "state"),
    [
        ("Creating", {}, Pending("deploying")),
        ("InService", {}, Completed(COMPONENT)),
        ("Failed", {"FailureReason": "no capacity"}, Failed("no capacity")),
        ("Failed", {}, Failed("the adapter could not be deployed")),
    ],
)
def test_deployment_is_polled(
    backend: SageMakerBackend,
    sagemaker: Stubber,
    status: str,
    reason: dict[str, str],
    state: object,
) -> None:
    job_is(sagemaker, "Completed")
    component_is(sagemaker, status, **reason)
    assert backend.poll(JOB) == state


def test_refusal_is_not_taken_for_a_missing_job_or_component(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    sagemaker.add_client_error("describe_training_job", "AccessDeniedException")
    with pytest.raises(ClientError, match="DescribeTrainingJob"):
        backend.poll(JOB)
    job_is(sagemaker, "Completed")
    sagemaker.add_client_error("describe_inference_component", "AccessDeniedException")
    with pytest.raises(ClientError, match="DescribeInferenceComponent"):
        backend.poll(JOB)


def test_final_losses_are_the_curve(backend: SageMakerBackend, sagemaker: Stubber) -> None:
    final = [
        {"MetricName": name, "Value": value, "Timestamp": 0}
        for name, value in (("step", 40.0), ("train_loss", 1.5), ("eval_loss", 1.75))
    ]
    job_is(sagemaker, "Completed", FinalMetricDataList=final)
    assert backend.events(JOB) == [TrainingEvent(40, 1.5, 1.75)]


def test_job_without_metrics_has_no_curve(backend: SageMakerBackend, sagemaker: Stubber) -> None:
    job_is(sagemaker, "InProgress")
    assert backend.events(JOB) == []
    is_missing(sagemaker, "describe_training_job")
    assert backend.events(JOB) == []


def test_cancel_stops_a_running_job_alone(backend: SageMakerBackend, sagemaker: Stubber) -> None:
    job_is(sagemaker, "Completed")
    backend.cancel(JOB)
    job_is(sagemaker, "InProgress")
    sagemaker.add_response("stop_training_job", {}, {"TrainingJobName": JOB.job_id})
    backend.cancel(JOB)


def answer(body: bytes) -> dict[str, Any]:
    return {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": "application/json"}


def test_chat_asks_the_component_at_temperature_zero(
    backend: SageMakerBackend, runtime: Stubber
) -> None:
    said = {"choices": [{"message": {"content": "So. \ud83d"}}]}
    wanted = {"messages": QUESTION, "max_tokens": 50, "temperature": 0}
    runtime.add_response(
        "invoke_endpoint",
        answer(json.dumps(said).encode()),
        {
            "EndpointName": "dropforge",
            "InferenceComponentName": COMPONENT,
            "ContentType": "application/json",
            "Body": json.dumps(wanted).encode(),
        },
    )
    assert backend.complete(COMPONENT, QUESTION, 50) == "So. ?"


@pytest.mark.parametrize(
    "body", [b"", b"half a {", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": 7}]}']
)
def test_answer_that_is_no_completion_is_a_backend_error(
    backend: SageMakerBackend, runtime: Stubber, body: bytes
) -> None:
    runtime.add_response("invoke_endpoint", answer(body), {"Body": ANY, **_named()})
    with pytest.raises(BackendError, match="no chat completion"):
        backend.complete(COMPONENT, QUESTION, 50)


def _named() -> dict[str, str]:
    names = {"EndpointName": "dropforge", "InferenceComponentName": COMPONENT}
    return {**names, "ContentType": "application/json"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ThrottlingException", RetryableError),
        ("ModelNotReadyException", RetryableError),
        ("ServiceUnavailable", RetryableError),
        ("ModelError", BackendError),
        ("ValidationError", BackendError),
    ],
)
def test_refusal_of_the_endpoint_is_typed(
    backend: SageMakerBackend, runtime: Stubber, code: str, kind: type[BackendError]
) -> None:
    runtime.add_client_error("invoke_endpoint", code, "a customer's words")
    with pytest.raises(BackendError) as refused:
        backend.complete(COMPONENT, QUESTION, 50)
    assert type(refused.value) is kind
    assert "customer" not in str(refused.value)


def test_endpoint_that_does_not_answer_is_retryable(
    backend: SageMakerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="https://runtime.example")

    monkeypatch.setattr(backend._runtime, "invoke_endpoint", hang)
    with pytest.raises(RetryableError):
        backend.complete(COMPONENT, QUESTION, 50)


def test_training_request_has_strings_and_the_stages_places() -> None:
    request = training_request("bucket", JOB)
    place = f"s3://bucket/train/shop/{SPEC.hash}/"
    assert request == {
        "training_job_name": JOB.job_id,
        "hyperparameters": {"base_model": "llama", "epochs": "2", "learning_rate": "0.0002"},
        "train_uri": f"{place}input/train/",
        "validation_uri": f"{place}input/validation/",
        "model_uri": "s3://bucket/models/llama/",
        "output_uri": f"{place}output/",
        "checkpoint_uri": f"{place}checkpoints/",
    }
