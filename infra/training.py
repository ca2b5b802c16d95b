"""Who may run training jobs on SageMaker, and what a job itself may touch."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.permissions import Grant, lists, reads, service_role, uses_key, writes
from infra.pipeline_functions import sagemaker_arn

CONTAINER_ACCOUNT = "763104351884"
"""AWS's deep learning containers in most regions (November 2026); elsewhere give a URI."""
LOGS_REASON = "SageMaker names the log streams; the statement is limited to its own log group."


class TrainingRole(Construct):
    """The role of a training job: channels in, checkpoints and weights out, logs, metrics."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name)
        self.role = service_role(self, "Role", "sagemaker", "Dropforge: a training job")
        bucket = data.bucket_arn
        for grant in (
            lists(bucket),
            reads(bucket, "code/*", "models/*", "train/*", "validate/*"),
            writes(bucket, "train/*"),
            uses_key(data.key_arn, "s3"),
            *sagemaker_job_grants("/aws/sagemaker/TrainingJobs"),
            *image_grants(settings.sagemaker.training_image),
            *volume_key_grants(data.key_arn),
        ):
            grant.to(self.role)


def runs_training_jobs(
    scope: Construct, settings: Settings, data: DataStack, training: iam.Role
) -> iam.Role:
    """The state machine's role, as far as `sagemaker:createTrainingJob.sync` needs it.

    Actions as the Step Functions developer guide lists them for the integration; the rule is the
    one through which Step Functions hears that a job has ended.
    """
    role = service_role(scope, "StateMachineRole", "states", "Dropforge: the state machine")
    jobs = sagemaker_arn("training-job/dropforge-*")
    named = "Training jobs are named when they are launched; the prefix is Dropforge's own."
    rule = cdk.Stack.of(scope).format_arn(
        service="events",
        resource="rule",
        resource_name="StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    )
    for grant in (
        Grant(
            (
                "sagemaker:AddTags",
                "sagemaker:CreateTrainingJob",
                "sagemaker:DescribeTrainingJob",
                "sagemaker:StopTrainingJob",
            ),
            (jobs,),
            named,
        ),
        Grant(("events:DescribeRule", "events:PutRule", "events:PutTargets"), (rule,)),
        Grant(
            ("iam:PassRole",),
            (training.role_arn,),
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        ),
        *volume_key_grants(data.key_arn),
    ):
        grant.to(role)
    return role


def sagemaker_job_grants(log_group: str) -> tuple[Grant, ...]:
    """Logs of a job or an endpoint below `log_group`, and its metrics."""
    prefix = f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:log-group:"
    return (
        Grant(
            (
                "logs:CreateLogGroup",
                "logs:CreateLogStream",
                "logs:DescribeLogStreams",
                "logs:PutLogEvents",
            ),
            (f"{prefix}{log_group}*",),
            LOGS_REASON,
        ),
        Grant(
            ("cloudwatch:PutMetricData",),
            ("*",),
            "PutMetricData has no resource type; the condition limits it to SageMaker's own.",
            conditions={"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}},
        ),
    )


def image_grants(image: str) -> tuple[Grant, ...]:
    """Pull one image from its registry."""
    token = "ecr:GetAuthorizationToken has no resource type (service authorization reference)."  # noqa: S105
    return (
        Grant(("ecr:GetAuthorizationToken",), ("*",), token),
        Grant(
            ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
            (repository_arn(image),),
        ),
    )


def volume_key_grants(key_arn: str) -> tuple[Grant, ...]:
    """Let SageMaker attach volumes that the key encrypts; grants go to AWS services only."""
    return (
        Grant(
            ("kms:CreateGrant",),
            (key_arn,),
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    )


def image_uri(image: str) -> str:
    """The full URI of an image: `repository:tag` is looked for among AWS's own containers."""
    if "/" in image:
        return image
    registry = f"{CONTAINER_ACCOUNT}.dkr.ecr.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
    return f"{registry}/{image}"


def repository_arn(image: str) -> str:
    """The ECR repository that holds an image."""
    account, region, name = CONTAINER_ACCOUNT, cdk.Aws.REGION, image
    if "/" in image:
        registry, _, name = image.partition("/")
        account, _, rest = registry.partition(".dkr.ecr.")
        region = rest.partition(".")[0]
    repository = name.partition("@")[0].partition(":")[0]
    return f"arn:{cdk.Aws.PARTITION}:ecr:{region}:{account}:repository/{repository}"
