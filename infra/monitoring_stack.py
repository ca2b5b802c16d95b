"""What ops look at: one dashboard, alarms that reach a person, and where everything is."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.api import STAGE
from infra.config import Settings
from infra.dashboard import DASHBOARD, dashboard
from infra.data_stack import DataStack
from infra.metrics import api_metric, custom, dead_letters, executions, first_byte
from infra.permissions import from_account
from infra.pipeline_stack import PipelineStack
from infra.promotion import PARAMETER
from infra.serving_stack import ServingStack

FIRST_BYTE_MS = 2000
"""The API's target: an answer within 2 s at the 95th percentile."""
SHUTDOWN_DAYS = (90, 30, 7)
HOUR = cdk.Duration.hours(1)
MINUTES_5 = cdk.Duration.minutes(5)


class MonitoringStack(cdk.Stack):
    """Alarms go to the topic `dropforge-alarms`, and to `alarm_email` where that is set."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        settings: Settings,
        data: DataStack,
        pipeline: PipelineStack,
        serving: ServingStack,
    ) -> None:
        super().__init__(scope, name, description="Dropforge: dashboard, alarms, deployment facts")
        self._action = actions.SnsAction(self._topic(settings, data))
        self._run_alarms(pipeline, settings)
        self._provider_alarms()
        self._api_alarms(serving)
        dashboard(self, pipeline, serving)
        ssm.StringParameter(
            self,
            "Deployment",
            parameter_name=PARAMETER,
            description="Where Dropforge's parts are; read by the dropforge command",
            string_value=self.to_json_string(
                {
                    "bucket": data.bucket_name,
                    "table": data.table_name,
                    "state_machine_arn": pipeline.state_machine.state_machine_arn,
                    "api_url": serving.api.url,
                    "dashboard": DASHBOARD,
                    "plans": {
                        "api": serving.api.rest_api.rest_api_id,
                        "stage": STAGE,
                        "ids": serving.api.plans.ids if serving.api.plans else {},
                    },
                    "authorizer_ttl_s": settings.api.authorizer_ttl_s,
                }
            ),
        )

    def _topic(self, settings: Settings, data: DataStack) -> sns.Topic:
        topic = sns.Topic(
            self,
            "Alarms",
            topic_name="dropforge-alarms",
            display_name="Dropforge alarms",
            master_key=kms.Key.from_key_arn(self, "Key", data.key_arn),
            enforce_ssl=True,
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions=from_account(),
            )
        )
        if settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
        return topic

    def _run_alarms(self, pipeline: PipelineStack, settings: Settings) -> None:
        for what in ("Failed", "TimedOut", "Aborted"):
            self._alarm(
                f"Runs{what}",
                executions(pipeline.state_machine, what),
                "A run did not succeed: `dropforge status` says which file and why.",
                threshold=1,
            )
        for name, queue in (("Drop", pipeline.drop_letters), ("Event", pipeline.event_letters)):
            self._alarm(
                f"{name}DeadLetters",
                dead_letters(queue),
                "Events wait that could not be dealt with after retries: read, then redrive them.",
                threshold=1,
            )
        self._alarm(
            "ExtractFailed",
            custom("ExtractFailed", "MAX", HOUR),
            "A project's database could not be read; its registry item `extract` says why.",
            threshold=1,
        )
        self._alarm(
            "WinRateLow",
            custom("WinRate", "MIN", HOUR),
            "A model was judged worse than its opponent; it was not promoted. See its report.",
            threshold=settings.win_rate_floor,
            below=True,
        )

        self._alarm(
            "CanaryEnded",
            custom("CanariesEnded", "MAX", MINUTES_5),
            "A canary went back by itself; the champion has all traffic. `dropforge status`.",
            threshold=1,
        )

    def _provider_alarms(self) -> None:
        """What the daily watch saw holds until it looks again."""
        for days in SHUTDOWN_DAYS:
            self._alarm(
                f"ShutdownIn{days}Days",
                custom("DaysUntilShutdown", "MIN", HOUR),
                f"A champion's provider shuts it down within {days} days: `dropforge migrate`.",
                threshold=days + 1,
                below=True,
                holds=True,
            )
        self._alarm(
            "TrainingEnds",
            custom("TrainingDaysLeft", "MIN", HOUR),
            "A project's first backend takes no more jobs within 30 days: give it a `fallback`.",
            threshold=31,
            below=True,
            holds=True,
        )
        self._alarm(
            "MigrationFailed",
            custom("MigrationFailed", "MAX", HOUR),
            "A champion goes dark and its retraining elsewhere failed or had nowhere to go.",
            threshold=1,
        )
        self._alarm(
            "ProviderUnanswered",
            custom("ProviderUnanswered", "MAX", HOUR),
            "A provider's list of models could not be read: its shutdown dates may be stale.",
            threshold=1,
        )
        self._alarm(
            "WatchFailed",
            custom("WatchFailed", "MAX", HOUR),
            "A project could not be looked at for shutdown dates: see the log of `watch`.",
            threshold=1,
        )
        self._drift_alarms()
        self._alarm(
            "FellBack",
            custom("Fallbacks", "MAX", HOUR),
            "A backend could not train and the next of the list was taken: `dropforge status`.",
            threshold=1,
        )

    def _drift_alarms(self) -> None:
        """What the regular look saw holds until it looks again."""
        self._alarm(
            "DriftDetected",
            custom("DriftDetected", "MAX", HOUR),
            "A model in production answers worse than it did at first: `dropforge drift`.",
            threshold=1,
            holds=True,
        )
        self._alarm(
            "DriftFailed",
            custom("DriftFailed", "MAX", HOUR),
            "A model in production could not be looked at for drift: `dropforge drift` says why.",
            threshold=1,
        )

    def _api_alarms(self, serving: ServingStack) -> None:
        api = serving.api.rest_api
        self._alarm(
            "ApiSlow",
            first_byte("p95"),
            "Answers begin later than after 2 s at the 95th percentile for 15 minutes.",
            threshold=FIRST_BYTE_MS,
            periods=3,
        )
        self._alarm(
            "ApiServerErrors",
            api_metric(api, "5XXError", "Average"),
            "More than 5 % of the API's answers are server errors.",
            threshold=0.05,
            periods=2,
        )
        self._alarm(
            "ApiClientErrors",
            api_metric(api, "4XXError", "Average"),
            "More than half of the API's answers are refusals: a wrong token, or an attack.",
            threshold=0.5,
            periods=3,
        )
        self._alarm(
            "ChatFallbacks",
            custom("ChatFallbacks", "AVG", MINUTES_5),
            "For 15 minutes over a fifth of the chats were answered by another model than meant.",
            threshold=0.2,
            periods=3,
        )
        self._alarm(
            "BudgetUnchecked",
            custom("BudgetUnchecked", "MAX", MINUTES_5),
            "Budgets of tokens could not be checked; requests went on and may pass them.",
            threshold=1,
        )
        self._alarm(
            "ShadowDeadLetters",
            dead_letters(serving.shadow.letters),
            "Chats could not be put to a shadowing challenger; the log of `shadow` says why.",
            threshold=1,
        )
        self._alarm(
            "CollectDeadLetters",
            dead_letters(serving.collect.letters),
            "Answers could not be kept as training data; the log of `keep` says why.",
            threshold=1,
        )
        self._alarm(
            "CheckDeadLetters",
            dead_letters(serving.cache.letters),
            "Semantic hits could not be checked; the log of `check` says why.",
            threshold=1,
        )
        self._alarm(
            "SemanticCacheOff",
            custom("SemanticOff", "MAX", MINUTES_5),
            "Too many of a project's semantic hits may be false: none is served for now.",
            threshold=1,
        )
        self._alarm(
            "ChatThrottled",
            serving.chat.function.metric_throttles(period=MINUTES_5),
            "The account's Lambda concurrency is used up: chats are refused.",
            threshold=1,
        )

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        meaning: str,
        *,
        threshold: float,
        periods: int = 1,
        below: bool = False,
        holds: bool = False,
    ) -> None:
        """An alarm that tells the topic when it starts and when it is over.

        Args:
            holds: whether it stays as it is while there are no data, instead of being over.
        """
        missing = cloudwatch.TreatMissingData
        compare = cloudwatch.ComparisonOperator
        at_least, under = compare.GREATER_THAN_OR_EQUAL_TO_THRESHOLD, compare.LESS_THAN_THRESHOLD
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"dropforge-{name}",
            alarm_description=meaning,
            metric=metric,
            threshold=threshold,
            evaluation_periods=periods,
            comparison_operator=under if below else at_least,
            treat_missing_data=missing.IGNORE if holds else missing.NOT_BREACHING,
        )
        alarm.add_alarm_action(self._action)
        alarm.add_ok_action(self._action)
