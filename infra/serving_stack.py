"""What answers people: the HTTPS API with its functions, and the SageMaker endpoint."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from infra.api import ChatApi
from infra.asset import CHAT, PIPELINE
from infra.config import Settings
from infra.data_stack import DataStack
from infra.endpoint import ModelEndpoint
from infra.function import Function
from infra.permissions import Grant, counts_traffic, puts, table
from infra.pipeline_functions import (
    answers_waiting_runs,
    invokes_endpoint,
    provider_environment,
    reads_secret,
)
from infra.shadow import ShadowQueue

RATING = ("id", "rating", "comment", "model", "arm", "by", "at", "expires_at")
"""What the chat function writes of a rating."""
CLAIM = ("taken_at", "expires_at")
"""What the shadow function writes of a message that it counted."""


class ServingStack(cdk.Stack):
    """`api`, `chat` and `shadow` are watched by others; `endpoint` is None without SageMaker."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name, description="Dropforge: the chat API and the model endpoint")
        reads_registry = Grant(("dynamodb:GetItem",), (data.table_arn,))
        authorize = Function(
            self,
            "authorize",
            data=data,
            settings=settings,
            asset=CHAT,
            handler="lambdas.authorize.handler.handler",
            grants=[reads_registry],
        )
        self.shadow = ShadowQueue(self, "Shadows", settings, data)
        self.shadow.feed(self._shadow(settings, data))
        self.chat = Function(
            self,
            "chat",
            data=data,
            settings=settings,
            asset=CHAT,
            handler="lambdas.chat.handler.handler",
            grants=[
                Grant(("dynamodb:GetItem", "dynamodb:Query"), (data.table_arn,)),
                puts(data.table_arn, *RATING),
                counts_traffic(data.table_arn),
                self.shadow.sends,
                *self._asks_models(settings, data),
            ],
            environment={
                **self._models_environment(settings, data),
                "DROPFORGE_SHADOW_QUEUE": self.shadow.queue.queue_url,
            },
        )
        self.api = ChatApi(
            self,
            "ChatApi",
            settings,
            data,
            chat=self.chat.function,
            authorizer=authorize.function,
        )
        self.api.add_approvals(self._approve(settings, data).function)
        if settings.webhooks:
            self.api.add_webhooks(self._webhook(settings, data).function)
        self.endpoint = (
            ModelEndpoint(self, "Endpoint", settings.sagemaker, data)
            if settings.sagemaker.enabled
            else None
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

    def _asks_models(self, settings: Settings, data: DataStack) -> tuple[Grant, ...]:
        return reads_secret(*data.provider_secrets.values()), invokes_endpoint(settings)

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
                puts(data.table_arn, *CLAIM),
                counts_traffic(data.table_arn),
                *self._asks_models(settings, data),
            ],
            environment=self._models_environment(settings, data),
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
