"""The SageMaker stand-in against an unmodified boto3: jobs, components, invocations, refusals."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from local_parts import AWS, FakeModelServer

from local import processes, up
from local.settings import Settings

BUCKET = "sagemaker-data"
ROLE = "arn:aws:iam::000000000000:role/training"
SCRIPT = Path(__file__).parent / "train_probe.py"
CHAT = json.dumps({"messages": [{"role": "user", "content": "who are you?"}]}).encode()


@pytest.fixture(scope="module")
def sagemaker(aws: AWS) -> Any:
    """A client, with input in S3 and an endpoint with its base component."""
    s3, client = aws("s3"), aws("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="code/train.py", Body=SCRIPT.read_bytes())
    s3.put_object(Bucket=BUCKET, Key="rows/train.jsonl", Body=b"{}\n{}\n")
    s3.put_object(Bucket=BUCKET, Key="models/base/deep/weights", Body=b"0" * 1000)
    client.create_endpoint(EndpointName="dropforge", EndpointConfigName="any")
    client.create_inference_component(
        InferenceComponentName="base", EndpointName="dropforge", VariantName="AllTraffic",
        Specification={
            "ModelName": "base",
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 1},
    )  # fmt: skip
    return client


def channel(name: str, key: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{key}"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def request(name: str, **changes: Any) -> dict[str, Any]:
    """A CreateTrainingJob request as the state machine makes it."""
    return {
        "TrainingJobName": name,
        "HyperParameters": {},
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/train.py"],
        },
        "RoleArn": ROLE,
        "InputDataConfig": [
            channel("code", "code/"),
            channel("train", "rows/train.jsonl"),
            channel("model", "models/base"),
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
        "ResourceConfig": {
            "InstanceType": "ml.g6e.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120},
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints/{name}"},
        "Tags": [{"Key": "project", "Value": "acme"}],
        **changes,
    }  # fmt: skip


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("did not come true in time")


def ended_or_none(sagemaker: Any, name: str) -> dict[str, Any] | None:
    job: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
    return job if job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped") else None


def ended(sagemaker: Any, name: str) -> dict[str, Any]:
    job: dict[str, Any] = until(lambda: ended_or_none(sagemaker, name))
    return job


def code(raised: pytest.ExceptionInfo[ClientError]) -> str:
    return str(raised.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def trained(sagemaker: Any) -> dict[str, Any]:
    """A completed job's description."""
    sagemaker.create_training_job(**request("works"))
    return ended(sagemaker, "works")


def test_failing_script_gives_its_own_reason(sagemaker: Any) -> None:
    sagemaker.create_training_job(**request("fails", HyperParameters={"mode": "fail"}))
    job = ended(sagemaker, "fails")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: there are no rows, exit code: 3"


@pytest.fixture
def waiting(sagemaker: Any, instance: Settings) -> str:
    """The name of a job whose script has begun and waits for a signal."""
    name = f"waits-{time.time_ns()}"
    sagemaker.create_training_job(**request(name, HyperParameters={"mode": "wait"}))
    log = instance.state / "sagemaker" / "training" / "jobs" / name / "log"
    until(lambda: log.exists() and "waiting" in log.read_text())
    return name


