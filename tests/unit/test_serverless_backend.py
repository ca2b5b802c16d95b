from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import msgspec
import pytest
from botocore.stub import Stubber

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.serverless import ONCE, ServerlessBackend, hyperparameters
from dropforge.backends.store import Store
from dropforge.errors import BackendError, ModelRetiredError, TrainingNotAvailableError
from dropforge.train import Completed
from local.sagemaker.requests import validate

MODEL = "meta-textgeneration-llama-3-1-8b-instruct"
ARN = f"arn:aws:sagemaker:us-east-1:aws:hub-content/SageMakerPublicHub/Model/{MODEL}/2.8.0"
SPEC = FineTuneSpec(
    "shop", "d" * 64, "sagemaker-serverless", MODEL,
    {"epochs": 2, "learning_rate": 0.0001, "lora_rank": 16, "seed": 7},
)  # fmt: skip
JOB = FineTuneJob(SPEC, 1, 0.0)
GROUP = "arn:aws:sagemaker:us-east-1:123456789012:model-package-group/dropforge"
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/dropforge/1"
RECIPE = {
    "CustomizationTechnique": "SFT",
    "Peft": "LORA",
    "SmtjRecipeTemplateS3Uri": "s3://recipes/recipes/llama.yaml",
    "SmtjOverrideParamsS3Uri": "s3://recipes/recipes/llama.json",
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "max_epochs": {"default": 5, "min": 1, "max": 100, "type": "integer"},
    "learning_rate": {"default": 1e-4, "min": 5e-07, "max": 1e-4, "type": "float"},
    "lora_rank": {"default": 32, "enum": [8, 16, 32, 64, 128], "type": "integer"},
    "lr_scheduler": {"default": "cosine", "enum": ["cosine", "constant"], "type": "string"},
    "merge_weights": {"default": True, "type": "boolean"},
    "train_val_split_ratio": {"type": "float"},
}
ENDPOINT = "arn:aws:sagemaker:us-east-1:123456789012:endpoint/dropforge"


@pytest.fixture(scope="module")
def client() -> Any:
    return boto3.client("sagemaker")


@pytest.fixture(scope="module")
def once() -> Any:
    return boto3.client("sagemaker", config=ONCE)


@pytest.fixture
def sagemaker(client: Any) -> Iterator[Stubber]:
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def creates(once: Any) -> Iterator[Stubber]:
    with Stubber(once) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def backend(
    aws: None, client: Any, once: Any, sagemaker: Stubber, creates: Stubber
) -> ServerlessBackend:
    s3 = boto3.client("s3")
    for bucket in ("bucket", "recipes"):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket="recipes", Key="recipes/llama.json", Body=json.dumps(PARAMETERS).encode())
    return made(client, once, accept_eula=True)


def made(client: Any, once: Any, **how: Any) -> ServerlessBackend:
    s3 = boto3.client("s3")
    return ServerlessBackend(
        "dropforge", "base", Store("bucket", s3), client=client, once=once, s3=s3,
        role_arn="arn:aws:iam::123456789012:role/training", package_group_arn=GROUP,
        key_arn="arn:aws:kms:us-east-1:123456789012:key/1234abcd", clock=lambda: 10.0, **how,
    )  # fmt: skip


def hub_has(sagemaker: Stubber, *recipes: dict[str, Any], gated: bool = False) -> None:
    document = {"GatedBucket": gated, "RecipeCollection": list(recipes)}
    found = {
        "HubContentName": MODEL,
        "HubContentArn": ARN,
        "HubContentVersion": "2.8.0",
        "HubContentType": "Model",
        "DocumentSchemaVersion": "2.4.0",
        "HubName": "SageMakerPublicHub",
        "HubArn": "arn:aws:sagemaker:us-east-1:aws:hub/SageMakerPublicHub",
        "HubContentDocument": json.dumps(document),
        "HubContentStatus": "Available",
        "CreationTime": 0,
    }
    wanted = {
        "HubName": "SageMakerPublicHub",
        "HubContentType": "Model",
        "HubContentName": MODEL,
    }
    validate("DescribeHubContent", wanted)
    sagemaker.add_response("describe_hub_content", found, wanted)


def endpoint_is_there(sagemaker: Stubber) -> None:
    times = {"CreationTime": 0, "LastModifiedTime": 0}
    named = {"EndpointName": "dropforge", "EndpointArn": ENDPOINT, **times}
    sagemaker.add_response("describe_endpoint", {"EndpointStatus": "InService", **named})
    component = {"InferenceComponentName": "base", "InferenceComponentArn": ENDPOINT}
    about = {"Specification": {"ModelName": "m"}, "InferenceComponentStatus": "InService"}
    sagemaker.add_response("describe_inference_component", {**named, **component, **about})
    model = {"ModelName": "m", "ModelArn": ENDPOINT, "CreationTime": 0}
    sagemaker.add_response("describe_model", model)


