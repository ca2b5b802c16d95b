"""The HTTPS API: routes, authorizer, limits, and errors in OpenAI's shape."""

from __future__ import annotations

import json

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.firewall import firewall
from infra.function import log_group
from infra.permissions import acknowledge, typed
from infra.plans import UsagePlans

STAGE = "prod"
TLS_POLICY = "SecurityPolicy_TLS13_1_2_PQ_2025_09"
"""TLS 1.2 and 1.3 only; a regional API accepts TLS 1.0 unless it is told (developer guide)."""
BEARER = r"^\s*[Bb][Ee][Aa][Rr][Ee][Rr]\s+\S{1,512}\s*$"
"""What does not look like a bearer token is refused without asking the authorizer."""
BEARER_OR_JWT = BEARER.replace("512", "8192")

Error = tuple[str, str, str, str]
REVOKED = "This token does not work any more: it was revoked."
NOT_CHECKED = "The token could not be checked just now. Try again."
RESPONSES: dict[str, Error] = {
    # response type: status, error type, code, message (an empty one: API Gateway's own)
    "ACCESS_DENIED": ("403", "permission_error", "access_denied", "This token may not do that."),
    "AUTHORIZER_CONFIGURATION_ERROR": ("500", "server_error", "authorizer_error", NOT_CHECKED),
    "AUTHORIZER_FAILURE": ("500", "server_error", "authorizer_error", NOT_CHECKED),
    "BAD_REQUEST_BODY": (
        "400",
        "invalid_request_error",
        "invalid_body",
        "The body does not fit this route: /v1/chat needs a message, /v1/chat/completions needs"
        " messages, /v1/embeddings needs an input, /v1/feedback needs an id and a rating.",
    ),
    "DEFAULT_4XX": ("", "invalid_request_error", "bad_request", ""),
    "DEFAULT_5XX": ("", "server_error", "server_error", ""),
    "INTEGRATION_FAILURE": (
        "502",
        "server_error",
        "bad_gateway",
        "The server could not answer just now. Try again.",
    ),
    "INTEGRATION_TIMEOUT": (
        "504",
        "server_error",
        "timeout",
        "The model did not answer in time. Try again, or ask for a shorter answer.",
    ),
    # A revoked token's key is gone at once; the authorizer's answer may be remembered a while.
    "INVALID_API_KEY": ("401", "authentication_error", "invalid_api_key", REVOKED),
    "MISSING_AUTHENTICATION_TOKEN": (
        "404",
        "invalid_request_error",
        "unknown_url",
        "There is no such route. Routes are under /v1; see docs/api.md.",
    ),
    "QUOTA_EXCEEDED": ("429", "insufficient_quota", "insufficient_quota", ""),
    "THROTTLED": (
        "429",
        "rate_limit_error",
        "rate_limit_exceeded",
        "Too many requests. Wait a moment and try again.",
    ),
    "UNAUTHORIZED": (
        "401",
        "authentication_error",
        "invalid_api_key",
        "Send `Authorization: Bearer <token>` with a token that is neither wrong nor revoked.",
    ),
    "WAF_FILTERED": (
        "403",
        "permission_error",
        "blocked",
        "The firewall refused this request: too many from one address, or it looks like an attack.",
    ),
}

UNSIGNED: Error = (
    "403",
    "permission_error",
    "access_denied",
    "There is no such route, or the request is not signed (AWS Signature Version 4). Routes are"
    " under /v1; see docs/api.md.",
)
"""MISSING_AUTHENTICATION_TOKEN where callers sign with IAM: API Gateway says it of both."""
HINTS = {
    "THROTTLED": {"Retry-After": "'1'"},
    "QUOTA_EXCEEDED": {"Retry-After": "'3600'", "x-should-retry": "'false'"},
}
"""Headers. A plan's quota ends with its month, and nothing tells a gateway response when; OpenAI's
clients send every 429 again that does not forbid it."""


