from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from dropforge.artifacts import FineTuneJob, FineTuneSpec, train_key
from dropforge.backends.model_packages import Registered, approve, package_request
from dropforge.backends.sagemaker import SageMakerBackend, training_request
from dropforge.backends.sagemaker_endpoint import component_request
from dropforge.backends.store import Store
from dropforge.errors import AsleepError, BackendError, RetryableError, TrainingNotAvailableError
from dropforge.parity import Served
from dropforge.train import Completed, Failed, Pending, TrainingEvent
from local.sagemaker.requests import validate

SPEC = FineTuneSpec("shop", "d", "sagemaker", "llama", {"epochs": 2, "learning_rate": 0.0002})
COMPONENT = f"dropforge-shop-{SPEC.version}"
JOB = FineTuneJob(SPEC, 1, 10.0, job_id=f"{COMPONENT}-1")
ARTIFACT = "s3://bucket/train/shop/x/output/model.tar.gz"
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.36.0"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/dropforge/3"
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
def store(aws: None) -> Store:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="bucket")
    for entry in s3.list_objects_v2(Bucket="bucket").get("Contents", []):
        s3.delete_object(Bucket="bucket", Key=entry["Key"])
    return Store("bucket", s3)


@pytest.fixture
def backend(client: Any, sagemaker: Stubber) -> SageMakerBackend:
    return SageMakerBackend("dropforge", "base", client=client, clock=lambda: 10.0)


@pytest.fixture
def training(client: Any, sagemaker: Stubber, store: Store) -> SageMakerBackend:
    """A backend with the bucket, as launch and poll have it."""
    return SageMakerBackend("dropforge", "base", store, client=client, clock=lambda: 10.0)


@pytest.fixture
def runtime(backend: SageMakerBackend) -> Iterator[Stubber]:
    with Stubber(backend.endpoint.runtime) as stubber:
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


def endpoint_is(sagemaker: Stubber, status: str = "InService", model: str = "llama") -> None:
    """What the endpoint's base component runs, in the order in which it is asked for."""
    arn = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dropforge"
    times = {"CreationTime": 0, "LastModifiedTime": 0}
    sagemaker.add_response(
        "describe_endpoint",
        {"EndpointName": "dropforge", "EndpointArn": arn, "EndpointStatus": status, **times},
    )
    if status == "Failed":
        return
    sagemaker.add_response(
        "describe_inference_component",
        {
            "InferenceComponentName": "base",
            "InferenceComponentArn": arn,
            "EndpointName": "dropforge",
            "EndpointArn": arn,
            "InferenceComponentStatus": "InService",
            "Specification": {"ModelName": "EndpointModel-1"},
            **times,
        },
    )
    source = {
        "S3Uri": f"s3://bucket/models/{model}/",
        "S3DataType": "S3Prefix",
        "CompressionType": "None",
    }
    container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
    sagemaker.add_response(
        "describe_model",
        {
            "ModelName": "EndpointModel-1",
            "ModelArn": arn,
            "PrimaryContainer": container,
            "CreationTime": 0,
        },
    )


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


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDeniedException", 400, TrainingNotAvailableError),
        ("ResourceLimitExceeded", 400, TrainingNotAvailableError),
        ("ThrottlingException", 400, RetryableError),
        ("InternalFailure", 500, RetryableError),
        ("SomethingElse", 503, RetryableError),
        ("SomethingElse", 400, BackendError),
    ],
)
def test_refusal_is_typed_and_not_taken_for_a_missing_job_or_component(
    backend: SageMakerBackend,
    sagemaker: Stubber,
    code: str,
    status: int,
    kind: type[BackendError],
) -> None:
    for operation in ("describe_training_job", "describe_inference_component"):
        if operation != "describe_training_job":
            job_is(sagemaker, "Completed")
        sagemaker.add_client_error(operation, code, http_status_code=status)
        with pytest.raises(BackendError) as refused:
            backend.poll(JOB)
        assert type(refused.value) is kind


def test_job_that_is_unknown_after_an_hour_was_never_created(
    client: Any, sagemaker: Stubber
) -> None:
    late = SageMakerBackend("dropforge", client=client, clock=lambda: JOB.started_at + 3601)
    is_missing(sagemaker, "describe_training_job")
    assert late.poll(JOB) == Failed("the training job was never created")


