"""SageMaker's serverless fine-tuning: AWS's own trainer on a model of its public hub, no instance.

The requests are those of AWS's SDK (sagemaker-train 1.27, `SFTTrainer.train`): a training job with
a `ServerlessJobConfig`; the hyperparameters are the hub recipe's defaults under the project's own.
Rows are chats (`{"messages": […]}`), as for every other backend ("SFT", SageMaker developer guide).
The job makes its model package itself; its adapter lies below the artifacts in `checkpoints/hf/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import boto3
import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.backends.sagemaker import SageMakerBackend, job_name
from dropforge.backends.sagemaker_errors import code, is_missing, is_passing, translated
from dropforge.backends.store import Store
from dropforge.errors import (
    BackendError,
    ModelRetiredError,
    RetryableError,
    TrainingNotAvailableError,
)

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client
    from types_boto3_sagemaker import SageMakerClient

HUB: Final = "SageMakerPublicHub"
ADAPTER: Final = "checkpoints/hf/"
"""Where AWS's trainer puts the adapter (sagemaker-serve, `_resolve_lora_adapter_s3_uri`)."""
NAMES: Final = {
    "epochs": "max_epochs",
    "batch_size": "global_batch_size",
    "max_length": "dataset_max_len",
}
"""Our names of hyperparameters where the recipes have others."""
ONCE: Final = Config(
    connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 1, "mode": "standard"}
)
"""One try: botocore's `max_attempts` counts the tries after the first one."""


class HubModel(msgspec.Struct, frozen=True):
    """A model of the hub that AWS can fine-tune.

    Attributes:
        gated: its licence has to be accepted.
        parameters: the recipe's hyperparameters, each with default, min, max or enum.
    """

    arn: str
    gated: bool
    parameters: dict[str, dict[str, Any]]


