"""What ops does once after the first `cdk deploy`, done for the local default.

Uploads the training script (`code/`) and the base weights (`models/<base model>/`), and creates the
endpoint, the base model's inference component and the model package group, which the deployer
strips from the template, in the SageMaker stand-in. Everything that is there already is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from dropforge.artifacts import CODE, MODELS
from dropforge.backends.model_packages import GROUP
from local.deploy import client_config, session
from local.settings import ACCOUNT, BASE_MODEL, Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sagemaker import SageMakerClient

SUFFIXES: Final = (".py", ".yaml")
VARIANT: Final = "AllTraffic"


def seed(settings: Settings, bucket: str, weights: Path | None, say: Callable[[str], None]) -> None:
    """Uploads code and weights, and sets up the endpoint. `weights` None leaves the weights out."""
    s3 = session().client("s3", endpoint_url=settings.emulator_url, config=client_config())
    say("uploading the training script")
    for file in _code(settings.root / "training"):
        key = f"{CODE}/{file.relative_to(settings.root / 'training').as_posix()}"
        _upload(s3, bucket, key, file, compare_etag=True)
    if weights is not None:
        say(f"uploading the weights of {BASE_MODEL}")
        for file in sorted(path for path in weights.rglob("*") if path.is_file()):
            key = f"{MODELS}/{BASE_MODEL}/{file.relative_to(weights).as_posix()}"
            _upload(s3, bucket, key, file, compare_etag=False)
    _endpoint(settings, bucket)


def _code(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES)


def _upload(s3: S3Client, bucket: str, key: str, file: Path, *, compare_etag: bool) -> None:
    """Uploads a file unless the object has its size and, where asked, its MD5 as ETag."""
    try:
        head = s3.head_object(Bucket=bucket, Key=key)
    except ClientError:
        head = None
    if head and head["ContentLength"] == file.stat().st_size:
        content = file.read_bytes() if compare_etag else b""
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if not compare_etag or head["ETag"].strip('"') == md5:
            return
    with file.open("rb") as body:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def _endpoint(settings: Settings, bucket: str) -> None:
    """Creates endpoint, base component and package group under the names that functions know."""
    names = _function_environment(settings)
    endpoint, base = names.get("DROPFORGE_ENDPOINT_NAME"), names.get("DROPFORGE_BASE_COMPONENT")
    if endpoint is None or base is None:
        return
    sagemaker = session().client(
        "sagemaker", endpoint_url=settings.sagemaker_url, config=client_config()
    )
    if not _exists(lambda: sagemaker.describe_model_package_group(ModelPackageGroupName=GROUP)):
        sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)
    if not _exists(lambda: sagemaker.describe_model(ModelName=BASE_MODEL)):
        _base_model(sagemaker, bucket)
    if not _exists(lambda: sagemaker.describe_endpoint(EndpointName=endpoint)):
        sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    if not _exists(lambda: sagemaker.describe_inference_component(InferenceComponentName=base)):
        _base_component(sagemaker, endpoint, base)


def _base_model(sagemaker: SageMakerClient, bucket: str) -> None:
    """As infra/endpoint.py makes it: the model server's image on the weights in the bucket."""
    sagemaker.create_model(
        ModelName=BASE_MODEL,
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/endpoint",
        PrimaryContainer={
            "Image": "serving:local",
            "ModelDataSource": {
                "S3DataSource": {
                    "S3Uri": f"s3://{bucket}/{MODELS}/{BASE_MODEL}/",
                    "S3DataType": "S3Prefix",
                    "CompressionType": "None",
                }
            },
        },
    )


def _base_component(sagemaker: SageMakerClient, endpoint: str, base: str) -> None:
    sagemaker.create_inference_component(
        InferenceComponentName=base,
        EndpointName=endpoint,
        VariantName=VARIANT,
        Specification={
            "ModelName": BASE_MODEL,
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 1024},
        },
        RuntimeConfig={"CopyCount": 1},
    )


def _exists(describe: Callable[[], object]) -> bool:
    try:
        describe()
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationException":
            return False
        raise
    return True


def _function_environment(settings: Settings) -> dict[str, str]:
    """The environment variables of all deployed functions, merged."""
    functions = session().client(
        "lambda", endpoint_url=settings.emulator_url, config=client_config()
    )
    merged: dict[str, str] = {}
    for page in functions.get_paginator("list_functions").paginate():
        for found in page["Functions"]:
            merged.update(found.get("Environment", {}).get("Variables", {}))
    return merged
