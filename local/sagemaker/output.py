"""What a training job leaves in S3: checkpoints while it runs, archives when it has ended."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import Final

from local.sagemaker import serverless
from local.sagemaker.container import Container
from local.sagemaker.packages import ModelPackages
from local.sagemaker.records import Record
from local.sagemaker.storage import Storage, pack

SYNC_SECONDS: Final = 3
"""How often the checkpoint folder is looked at for what is new."""


def copy_new(storage: Storage, container: Container, ended: threading.Event) -> None:
    """Copies what is new in the checkpoint folder to S3, until the job has ended."""
    checkpoints = container.job.get("CheckpointConfig")
    seen: dict[Path, tuple[int, int]] = {}
    while checkpoints and not ended.wait(SYNC_SECONDS):
        try:
            storage.upload_new(container.checkpoints, checkpoints["S3Uri"], seen)
        except Exception:  # tried again soon, and at the end of the job
            traceback.print_exc()


def save_checkpoints(storage: Storage, container: Container) -> None:
    """Uploads the whole checkpoint folder."""
    if checkpoints := container.job.get("CheckpointConfig"):
        storage.upload_folder(container.checkpoints, checkpoints["S3Uri"])


def upload(storage: Storage, packages: ModelPackages, container: Container) -> Record:
    """Uploads what the script left; what the job's description says of it."""
    save_checkpoints(storage, container)
    path = container.job["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    uri = f"{path}/{container.job['TrainingJobName']}/output"
    if any(container.output_data.iterdir()):
        pack(container.output_data, container.folder / "output.tar.gz")
        storage.upload(container.folder / "output.tar.gz", f"{uri}/output.tar.gz")
    if "ServerlessJobConfig" in container.job:
        return _upload_serverless(storage, packages, container, uri)
    pack(container.model, container.folder / "model.tar.gz")
    storage.upload(container.folder / "model.tar.gz", f"{uri}/model.tar.gz")
    return {"ModelArtifacts": {"S3ModelArtifacts": f"{uri}/model.tar.gz"}}


def _upload_serverless(
    storage: Storage, packages: ModelPackages, container: Container, uri: str
) -> Record:
    """Uploads the adapter as AWS's trainer does, and registers it."""
    storage.upload_folder(container.model, f"{uri}/model/{serverless.ADAPTER}")
    source = {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    package = {
        "ModelPackageGroupName": container.job["ModelPackageConfig"]["ModelPackageGroupArn"],
        "ClientToken": container.job["TrainingJobName"],
        "InferenceSpecification": {"Containers": [{"ModelDataSource": {"S3DataSource": source}}]},
    }
    return {
        "ModelArtifacts": {"S3ModelArtifacts": f"{uri}/model"},
        "OutputModelPackageArn": packages.create(package)["ModelPackageArn"],
    }
