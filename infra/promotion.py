"""What moves the champion beside the pipeline: a person who is asked, canaries, and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.asset import PIPELINE
from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.permissions import Grant, lists, reads, table, uses_key
from infra.pipeline_functions import answers_waiting_runs, reads_secret, registers_models

PARAMETER = "/dropforge/deployment"
"""Where the parts of a deployment are told; its stack comes after this one's."""
HARMFUL = ("ApiServerErrors",)
"""The alarms that end every canary. Slow or throttled is what the whole API may be by itself: a
challenger's slow answers count against it alone."""


class Promotion(Construct):
    """`functions`: ask, canary and rollback, by name. `topic` asks people for approvals."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        settings: Settings,
        data: DataStack,
        dead_letters: sqs.IQueue,
    ) -> None:
        super().__init__(scope, name)
        self._settings, self._data = settings, data
        self.topic = self._topic()
        self.functions = {
            "ask": self._ask(),
            "canary": self._function(
                "canary",
                "promote.canary",
                (
                    lists(data.bucket_arn),
                    reads(data.bucket_arn, "projects/*"),
                    registers_models("sagemaker:UpdateModelPackage"),
                ),
            ),
            "rollback": self._function(
                "rollback", "rollback.handler", (), dead_letters=dead_letters
            ),
        }
        self._end_canaries_on_alarm(dead_letters)

    def _function(
        self,
        name: str,
        handler: str,
        grants: Iterable[Grant],
        environment: Mapping[str, str] | None = None,
        dead_letters: sqs.IQueue | None = None,
    ) -> Function:
        return Function(
            self,
            name,
            data=self._data,
            settings=self._settings,
            asset=PIPELINE,
            handler=f"lambdas.{handler}.handler",
            grants=(table(self._data.table_arn), *grants),
            environment=environment,
            dead_letters=dead_letters,
        )

    def _topic(self) -> sns.Topic:
        settings = self._settings
        topic = sns.Topic(
            self,
            "Approvals",
            topic_name="dropforge-approvals",
            display_name="Dropforge approvals",
            master_key=kms.Key.from_key_arn(self, "Key", self._data.key_arn),
            enforce_ssl=True,
        )
        if email := settings.approval_email or settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(email))
        return topic

    def _ask(self) -> Function:
        data = self._data
        parameter = cdk.Stack.of(self).format_arn(
            service="ssm", resource="parameter", resource_name=PARAMETER.removeprefix("/")
        )
        grants = (
            lists(data.bucket_arn),
            reads(data.bucket_arn, "judge/*"),
            reads_secret(data.approval_secret_arn),
            Grant(("ssm:GetParameter",), (parameter,)),
            Grant(("sns:Publish",), (self.topic.topic_arn,)),
            uses_key(data.key_arn, "sns"),
            answers_waiting_runs(self),
        )
        environment = {
            "DROPFORGE_APPROVAL_SECRET_ARN": data.approval_secret_arn,
            "DROPFORGE_DEPLOYMENT_PARAMETER": PARAMETER,
            "DROPFORGE_TOPIC_ARN": self.topic.topic_arn,
        }
        return self._function("ask", "approve.ask", grants, environment)

    def _end_canaries_on_alarm(self, dead_letters: sqs.IQueue) -> None:
        events.Rule(
            self,
            "Alarmed",
            description="An alarm of the API rings: every canary ends",
            event_pattern=events.EventPattern(
                source=["aws.cloudwatch"],
                detail_type=["CloudWatch Alarm State Change"],
                detail={
                    "alarmName": [f"dropforge-{name}" for name in HARMFUL],
                    "state": {"value": ["ALARM"]},
                },
            ),
            targets=[
                targets.LambdaFunction(
                    self.functions["rollback"].function,
                    dead_letter_queue=dead_letters,
                    retry_attempts=8,
                    max_event_age=cdk.Duration.hours(1),
                )
            ],
        )
