"""Who may ask Bedrock's models."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template

from infra.config import ConfigError, settings_from
from infra.converse import converses
from tests.infra.assembly import listed, text, unbundled

HERE = "arn:<AWS::Partition>:bedrock:<AWS::Region>"
NOVA = "amazon.nova-lite-v1:0"


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
