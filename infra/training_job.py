"""The request of `sagemaker:createTrainingJob`, as the state machine fills it in.

Values under a name that ends in `.$` are read from the state, what the launch function returned;
names in `${...}` are filled in at deployment. Times are in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.config import Settings, has_local_storage

Request = dict[str, Any]

TRAINING_SCRIPT = "/opt/ml/input/data/code/train.py"
METRICS = (
    *("step", "train_loss", "eval_loss", "train_accuracy", "lr"),
    *("tokens_per_second", "mfu", "max_memory_gb", "reward_accuracy", "reward_margin"),
)
"""What training/train.py prints as `name=value`; SageMaker takes 40 at most."""
INTERNAL_RETRIES = 3
"""How often SageMaker tries again after an InternalServerError of its own."""


def waiting_s(settings: Settings) -> int:
    """How long a job may take, with all that spot capacity makes it wait."""
    return running_s(settings) + 12 * 3600


def running_s(settings: Settings) -> int:
    """How long a job may run."""
    return settings.sagemaker.training_hours * 3600


def training_job(settings: Settings) -> Request:
    """A training job on one instance of spot capacity, with checkpoints to go on from."""
    return {
        "TrainingJobName.$": "$.job.training_job_name",
        "RoleArn": "${TrainingRoleArn}",
        "AlgorithmSpecification": {
            "TrainingImage": "${TrainingImage}",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", TRAINING_SCRIPT],
            "MetricDefinitions": [
                {"Name": name, "Regex": rf"\b{name}=([0-9.eE+-]+)"} for name in METRICS
            ],
        },
        "HyperParameters.$": "$.job.hyperparameters",
        "InputDataConfig": [
            _channel("code", {"S3Uri": "s3://${Bucket}/code/"}),
            _channel("train", {"S3Uri.$": "$.job.train_uri"}),
            _channel("validation", {"S3Uri.$": "$.job.validation_uri"}),
            _channel("model", {"S3Uri.$": "$.job.model_uri"}),
        ],
        "OutputDataConfig": {"S3OutputPath.$": "$.job.output_uri", "KmsKeyId": "${KeyArn}"},
        "CheckpointConfig": {"S3Uri.$": "$.job.checkpoint_uri"},
        "ResourceConfig": _machine(settings),
        "StoppingCondition": {
            "MaxRuntimeInSeconds": running_s(settings),
            "MaxWaitTimeInSeconds": waiting_s(settings),
        },
        "RetryStrategy": {"MaximumRetryAttempts": INTERNAL_RETRIES},
        "EnableManagedSpotTraining": True,
        "EnableNetworkIsolation": True,
        **_network(settings),
        "Tags": [{"Key": "application", "Value": "dropforge"}],
    }


def _channel(name: str, source: Mapping[str, str]) -> Request:
    location = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": location}}


def _machine(settings: Settings) -> Request:
    machine: Request = {
        "InstanceCount": 1,
        "InstanceType": settings.sagemaker.training_instance,
        "VolumeSizeInGB": settings.sagemaker.volume_gb,
    }
    if not has_local_storage(settings.sagemaker.training_instance):
        machine["VolumeKmsKeyId"] = "${KeyArn}"
    return machine


def _network(settings: Settings) -> Request:
    """The VPC that a job's traffic to S3 goes through, where one is set."""
    vpc = settings.sagemaker.vpc
    if not vpc.subnet_ids:
        return {}
    groups, subnets = list(vpc.security_group_ids), list(vpc.subnet_ids)
    return {"VpcConfig": {"SecurityGroupIds": groups, "Subnets": subnets}}
