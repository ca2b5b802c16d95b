"""Who may run training jobs on SageMaker, and what a job itself may touch."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.model_registry import keeps_packages
from infra.permissions import Grant, lists, objects, reads, service_role, uses_key, writes
from infra.pipeline_functions import (
    PACKAGE_GROUP,
    describes_hub_models,
    sagemaker_arn,
)

CONTAINER_ACCOUNT = "763104351884"
"""AWS's deep learning containers in most regions (November 2026); elsewhere give a URI."""
LOGS_REASON = "SageMaker names the log streams; the statement is limited to its own log group."
JOBS_REASON = "Training jobs are named when they are launched; the prefix is Dropforge's own."
NETWORK_INTERFACES = Grant(
    (
        "ec2:CreateNetworkInterface",
        "ec2:CreateNetworkInterfacePermission",
        "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission",
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
    ),
    ("*",),
    "SageMaker makes network interfaces with the job's role before they have a name (SageMaker"
    " developer guide, CreateTrainingJob API: execution role permissions).",
)


class TrainingRole(Construct):
    """The role of a training job: channels in, checkpoints and weights out, logs, metrics.

    AWS's own trainer (`sagemaker-serverless`) runs as the same role, and registers its model.
    """

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name)
        self._settings, self._data = settings, data
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
            keeps_packages(),
            describes_hub_models(),
            *((NETWORK_INTERFACES,) if settings.sagemaker.vpc.subnet_ids else ()),
        ):
            grant.to(self.role)

    def let_train_without_instances(self, function: Function) -> None:
        """Let a function create serverless training jobs, and tell it what they need."""
        for grant in (
            Grant(
                ("sagemaker:AddTags", "sagemaker:CreateTrainingJob"),
                (sagemaker_arn("training-job/dropforge-*"),),
                JOBS_REASON,
            ),
            passes_role(self.role),
            describes_hub_models(),
            reads_recipes(),
            *volume_key_grants(self._data.key_arn),
        ):
            grant.to(function.role)
        for variable, value in {
            "TRAINING_ROLE_ARN": self.role.role_arn,
            "PACKAGE_GROUP_ARN": sagemaker_arn(f"model-package-group/{PACKAGE_GROUP}"),
            "ACCEPT_EULA": str(self._settings.sagemaker.accept_eula).lower(),
            "TRAINING_HOURS": str(self._settings.sagemaker.training_hours),
            "KEY_ARN": self._data.key_arn,
        }.items():
            function.function.add_environment(f"DROPFORGE_{variable}", value)


def runs_training_jobs(
    scope: Construct, settings: Settings, data: DataStack, training: iam.Role
) -> iam.Role:
    """The state machine's role, as far as `sagemaker:createTrainingJob.sync` needs it.

    Actions as the Step Functions developer guide lists them for the integration; the rule is the
    one through which Step Functions hears that a job has ended.
    """
    role = service_role(scope, "StateMachineRole", "states", "Dropforge: the state machine")
    jobs = sagemaker_arn("training-job/dropforge-*")
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
            JOBS_REASON,
        ),
        Grant(("events:DescribeRule", "events:PutRule", "events:PutTargets"), (rule,)),
        passes_role(training),
        *volume_key_grants(data.key_arn),
    ):
        grant.to(role)
    return role


def passes_role(role: iam.Role) -> Grant:
    """Give the role to a training job."""
    return Grant(
        ("iam:PassRole",),
        (role.role_arn,),
        conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
    )


def reads_recipes() -> Grant:
    """AWS's recipes, with the hyperparameters that serverless training jobs take."""
    bucket = f"arn:{cdk.Aws.PARTITION}:s3:::jumpstart-cache-prod-{cdk.Aws.REGION}"
    return objects(bucket, "recipes/*", actions=("s3:GetObject",))


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
