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
from infra.permissions import Grant, table
from infra.pipeline_functions import (
    answers_waiting_runs,
    invokes_endpoint,
    provider_environment,
    reads_secret,
)


class ServingStack(cdk.Stack):
    """`api` and `chat` are watched by others. `endpoint` is None where SageMaker is off."""

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
        self.chat = Function(
            self,
            "chat",
            data=data,
            settings=settings,
            asset=CHAT,
            handler="lambdas.chat.handler.handler",
            grants=[
                Grant(
                    ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"), (data.table_arn,)
                ),
                reads_secret(*data.provider_secrets.values()),
                invokes_endpoint(settings),
            ],
            environment={
                **provider_environment(self, settings, data),
                "DROPFORGE_DEADLINE_SECONDS": f"{settings.deadline_seconds:g}",
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
        if settings.webhooks:
            self.api.add_webhooks(self._webhook(settings, data).function)
        self.endpoint = (
            ModelEndpoint(self, "Endpoint", settings.sagemaker, data)
            if settings.sagemaker.enabled
            else None
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
