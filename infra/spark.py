"""Spark for exports and datasets beyond one function: an EMR Serverless application, and who may
run jobs on it. There is none where `spark.image` is empty.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_emrserverless as emr
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra import workflow
from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import log_group
from infra.permissions import Grant, lists, reads, service_role, uses_key, writes

RELEASE = "emr-7.9.0"
"""Spark 3.5; `spark/Dockerfile` builds on the image of the same release."""
LOG_GROUP = workflow.SPARK_LOGS
IDLE_MINUTES = 15


class Spark(Construct):
    """`application_id`, `role` and `substitutions` are for the state machine."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name)
        log_group(self, "Logs", LOG_GROUP, data, settings)
        self._application = _application(self, settings)
        self.role = _job_role(self, data)

    @property
    def substitutions(self) -> dict[str, str]:
        """What the state machine's `${...}` names stand for."""
        return {
            "StartJobRun": f"arn:{cdk.Aws.PARTITION}:states:::emr-serverless:startJobRun.sync",
            "SparkApplicationId": self._application.attr_application_id,
            "SparkRoleArn": self.role.role_arn,
        }

    def let_run(self, role: iam.Role) -> None:
        """What `emr-serverless:startJobRun.sync` needs of the state machine's role.

        Actions and the rule's name as the Step Functions developer guide lists them for the
        integration ("IAM policies for Amazon EMR Serverless").
        """
        application = self._application.attr_arn
        rule = cdk.Stack.of(self).format_arn(
            service="events",
            resource="rule",
            resource_name="StepFunctionsGetEventsForEMRServerlessJobRule",
        )
        for grant in (
            Grant(("emr-serverless:StartJobRun",), (application,)),
            Grant(
                ("emr-serverless:CancelJobRun", "emr-serverless:GetJobRun"),
                (f"{application}/jobruns/*",),
                "EMR Serverless numbers the job runs; the statement is limited to one application.",
            ),
            Grant(
                ("iam:PassRole",),
                (self.role.role_arn,),
                conditions={
                    "StringEquals": {"iam:PassedToService": "emr-serverless.amazonaws.com"}
                },
            ),
            Grant(("events:DescribeRule", "events:PutRule", "events:PutTargets"), (rule,)),
        ):
            grant.to(role)


def _application(scope: Construct, settings: Settings) -> emr.CfnApplication:
    """Starts with a job, stops by itself, and keeps nothing warm: it costs while it works."""
    spark, part = settings.spark, emr.CfnApplication
    network = spark.network
    return emr.CfnApplication(
        scope,
        "Application",
        name="dropforge",
        type="SPARK",
        release_label=RELEASE,
        architecture={"x86_64": "X86_64", "arm64": "ARM64"}[settings.architecture],
        image_configuration=part.ImageConfigurationInputProperty(image_uri=spark.image),
        auto_start_configuration=part.AutoStartConfigurationProperty(enabled=True),
        auto_stop_configuration=part.AutoStopConfigurationProperty(
            enabled=True, idle_timeout_minutes=IDLE_MINUTES
        ),
        maximum_capacity=part.MaximumAllowedResourcesProperty(
            cpu=f"{spark.max_vcpu} vCPU",
            memory=f"{spark.max_memory_gb} GB",
            disk=f"{spark.max_disk_gb} GB",
        ),
        network_configuration=part.NetworkConfigurationProperty(
            subnet_ids=list(network.subnet_ids),
            security_group_ids=list(network.security_group_ids),
        )
        if network.subnet_ids
        else None,
    )


def _job_role(scope: Construct, data: DataStack) -> iam.Role:
    """The role of a job: exports and parts in, parts and datasets out, logs."""
    role = service_role(scope, "JobRole", "emr-serverless", "Dropforge: a Spark job")
    bucket = data.bucket_arn
    logs = f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:log-group:"
    for grant in (
        lists(bucket),
        reads(bucket, "clean/*", "exports/*", "projects/*/versions/*", "validate/*"),
        writes(bucket, "clean/*", "rejected/*", "validate/*"),
        uses_key(data.key_arn, "s3"),
        Grant(
            ("logs:DescribeLogGroups",),
            (f"{logs}*",),
            "EMR Serverless looks its log group up by name, among all of them (EMR Serverless user"
            " guide, storing logs with Amazon CloudWatch).",
        ),
        Grant(
            ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
            (f"{logs}{LOG_GROUP}:*",),
            "EMR Serverless names the log streams; the statement is limited to its log group.",
        ),
    ):
        grant.to(role)
    return role
