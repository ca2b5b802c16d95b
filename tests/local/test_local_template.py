"""Stripping a template for the emulator."""

from __future__ import annotations

import json
from typing import Any

from local.template import strip, summary

ROLE_ARN = {"Fn::GetAtt": ["Role", "Arn"]}


def template() -> dict[str, Any]:
    """A template with a SageMaker endpoint that everything else refers to in every way there is."""
    return {
        "Resources": {
            "Endpoint": {
                "Type": "AWS::SageMaker::Endpoint",
                "Properties": {"EndpointName": "dropforge"},
                "DependsOn": ["Role"],
            },
            "Model": {"Type": "AWS::SageMaker::Model", "Properties": {"RoleArn": ROLE_ARN}},
            "Role": {"Type": "AWS::IAM::Role", "Properties": {}},
            "Function": {
                "Type": "AWS::Lambda::Function",
                "DependsOn": ["Role", "Endpoint"],
                "Properties": {
                    "Role": ROLE_ARN,
                    "Environment": {
                        "Variables": {
                            "REF": {"Ref": "Endpoint"},
                            "NAME": {"Fn::GetAtt": ["Endpoint", "EndpointName"]},
                            "ARN": {"Fn::GetAtt": "Endpoint.EndpointArn"},
                            "MODEL": {"Ref": "Model"},
                            "SUB": {"Fn::Sub": "${Endpoint.EndpointName}-${AWS::Region}-${!Model}"},
                            "SUBS": {"Fn::Sub": ["${x}/${Model}", {"x": {"Ref": "Endpoint"}}]},
                        }
                    },
                },
            },
            "Only": {"Type": "AWS::SNS::Topic", "DependsOn": "Endpoint"},
            "Math": {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {"Metrics": [{"Id": "e", "Expression": "a/b"}]},
            },
            "Plain": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"MetricName": "Errors"}},
        },
        "Outputs": {"Out": {"Value": {"Ref": "Endpoint"}, "Export": {"Name": "shared"}}},
    }


def test_unsupported_resources_are_gone_and_the_rest_stays() -> None:
    stripped = strip(template())
    assert set(stripped.template["Resources"]) == {"Role", "Function", "Only", "Plain"}
    assert stripped.kinds == {
        "AWS::SageMaker::Endpoint": 1,
        "AWS::SageMaker::Model": 1,
        "AWS::CloudWatch::Alarm with metric math": 1,
    }


def test_references_to_stripped_resources_become_plain_strings() -> None:
    function = strip(template()).template["Resources"]["Function"]
    assert function["Properties"]["Environment"]["Variables"] == {
        "REF": "dropforge",
        "NAME": "dropforge",
        "ARN": "arn:aws:sagemaker:us-east-1:000000000000:endpoint/dropforge",
        "MODEL": "Model",
        "SUB": {"Fn::Sub": "dropforge-${AWS::Region}-${!Model}"},
        "SUBS": {"Fn::Sub": ["${x}/Model", {"x": "dropforge"}]},
    }
    assert function["Properties"]["Role"] == ROLE_ARN


def test_dependencies_on_stripped_resources_are_dropped() -> None:
    resources = strip(template()).template["Resources"]
    assert resources["Function"]["DependsOn"] == ["Role"]
    assert "DependsOn" not in resources["Only"]


def test_exports_of_stripped_resources_stay_importable() -> None:
    assert strip(template()).template["Outputs"]["Out"] == {
        "Value": "dropforge",
        "Export": {"Name": "shared"},
    }


def test_the_template_given_is_left_as_it_was() -> None:
    given = template()
    strip(given)
    assert given == template()


def test_a_template_with_nothing_to_strip_is_unchanged() -> None:
    plain = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "DependsOn": ["Role"]}}}
    stripped = strip(plain)
    assert json.dumps(stripped.template) == json.dumps(plain)
    assert summary(stripped.kinds) == "nothing stripped"


def test_summary_is_one_line_with_counts_and_reasons() -> None:
    line = summary(strip(template()).kinds)
    assert "\n" not in line
    assert "SageMaker::Endpoint" in line
    assert "the stand-in serves the endpoint" in line
