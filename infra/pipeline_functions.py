"""The pipeline's functions: what each is called with, and exactly what it may touch."""

from __future__ import annotations

from collections.abc import Callable

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.asset import PIPELINE
from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.permissions import Grant, deletes, lists, reads, table, uses_key, writes

EXPORTS, PROJECTS, SNAPSHOTS = "exports/*", "projects/*", "projects/*/versions/*"
CLEAN, REJECTED, VALIDATE, TRAIN, JUDGE = (
    "clean/*",
    "rejected/*",
    "validate/*",
    "train/*",
    "judge/*",
)
MESSAGES = ("exports/*.error.txt", "projects/*.error.txt")

Create = Callable[..., Function]


def pipeline_functions(
    scope: Construct, settings: Settings, data: DataStack, dead_letters: sqs.IQueue
) -> dict[str, Function]:
    """Every function of the pipeline asset, by name.

    `dead_letters` takes what those that are invoked asynchronously could not deal with.
    """
    bucket, registry = data.bucket_arn, (lists(data.bucket_arn), table(data.table_arn))
    openai = Grant(("secretsmanager:GetSecretValue",), (data.openai_secret_arn,))
    judge_key = Grant(("secretsmanager:GetSecretValue",), (data.judge_secret_arn,))
    provider = provider_environment(settings, data)
    base = {"DROPFORGE_BASE_COMPONENT": settings.sagemaker.base_component}
    training = {**provider, **base, "DROPFORGE_POLL_SECONDS": str(settings.poll_seconds)}

    def function(
        name: str,
        handler: str,
        *grants: Grant,
        environment: dict[str, str] | None = None,
        dead_letters: sqs.IQueue | None = None,
    ) -> Function:
        return Function(
            scope,
            name,
            data=data,
            settings=settings,
            asset=PIPELINE,
            handler=f"lambdas.{handler}.handler",
            grants=grants,
            environment=environment,
            dead_letters=dead_letters,
        )

    functions = [
        function(
            "drop",
            "drop.handler",
            *registry,
            reads(bucket, EXPORTS, PROJECTS),
            writes(bucket, *MESSAGES, SNAPSHOTS),
            deletes(bucket, *MESSAGES),
            environment=base,
        ),
        function(
            "clean",
            "clean.handler",
            *registry,
            reads(bucket, EXPORTS, PROJECTS, CLEAN),
            writes(bucket, CLEAN, REJECTED),
        ),
        function(
            "validate",
            "validate.handler",
            *registry,
            reads(bucket, CLEAN, PROJECTS, VALIDATE),
            writes(bucket, VALIDATE),
        ),
        function(
            "launch",
            "train.launch",
            *registry,
            reads(bucket, VALIDATE, PROJECTS, TRAIN),
            writes(bucket, TRAIN),
            openai,
            describes_training_jobs(),
            environment=training,
        ),
        function(
            "poll",
            "train.poll",
            *registry,
            reads(bucket, TRAIN, PROJECTS),
            writes(bucket, TRAIN),
            openai,
            describes_training_jobs(),
            serves_adapters(settings),
            environment=training,
        ),
        function("plan", "judge.plan", *registry, reads(bucket, VALIDATE, PROJECTS)),
        function(
            "judge",
            "judge.batch",
            *registry,
            reads(bucket, VALIDATE, PROJECTS, JUDGE),
            writes(bucket, JUDGE),
            openai,
            judge_key,
            invokes_endpoint(settings),
            environment={
                **provider,
                "DROPFORGE_JUDGE_BASE_URL": settings.judge_base_url,
                "DROPFORGE_JUDGE_SECRET_ARN": data.judge_secret_arn,
            },
        ),
        function(
            "verdict",
            "judge.verdict",
            *registry,
            reads(bucket, JUDGE, VALIDATE, TRAIN, PROJECTS),
            writes(bucket, JUDGE),
        ),
        function("promote", "promote.handler", *registry, reads(bucket, JUDGE, PROJECTS)),
        function(
            "fail",
            "fail.handler",
            *registry,
            writes(bucket, MESSAGES[0]),
            uses_key(data.key_arn, "states"),
            dead_letters=dead_letters,
        ),
        function("schedule", "schedule.handler", *registry, dead_letters=dead_letters),
    ]
    return {f.name: f for f in functions}


def provider_environment(settings: Settings, data: DataStack) -> dict[str, str]:
    """Where models are trained and asked."""
    return {
        "DROPFORGE_ENDPOINT_NAME": settings.sagemaker.endpoint_name,
        "DROPFORGE_OPENAI_BASE_URL": settings.openai_base_url,
        "DROPFORGE_OPENAI_SECRET_ARN": data.openai_secret_arn,
    }


def invokes_endpoint(settings: Settings) -> Grant:
    """Ask a model on the endpoint: the base component, or any of the adapters on it."""
    return Grant(
        ("sagemaker:InvokeEndpoint",),
        (
            sagemaker_arn(f"endpoint/{settings.sagemaker.endpoint_name}"),
            sagemaker_arn("inference-component/dropforge-*"),
        ),
        "Each promoted model is an inference component, named when it is trained.",
    )


def describes_training_jobs() -> Grant:
    return Grant(
        ("sagemaker:DescribeTrainingJob",),
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


def sagemaker_arn(resource: str) -> str:
    """The ARN of a SageMaker resource in this account and region."""
    return ":".join(
        ("arn", cdk.Aws.PARTITION, "sagemaker", cdk.Aws.REGION, cdk.Aws.ACCOUNT_ID, resource)
    )
