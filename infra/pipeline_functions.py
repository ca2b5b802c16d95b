"""The pipeline's functions: what each is called with, and exactly what it may touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.asset import DATA, PIPELINE, Asset
from infra.config import Settings
from infra.converse import converses
from infra.data_stack import DataStack
from infra.extract import DATABASE_SECRETS, into_vpc
from infra.function import Function
from infra.permissions import Grant, deletes, lists, reads, table, uses_key, writes
from infra.workflow import NAME

EXPORTS, PROJECTS, SNAPSHOTS = "exports/*", "projects/*", "projects/*/versions/*"
CLEAN, REJECTED, VALIDATE, TRAIN, JUDGE = (
    "clean/*",
    "rejected/*",
    "validate/*",
    "train/*",
    "judge/*",
)
EXTRACTED = "exports/*/extracted/*"
COLLECTED = "exports/*/collected/*"
GOLDEN, DRIFT, ANSWERS = "judge/*/golden/*", "judge/*/drift/*", "judge/*/answers/*"
MESSAGES = ("exports/*.error.txt", "projects/*.error.txt")
WEIGHTS = "models/*/config.json"
PACKAGE_GROUP = "dropforge"
"""SageMaker's model package group of the trained models; dropforge/backends knows the name too."""


@dataclass(frozen=True)
class Spec:
    """A function of the pipeline. `background`: it is invoked asynchronously."""

    name: str
    handler: str
    grants: tuple[Grant, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    background: bool = False
    asset: Asset = PIPELINE


def pipeline_functions(
    scope: Construct, settings: Settings, data: DataStack, dead_letters: sqs.IQueue
) -> dict[str, Function]:
    """Every function of the pipeline, by name.

    `dead_letters` takes what those that are invoked asynchronously could not deal with.
    """
    specs = (
        *_data_functions(settings, data),
        *_training_functions(scope, settings, data),
        *_judging_functions(scope, settings, data),
        *_background_functions(scope, settings, data),
    )
    functions = {
        spec.name: Function(
            scope,
            spec.name,
            data=data,
            settings=settings,
            asset=spec.asset,
            handler=f"lambdas.{spec.handler}.handler",
            grants=(*_registry(data), *spec.grants),
            environment=spec.environment,
            dead_letters=dead_letters if spec.background else None,
        )
        for spec in specs
    }
    into_vpc(functions["extract"], settings.vpc)
    return functions


def _registry(data: DataStack) -> tuple[Grant, ...]:
    """What every stage does: note its progress, and see whether an artifact is there already."""
    return lists(data.bucket_arn), table(data.table_arn)


def _data_functions(settings: Settings, data: DataStack) -> tuple[Spec, ...]:
    bucket = data.bucket_arn
    return (
        Spec(
            "drop",
            "drop.handler",
            (
                reads(bucket, EXPORTS, PROJECTS),
                writes(bucket, *MESSAGES, SNAPSHOTS, GOLDEN),
                deletes(bucket, *MESSAGES),
            ),
            _base_component(settings),
        ),
        Spec(
            "clean",
            "clean.handler",
            (reads(bucket, EXPORTS, PROJECTS, CLEAN), writes(bucket, CLEAN, REJECTED)),
            {"DROPFORGE_MAX_BYTES": str(settings.max_bytes)},
            asset=DATA,
        ),
        Spec(
            "validate",
            "validate.handler",
            (reads(bucket, CLEAN, PROJECTS, VALIDATE), writes(bucket, VALIDATE)),
            {
                "DROPFORGE_MAX_BYTES": str(settings.max_bytes),
                "DROPFORGE_TRAINING_INSTANCE": settings.sagemaker.training_instance,
            },
            asset=DATA,
        ),
    )


def _training_functions(scope: Construct, settings: Settings, data: DataStack) -> tuple[Spec, ...]:
    bucket = data.bucket_arn
    provider = (
        reads_secret(*data.provider_secrets.values()),
        describes_training_jobs("sagemaker:StopTrainingJob"),
        serves_adapters(settings),
        describes_models(),
        registers_models("sagemaker:CreateModelPackage"),
    )
    environment = {
        **provider_environment(scope, settings, data),
        **_base_component(settings),
        "DROPFORGE_POLL_SECONDS": str(settings.poll_seconds),
        "DROPFORGE_TRAINING_INSTANCE": settings.sagemaker.training_instance,
        "DROPFORGE_WEBHOOKS": " ".join(settings.webhooks),
    }
    return (
        Spec(
            "launch",
            "train.launch",
            (reads(bucket, VALIDATE, PROJECTS, TRAIN, WEIGHTS), writes(bucket, TRAIN), *provider),
            environment,
        ),
        Spec(
            "poll",
            "train.poll",
            (reads(bucket, TRAIN, PROJECTS), writes(bucket, TRAIN), *provider),
            environment,
        ),
        Spec(
            "fallback",
            "train.fallback",
            (reads(bucket, TRAIN, PROJECTS), writes(bucket, TRAIN), *provider),
            environment,
        ),
        Spec(
            "parity",
            "train.parity",
            (
                reads(bucket, TRAIN, PROJECTS),
                writes(bucket, TRAIN),
                describes_training_jobs(),
                asks_endpoint(settings),
            ),
            environment,
        ),
        Spec("wait", "train.wait", ()),
    )


def _judging_functions(scope: Construct, settings: Settings, data: DataStack) -> tuple[Spec, ...]:
    bucket = data.bucket_arn
    judges = {
        **provider_environment(scope, settings, data),
        "DROPFORGE_JUDGE_BASE_URL": settings.judge_base_url,
        "DROPFORGE_JUDGE_SECRET_ARN": data.judge_secret_arn,
    }
    return (
        Spec("plan", "judge.plan", (reads(bucket, VALIDATE, PROJECTS, JUDGE),)),
        Spec(
            "judge",
            "judge.batch",
            (
                reads(bucket, VALIDATE, PROJECTS, JUDGE),
                writes(bucket, JUDGE),
                reads_secret(*data.provider_secrets.values(), data.judge_secret_arn),
                asks_endpoint(settings),
                *converses(settings),
            ),
            judges,
        ),
        Spec(
            "verdict",
            "judge.verdict",
            (reads(bucket, JUDGE, TRAIN, PROJECTS), writes(bucket, JUDGE)),
        ),
        Spec(
            "promote",
            "promote.handler",
            (reads(bucket, JUDGE, PROJECTS), registers_models("sagemaker:UpdateModelPackage")),
        ),
    )


def _background_functions(
    scope: Construct, settings: Settings, data: DataStack
) -> tuple[Spec, ...]:
    """Those that EventBridge calls; the pipeline stack lets them look at runs or start them."""
    messages = (writes(data.bucket_arn, MESSAGES[0]), uses_key(data.key_arn, "states"))
    return (
        Spec("fail", "fail.handler", messages, background=True),
        Spec(
            "schedule",
            "schedule.handler",
            (reads(data.bucket_arn, COLLECTED, GOLDEN), writes(data.bucket_arn, COLLECTED)),
            background=True,
        ),
        Spec(
            "watch",
            "watch.handler",
            (
                reads(data.bucket_arn, PROJECTS, VALIDATE),
                reads_secret(*data.provider_secrets.values()),
            ),
            provider_environment(scope, settings, data),
            background=True,
        ),
        Spec(
            "drift",
            "drift.handler",
            (
                reads(data.bucket_arn, PROJECTS, VALIDATE, JUDGE),
                writes(data.bucket_arn, DRIFT, ANSWERS),
                reads_secret(*data.provider_secrets.values(), data.judge_secret_arn),
                asks_endpoint(settings),
                *converses(settings),
            ),
            {
                **provider_environment(scope, settings, data),
                "DROPFORGE_JUDGE_BASE_URL": settings.judge_base_url,
                "DROPFORGE_JUDGE_SECRET_ARN": data.judge_secret_arn,
            },
            background=True,
        ),
        Spec(
            "extract",
            "extract.handler",
            (
                reads(data.bucket_arn, PROJECTS, EXTRACTED),
                writes(data.bucket_arn, EXTRACTED),
                DATABASE_SECRETS,
            ),
            background=True,
            asset=DATA,
        ),
    )


def _base_component(settings: Settings) -> dict[str, str]:
    return {"DROPFORGE_BASE_COMPONENT": settings.sagemaker.base_component}


def reads_secret(*arns: str) -> Grant:
    return Grant(("secretsmanager:GetSecretValue",), arns)


def provider_environment(scope: Construct, settings: Settings, data: DataStack) -> dict[str, str]:
    """Where models are trained and asked."""
    accesses = {
        name: {
            "base_url": settings.base_url(name).replace("{region}", cdk.Aws.REGION),
            "secret_arn": arn,
        }
        for name, arn in data.provider_secrets.items()
    }
    return {
        "DROPFORGE_ENDPOINT_NAME": settings.sagemaker.endpoint_name,
        "DROPFORGE_PROVIDERS": cdk.Stack.of(scope).to_json_string(accesses),
    }


def answers_waiting_runs(scope: Construct) -> Grant:
    """Tell a run that waits for a webhook to go on."""
    machine = cdk.Stack.of(scope).format_arn(
        service="states",
        resource="stateMachine",
        resource_name=NAME,
        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
    )
    return Grant(("states:SendTaskSuccess",), (machine,))


def asks_endpoint(settings: Settings) -> Grant:
    """`invokes_endpoint`, tell one that sleeps from one without the model, and wake it."""
    return invokes_endpoint(
        settings,
        "sagemaker:DescribeInferenceComponent",
        "sagemaker:UpdateInferenceComponentRuntimeConfig",
    )


def invokes_endpoint(settings: Settings, *more: str) -> Grant:
    """Ask a model on the endpoint: the base component, or any of the adapters on it."""
    return Grant(
        ("sagemaker:InvokeEndpoint", *more),
        (
            sagemaker_arn(f"endpoint/{settings.sagemaker.endpoint_name}"),
            sagemaker_arn("inference-component/dropforge-*"),
        ),
        "Each promoted model is an inference component, named when it is trained.",
    )


def describes_training_jobs(*more: str) -> Grant:
    """See how training jobs do, and what `more` actions allow."""
    return Grant(
        ("sagemaker:DescribeTrainingJob", *more),
        (sagemaker_arn("training-job/dropforge-*"),),
        "Training jobs are named when they are launched; the prefix is Dropforge's own.",
    )


def serves_adapters(settings: Settings) -> Grant:
    """Load a trained adapter on the endpoint's base component."""
    return Grant(
        (
            "sagemaker:AddTags",
            "sagemaker:CreateInferenceComponent",
            "sagemaker:DescribeEndpoint",
            "sagemaker:DescribeInferenceComponent",
        ),
        (
            sagemaker_arn(f"endpoint/{settings.sagemaker.endpoint_name}"),
            sagemaker_arn("inference-component/dropforge-*"),
        ),
        "Each promoted model is an inference component, named when it is trained.",
    )


def describes_models() -> Grant:
    """See which weights and image the endpoint's base component runs."""
    return Grant(
        ("sagemaker:DescribeModel",),
        (sagemaker_arn("model/*"),),
        "CloudFormation names the endpoint's model, in another stack.",
    )


def registers_models(*actions: str) -> Grant:
    """Act on the packages of trained models."""
    return Grant(
        actions,
        (
            sagemaker_arn(f"model-package-group/{PACKAGE_GROUP}"),
            sagemaker_arn(f"model-package/{PACKAGE_GROUP}/*"),
        ),
        "SageMaker numbers the packages; the statement is limited to Dropforge's group.",
    )


def describes_hub_models() -> Grant:
    """See the models of SageMaker's public hub."""
    hub = f"arn:{cdk.Aws.PARTITION}:sagemaker:{cdk.Aws.REGION}:aws"
    return Grant(
        ("sagemaker:DescribeHubContent",),
        (f"{hub}:hub/SageMakerPublicHub", f"{hub}:hub-content/SageMakerPublicHub/Model/*"),
        "A project names its model of AWS's public hub; the statement is limited to its models.",
    )


def sagemaker_arn(resource: str) -> str:
    """The ARN of a SageMaker resource in this account and region."""
    return ":".join(
        ("arn", cdk.Aws.PARTITION, "sagemaker", cdk.Aws.REGION, cdk.Aws.ACCOUNT_ID, resource)
    )