def test_component_that_another_poll_has_just_made_is_not_an_error(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    job_is(sagemaker, "Completed")
    is_missing(sagemaker, "describe_inference_component")
    said = "Cannot create already existing inference component"
    sagemaker.add_client_error("create_inference_component", "ValidationException", said)
    component_is(sagemaker, "Creating")
    assert backend.poll(JOB) == Pending("deploying")


def test_component_that_sagemaker_refuses_is_a_typed_error(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    job_is(sagemaker, "Completed")
    is_missing(sagemaker, "describe_inference_component")
    sagemaker.add_client_error("create_inference_component", "ValidationException", "no such base")
    is_missing(sagemaker, "describe_inference_component")
    with pytest.raises(BackendError, match="no such base"):
        backend.poll(JOB)


def test_model_is_registered_once_it_is_served(
    training: SageMakerBackend, sagemaker: Stubber, store: Store
) -> None:
    job_is(sagemaker, "Completed")
    component_is(sagemaker, "InService")
    endpoint_is(sagemaker)
    sagemaker.add_response(
        "create_model_package",
        {"ModelPackageArn": PACKAGE},
        package_request(JOB, ARTIFACT, IMAGE),
    )
    assert training.poll(JOB) == Completed(COMPONENT, package=PACKAGE)
    job_is(sagemaker, "Completed")
    component_is(sagemaker, "InService")
    assert training.poll(JOB) == Completed(COMPONENT, package=PACKAGE), "and not a second time"
    assert store.load(train_key("shop", SPEC.hash, "package-1.json"), Registered).arn == PACKAGE


@pytest.mark.parametrize("code", ["ConflictException", "ResourceInUse"])
def test_package_that_another_poll_is_making_is_waited_for(
    training: SageMakerBackend, sagemaker: Stubber, code: str
) -> None:
    job_is(sagemaker, "Completed")
    component_is(sagemaker, "InService")
    endpoint_is(sagemaker)
    sagemaker.add_client_error("create_model_package", code)
    assert training.poll(JOB) == Pending("registering")


def test_requests_are_those_that_sagemaker_takes() -> None:
    longest = FineTuneJob(FineTuneSpec("p" * 41, "d", "sagemaker", "m", {}), 99, 0.0)
    validate("CreateModelPackage", package_request(longest, ARTIFACT, IMAGE))
    validate(
        "CreateInferenceComponent", component_request(COMPONENT, "dropforge", "base", ARTIFACT)
    )
    described = package_request(JOB, ARTIFACT, IMAGE)["CustomerMetadataProperties"]
    assert (described["project"], described["version"]) == ("shop", SPEC.version)


def test_promoted_models_package_is_approved(client: Any, sagemaker: Stubber) -> None:
    wanted = {
        "ModelPackageArn": PACKAGE,
        "ModelApprovalStatus": "Approved",
        "ApprovalDescription": "wins 77 %",
    }
    validate("UpdateModelPackage", wanted)
    sagemaker.add_response("update_model_package", {"ModelPackageArn": PACKAGE}, wanted)
    approve({"version": "x", "package": PACKAGE}, "wins 77 %", client)
    approve({"version": "x"}, "a hosted model has none", client)
    sagemaker.add_client_error("update_model_package", "AccessDeniedException")
    with pytest.raises(BackendError):
        approve({"package": PACKAGE}, "", client)


def test_preflight_asks_for_weights_and_an_endpoint_that_serves_them(
    training: SageMakerBackend, sagemaker: Stubber, store: Store
) -> None:
    endpoint_is(sagemaker)
    with pytest.raises(BackendError, match="no weights of llama") as refused:
        training.preflight(JOB)
    assert "models/llama/" in (refused.value.hint or "")
    store.write("models/llama/config.json", b"{}")
    endpoint_is(sagemaker)
    training.preflight(JOB)
    endpoint_is(sagemaker, model="mistral")
    with pytest.raises(BackendError, match="serves s3://bucket/models/mistral, not llama"):
        training.preflight(JOB)


def test_preflight_finds_a_missing_or_failed_endpoint(
    training: SageMakerBackend, sagemaker: Stubber
) -> None:
    is_missing(sagemaker, "describe_endpoint")
    with pytest.raises(TrainingNotAvailableError, match="no endpoint dropforge"):
        training.preflight(JOB)
    endpoint_is(sagemaker, status="Failed")
    with pytest.raises(TrainingNotAvailableError, match="has failed"):
        training.preflight(JOB)
    sagemaker.add_client_error("describe_endpoint", "AccessDeniedException")
    with pytest.raises(TrainingNotAvailableError):
        training.preflight(JOB)


def test_loss_curve_is_read_while_the_job_runs(training: SageMakerBackend, store: Store) -> None:
    lines = b"""{"step":0,"steps":9,"eval_loss":3.5}
{"step":1,"steps":9,"train_loss":3.25}
{"step":2,"ste"""
    store.write(train_key("shop", SPEC.hash, "checkpoints/events.jsonl"), lines)
    curve = [TrainingEvent(0, None, 3.5, 9), TrainingEvent(1, 3.25, None, 9)]
    assert training.events(JOB) == curve


def test_recording_is_read_from_the_jobs_output(training: SageMakerBackend, store: Store) -> None:
    key = train_key("shop", SPEC.hash, f"output/{JOB.job_id}/output/output.tar.gz")
    assert training.recorded(JOB) is None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in (("other.txt", b"?"), ("parity.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    store.write(key, packed.getvalue())
    assert training.recorded(JOB) == b"{}"
    store.write(key, packed.getvalue()[:40])
    with pytest.raises(BackendError, match="cannot be read"):
        training.recorded(JOB)


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
    job_is(sagemaker, "InProgress")
    sagemaker.add_client_error("stop_training_job", "ValidationException", "has ended since")
    backend.cancel(JOB)


def test_cancel_finds_a_job_whose_name_was_never_kept(
    backend: SageMakerBackend, sagemaker: Stubber
) -> None:
    job_is(sagemaker, "InProgress")
    sagemaker.add_response("stop_training_job", {}, {"TrainingJobName": JOB.job_id})
    backend.cancel(FineTuneJob(SPEC, 1, 10.0))


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
        ("AccessDeniedException", BackendError),
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

    monkeypatch.setattr(backend.endpoint.runtime, "invoke_endpoint", hang)
    with pytest.raises(RetryableError):
        backend.complete(COMPONENT, QUESTION, 50)


def test_sleeping_endpoint_is_worth_another_try_and_a_missing_model_is_not(
    backend: SageMakerBackend, sagemaker: Stubber, runtime: Stubber
) -> None:
    """The runtime answers both with ValidationError."""
    runtime.add_client_error("invoke_endpoint", "ValidationError", "no capacity")
    component_is(sagemaker, "InService")
    sagemaker.add_response(
        "update_inference_component_runtime_config",
        {"InferenceComponentArn": "arn:aws:sagemaker:us-east-1:111122223333:inference-component/b"},
        {"InferenceComponentName": "base", "DesiredRuntimeConfig": {"CopyCount": 1}},
    )
    with pytest.raises(AsleepError, match="no running copy"):
        backend.complete(COMPONENT, QUESTION, 50)
    sagemaker.assert_no_pending_responses()
    for missing in (True, False):
        runtime.add_client_error("invoke_endpoint", "ValidationError", "not found")
        if missing:
            is_missing(sagemaker, "describe_inference_component")
        else:
            component_is(sagemaker, "Failed")
        with pytest.raises(BackendError) as refused:
            backend.complete(COMPONENT, QUESTION, 50)
        assert type(refused.value) is BackendError


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RetryableError), (503, RetryableError), (400, BackendError)]
)
def test_containers_own_trouble_is_told_from_a_wrong_request(
    backend: SageMakerBackend, runtime: Stubber, status: int, kind: type[BackendError]
) -> None:
    fields = {"OriginalStatusCode": status}
    runtime.add_client_error(
        "invoke_endpoint", "ModelError", http_status_code=424, modeled_fields=fields
    )
    with pytest.raises(BackendError) as refused:
        backend.complete(COMPONENT, QUESTION, 50)
    assert type(refused.value) is kind


def test_answer_has_the_token_ids_where_the_server_tells_them(
    backend: SageMakerBackend, runtime: Stubber
) -> None:
    choice = {"message": {"content": "So."}, "token_ids": [7, 2]}
    whole = {"choices": [choice], "prompt_token_ids": [1, 5], "usage": {"prompt_tokens": 2}}
    for said in (whole, {"choices": [{"message": {"content": "So."}}]}):
        runtime.add_response(
            "invoke_endpoint", answer(json.dumps(said).encode()), {"Body": ANY, **_named()}
        )
    assert backend.answer(COMPONENT, QUESTION, 9) == Served("So.", 2, [1, 5], [7, 2])
    assert backend.answer(COMPONENT, QUESTION, 9) == Served("So.")


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
