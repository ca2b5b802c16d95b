from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from aws_cdk import assertions

from dropforge.serve.budget import SLOT_SECONDS, SLOTS, slot
from infra.api import BEARER_OR_JWT
from infra.config import ConfigError, settings_from
from infra.data_stack import DataStack
from infra.serving_stack import ServingStack
from lambdas.authorize.issuer import Trust
from tests.infra.assembly import Assembly, text, unbundled

JWT = {"issuer": "https://login.example", "audience": "a", "jwks_url": "https://login.example/k"}


def resources(**context: Any) -> dict[str, dict[str, Any]]:
    app, settings = unbundled(), settings_from(context)
    stack = ServingStack(app, "Serving", settings, DataStack(app, "Data", settings))
    found: dict[str, dict[str, Any]] = assertions.Template.from_stack(stack).to_json()["Resources"]
    return found


@cache
def signed() -> dict[str, dict[str, Any]]:
    """Where requests are signed with IAM's keys."""
    return resources(auth={"iam": True})


def of(found: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [r["Properties"] for r in found.values() if r["Type"] == f"AWS::{kind}"]


def test_plans_of_the_context_are_usage_plans_of_the_stage(with_options: Assembly) -> None:
    found = with_options.properties("AWS::ApiGateway::UsagePlan").values()
    plans = {plan["UsagePlanName"]: plan for plan in found}
    assert set(plans) == {"dropforge-standard", "dropforge-gold"}
    standard = plans["dropforge-standard"]
    assert standard["Throttle"] == {"RateLimit": 25, "BurstLimit": 50}
    assert standard["Quota"] == {"Limit": 1_000_000, "Period": "MONTH"}
    assert len(standard["ApiStages"]) == 1
    assert "Quota" not in plans["dropforge-gold"]


def test_keys_come_from_the_authorizer_and_every_token_route_needs_one(assembly: Assembly) -> None:
    assert assembly.one("AWS::ApiGateway::RestApi")["ApiKeySourceType"] == "AUTHORIZER"
    methods = assembly.properties("AWS::ApiGateway::Method").values()
    assert {m["AuthorizationType"] for m in methods if m.get("ApiKeyRequired")} == {"CUSTOM"}
    assert {m["AuthorizationType"] for m in methods if not m.get("ApiKeyRequired")} == {"NONE"}


def test_command_finds_the_plans_and_the_stage(assembly: Assembly) -> None:
    (told,) = [
        p["Value"]
        for p in assembly.properties("AWS::SSM::Parameter").values()
        if p["Name"] == "/dropforge/deployment"
    ]
    for part in ('"plans"', '"stage":"prod"', '"standard"', '"authorizer_ttl_s":60'):
        assert part in text(told)


def test_chat_may_change_amounts_of_budgets_and_nothing_else(assembly: Assembly) -> None:
    (found,) = [s for _, s in assembly.statements() if "budget#" in str(s.get("Condition"))]
    assert found["Action"] == "dynamodb:UpdateItem"
    condition = found["Condition"]
    assert condition["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["budget#*"]}
    slots = {slot(n * SLOT_SECONDS) for n in range(SLOTS)}
    attributes = condition["ForAllValues:StringEquals"]["dynamodb:Attributes"]
    assert set(attributes) == {"pk", "sk", "used_nano", *slots}


def test_jwts_are_told_to_the_authorizer_and_share_a_key() -> None:
    found = resources(auth={"jwt": {**JWT, "budget_usd": 5}})
    (authorize,) = [
        f for f in of(found, "Lambda::Function") if f["FunctionName"] == "dropforge-authorize"
    ]
    told = text(authorize["Environment"]["Variables"]["DROPFORGE_JWT"])
    for name in Trust.__struct_fields__:
        assert f'"{name}"' in told
    (key,) = of(found, "ApiGateway::ApiKey")
    assert text(key["Value"]) in told
    assert len(of(found, "ApiGateway::UsagePlanKey")) == 1
    (authorizer,) = of(found, "ApiGateway::Authorizer")
    assert authorizer["IdentityValidationExpression"] == BEARER_OR_JWT


def test_with_iam_signatures_are_checked_and_nobody_needs_a_key() -> None:
    found = signed()
    kinds = {m["AuthorizationType"] for m in of(found, "ApiGateway::Method")}
    assert kinds == {"AWS_IAM", "NONE"}
    assert not any(m.get("ApiKeyRequired") for m in of(found, "ApiGateway::Method"))
    assert of(found, "ApiGateway::Authorizer") == of(found, "ApiGateway::UsagePlan") == []
    chat = next(f for f in of(found, "Lambda::Function") if f["FunctionName"] == "dropforge-chat")
    assert chat["Environment"]["Variables"]["DROPFORGE_AUTH"] == "iam"
    assert "dropforge-authorize" not in str(found)


def test_with_iam_an_unsigned_request_is_not_told_that_the_route_is_missing(
    assembly: Assembly,
) -> None:
    by_default = list(assembly.properties("AWS::ApiGateway::GatewayResponse").values())
    with_iam = of(signed(), "ApiGateway::GatewayResponse")
    for iam, responses, status in ((True, with_iam, "403"), (False, by_default, "404")):
        (told,) = [r for r in responses if r["ResponseType"] == "MISSING_AUTHENTICATION_TOKEN"]
        said = json.loads(told["ResponseTemplates"]["application/json"])["error"]["message"]
        assert told["StatusCode"] == status
        assert said.startswith("There is no such route")
        assert ("not signed" in said) is iam


def test_by_default_nothing_is_said_of_iam_or_jwts(assembly: Assembly) -> None:
    functions = assembly.functions()
    assert "DROPFORGE_AUTH" not in functions["chat"]["Environment"]["Variables"]
    assert "DROPFORGE_JWT" not in functions["authorize"]["Environment"]["Variables"]
    assert not assembly.properties("AWS::ApiGateway::ApiKey")


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"auth": {"iam": True, "jwt": JWT}}, "choose one"),
        ({"auth": {"jwt": {**JWT, "plan": "gold"}}}, "gold, which is not among plans"),
        ({"auth": {"jwt": {**JWT, "jwks_url": "http://login.example/k"}}}, "auth.jwt.jwks_url"),
        ({"auth": {"jwt": {**JWT, "issuer": "login.example"}}}, "auth.jwt.issuer"),
        ({"plans.Gold": {"rate_per_second": 1, "burst": 1}}, "plans.Gold"),
        ({"plans.standard.burst": 0}, "plans.standard.burst"),
    ],
)
def test_context_that_makes_no_sense_is_refused(context: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_from(context)
