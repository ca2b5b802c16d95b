"""The states of cheap judging, and who may ask Bedrock's models."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

from infra.config import ConfigError, Settings, settings_from
from infra.converse import converses
from infra.judge_states import CHEAP_FUNCTIONS, cheap_states
from infra.states import State
from tests.infra.assembly import Assembly, listed, text, unbundled

HERE = "arn:<AWS::Partition>:bedrock:<AWS::Region>"
NOVA = "amazon.nova-lite-v1:0"


@pytest.fixture(scope="module")
def states(settings: Settings) -> dict[str, State]:
    return cheap_states(settings, then="Plan")


def test_batches_are_collected_until_all_is_done(states: dict[str, State]) -> None:
    assert states["Cheap?"]["Choices"][0] == {
        "Variable": "$.plan.cheap",
        "BooleanEquals": True,
        "Next": "Submit",
    }
    assert states["Cheap?"]["Default"] == "Plan"
    assert states["Submit"]["Next"] == "WaitForBatch"
    assert states["WaitForBatch"] == {
        "Type": "Wait",
        "SecondsPath": "$.cheap.poll_seconds",
        "Next": "Collect",
    }
    assert states["Collect"]["Next"] == "Collected?"
    assert states["Collected?"]["Choices"][0]["Next"] == "Plan"
    assert states["Collected?"]["Default"] == "WaitForBatch"


def test_what_may_pass_is_tried_again_and_the_rest_fails_the_run(states: dict[str, State]) -> None:
    for name in ("Submit", "Collect"):
        assert "RetryableError" in states[name]["Retry"][-1]["ErrorEquals"]
        assert states[name]["Catch"][-1]["Next"] == "Fail"
        assert states[name]["ResultPath"] == "$.cheap"


def test_the_functions_touch_judging_and_projects_alone(assembly: Assembly) -> None:
    functions = assembly.functions()
    for name in CHEAP_FUNCTIONS:
        assert functions[name]["Environment"]["Variables"]["DROPFORGE_POLL_SECONDS"] == "60"
        touched: dict[str, set[str]] = {}
        for policy, statement in assembly.statements():
            if policy.startswith(f"{name.capitalize()}Role"):
                for action in listed(statement["Action"]):
                    places = {
                        text(one).rpartition(">/")[2] for one in listed(statement["Resource"])
                    }
                    touched.setdefault(action, set()).update(places)
        assert touched["s3:GetObject"] == {"projects/*", "judge/*"}
        assert touched["s3:PutObject"] == {"judge/*"}
        assert "s3:DeleteObject" not in touched
        assert "bedrock:InvokeModel" not in touched


def statements(*models: str) -> list[dict[str, Any]]:
    stack = cdk.Stack(unbundled(), "Stack")
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    for grant in converses(settings_from({"bedrock_judges": list(models)})):
        grant.to(role)
    found = Template.from_stack(stack).find_resources("AWS::IAM::Policy")
    return [
        statement
        for policy in found.values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def test_without_judges_at_bedrock_nobody_may_ask_there() -> None:
    assert statements() == []


@pytest.mark.parametrize("model", [NOVA, "openai.gpt-oss-120b-1:0", "zai.glm-4.6"])
def test_a_model_is_asked_in_this_region_alone(model: str) -> None:
    (statement,) = statements(model)
    assert statement["Action"] == "bedrock:InvokeModel"
    assert text(statement["Resource"]) == f"{HERE}::foundation-model/{model}"


@pytest.mark.parametrize(("place", "regions"), [("us", ["*"]), ("global", ["*", ""])])
def test_a_profile_opens_its_model_elsewhere_by_way_of_itself_alone(
    place: str, regions: list[str]
) -> None:
    profile, model = statements(f"{place}.{NOVA}")
    arn = f"{HERE}:<AWS::AccountId>:inference-profile/{place}.{NOVA}"
    assert text(profile["Resource"]) == arn
    assert [text(one) for one in listed(model["Resource"])] == [
        f"arn:<AWS::Partition>:bedrock:{region}::foundation-model/{NOVA}" for region in regions
    ]
    condition = model["Condition"]["StringEquals"]["bedrock:InferenceProfileArn"]
    assert text(condition) == arn


@pytest.mark.parametrize("model", ["*", "nova", "amazon.*", "amazon.nova lite", ""])
def test_what_names_no_model_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="bedrock_judges"):
        settings_from({"bedrock_judges": [model]})
