from __future__ import annotations

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam

from infra.config import settings_from
from infra.data_stack import DataStack
from infra.permissions import Grant
from infra.pipeline_stack import PipelineStack
from tests.infra.assembly import Assembly, listed, text, unbundled

BUCKET = "<DropforgeData:ExportsOutputFnGetAttBucket83908E77Arn063C8555>"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dropforge-spark:1"
UNSCOPED = {
    # Actions for which AWS offers no resource, by the service authorization reference.
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def allowed(assembly: Assembly, role: str, action: str) -> set[str]:
    """Resources on which a function's role may do something, without the bucket's ARN."""
    return {
        text(resource).removeprefix(f"{BUCKET}/")
        for name, statement in assembly.statements()
        if name.startswith(f"{role}Role")
        for resource in listed(statement["Resource"])
        if action in listed(statement["Action"])
    }


def test_no_statement_allows_a_wildcard_action(assembly: Assembly) -> None:
    for name, statement in assembly.statements():
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            assert "*" not in action, (name, action)


def test_only_actions_without_a_resource_type_are_allowed_on_everything(
    assembly: Assembly,
) -> None:
    for name, statement in assembly.statements():
        if "*" in listed(statement["Resource"]):
            assert set(listed(statement["Action"])) <= UNSCOPED, name


def test_objects_are_deleted_by_nobody_but_drop_which_removes_its_messages(
    assembly: Assembly,
) -> None:
    able = {
        name
        for name, statement in assembly.statements()
        if "s3:DeleteObject" in listed(statement["Action"])
    }

    assert len(able) == 1
    assert allowed(assembly, "Drop", "s3:DeleteObject") == {
        "exports/*.error.txt",
        "projects/*.error.txt",
    }


def test_secrets_are_read_by_those_who_talk_to_others_or_sign_links(assembly: Assembly) -> None:
    readers = {
        name.partition("Role")[0]
        for name, statement in assembly.statements()
        if "secretsmanager:GetSecretValue" in listed(statement["Action"])
    }

    assert readers == {
        "Launch",
        "Poll",
        "Fallback",
        "Judge",
        "Watch",
        "Drift",
        "Chat",
        "Shadow",
        "Check",
        "PromotionAsk",
        "Approve",
        "Extract",
    }
    (secrets,) = allowed(assembly, "Extract", "secretsmanager:GetSecretValue")
    assert secrets.endswith(":secret:dropforge/database/*")


def test_chat_path_cannot_change_the_registry_beyond_new_items(assembly: Assembly) -> None:
    """A canary's numbers apart: see tests/infra/test_serving_stack.py."""
    assert not allowed(assembly, "Authorize", "dynamodb:UpdateItem")
    for function in ("Authorize", "Chat", "Shadow", "Keep"):
        assert not allowed(assembly, function, "dynamodb:DeleteItem")
    assert not allowed(assembly, "Authorize", "dynamodb:PutItem")
    assert allowed(assembly, "Chat", "dynamodb:PutItem")


def test_runs_are_started_by_drop_and_by_the_clock_only(assembly: Assembly) -> None:
    starters = {
        name.partition("Role")[0]
        for name, statement in assembly.statements()
        if "states:StartExecution" in listed(statement["Action"])
    }

    assert starters == {"Drop", "Schedule", "Watch"}


def test_roles_are_passed_to_sagemaker_only(assembly: Assembly) -> None:
    passing = [s for _, s in assembly.statements() if "iam:PassRole" in listed(s["Action"])]

    assert len(passing) == 2, "the state machine's, and launch's for serverless jobs"
    for statement in passing:
        assert statement["Condition"] == {
            "StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}
        }
        assert "Training" in text(statement["Resource"])


def test_service_roles_are_assumed_for_this_account_only(assembly: Assembly) -> None:
    for name, role in assembly.properties("AWS::IAM::Role").items():
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            service = statement["Principal"]["Service"]
            if service not in ("lambda.amazonaws.com", "apigateway.amazonaws.com"):
                condition = statement["Condition"]["StringEquals"]
                assert condition["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}, name


def test_nothing_is_granted_twice_to_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is optional, too. CDK would write such a statement once, and hide it."""
    granted: list[tuple[str, Grant]] = []
    monkeypatch.setattr(Grant, "to", lambda grant, role: granted.append((role.node.path, grant)))
    settings = settings_from({"bedrock_judges": ["us.amazon.nova-pro-v1:0"], "spark.image": IMAGE})
    app = unbundled()

    PipelineStack(app, "Pipeline", settings, DataStack(app, "Data", settings))

    assert len(granted) > 100
    assert [g for n, g in enumerate(granted) if g in granted[:n]] == []


def test_a_wildcard_without_a_reason_is_refused() -> None:
    role = iam.Role(
        cdk.Stack(cdk.App(), "Stack"), "Role", assumed_by=iam.ServicePrincipal("x.amazonaws.com")
    )

    with pytest.raises(ValueError, match="say why"):
        Grant(("s3:GetObject",), ("arn:aws:s3:::bucket/*",)).to(role)
