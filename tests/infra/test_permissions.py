from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from botocore.client import BaseClient

from dropforge.artifacts import collected_key
from dropforge.backends.collected import Answers
from dropforge.backends.registry import SUCCEEDED
from dropforge.chat import Message
from dropforge.collect import Kept
from infra.config import settings_from
from infra.data_stack import DataStack
from infra.permissions import Grant
from infra.pipeline_stack import PipelineStack
from lambdas.schedule import handler as schedule
from tests.infra.assembly import Assembly, listed, text, unbundled
from tests.support.tickets import tickets_csv
from tests.support.world import PROJECT, World

BUCKET = "<DropforgeData:ExportsOutputFnGetAttBucket83908E77Arn063C8555>"
RECIPES = "arn:<AWS::Partition>:s3:::jumpstart-cache-prod-<AWS::Region>/recipes/*"
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
EXPECTED = {
    # function: (prefixes read, prefixes written), as the functions' own code needs them
    "Drop": (
        {"exports/*", "projects/*"},
        {
            "exports/*.error.txt",
            "projects/*.error.txt",
            "projects/*/versions/*",
            "judge/*/golden/*",
        },
    ),
    "Clean": ({"exports/*", "projects/*", "clean/*"}, {"clean/*", "rejected/*"}),
    "Validate": ({"clean/*", "projects/*", "validate/*"}, {"validate/*"}),
    "Launch": (
        {"validate/*", "projects/*", "train/*", "models/*/config.json", RECIPES},
        {"train/*"},
    ),
    "Poll": ({"train/*", "projects/*"}, {"train/*"}),
    "Wait": (set(), set()),
    "Fallback": ({"train/*", "projects/*"}, {"train/*"}),
    "Parity": ({"train/*", "projects/*"}, {"train/*"}),
    "Watch": ({"projects/*", "validate/*"}, set()),
    "Drift": (
        {"projects/*", "validate/*", "judge/*"},
        {"judge/*/drift/*", "judge/*/answers/*"},
    ),
    "Plan": ({"validate/*", "projects/*", "judge/*"}, set()),
    "Judge": ({"validate/*", "projects/*", "judge/*"}, {"judge/*"}),
    "Verdict": ({"judge/*", "validate/*", "train/*", "projects/*"}, {"judge/*"}),
    "PromotionAsk": ({"judge/*"}, set()),
    "Promote": ({"judge/*", "projects/*"}, set()),
    "PromotionCanary": ({"projects/*"}, set()),
    "PromotionRollback": (set(), set()),
    "Fail": (set(), {"exports/*.error.txt"}),
    "Schedule": ({"exports/*/collected/*", "judge/*/golden/*"}, {"exports/*/collected/*"}),
    "Keep": ({"projects/*/versions/*"}, set()),
    "Extract": ({"projects/*", "exports/*/extracted/*"}, {"exports/*/extracted/*"}),
    "Authorize": (set(), set()),
    "Chat": (set(), set()),
    "Shadow": (set(), set()),
    "Check": (set(), set()),
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


@pytest.mark.parametrize("function", EXPECTED)
def test_function_reads_and_writes_its_own_prefixes_only(assembly: Assembly, function: str) -> None:
    read, written = EXPECTED[function]

    assert allowed(assembly, function, "s3:GetObject") == read
    assert allowed(assembly, function, "s3:PutObject") == written


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


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions of DynamoDB that are used while a test runs."""
    seen: set[str] = set()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def remember(self: BaseClient, operation: str, arguments: Any) -> Any:
        if self.meta.service_model.service_name == "dynamodb":
            seen.add(f"dynamodb:{operation}")
        return call(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", remember)
    return seen


def test_monthly_tick_uses_no_action_on_the_registry_that_its_role_has_not(
    assembly: Assembly, world: World, called: set[str]
) -> None:
    """With answers to export, and then with parts to take out again."""
    world.put_project(PROJECT + "monthly: true\ncollect: {consent: true}\n")
    done = world.drop(tickets_csv(5))
    world.registry.update("shop", f"run#{done['run']['run_id']}", {"status": SUCCEEDED})
    said = (Message("user", "Where is my blue lamp?"), Message("assistant", "It ships today."))
    Answers(world.table).put("shop", Kept("a", 1.0, "u", "c", "x", said, (), "s", 2**40))
    world.registry.put("shop", "feedback#v2#a", {"id": "a", "rating": 1})
    part = {"key": collected_key("shop"), "sha256": "p", "hash": "p", "at": 1, "first_at": 1}
    world.registry.put("shop", "clean#p", part)
    called.clear()

    schedule.handler({"time": "2026-12-01T06:00:00Z"}, None)
    assert world.store.find(collected_key("shop"))
    world.registry.update("shop", "config", {"collect": None})
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    assert world.registry.get("shop", "clean#p") is None

    actions = {
        action
        for name, statement in assembly.statements()
        if name.startswith("ScheduleRole")
        for action in listed(statement["Action"])
    }
    assert {"dynamodb:Query", "dynamodb:DeleteItem"} <= called <= actions
