"""Tokens and their usage-plan keys on an API Gateway and a DynamoDB that keep them."""

from __future__ import annotations

import io
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from contract_parts import ROLE

from dropforge.backends.tokens import REVOKED, Plans, TokenError, Tokens, Wish
from dropforge.serve.tokens import token_key

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plans(aws: Callable[[str], Any]) -> Plans:
    gateway = aws("apigateway")
    api = gateway.create_rest_api(name="tokens")["id"]
    plan = gateway.create_usage_plan(name="dropforge-standard")["id"]
    return Plans(api, "prod", {"standard": plan})


@pytest.fixture(scope="module")
def registry(emulator: str, aws: Callable[[str], Any]) -> Any:
    """A table `tokens`, by boto3's resource."""
    names = ("pk", "sk")
    aws("dynamodb").create_table(
        TableName="tokens",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in names],
        KeySchema=[
            {"AttributeName": n, "KeyType": kind}
            for n, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
    )
    return boto3.resource(
        "dynamodb",
        endpoint_url=emulator,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture(scope="module")
def tokens(registry: Any, aws: Callable[[str], Any], plans: Plans) -> Tokens:
    return Tokens("tokens", plans, resource=registry, gateway=aws("apigateway"))


def test_token_lives_with_its_key_until_it_is_revoked(
    tokens: Tokens, plans: Plans, aws: Callable[[str], Any]
) -> None:
    gateway, table = aws("apigateway"), aws("dynamodb")

    def known(token: str) -> dict[str, Any] | None:
        pk, sk = token_key(token)
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        item: dict[str, Any] | None = table.get_item(TableName="tokens", Key=key).get("Item")
        return item

    def keys() -> list[str]:
        found = gateway.get_usage_plan_keys(usagePlanId=plans.ids["standard"])["items"]
        return [key["name"] for key in found]

    now = time.time()
    name, first = tokens.create(Wish(("shop",), "storefront", budget_usd=5.0), now)
    assert keys() == [f"dropforge-{name}"]
    (key,) = gateway.get_api_keys(nameQuery=f"dropforge-{name}", includeValues=True)["items"]
    assert (known(first) or {})["key"] == {"S": key["value"]}
    second = tokens.rotate(name, now, grace=60)
    assert (known(first) or {})["expires_at"] == {"N": str(int(now + 60))}
    third = tokens.rotate(name, now, grace=0)
    assert known(first) is known(second) is None
    assert (known(third) or {})["key"] == {"S": key["value"]}
    tokens.revoke(third, now)
    assert known(third) is None
    assert gateway.get_api_keys(nameQuery=f"dropforge-{name}")["items"] == []
    assert [(one.id, one.state) for one in tokens.list(now)] == [(name, REVOKED)]
    with pytest.raises(TokenError, match="does not work any more"):
        tokens.rotate(name, now, grace=0)


def _authorizer(aws: Callable[[str], Any], emulator: str) -> str:
    """The real authorizer as a function; its ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for folder in (ROOT / "dropforge", ROOT / "lambdas" / "authorize"):
            for file in folder.rglob("*.py"):
                packed.write(file, file.relative_to(ROOT))
        packed.writestr("lambdas/__init__.py", "")
        package = Path(msgspec.__file__).parent
        for file in package.iterdir():
            if file.is_file():
                packed.write(file, f"msgspec/{file.name}")
    arn: str = aws("lambda").create_function(
        FunctionName="authorize", Runtime="python3.13", Role=ROLE, Timeout=60,
        Handler="lambdas.authorize.handler.handler", Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"DROPFORGE_TABLE": "tokens", "AWS_ENDPOINT_URL": emulator}},
    )["FunctionArn"]  # fmt: skip
    return arn


@pytest.fixture(scope="module")
def guarded(aws: Callable[[str], Any], emulator: str, registry: Any) -> tuple[str, Tokens]:
    """An API with the real authorizer, whose one plan allows two requests a month."""
    gateway = aws("apigateway")
    uri = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{}/invocations"
    api = gateway.create_rest_api(name="guarded", apiKeySource="AUTHORIZER")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    authorizer = gateway.create_authorizer(
        restApiId=api, name="token", type="TOKEN", authorizerResultTtlInSeconds=0,
        authorizerUri=uri.format(_authorizer(aws, emulator)),
        identitySource="method.request.header.Authorization",
    )["id"]  # fmt: skip
    gateway.put_method(
        restApiId=api, resourceId=root, httpMethod="GET", authorizationType="CUSTOM",
        authorizerId=authorizer, apiKeyRequired=True,
    )  # fmt: skip
    gateway.put_integration(
        restApiId=api, resourceId=root, httpMethod="GET", type="MOCK",
        requestTemplates={"application/json": '{"statusCode": 200}'},
    )  # fmt: skip
    gateway.put_method_response(restApiId=api, resourceId=root, httpMethod="GET", statusCode="200")
    gateway.put_integration_response(
        restApiId=api, resourceId=root, httpMethod="GET", statusCode="200"
    )
    gateway.create_deployment(restApiId=api, stageName="prod")
    plan = gateway.create_usage_plan(
        name="two", apiStages=[{"apiId": api, "stage": "prod"}],
        quota={"limit": 2, "period": "MONTH"},
    )["id"]  # fmt: skip
    plans = Plans(api, "prod", {"standard": plan})
    tokens = Tokens("tokens", plans, resource=registry, gateway=gateway)
    return f"{emulator}/_aws/execute-api/{api}/prod/", tokens


def status(url: str, token: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_each_token_is_let_in_as_often_as_its_plan_says_and_never_once_it_is_revoked(
    guarded: tuple[str, Tokens],
) -> None:
    url, tokens = guarded
    now = time.time()
    first, one = tokens.create(Wish(("shop",), "one"), now)
    _, two = tokens.create(Wish(("shop",), "two"), now)
    assert [status(url, one) for _ in range(3)] == [200, 200, 429]
    assert status(url, two) == 200
    again = tokens.rotate(first, now, grace=60)
    assert status(url, again) == 429, "a new secret is the same client"
    tokens.revoke(first, now)
    assert [status(url, token) for token in (one, again)] == [401, 401]