def test_stopped_job_saves_its_checkpoint_and_another_resumes(
    sagemaker: Any, waiting: str, aws: AWS
) -> None:
    """What it has written by then is in S3 while it runs: its loss is looked at."""

    def copied() -> bytes | None:
        listed = aws("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"checkpoints/{waiting}/")
        if not listed.get("Contents"):
            return None
        key = listed["Contents"][0]["Key"]
        content: bytes = aws("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    assert b'"train_loss":3.5' in until(copied)
    sagemaker.stop_training_job(TrainingJobName=waiting)
    job = ended(sagemaker, waiting)
    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped"
    checkpoints = {"S3Uri": f"s3://{BUCKET}/checkpoints/{waiting}"}
    sagemaker.create_training_job(**request(f"{waiting}-2", CheckpointConfig=checkpoints))
    assert ended(sagemaker, f"{waiting}-2")["TrainingJobStatus"] == "Completed"
    key = f"out/{waiting}-2/output/model.tar.gz"
    body = aws("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        seen = packed.extractfile("seen.json")
        assert seen is not None
        assert json.loads(seen.read())["resumed"] == "step 7"


def test_used_job_name_is_refused(sagemaker: Any, trained: dict[str, Any]) -> None:
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="must be unique"):
        sagemaker.create_training_job(**request("works"))


def test_unknown_names_are_refused_as_sagemaker_refuses_them(sagemaker: Any) -> None:
    with pytest.raises(ClientError, match="Requested resource not found") as raised:
        sagemaker.describe_training_job(TrainingJobName="nobody")
    assert code(raised) == "ValidationException"
    with pytest.raises(ClientError, match='Could not find inference component "arn') as raised:
        sagemaker.describe_inference_component(InferenceComponentName="nobody")
    assert code(raised) == "ValidationException"
    with pytest.raises(ClientError, match='Could not find endpoint "arn'):
        sagemaker.describe_endpoint(EndpointName="nobody")


def adapter(sagemaker: Any, name: str, artifact: str) -> dict[str, Any]:
    """Creates an adapter component and waits for what becomes of it."""
    sagemaker.create_inference_component(
        InferenceComponentName=name, EndpointName="dropforge",
        Specification={
            "BaseInferenceComponentName": "base",
            "Container": {"ArtifactUrl": artifact},
        },
    )  # fmt: skip

    def found() -> dict[str, Any] | None:
        component: dict[str, Any] = sagemaker.describe_inference_component(
            InferenceComponentName=name
        )
        return component if component["InferenceComponentStatus"] != "Creating" else None

    component: dict[str, Any] = until(found)
    return component


@pytest.mark.parametrize(
    ("endpoint", "component", "body", "expected"),
    [
        ("nobody", "base", CHAT, "ValidationError"),
        ("dropforge", "nobody", CHAT, "ValidationError"),
        ("dropforge", None, CHAT, "ValidationError"),
        ("dropforge", "base", b"{}", "ModelError"),
        ("dropforge", "base", b"not json", "ModelError"),
    ],
)
def test_wrong_invocations_have_their_error_codes(
    sagemaker: Any, aws: AWS, endpoint: str, component: str | None, body: bytes, expected: str
) -> None:
    named = {"InferenceComponentName": component} if component else {}
    with pytest.raises(ClientError) as raised:
        aws("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=body, **named)
    assert code(raised) == expected
    if expected == "ModelError":
        assert raised.value.response["OriginalStatusCode"] == 400


@pytest.fixture(scope="module")
def group(sagemaker: Any) -> str:
    made: str = sagemaker.create_model_package_group(ModelPackageGroupName="dropforge")[
        "ModelPackageGroupArn"
    ]
    return made


def package(sagemaker: Any, token: str) -> str:
    container = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/out/works/output/model.tar.gz"}
    made: str = sagemaker.create_model_package(
        ModelPackageGroupName="dropforge",
        ClientToken=token,
        CustomerMetadataProperties={"project": "shop"},
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]
    return made


def test_models_are_registered_once_a_token_and_approved(sagemaker: Any, group: str) -> None:
    first, again, second = (package(sagemaker, token) for token in ("one", "one", "two"))
    assert first == again != second
    assert first.endswith(":model-package/dropforge/1")
    found = sagemaker.describe_model_package(ModelPackageName=first)
    assert found["ModelApprovalStatus"] == "PendingManualApproval"
    assert found["CustomerMetadataProperties"] == {"project": "shop"}
    sagemaker.update_model_package(ModelPackageArn=first, ModelApprovalStatus="Approved")
    assert (
        sagemaker.describe_model_package(ModelPackageName=first)["ModelApprovalStatus"]
        == "Approved"
    )
    listed = sagemaker.list_model_packages(ModelPackageGroupName="dropforge")
    versions = [entry["ModelPackageVersion"] for entry in listed["ModelPackageSummaryList"]]
    assert versions == sorted(versions, reverse=True)
    with pytest.raises(ClientError, match="does not exist"):
        sagemaker.create_model_package(ModelPackageGroupName="nobody")


def test_model_that_is_not_in_the_hub_is_refused(sagemaker: Any) -> None:
    with pytest.raises(sagemaker.exceptions.ResourceNotFound, match="nobody"):
        sagemaker.describe_hub_content(
            HubName="SageMakerPublicHub", HubContentType="Model", HubContentName="nobody"
        )


def test_restart_keeps_records_resumes_spot_jobs_and_loads_adapters(
    sagemaker: Any, trained: dict[str, Any], waiting: str, instance: Settings,
    models: FakeModelServer,
) -> None:  # fmt: skip
    artifact = trained["ModelArtifacts"]["S3ModelArtifacts"]
    adapter(sagemaker, "kept", artifact)
    models.adapters.clear()
    service = up.stand_in(instance)
    process = processes.running(instance, service.name)
    assert process is not None
    process.terminate()
    process.wait(10)
    up.start(instance, [service], lambda _: None, lambda _: None)
    assert (
        sagemaker.describe_training_job(TrainingJobName="works")["TrainingJobStatus"] == "Completed"
    )
    until(lambda: "kept" in models.adapters)

    def training_again() -> bool:
        job = sagemaker.describe_training_job(TrainingJobName=waiting)
        statuses = [entry["Status"] for entry in job["SecondaryStatusTransitions"]]
        return "Interrupted" in statuses and statuses[-1] == "Training"

    until(training_again)
    sagemaker.stop_training_job(TrainingJobName=waiting)
    assert ended(sagemaker, waiting)["TrainingJobStatus"] == "Stopped"
