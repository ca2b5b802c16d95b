"""Serverless fine-tuning: AWS's own trainer, played by training/train.py.

The public hub has one model of this stand-in's own, and any other name is unknown, as on AWS. A
job on it trains the local base weights (`models/<base model>/` in the bucket of the job's train
channel) with the repository's training script; hyperparameters go by the recipe's names. The
adapter lies where AWS's trainer puts it, below the artifacts in `checkpoints/hf/`, uncompressed.
"""

from __future__ import annotations

import json
from typing import Any, Final

from local.sagemaker.errors import HubContentMissingError, InvalidRequestError
from local.sagemaker.records import Record
from local.sagemaker.storage import split_uri
from local.settings import BASE_MODEL, REGION, ROOT

HUB: Final = "SageMakerPublicHub"
HUB_MODEL: Final = BASE_MODEL
ADAPTER: Final = "checkpoints/hf"
NAMES: Final = {
    "max_epochs": "epochs",
    "global_batch_size": "batch_size",
    "dataset_max_len": "max_length",
}
"""The recipe's names of hyperparameters where training/train.py has others."""
TAKEN: Final = frozenset(
    {"epochs", "batch_size", "max_length", "learning_rate", "lora_rank", "lora_alpha", "seed"}
)
HUB_ARN: Final = f"arn:aws:sagemaker:{REGION}:aws:hub/{HUB}"
MODEL_ARN: Final = f"arn:aws:sagemaker:{REGION}:aws:hub-content/{HUB}/Model/{HUB_MODEL}/1.0.0"
DOCUMENT: Final = {
    "GatedBucket": False,
    "RecipeCollection": [
        {
            "Type": "FineTuning",
            "CustomizationTechnique": "SFT",
            "Peft": "LORA",
            "SequenceLength": "2K",
            "SmtjRecipeTemplateS3Uri": "s3://none/recipes/of-the-stand-in.yaml",
        }
    ],
}


def describe_hub_content(request: Record) -> Record:
    """DescribeHubContent. Raises HubContentMissingError."""
    asked = (request["HubName"], request["HubContentType"], request["HubContentName"])
    if asked != (HUB, "Model", HUB_MODEL):
        raise HubContentMissingError(f"Hub content {asked[2]} of type {asked[1]} does not exist.")
    return {
        "HubContentName": HUB_MODEL,
        "HubContentArn": MODEL_ARN,
        "HubContentVersion": "1.0.0",
        "HubContentType": "Model",
        "DocumentSchemaVersion": "2.4.0",
        "HubName": HUB,
        "HubArn": HUB_ARN,
        "HubContentDocument": json.dumps(DOCUMENT),
        "HubContentStatus": "Available",
        "CreationTime": 0,
    }


def refuse_unsupported(request: Record) -> None:
    """Raises InvalidRequestError for what AWS refuses, or only AWS can do."""
    job = request["ServerlessJobConfig"]
    if "AlgorithmSpecification" in request or "ResourceConfig" in request:
        raise InvalidRequestError(
            "AlgorithmSpecification and ResourceConfig cannot be given with ServerlessJobConfig."
        )
    if MODEL_ARN.rpartition("/")[0] not in job["BaseModelArn"]:
        raise InvalidRequestError(f"The stand-in's hub has {HUB_MODEL} only.")
    wanted = ("FineTuning", "SFT", "LORA")
    if (job["JobType"], job.get("CustomizationTechnique"), job.get("Peft")) != wanted:
        raise InvalidRequestError("The stand-in fine-tunes with SFT and LORA only.")
    if "ModelPackageConfig" not in request or not request.get("InputDataConfig"):
        raise InvalidRequestError("A serverless job needs ModelPackageConfig and a train channel.")


def container_job(record: Record) -> Record:
    """The job as one of our own container, which is what runs here."""
    train = record["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
    weights = f"s3://{split_uri(train)[0]}/models/{BASE_MODEL}/"
    given = {NAMES.get(n, n): value for n, value in record.get("HyperParameters", {}).items()}
    return {
        **record,
        "AlgorithmSpecification": {
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", str(ROOT / "training" / "train.py")],
            "MetricDefinitions": [
                {"Name": name, "Regex": rf"\b{name}=([0-9.eE+-]+)"}
                for name in ("step", "train_loss", "eval_loss")
            ],
        },
        "HyperParameters": {
            "base_model": BASE_MODEL,
            **{name: value for name, value in given.items() if name in TAKEN},
        },
        "InputDataConfig": [*record["InputDataConfig"], channel("model", weights)],
    }


def channel(name: str, uri: str) -> dict[str, Any]:
    """A channel of everything below a URI."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
