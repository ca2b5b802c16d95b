"""What answers people: the HTTPS API with its functions, and the SageMaker endpoint."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from dropforge.collect import STORED
from infra.api import ChatApi
from infra.asset import AUTHORIZE, CHAT, DATA, PIPELINE
from infra.cache import AnswerCache
from infra.collect import CollectQueue
from infra.config import Settings
from infra.data_stack import DataStack
from infra.endpoint import ModelEndpoint
from infra.function import Function
from infra.permissions import Grant, counts_traffic, puts, reads, spends, table
from infra.pipeline_functions import (
    SNAPSHOTS,
    answers_waiting_runs,
    invokes_endpoint,
    provider_environment,
    reads_secret,
)
from infra.shadow import ShadowQueue

RATING = ("id", "rating", "comment", "model", "arm", "by", "at", "expires_at")
"""What the chat function writes of a rating."""
RUNTIME = "lambdas/chat/bootstrap"
"""Starts the chat function's own runtime, which streams."""
STREAMS = "sagemaker:InvokeEndpointWithResponseStream"
CLAIM = ("taken_at", "expires_at")
"""What the shadow function writes of a message that it counted."""


JWT_KEY = f"dropforge-jwt-callers-{cdk.Aws.ACCOUNT_ID}"
"""The usage-plan key of those who come with a JWT."""


class ServingStack(cdk.Stack):
    """`api`, `chat`, `shadow`, `collect` and `cache` are watched by others.

    `endpoint` is None without SageMaker.
    """

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name, description="Dropforge: the chat API and the model endpoint")
        self.shadow = ShadowQueue(self, "Shadows", settings, data)
        self.shadow.feed(self._shadow(settings, data))
        self.collect = CollectQueue(self, "Collected", settings, data)
        self.collect.feed(self._keep(settings, data))
        self.cache = AnswerCache(self, "Cache", settings, data)
        self.cache.feed(self._check(settings, data))
        self.chat = Function(
            self,
            "chat",
            data=data,
            settings=settings,
            asset=CHAT,
            handler="lambdas.chat.handler.handler",
            grants=[
                Grant(("dynamodb:GetItem", "dynamodb:Query"), (data.table_arn,)),
                puts(data.table_arn, "project#*", *RATING),
                counts_traffic(data.table_arn),
                spends(data.table_arn),
                self.shadow.sends,
                self.collect.sends,
                *self.cache.serves,
                *self._asks_models(settings, data, STREAMS),
            ],
            environment={
                **self._models_environment(settings, data),
                "AWS_LAMBDA_EXEC_WRAPPER": f"/var/task/{RUNTIME}",
                **({"DROPFORGE_AUTH": "iam"} if settings.auth.iam else {}),
                "DROPFORGE_SHADOW_QUEUE": self.shadow.queue.queue_url,
                "DROPFORGE_COLLECT_QUEUE": self.collect.queue.queue_url,
                **self.cache.environment,
            },
        )
        self.api = ChatApi(
            self,
            "ChatApi",
            settings,
            data,
            chat=self.chat.function,
            authorizer=None if settings.auth.iam else self._authorize(settings, data).function,
        )
        if settings.auth.jwt and self.api.plans:
            self.api.plans.shared_key("jwt", settings.auth.jwt.plan, JWT_KEY)
        self.api.add_approvals(self._approve(settings, data).function)
        if settings.webhooks:
            self.api.add_webhooks(self._webhook(settings, data).function)
        self.endpoint = (
            ModelEndpoint(self, "Endpoint", settings.sagemaker, data)
            if settings.sagemaker.enabled
            else None
        )

    def _authorize(self, settings: Settings, data: DataStack) -> Function:
        jwt = settings.auth.jwt
        environment = {}
        if jwt:
            trust = {**jwt.model_dump(exclude={"plan"}, exclude_none=True), "key": JWT_KEY}
            environment["DROPFORGE_JWT"] = self.to_json_string(trust)
        return Function(
            self,
            "authorize",
            data=data,
            settings=settings,
            asset=AUTHORIZE if jwt else CHAT,
            handler="lambdas.authorize.handler.handler",
            grants=[Grant(("dynamodb:GetItem",), (data.table_arn,))],
            environment=environment,
        )

    def _approve(self, settings: Settings, data: DataStack) -> Function:
        return Function(
            self,
            "approve",
            data=data,
            settings=settings,
            asset=PIPELINE,
            handler="lambdas.approve.handler.handler",
            grants=[
                Grant(("dynamodb:GetItem", "dynamodb:PutItem"), (data.table_arn,)),
                reads_secret(data.approval_secret_arn),
                answers_waiting_runs(self),
            ],
            environment={"DROPFORGE_APPROVAL_SECRET_ARN": data.approval_secret_arn},
        )

    def _asks_models(self, settings: Settings, data: DataStack, *more: str) -> tuple[Grant, ...]:
        return reads_secret(*data.provider_secrets.values()), invokes_endpoint(settings, *more)

    def _models_environment(self, settings: Settings, data: DataStack) -> dict[str, str]:
        return {
            **provider_environment(self, settings, data),
            "DROPFORGE_DEADLINE_SECONDS": f"{settings.deadline_seconds:g}",
        }

    def _shadow(self, settings: Settings, data: DataStack) -> Function:
        """Asks a challenger what the champion was asked."""
        return Function(
            self,
            "shadow",
            data=data,
            settings=settings,
            asset=PIPELINE,
            handler="lambdas.shadow.handler.handler",
            grants=[
                Grant(("dynamodb:GetItem",), (data.table_arn,)),
                puts(data.table_arn, "project#*", *CLAIM),
                counts_traffic(data.table_arn),
                *self._asks_models(settings, data),
            ],
            environment=self._models_environment(settings, data),
        )

    def _check(self, settings: Settings, data: DataStack) -> Function:
        """Compares the answers of semantic hits with what the model says."""
        return Function(
            self,
            "check",
            data=data,
            settings=settings,
            asset=PIPELINE,
            handler="lambdas.check.handler.handler",
            grants=[*self.cache.counts, *self._asks_models(settings, data)],
            environment={
                **self._models_environment(settings, data),
                "DROPFORGE_CACHE_TABLE": self.cache.table.table_name,
            },
        )

    def _keep(self, settings: Settings, data: DataStack) -> Function:
        """Keeps an answer, redacted, until the project's next export of its own answers."""
        return Function(
            self,
            "keep",
            data=data,
            settings=settings,
            asset=DATA,
            handler="lambdas.collect.keep.handler",
            grants=[
                Grant(("dynamodb:GetItem",), (data.table_arn,)),
                puts(data.table_arn, "collected#*", *STORED),
                reads(data.bucket_arn, SNAPSHOTS),
            ],
        )

    def _webhook(self, settings: Settings, data: DataStack) -> Function:
        return Function(
            self,
            "webhook",
            data=data,
            settings=settings,
            asset=PIPELINE,
            handler="lambdas.webhook.handler.handler",
            grants=[
                table(data.table_arn),
                reads_secret(*data.webhook_secrets.values()),
                answers_waiting_runs(self),
            ],
            environment={"DROPFORGE_WEBHOOKS": self.to_json_string(data.webhook_secrets)},
        )
