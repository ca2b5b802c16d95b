"""A REST API with a TOKEN authorizer in front of a Lambda proxy, as the chat API is deployed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def api_url(aws: Callable[[str], Any], function: Callable[[str], str], emulator: str) -> str:
    arn = function("api")
    invoke = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    gateway = aws("apigateway")
    api = gateway.create_rest_api(name="chat", apiKeySource="AUTHORIZER")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    v1 = gateway.create_resource(restApiId=api, parentId=root, pathPart="v1")["id"]
    authorizer = gateway.create_authorizer(
        restApiId=api, name="token", type="TOKEN", authorizerUri=invoke,
        authorizerResultTtlInSeconds=0, identitySource="method.request.header.Authorization",
    )["id"]  # fmt: skip
    proxy = gateway.create_resource(restApiId=api, parentId=v1, pathPart="{proxy+}")["id"]
    gateway.put_method(
        restApiId=api,
        resourceId=proxy,
        httpMethod="ANY",
        authorizationType="CUSTOM",
        authorizerId=authorizer,
    )
    gateway.put_integration(
        restApiId=api,
        resourceId=proxy,
        httpMethod="ANY",
        type="AWS_PROXY",
        integrationHttpMethod="POST",
        uri=invoke,
    )
    gateway.create_deployment(restApiId=api, stageName="prod")
    return f"{emulator}/_aws/execute-api/{api}/prod"


def call(url: str, token: str | None) -> tuple[int, str, Any]:
    """Status, body and headers of a POST."""
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    request = urllib.request.Request(url, json.dumps({"message": "hi"}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def test_authorizer_context_reaches_the_function_and_headers_come_back(api_url: str) -> None:
    status, body, headers = call(f"{api_url}/v1/chat/completions", "good")
    assert (status, body) == (201, 'acme /v1/chat/completions {"message": "hi"}')
    assert headers["x-dropforge-model"] == "v1"


@pytest.mark.parametrize(("token", "status"), [("bad", 403), ("none", 401), (None, 401)])
def test_refused_tokens_never_reach_the_function(
    api_url: str, token: str | None, status: int
) -> None:
    assert call(f"{api_url}/v1/chat", token)[0] == status