class ChatApi(Construct):
    """A REST API of one stage; `url` has no trailing slash.

    Args:
        chat: answers every route, in API Gateway's format for streams (lambdas/chat/runtime.py).
        authorizer: says what a bearer token may do; None where callers sign with IAM.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        settings: Settings,
        data: DataStack,
        *,
        chat: lambda_.Function,
        authorizer: lambda_.Function | None,
    ) -> None:
        super().__init__(scope, name)
        self.rest_api = self._rest_api(settings, data)
        self._authorizer = self._bearer(settings, authorizer) if authorizer else None
        self.plans = (
            UsagePlans(self, "Plans", self.rest_api.deployment_stage, settings.plans)
            if authorizer
            else None
        )
        self._integration = apigateway.LambdaIntegration(
            chat,
            allow_test_invoke=False,
            scope_permission_to_method=False,
            response_transfer_mode=apigateway.ResponseTransferMode.STREAM,
            timeout=cdk.Duration.seconds(settings.functions.chat.timeout_s),
        )
        self._validator = self.rest_api.add_request_validator(
            "Validator", validate_request_body=True, validate_request_parameters=True
        )
        self._routes()
        unsigned = {} if self._authorizer else {"MISSING_AUTHENTICATION_TOKEN": UNSIGNED}
        for kind, error in {**RESPONSES, **unsigned}.items():
            self._error_response(kind, error)
        firewall(self, settings.api.requests_per_ip, self.rest_api.deployment_stage)
        acknowledge(
            self.rest_api,
            "COG4",
            "Bearer tokens are checked by a Lambda authorizer against the registry: OpenAI clients"
            " send a static key and cannot sign in to a user pool.",
        )

    @property
    def url(self) -> str:
        host = f"{self.rest_api.rest_api_id}.execute-api.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
        return f"https://{host}/{STAGE}"

    def _bearer(self, settings: Settings, function: lambda_.Function) -> apigateway.TokenAuthorizer:
        return apigateway.TokenAuthorizer(
            self,
            "Authorizer",
            handler=function,
            identity_source=apigateway.IdentitySource.header("Authorization"),
            validation_regex=BEARER_OR_JWT if settings.auth.jwt else BEARER,
            results_cache_ttl=cdk.Duration.seconds(settings.api.authorizer_ttl_s),
        )

    def _rest_api(self, settings: Settings, data: DataStack) -> apigateway.RestApi:
        access = log_group(self, "AccessLogs", "/dropforge/api", data, settings)
        api = apigateway.RestApi(
            self,
            "Api",
            rest_api_name="dropforge",
            description="Dropforge: chat with the promoted model of a project",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            api_key_source_type=None
            if settings.auth.iam
            else apigateway.ApiKeySourceType.AUTHORIZER,
            cloud_watch_role=False,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                throttling_rate_limit=settings.api.rate_per_second,
                throttling_burst_limit=settings.api.burst,
                tracing_enabled=True,
                metrics_enabled=True,
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                data_trace_enabled=False,
                access_log_destination=apigateway.LogGroupLogDestination(access),
                access_log_format=_access_log_format(),
            ),
        )
        cfn = typed(api.node.default_child, apigateway.CfnRestApi)
        cfn.security_policy, cfn.endpoint_access_mode = TLS_POLICY, "BASIC"
        # Error logs of executions go to a group that API Gateway names, and would keep for ever.
        executions = log_group(
            self,
            "ExecutionLogs",
            f"API-Gateway-Execution-Logs_{api.rest_api_id}/{STAGE}",
            data,
            settings,
        )
        api.deployment_stage.node.add_dependency(executions, self._log_role())
        return api

    def _log_role(self) -> apigateway.CfnAccount:
        """The region's one role with which API Gateway writes logs; it outlives the stack."""
        role = iam.Role(
            self,
            "LogRole",
            assumed_by=iam.ServicePrincipal("apigateway.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AmazonAPIGatewayPushToCloudWatchLogs"
                )
            ],
        )
        policy = "arn:<AWS::Partition>:iam::aws:policy/service-role"
        acknowledge(
            role,
            f"IAM4[Policy::{policy}/AmazonAPIGatewayPushToCloudWatchLogs]",
            "API Gateway checks its account-wide log role for the rights of exactly this policy.",
        )
        role.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        account = apigateway.CfnAccount(self, "Account", cloud_watch_role_arn=role.role_arn)
        account.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
        return account

    def _routes(self) -> None:
        root = self.rest_api.root
        v1 = root.add_resource("v1")
        chat = v1.add_resource("chat")
        text = {"message": _schema("STRING", min_length=1)}
        turns = {"messages": _schema("ARRAY", min_items=1)}
        rated = {"id": _schema("STRING", min_length=1), "rating": _schema("INTEGER")}
        self._method(chat, "POST", self._model("ChatRequest", text))
        completions = chat.add_resource("completions")
        self._method(completions, "POST", self._model("CompletionRequest", turns))
        models = v1.add_resource("models")
        self._method(models, "GET")
        self._method(models.add_resource("{model+}"), "GET")
        feedback = v1.add_resource("feedback")
        self._method(feedback, "POST", self._model("FeedbackRequest", rated))
        embeddings = {"input": apigateway.JsonSchema()}
        self._method(
            v1.add_resource("embeddings"), "POST", self._model("EmbeddingRequest", embeddings)
        )
        for resource, reason in (
            (root.add_resource("health"), "Health checks carry no token; the answer says no more."),
            (root, "The chat page is a public file; what it asks for carries the user's token."),
            (
                root.add_resource("openapi.json"),
                "The API's description is public and holds nobody's data.",
            ),
        ):
            acknowledge(resource.add_method("GET", self._integration), "APIG4", reason)

    def add_webhooks(self, function: lambda_.Function) -> None:
        """POST /webhooks/{provider}, where hosted providers tell that a job has ended."""
        webhooks = self.rest_api.root.add_resource("webhooks").add_resource("{provider}")
        integration = apigateway.LambdaIntegration(
            function, allow_test_invoke=False, scope_permission_to_method=False
        )
        told = webhooks.add_method("POST", integration, request_validator=self._validator)
        reason = (
            "A provider signs its webhooks and cannot send a bearer token; the function checks the"
            " signature, and what a webhook says only makes a run ask the provider earlier."
        )
        acknowledge(told, "APIG4", reason)

    def add_approvals(self, function: lambda_.Function) -> None:
        """GET and POST /approvals/{project}/{run}, where a person approves a model."""
        run = self.rest_api.root.add_resource("approvals").add_resource("{project}")
        asked = run.add_resource("{run}")
        integration = apigateway.LambdaIntegration(
            function, allow_test_invoke=False, scope_permission_to_method=False
        )
        signed = {f"method.request.querystring.{name}": True for name in ("expires", "signature")}
        reason = (
            "The link in the mail carries a signature over the run and its own end, which the"
            " function checks: a browser that opens a link sends no bearer token."
        )
        for verb in ("GET", "POST"):
            method = asked.add_method(
                verb,
                integration,
                request_validator=self._validator,
                request_parameters=signed,
            )
            acknowledge(method, "APIG4", reason)

    def _method(
        self, resource: apigateway.IResource, verb: str, model: apigateway.Model | None = None
    ) -> None:
        kinds = apigateway.AuthorizationType
        resource.add_method(
            verb,
            self._integration,
            authorizer=self._authorizer,
            authorization_type=kinds.CUSTOM if self._authorizer else kinds.IAM,
            api_key_required=self._authorizer is not None,
            request_validator=self._validator,
            request_models={"application/json": model} if model else None,
        )

    def _model(self, name: str, fields: dict[str, apigateway.JsonSchema]) -> apigateway.Model:
        """A body that has at least these fields; others are the chat function's to judge."""
        return self.rest_api.add_model(
            name,
            model_name=name,
            content_type="application/json",
            schema=_schema("OBJECT", properties=fields, required=list(fields)),
        )

    def _error_response(self, kind: str, error: Error) -> None:
        status, type_, code, message = error
        said = json.dumps(message) if message else "$context.error.messageString"
        body = f'{{"error":{{"message":{said},"type":"{type_}","param":null,"code":"{code}"}}}}'
        self.rest_api.add_gateway_response(
            kind,
            type=apigateway.ResponseType.of(kind),
            status_code=status or None,
            response_headers={"x-request-id": "context.requestId", **HINTS.get(kind, {})},
            templates={"application/json": body},
        )


def _schema(
    kind: str,
    *,
    min_length: int | None = None,
    min_items: int | None = None,
    properties: dict[str, apigateway.JsonSchema] | None = None,
    required: list[str] | None = None,
) -> apigateway.JsonSchema:
    return apigateway.JsonSchema(
        schema=apigateway.JsonSchemaVersion.DRAFT4 if kind == "OBJECT" else None,
        type=apigateway.JsonSchemaType[kind],
        min_length=min_length,
        min_items=min_items,
        properties=properties,
        required=required,
    )


def _access_log_format() -> apigateway.AccessLogFormat:
    """One JSON line a request: who by the token's id, never its secret and never the body."""
    fields = {
        "time": "$context.requestTime",
        "request": "$context.requestId",
        "extended_request": "$context.extendedRequestId",
        "trace": "$context.xrayTraceId",
        "address": "$context.identity.sourceIp",
        "method": "$context.httpMethod",
        "route": "$context.resourcePath",
        "status": "$context.status",
        "token": "$context.authorizer.principalId",
        "latency_ms": "$context.responseLatency",
        "integration_ms": "$context.integration.latency",
        "error": "$context.error.responseType",
    }
    return apigateway.AccessLogFormat.custom(json.dumps(fields))
