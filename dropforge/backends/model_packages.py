"""SageMaker's model registry: one model package version for each trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.exceptions import ClientError

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.backends.sagemaker_errors import code, translated
from dropforge.backends.store import Store

if TYPE_CHECKING:
    from types_boto3_sagemaker import SageMakerClient

GROUP = "dropforge"
"""The model package group; infra/training.py makes it."""
_TAKEN = {"ConflictException", "ResourceInUse"}


class Registered(msgspec.Struct, frozen=True):
    """`train/<project>/<hash>/package-<attempt>.json`: where a model stands in the registry."""

    arn: str


def registered(store: Store, job: FineTuneJob) -> str | None:
    """The ARN of the job's model package, if there is one.

    The registry cannot be asked for a package by its metadata, so the ARN is kept in the bucket.
    """
    known = store.find_manifest(_key(job), Registered)
    return known.arn if known else None


def register(
    client: SageMakerClient, store: Store, job: FineTuneJob, artifact: str, image: str
) -> str | None:
    """Make the job's model package, and return its ARN; None while another call is making it.

    Two calls that come at the same moment carry the same token and make the same package.

    Args:
        artifact: URI of the adapter's model.tar.gz.
        image: the container that serves it.

    Raises:
        RetryableError, TrainingNotAvailableError, BackendError: as SageMaker refuses.
    """
    with translated("to register the model"):
        try:
            made: Any = client.create_model_package(**package_request(job, artifact, image))
        except ClientError as error:
            if code(error) in _TAKEN:
                return None
            raise
    arn = str(made["ModelPackageArn"])
    store.save(_key(job), Registered(arn))
    return arn


def _key(job: FineTuneJob) -> str:
    return train_key(job.spec.project, job.spec.hash, f"package-{job.attempt}.json")


def package_request(job: FineTuneJob, artifact: str, image: str) -> dict[str, Any]:
    """The request of CreateModelPackage; a person or the gate approves it later."""
    spec = job.spec
    return {
        "ModelPackageGroupName": GROUP,
        "ModelPackageDescription": f"{spec.project} {spec.version}: LoRA on {spec.model}",
        "InferenceSpecification": {
            "Containers": [{"Image": image, "ModelDataUrl": artifact}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "ModelApprovalStatus": "PendingManualApproval",
        "CustomerMetadataProperties": {
            "project": spec.project,
            "version": spec.version,
            "spec": spec.hash,
            "dataset": spec.dataset,
            "base_model": spec.model,
        },
        "ClientToken": f"{spec.hash[:24]}-{job.attempt}",
    }


def approve(model: dict[str, Any], why: str, client: SageMakerClient | None = None) -> None:
    """Set a promoted model's package to Approved; nothing to do for a model without `package`.

    Args:
        model: a model version of the registry.
        why: what the approval rests on, at most 1,024 characters are kept.

    Raises:
        RetryableError, TrainingNotAvailableError, BackendError: as SageMaker refuses.
    """
    package = model.get("package")
    if not package:
        return
    sagemaker: SageMakerClient = client or boto3.client("sagemaker")
    with translated("to approve the model"):
        sagemaker.update_model_package(
            ModelPackageArn=package, ModelApprovalStatus="Approved", ApprovalDescription=why[:1024]
        )
