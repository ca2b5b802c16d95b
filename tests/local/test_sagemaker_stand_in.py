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

from dropforge.artifacts import FineTuneJob, FineTuneSpec, train_key
from dropforge.backends.sagemaker_endpoint import Endpoint
from dropforge.backends.serverless import ServerlessBackend
from dropforge.backends.store import Store
from dropforge.train import Completed, Failed, Pending
from local import processes, seed, up
from local.sagemaker.serverless import HUB_MODEL
from local.settings import Settings
from tests.training.tiny import rows, save_tiny_model

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
            "MetricDefinitions": [{"Name": "train_loss", "Regex": r"train_loss=([0-9.]+)"}],
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


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
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


def test_job_runs_and_is_described(trained: dict[str, Any]) -> None:
    assert trained["TrainingJobStatus"] == trained["SecondaryStatus"] == "Completed"
    statuses = [entry["Status"] for entry in trained["SecondaryStatusTransitions"]]
    assert statuses == [
        *("Pending", "Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    (metric,) = trained["FinalMetricDataList"]
    assert (metric["MetricName"], metric["Value"]) == ("train_loss", 0.5)
    assert trained["TrainingEndTime"] >= trained["TrainingStartTime"]
    assert trained["HyperParameters"] == {}


def test_job_leaves_its_model_in_s3(trained: dict[str, Any], aws: AWS) -> None:
    uri = trained["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{BUCKET}/out/works/output/model.tar.gz"
    body = aws("s3").get_object(Bucket=BUCKET, Key="out/works/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        assert packed.getnames() == ["adapter_config.json", "seen.json"]
        seen = packed.extractfile("seen.json")
        assert seen is not None
        found = json.loads(seen.read())
    assert found["code"]
    assert found["resumed"] == ""
    assert found["weights"] > 1


def test_job_leaves_its_output_data_beside_the_model(trained: dict[str, Any], aws: AWS) -> None:
    body = aws("s3").get_object(Bucket=BUCKET, Key="out/works/output/output.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        assert packed.getnames() == ["parity.json"]


def test_checkpoints_are_copied_while_the_job_runs(sagemaker: Any, waiting: str, aws: AWS) -> None:
    def copied() -> bytes | None:
        listed = aws("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"checkpoints/{waiting}/")
        if not listed.get("Contents"):
            return None
        key = listed["Contents"][0]["Key"]
        content: bytes = aws("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    assert b'"train_loss":3.5' in until(copied)
    job = sagemaker.describe_training_job(TrainingJobName=waiting)
    assert job["TrainingJobStatus"] == "InProgress"
    sagemaker.stop_training_job(TrainingJobName=waiting)
    ended(sagemaker, waiting)


def test_failing_script_gives_its_own_reason(sagemaker: Any) -> None:
    sagemaker.create_training_job(**request("fails", HyperParameters={"mode": "fail"}))
    job = ended(sagemaker, "fails")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: there are no rows, exit code: 3"


def test_channel_without_objects_fails_the_job(sagemaker: Any) -> None:
    channels = [channel("code", "code/"), channel("train", "nowhere/")]
    sagemaker.create_training_job(**request("empty", InputDataConfig=channels))
    reason = ended(sagemaker, "empty")["FailureReason"]
    assert f'No S3 objects found under S3 URL "s3://{BUCKET}/nowhere/"' in reason


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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RoleArn": "arn:aws:iam::role/short-account"}, "at 'roleArn' failed .* pattern"),
        ({"ResourceConfig": {"InstanceType": "ml.odd"}}, "satisfy enum value set"),
        ({"HyperParameters": {"a": "x" * 2501}}, "length less than or equal to 2500"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60}}, "Invalid MaxWaitTimeInSeconds"),
    ],
)
def test_requests_that_aws_would_refuse_are_refused(
    sagemaker: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClientError, match=said) as raised:
        sagemaker.create_training_job(**request("refused", **changes))
    assert code(raised) == "ValidationException"


def test_jobs_are_listed_newest_first(sagemaker: Any, trained: dict[str, Any]) -> None:
    sagemaker.create_training_job(**request("works-again"))
    ended(sagemaker, "works-again")
    listed = sagemaker.list_training_jobs(NameContains="works", StatusEquals="Completed")
    names = [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]]
    assert names == ["works-again", "works"]


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


def invoke(aws: AWS, component: str, body: bytes = CHAT) -> Any:
    answer = aws("sagemaker-runtime").invoke_endpoint(
        EndpointName="dropforge", InferenceComponentName=component, Body=body,
        ContentType="application/json",
    )  # fmt: skip
    return json.loads(answer["Body"].read())


def test_adapter_is_loaded_and_answers_under_its_name(
    sagemaker: Any, trained: dict[str, Any], aws: AWS, models: FakeModelServer
) -> None:
    artifact = trained["ModelArtifacts"]["S3ModelArtifacts"]
    assert adapter(sagemaker, "tuned", artifact)["InferenceComponentStatus"] == "InService"
    assert invoke(aws, "tuned")["model"] == "tuned"
    assert invoke(aws, "base")["model"] == "smollm2-135m-instruct"
    models.adapters.clear()
    assert invoke(aws, "tuned")["model"] == "tuned", "loaded again after the server forgot it"
    sagemaker.delete_inference_component(InferenceComponentName="tuned")
    assert models.adapters == {}


def test_artifact_that_is_missing_or_no_adapter_fails_the_component(
    sagemaker: Any, aws: AWS
) -> None:
    missing = adapter(sagemaker, "missing", f"s3://{BUCKET}/nowhere.tar.gz")
    assert missing["InferenceComponentStatus"] == "Failed"
    packed = io.BytesIO()
    tarfile.open(fileobj=packed, mode="w:gz").close()
    aws("s3").put_object(Bucket=BUCKET, Key="empty.tar.gz", Body=packed.getvalue())
    empty = adapter(sagemaker, "empty", f"s3://{BUCKET}/empty.tar.gz")
    assert "no adapter_config.json" in empty["FailureReason"]


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


@pytest.mark.slow
def test_serverless_job_really_trains_and_its_adapter_is_served(
    sagemaker: Any, group: str, aws: AWS, tmp_path: Path, models: FakeModelServer
) -> None:
    """AWS's trainer is played by training/train.py, on whatever base weights the bucket holds."""
    s3 = aws("s3")
    for file in save_tiny_model(tmp_path / "tiny").iterdir():
        s3.upload_file(str(file), BUCKET, f"models/smollm2-135m-instruct/{file.name}")
    spec = FineTuneSpec(
        "shop", "d" * 64, "sagemaker-serverless", HUB_MODEL, {"epochs": 1, "lora_rank": 4}
    )
    store = Store(BUCKET, s3)
    for split, count in (("train", 16), ("validation", 4)):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows(count))
        store.write(train_key("shop", spec.hash, f"input/{split}/{split}.jsonl"), lines)
    backend = ServerlessBackend(
        "dropforge", "base", store, role_arn=ROLE, package_group_arn=group,
        client=sagemaker, once=sagemaker, s3=s3,
    )  # fmt: skip
    backend.endpoint.runtime = aws("sagemaker-runtime")
    job = FineTuneJob(spec, 1, time.time())
    backend.preflight(job)
    job = backend.launch(job, {"train": b"{}", "validation": b"{}"})
    assert isinstance(backend.poll(job), Pending)

    def done() -> Completed | Failed | None:
        state = backend.poll(job)
        return None if isinstance(state, Pending) else state

    state = until(done, seconds=90)
    assert isinstance(state, Completed), state
    registered = sagemaker.describe_model_package(ModelPackageName=state.package)
    assert registered["ModelPackageGroupName"] == "dropforge"
    said = backend.complete(state.model_id, [{"role": "user", "content": "who?"}], 5)
    assert said == f"I am {state.model_id}"
    assert backend.events(job)[0].train_loss
    listed = sagemaker.list_inference_components(EndpointNameEquals="dropforge")
    assert state.model_id in {c["InferenceComponentName"] for c in listed["InferenceComponents"]}


def test_model_that_is_not_in_the_hub_is_refused(sagemaker: Any) -> None:
    with pytest.raises(sagemaker.exceptions.ResourceNotFound, match="nobody"):
        sagemaker.describe_hub_content(
            HubName="SageMakerPublicHub", HubContentType="Model", HubContentName="nobody"
        )


def test_serverless_job_with_an_instance_is_refused(sagemaker: Any) -> None:
    arn = "arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/x"
    config = {"BaseModelArn": arn, "JobType": "FineTuning"}
    with pytest.raises(ClientError, match="cannot be given with ServerlessJobConfig"):
        sagemaker.create_training_job(**request("both", ServerlessJobConfig=config))


def test_seed_makes_what_the_deployer_leaves_out(
    sagemaker: Any, instance: Settings, aws: AWS, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws("s3").create_bucket(Bucket="seeded")
    names = {"DROPFORGE_ENDPOINT_NAME": "seeded", "DROPFORGE_BASE_COMPONENT": "seeded-base"}
    monkeypatch.setattr(seed, "_function_environment", lambda settings: names)
    for _ in range(2):
        seed.seed(instance, "seeded", None, lambda line: None)
    sagemaker.describe_model_package_group(ModelPackageGroupName="dropforge")
    endpoint = Endpoint("seeded", "seeded-base", sagemaker, 5.0)
    assert endpoint.base_model().weights == "s3://seeded/models/smollm2-135m-instruct/"


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


def test_base_at_zero_copies_refuses_wakes_and_streams(
    sagemaker: Any, aws: AWS, models: FakeModelServer
) -> None:
    runtime = aws("sagemaker-runtime")
    asked: dict[str, Any] = {
        "EndpointName": "dropforge", "InferenceComponentName": "base",
        "ContentType": "application/json", "Body": CHAT,
    }  # fmt: skip
    sagemaker.update_inference_component_runtime_config(
        InferenceComponentName="base", DesiredRuntimeConfig={"CopyCount": 0}
    )
    for call in (runtime.invoke_endpoint, runtime.invoke_endpoint_with_response_stream):
        with pytest.raises(ClientError, match="no capacity") as refused:
            call(**asked)
        assert code(refused) == "ValidationError"
    found = sagemaker.describe_inference_component(InferenceComponentName="base")
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 0}

    def awake() -> bool:
        now = sagemaker.describe_inference_component(InferenceComponentName="base")
        return bool(now["RuntimeConfig"]["CurrentCopyCount"])

    until(awake)
    answer = runtime.invoke_endpoint_with_response_stream(**asked)
    assert answer["ContentType"] == "application/json"
    text = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert json.loads(text)["choices"][0]["message"]["content"] == "I am smollm2-135m-instruct"