class ServerlessBackend(SageMakerBackend):
    """Implements `Trainer` and `ChatModel`; `preflight`, `launch` and the artifacts differ.

    Args:
        role_arn: what the job runs as.
        package_group_arn: the model package group that takes the result.
        accept_eula: whether the deployment accepts the licences of gated models.
        max_hours: how long a job may run.
        key_arn: what encrypts the result; empty for the bucket's own key.
    """

    def __init__(
        self,
        endpoint: str,
        base_component: str,
        store: Store,
        *,
        role_arn: str,
        package_group_arn: str,
        accept_eula: bool = False,
        max_hours: int = 24,
        key_arn: str = "",
        max_wait: float = 300.0,
        client: SageMakerClient | None = None,
        once: SageMakerClient | None = None,
        s3: S3Client | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            endpoint, base_component, store, max_wait=max_wait, client=client, clock=clock
        )
        self._bucket = store.bucket
        self._role, self._group, self._key = role_arn, package_group_arn, key_arn
        self._eula, self._hours = accept_eula, max_hours
        self._once: SageMakerClient = once or boto3.client("sagemaker", config=ONCE)
        self._s3: S3Client = s3 or boto3.client("s3")

    def preflight(self, job: FineTuneJob) -> None:
        """See `Trainer.preflight`: the hub has the model with a recipe for it, and an endpoint
        serves the result.

        Raises:
            ModelRetiredError: the hub has no such model, or none that can be fine-tuned.
            TrainingNotAvailableError: its licence is not accepted, or there is no endpoint.
            BackendError: a hyperparameter is out of the recipe's bounds.
        """
        self.endpoint.base_model()
        model = self._hub_model(job.spec.model)
        if model.gated and not self._eula:
            raise TrainingNotAvailableError(
                f"The licence of {job.spec.model} has to be accepted.",
                hint="Read it in SageMaker JumpStart; deploy with `-c sagemaker.accept_eula=true`.",
            )
        hyperparameters(model.parameters, job.spec.hyperparameters)

    def launch(self, job: FineTuneJob, files: dict[str, bytes]) -> FineTuneJob:
        """Create the job exactly once: its name is taken once, and the SDK tries no second time.

        Raises:
            BackendError: SageMaker refuses the request for good.
            TrainingNotAvailableError, ModelRetiredError: as `preflight`.
            RetryableError: it is not known whether the job exists; ask again.
        """
        launched = msgspec.structs.replace(job, job_id=job_name(job))
        if self.exists(launched):
            return launched
        model = self._hub_model(job.spec.model)
        request = self._request(launched, model, validates=bool(files.get("validation")))
        try:
            self._once.create_training_job(**request)
        except (ClientError, BotoCoreError) as error:
            self._reconcile(launched, error)
        return launched

    def _reconcile(self, job: FineTuneJob, error: ClientError | BotoCoreError) -> None:
        """Return if the job exists although its creation failed; raise what went wrong if not."""
        taken = isinstance(error, ClientError) and code(error) == "ResourceInUse"
        if isinstance(error, ClientError) and not taken and not is_passing(error):
            with translated("the training job"):
                raise error
        if not self.exists(job):
            raise RetryableError("SageMaker did not confirm the training job.") from error

    def _request(self, job: FineTuneJob, model: HubModel, *, validates: bool) -> dict[str, Any]:
        spec = job.spec
        place = f"s3://{self._bucket}/{train_key(spec.project, spec.hash, '')}"
        splits = ("train", "validation") if validates else ("train",)
        key = {"KmsKeyId": self._key} if self._key else {}
        return {
            "TrainingJobName": job.job_id,
            "RoleArn": self._role,
            "ServerlessJobConfig": {
                "BaseModelArn": model.arn,
                "AcceptEula": self._eula,
                "JobType": "FineTuning",
                "CustomizationTechnique": "SFT",
                "Peft": "LORA",
            },
            "HyperParameters": hyperparameters(model.parameters, spec.hyperparameters),
            "InputDataConfig": [_channel(s, f"{place}input/{s}/{s}.jsonl") for s in splits],
            "OutputDataConfig": {
                "S3OutputPath": f"{place}output/",
                "CompressionType": "NONE",
                **key,
            },
            "ModelPackageConfig": {"ModelPackageGroupArn": self._group},
            "StoppingCondition": {"MaxRuntimeInSeconds": self._hours * 3600},
            "Tags": [{"Key": "application", "Value": "dropforge"}],
        }

    def _hub_model(self, name: str) -> HubModel:
        """The newest version of a hub's model. Raises ModelRetiredError."""
        with translated("to describe the hub's model"):
            try:
                found: Any = self._sagemaker.describe_hub_content(
                    HubName=HUB, HubContentType="Model", HubContentName=name
                )
            except ClientError as error:
                if not is_missing(error):
                    raise
                raise ModelRetiredError(
                    f"SageMaker's public hub has no model {name}.",
                    hint="Give a model id of SageMaker JumpStart that can be customized.",
                ) from error
        try:
            document = msgspec.json.decode(found["HubContentDocument"], type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise BackendError(f"The hub's document of {name} cannot be read.") from error
        recipe = _recipe(document)
        if recipe is None:
            raise ModelRetiredError(
                f"{name} cannot be fine-tuned without an instance: the hub has no recipe for it.",
                hint="Choose a model that can be customized, or `backend: sagemaker`.",
            )
        parameters = self._parameters(recipe.get("SmtjOverrideParamsS3Uri", ""))
        return HubModel(found["HubContentArn"], bool(document.get("GatedBucket")), parameters)

    def _parameters(self, uri: str) -> dict[str, dict[str, Any]]:
        """A recipe's hyperparameters, read from AWS's bucket; none where it names no file."""
        if not uri:
            return {}
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        with translated("to read the model's recipe"):
            data = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        try:
            return msgspec.json.decode(data, type=dict[str, dict[str, Any]])
        except msgspec.MsgspecError as error:
            raise BackendError(f"The recipe at {uri} cannot be read.") from error

    def _adapter(self, found: dict[str, Any]) -> str:
        return f"{super()._adapter(found).rstrip('/')}/{ADAPTER}"

    def _package(self, job: FineTuneJob, found: dict[str, Any], store: Store) -> str | None:
        package = found.get("OutputModelPackageArn")
        return str(package) if package else None

    def recorded(self, job: FineTuneJob) -> bytes | None:
        """None: AWS's trainer writes nothing down."""
        return None


def hyperparameters(
    recipe: Mapping[str, Mapping[str, Any]], asked: Mapping[str, float | int | str]
) -> dict[str, str]:
    """The recipe's defaults under the project's values, as strings.

    Where the recipe is known, what it does not have is left out, and LoRA weights are not merged
    into the base.

    Raises:
        BackendError: a value is out of the recipe's bounds.
    """
    values: dict[str, Any] = {
        name: about["default"] for name, about in recipe.items() if about.get("default") is not None
    }
    if "merge_weights" in recipe:
        values["merge_weights"] = False
    for ours, value in asked.items():
        name = NAMES.get(ours, ours)
        if recipe and name not in recipe:
            continue
        _check(ours, value, recipe.get(name, {}))
        values[name] = value
    return {name: str(value) for name, value in values.items()}


def _check(name: str, value: float | str, about: Mapping[str, Any]) -> None:
    allowed = about.get("enum")
    low, high = about.get("min"), about.get("max")
    if allowed and value not in allowed:
        wanted = f"one of {', '.join(map(str, allowed))}"
    elif isinstance(value, str):
        return
    elif low is not None and value < low:
        wanted = f"at least {low}"
    elif high is not None and value > high:
        wanted = f"at most {high}"
    else:
        return
    raise BackendError(
        f"SageMaker's recipe takes {name} of {wanted}, not {value}.",
        hint=f"Set training.{name} in project.yaml.",
    )


def _recipe(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe for LoRA by supervised fine-tuning, if the model has one."""
    recipes: list[dict[str, Any]] = document.get("RecipeCollection") or []
    fit = [
        recipe
        for recipe in recipes
        if recipe.get("CustomizationTechnique") == "SFT"
        and recipe.get("Peft")
        and recipe.get("SmtjRecipeTemplateS3Uri")
    ]
    return next((r for r in fit if not r.get("IsSubscriptionModel")), next(iter(fit), None))


def _channel(name: str, uri: str) -> dict[str, Any]:
    location = {
        "S3DataType": "S3Prefix",
        "S3Uri": uri,
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": location}}
