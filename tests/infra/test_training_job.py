"""Every request to SageMaker that a deployment makes, held against the service's own model."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.sagemaker import job_name, training_request
from infra.config import Settings, settings_from
from infra.training_job import METRICS, training_job
from local.sagemaker.requests import validate
from tests.infra.assembly import Assembly, listed, text

SPEC = FineTuneSpec("p" * 41, "d" * 64, "sagemaker", "llama-3-8b-instruct", {"epochs": 3})
JOB = FineTuneJob(SPEC, 1, 0.0)
NAMES = {
    "TrainingRoleArn": "arn:aws:iam::123456789012:role/training",
    "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-pytorch-training:2",
    "Bucket": "dropforge-bucket",
    "KeyArn": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
}
VPC = {
    "sagemaker.vpc.subnet_ids": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    "sagemaker.vpc.security_group_ids": "sg-0123456789abcdef0",
}


def filled(request: Any, state: dict[str, Any]) -> Any:
    """A state's Parameters as Step Functions fills them in."""
    match request:
        case dict():
            return {
                name.removesuffix(".$"): (
                    state[value.removeprefix("$.job.")]
                    if name.endswith(".$")
                    else filled(value, state)
                )
                for name, value in request.items()
            }
        case list():
            return [filled(entry, state) for entry in request]
        case str():
            return re.sub(r"\$\{(\w+)\}", lambda name: NAMES[name[1]], request)
    return request


def request(settings: Settings) -> dict[str, Any]:
    launched = FineTuneJob(SPEC, 1, 0.0, job_id=job_name(JOB))
    made: dict[str, Any] = filled(training_job(settings), training_request("bucket", launched))
    return made


@pytest.mark.parametrize("over", [{}, VPC, {"sagemaker.training_instance": "ml.p3.2xlarge"}])
def test_training_job_is_one_that_sagemaker_takes(over: dict[str, Any]) -> None:
    made = request(settings_from(over))
    validate("CreateTrainingJob", made)
    assert "$" not in json.dumps({k: v for k, v in made.items() if k != "AlgorithmSpecification"})


def test_job_waits_for_spot_capacity_longer_than_it_runs() -> None:
    made = request(settings_from({}))
    stopping = made["StoppingCondition"]
    assert made["EnableManagedSpotTraining"]
    assert stopping["MaxWaitTimeInSeconds"] > stopping["MaxRuntimeInSeconds"]
    assert made["RetryStrategy"]["MaximumRetryAttempts"] == 3


def test_metrics_find_what_training_prints() -> None:
    definitions = request(settings_from({}))["AlgorithmSpecification"]["MetricDefinitions"]
    line = "step=7 steps=40 train_loss=1.25 train_accuracy=0.5 tokens_per_second=1e+03 mfu=0.41"
    found = {d["Name"]: m[1] for d in definitions if (m := re.search(d["Regex"], line))}
    assert found == {
        "step": "7",
        "train_loss": "1.25",
        "train_accuracy": "0.5",
        "tokens_per_second": "1e+03",
        "mfu": "0.41",
    }
    assert len(METRICS) <= 40


def test_jobs_run_in_a_vpc_only_where_one_is_set(assembly: Assembly) -> None:
    assert "VpcConfig" not in request(settings_from({}))
    vpc = request(settings_from(VPC))["VpcConfig"]
    assert (len(vpc["Subnets"]), len(vpc["SecurityGroupIds"])) == (2, 1)
    actions = {a for _, s in assembly.statements() for a in listed(s["Action"])}
    assert not any(action.startswith("ec2:Create") for action in actions)


def test_models_are_registered_in_a_group_that_outlives_the_stack(assembly: Assembly) -> None:
    (group,) = assembly.resources("AWS::SageMaker::ModelPackageGroup").values()
    name = group["Properties"]["ModelPackageGroupName"]
    assert (name, group["DeletionPolicy"]) == ("dropforge", "Retain")
    validate("CreateModelPackageGroup", group["Properties"])


def test_endpoint_is_one_that_sagemaker_takes(assembly: Assembly) -> None:
    for kind in ("EndpointConfig", "Model", "InferenceComponent"):
        properties = json.loads(
            re.sub(r"<[^>]*>", "x", json.dumps(_plain(assembly.one(f"AWS::SageMaker::{kind}"))))
        )
        if kind != "InferenceComponent":
            properties[f"{kind}Name"] = "named-by-cloudformation"
            properties["ExecutionRoleArn"] = NAMES["TrainingRoleArn"]
        if "KmsKeyId" in properties:
            properties["KmsKeyId"] = NAMES["KeyArn"]
        validate(f"Create{kind}", properties)


def _plain(value: Any) -> Any:
    """A template's value with references written out."""
    if isinstance(value, dict) and not {"Ref", "Fn::Join", "Fn::GetAtt", "Fn::ImportValue"} & set(
        value
    ):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return text(value) if isinstance(value, dict) else value


def test_launch_may_train_without_instances_and_promote_may_approve(assembly: Assembly) -> None:
    variables = assembly.functions()["launch"]["Environment"]["Variables"]
    allowed = {
        (name.partition("Role")[0], action)
        for name, statement in assembly.statements()
        for action in listed(statement["Action"])
    }
    assert variables["DROPFORGE_ACCEPT_EULA"] == "false"
    assert text(variables["DROPFORGE_PACKAGE_GROUP_ARN"]).endswith("model-package-group/dropforge")
    assert ("Launch", "sagemaker:CreateTrainingJob") in allowed
    assert ("Launch", "iam:PassRole") in allowed
    assert ("Poll", "sagemaker:CreateModelPackage") in allowed
    assert ("Promote", "sagemaker:UpdateModelPackage") in allowed
    assert ("Promote", "sagemaker:CreateTrainingJob") not in allowed
