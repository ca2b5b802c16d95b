"""Approval, canaries and roll-backs as they are deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import assertions
from aws_cdk import aws_sqs as sqs

from infra.config import settings_from
from infra.data_stack import DataStack
from infra.promotion import HARMFUL, PARAMETER, Promotion
from tests.infra.assembly import Assembly, listed, text, unbundled

EVENT = Path(__file__).parents[1] / "events" / "cloudwatch_alarm.json"


def actions(assembly: Assembly, role: str) -> dict[str, set[str]]:
    """What a function's role may do, by action: on which resources."""
    found: dict[str, set[str]] = {}
    for name, statement in assembly.statements():
        if name.startswith(f"{role}Role"):
            for action in listed(statement["Action"]):
                resources = {text(r) for r in listed(statement["Resource"])}
                found.setdefault(action, set()).update(resources)
    return found


def test_topic_is_encrypted_and_refuses_what_is_not_tls(assembly: Assembly) -> None:
    topics = assembly.properties("AWS::SNS::Topic", "DropforgePipeline").values()
    [topic] = [t for t in topics if t["TopicName"] == "dropforge-approvals"]
    policy = assembly.one("AWS::SNS::TopicPolicy", "PromotionApprovals")
    [statement] = policy["PolicyDocument"]["Statement"]

    assert topic["KmsMasterKeyId"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_question_goes_to_its_own_mailbox_or_to_that_of_the_alarms() -> None:
    for context, mailbox in (
        ({"alarm_email": "ops@example.com"}, "ops@example.com"),
        (
            {"alarm_email": "ops@example.com", "approval_email": "ann@example.com"},
            "ann@example.com",
        ),
    ):
        app, settings = unbundled(), settings_from(context)
        stack = cdk.Stack(app, "Stack")
        Promotion(
            stack, "Promotion", settings, DataStack(app, "Data", settings), sqs.Queue(stack, "Dead")
        )
        template = assertions.Template.from_stack(stack)
        template.resource_count_is("AWS::SNS::Subscription", 1)
        template.has_resource_properties(
            "AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": mailbox}
        )


def test_key_that_signs_is_made_by_the_deployment(assembly: Assembly) -> None:
    secrets = assembly.properties("AWS::SecretsManager::Secret").values()
    [key] = [s for s in secrets if s["Name"] == "dropforge/approval"]

    assert key["GenerateSecretString"]["PasswordLength"] == 64
    assert key["KmsKeyId"]


def test_page_is_reached_without_a_bearer_token_and_with_a_signature_alone(
    assembly: Assembly,
) -> None:
    methods = assembly.properties("AWS::ApiGateway::Method")
    found = {n: m for n, m in methods.items() if "approvals" in n}

    assert sorted(m["HttpMethod"] for m in found.values()) == ["GET", "POST"]
    for method in found.values():
        assert method["AuthorizationType"] == "NONE"
        assert method["RequestParameters"] == {
            "method.request.querystring.expires": True,
            "method.request.querystring.signature": True,
        }
        assert method["RequestValidatorId"]


def test_asking_may_publish_sign_and_look_up_the_address_alone(assembly: Assembly) -> None:
    may = actions(assembly, "PromotionAsk")

    assert len(may["sns:Publish"]) == 1
    assert len(may["secretsmanager:GetSecretValue"]) == 1
    [parameter] = may["ssm:GetParameter"]
    assert parameter.endswith(f":parameter{PARAMETER}")
    [machine] = may["states:SendTaskSuccess"]
    assert machine.endswith(":stateMachine:dropforge-pipeline")


def test_page_may_answer_the_run_and_nothing_start(assembly: Assembly) -> None:
    may = actions(assembly, "Approve")

    assert {a for a in may if a.startswith("dynamodb:")} == {"dynamodb:GetItem", "dynamodb:PutItem"}
    assert "states:SendTaskSuccess" in may
    assert not {a for a in may if a.startswith(("s3:", "sns:", "sagemaker:", "lambda:"))}
    assert "states:StartExecution" not in may


def test_alarms_of_the_api_end_canaries(assembly: Assembly) -> None:
    rules = assembly.properties("AWS::Events::Rule", "DropforgePipeline").values()
    [rule] = [r for r in rules if r["EventPattern"]["source"] == ["aws.cloudwatch"]]
    pattern = rule["EventPattern"]
    event: dict[str, Any] = json.loads(EVENT.read_text())

    assert event["detail-type"] in pattern["detail-type"]
    assert event["detail"]["alarmName"] in pattern["detail"]["alarmName"]
    assert pattern["detail"]["alarmName"] == ["dropforge-ApiServerErrors"], "slow is not harmful"
    assert pattern["detail"]["state"] == {"value": ["ALARM"]}
    [target] = rule["Targets"]
    assert "Rollback" in text(target["Arn"])
    assert target["DeadLetterConfig"]


def test_alarms_that_end_canaries_exist(assembly: Assembly) -> None:
    alarms = assembly.properties("AWS::CloudWatch::Alarm").values()
    names = {alarm["AlarmName"] for alarm in alarms}

    assert {f"dropforge-{name}" for name in HARMFUL} <= names