def test_job_is_created_as_the_sdk_creates_it(
    backend: ServerlessBackend, sagemaker: Stubber, creates: Stubber
) -> None:
    sagemaker.add_client_error("describe_training_job", "ValidationException")
    hub_has(sagemaker, RECIPE)
    place = f"s3://bucket/train/shop/{SPEC.hash}/"
    name = f"dropforge-shop-{SPEC.version}-1"
    wanted = {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/training",
        "ServerlessJobConfig": {
            "BaseModelArn": ARN,
            "AcceptEula": True,
            "JobType": "FineTuning",
            "CustomizationTechnique": "SFT",
            "Peft": "LORA",
        },
        "HyperParameters": {
            "max_epochs": "2",
            "learning_rate": "0.0001",
            "lora_rank": "16",
            "lr_scheduler": "cosine",
            "merge_weights": "False",
        },
        "InputDataConfig": [
            {
                "ChannelName": split,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"{place}input/{split}/{split}.jsonl",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
            for split in ("train", "validation")
        ],
        "OutputDataConfig": {
            "S3OutputPath": f"{place}output/",
            "CompressionType": "NONE",
            "KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/1234abcd",
        },
        "ModelPackageConfig": {"ModelPackageGroupArn": GROUP},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "Tags": [{"Key": "application", "Value": "dropforge"}],
    }
    validate("CreateTrainingJob", wanted)
    creates.add_response(
        "create_training_job",
        {"TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x"},
        wanted,
    )
    launched = backend.launch(JOB, {"train": b"{}\n", "validation": b"{}\n"})
    assert launched == msgspec.structs.replace(JOB, job_id=name)


def test_job_that_is_there_is_not_created_again(
    backend: ServerlessBackend, sagemaker: Stubber, creates: Stubber
) -> None:
    job_is(sagemaker, "InProgress")
    assert backend.launch(JOB, {}).job_id


def job_is(sagemaker: Stubber, status: str) -> None:
    found = {
        "TrainingJobName": "x",
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x",
        "TrainingJobStatus": status,
        "SecondaryStatus": "Training",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/out/x/output/model"},
        "OutputModelPackageArn": PACKAGE,
        "StoppingCondition": {},
        "CreationTime": 0,
    }
    sagemaker.add_response("describe_training_job", found)


def test_adapter_is_served_from_where_awss_trainer_puts_it(
    backend: ServerlessBackend, sagemaker: Stubber
) -> None:
    component = f"dropforge-shop-{SPEC.version}"
    job_is(sagemaker, "Completed")
    sagemaker.add_client_error("describe_inference_component", "ValidationException")
    wanted = {
        "InferenceComponentName": component,
        "EndpointName": "dropforge",
        "Specification": {
            "BaseInferenceComponentName": "base",
            "Container": {"ArtifactUrl": "s3://bucket/out/x/output/model/checkpoints/hf/"},
        },
    }
    validate("CreateInferenceComponent", wanted)
    sagemaker.add_response(
        "create_inference_component", {"InferenceComponentArn": ENDPOINT}, wanted
    )
    backend.poll(JOB)
    job_is(sagemaker, "Completed")
    about = {
        "InferenceComponentName": component,
        "InferenceComponentArn": ENDPOINT,
        "EndpointName": "dropforge",
        "EndpointArn": ENDPOINT,
        "InferenceComponentStatus": "InService",
        "CreationTime": 0,
        "LastModifiedTime": 0,
    }
    sagemaker.add_response("describe_inference_component", about)
    assert backend.poll(JOB) == Completed(component, package=PACKAGE)
    assert backend.recorded(JOB) is None


def test_preflight_passes_for_a_model_with_a_recipe(
    backend: ServerlessBackend, sagemaker: Stubber
) -> None:
    endpoint_is_there(sagemaker)
    hub_has(sagemaker, {**RECIPE, "IsSubscriptionModel": True}, RECIPE, gated=True)
    backend.preflight(JOB)


@pytest.mark.parametrize(
    "recipe",
    [
        {**RECIPE, "CustomizationTechnique": "DPO"},
        {**RECIPE, "Peft": None},
        {**RECIPE, "SmtjRecipeTemplateS3Uri": None},
    ],
)
def test_model_without_a_recipe_cannot_be_trained(
    backend: ServerlessBackend, sagemaker: Stubber, recipe: dict[str, Any]
) -> None:
    endpoint_is_there(sagemaker)
    hub_has(sagemaker, recipe)
    with pytest.raises(ModelRetiredError, match="no recipe"):
        backend.preflight(JOB)


def test_model_that_the_hub_does_not_have_cannot_be_trained(
    backend: ServerlessBackend, sagemaker: Stubber
) -> None:
    endpoint_is_there(sagemaker)
    sagemaker.add_client_error("describe_hub_content", "ResourceNotFound")
    with pytest.raises(ModelRetiredError, match="no model meta-text"):
        backend.preflight(JOB)


def test_licence_has_to_be_accepted_by_the_deployment(
    backend: ServerlessBackend, client: Any, once: Any, sagemaker: Stubber
) -> None:
    endpoint_is_there(sagemaker)
    hub_has(sagemaker, RECIPE, gated=True)
    with pytest.raises(TrainingNotAvailableError, match="licence"):
        made(client, once).preflight(JOB)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"learning_rate": 2e-4}, "learning_rate of at most 0.0001"),
        ({"learning_rate": 1e-9}, "learning_rate of at least 5e-07"),
        ({"lora_rank": 10}, "lora_rank of one of 8, 16"),
        ({"epochs": 0}, "epochs of at least 1"),
    ],
)
def test_value_out_of_the_recipes_bounds_is_refused_before_anything_is_spent(
    asked: dict[str, float], said: str
) -> None:
    with pytest.raises(BackendError, match=said):
        hyperparameters(PARAMETERS, asked)


def test_values_are_sent_as_they_are_where_no_recipe_is_known() -> None:
    assert hyperparameters({}, {"epochs": 2, "batch_size": 8}) == {
        "max_epochs": "2",
        "global_batch_size": "8",
    }
