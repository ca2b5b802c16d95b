from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import assertions

from infra import workflow
from infra.config import Settings, settings_from
from infra.data_stack import DataStack
from infra.pipeline_stack import PipelineStack
from infra.spark import RELEASE
from tests.infra.assembly import OPTIONS, Assembly, listed, text, unbundled

ROOT = Path(__file__).parents[2]
IMAGE = OPTIONS["spark.image"]
State = dict[str, Any]


@pytest.fixture(scope="module")
def on_spark() -> Settings:
    return settings_from({"spark.image": IMAGE})


@pytest.fixture(scope="module")
def machine(on_spark: Settings) -> State:
    states: State = workflow.definition(on_spark)["States"]
    return states


@pytest.fixture(scope="module")
def template(with_options: Assembly) -> assertions.Template:
    """The pipeline's, in which cdk-nag has found nothing."""
    return assertions.Template.from_json(with_options.templates["DropforgePipeline"])


def properties(template: assertions.Template, kind: str) -> list[dict[str, Any]]:
    return [found["Properties"] for found in template.find_resources(kind).values()]


def test_there_is_no_spark_where_no_image_is_named(assembly: Assembly, settings: Settings) -> None:
    assert not assembly.resources("AWS::EMRServerless::Application")
    states = workflow.definition(settings)["States"]
    assert not [name for name in states if "Spark" in name]
    caught = [
        error for s in states.values() for c in s.get("Catch", []) for error in c["ErrorEquals"]
    ]
    assert "TooLargeError" not in caught


@pytest.mark.parametrize(
    ("stage", "after", "then"),
    [("Clean", "CleanedOnSpark", "Validate"), ("Validate", "ValidatedOnSpark", "Launch")],
)
def test_what_is_too_large_goes_to_spark_and_comes_back(
    machine: State, stage: str, after: str, then: str
) -> None:
    large, other = machine[stage]["Catch"]
    assert large["ErrorEquals"] == ["TooLargeError"]
    assert (large["Next"], other["Next"]) == (f"{stage}OnSpark", "Fail")
    job = machine[f"{stage}OnSpark"]
    assert (job["Next"], job["ResultPath"]) == (after, "$.spark")
    assert job["ResultSelector"] == {"stage": stage.lower()}
    assert job["Catch"][0]["Next"] == "Fail"
    back = machine[after]
    assert back["Resource"] == machine[stage]["Resource"]
    assert back["ResultPath"] == machine[stage]["ResultPath"]
    assert back["Next"] == then
    assert [c["Next"] for c in back["Catch"]] == ["Fail"]


def test_job_runs_an_entry_point_that_the_image_holds(machine: State) -> None:
    for stage in ("Clean", "Validate"):
        driver = machine[f"{stage}OnSpark"]["Parameters"]["JobDriver"]["SparkSubmit"]
        folder, _, name = driver["EntryPoint"].removeprefix("local://").rpartition("/")
        assert (ROOT / "spark" / name).exists()
        assert f"{folder.rpartition('/')[0]}/" in (ROOT / "spark" / "Dockerfile").read_text()
        assert driver["EntryPointArguments.$"] == (
            "States.Array($.run.bucket, $.run.project, $.run.key, $.run.version_id, $.run.config,"
            " $.run.run_id)"
        )


def test_application_costs_only_while_it_works(template: assertions.Template) -> None:
    [application] = properties(template, "AWS::EMRServerless::Application")
    assert application["ReleaseLabel"] == RELEASE
    assert f"spark/{RELEASE}" in (ROOT / "spark" / "Dockerfile").read_text()
    assert application["ImageConfiguration"] == {"ImageUri": IMAGE}
    assert application["AutoStopConfiguration"] == {"Enabled": True, "IdleTimeoutMinutes": 15}
    assert "InitialCapacity" not in application
    assert application["MaximumCapacity"] == {
        "Cpu": "64 vCPU",
        "Memory": "256 GB",
        "Disk": "2000 GB",
    }
    assert "NetworkConfiguration" not in application


def test_network_is_the_one_that_is_named() -> None:
    network = {"subnet_ids": ["subnet-0a1b2c3d"], "security_group_ids": ["sg-0a1b2c3d"]}
    settings = settings_from({"spark": {"image": IMAGE, "network": network}})
    app = unbundled()
    data = DataStack(app, "Data", settings)
    template = assertions.Template.from_stack(PipelineStack(app, "Pipeline", settings, data))
    [application] = properties(template, "AWS::EMRServerless::Application")
    assert application["NetworkConfiguration"] == {
        "SubnetIds": ["subnet-0a1b2c3d"],
        "SecurityGroupIds": ["sg-0a1b2c3d"],
    }


def test_state_machine_may_run_jobs_of_this_application_only(
    template: assertions.Template,
) -> None:
    found = {
        action: (text(statement["Resource"]), statement.get("Condition"))
        for policy in properties(template, "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
        if action.startswith("emr-serverless:")
    }
    assert set(found) == {f"emr-serverless:{a}JobRun" for a in ("Start", "Get", "Cancel")}
    assert found["emr-serverless:StartJobRun"][0].endswith(".Arn>")
    assert found["emr-serverless:GetJobRun"][0].endswith(".Arn>/jobruns/*")
    passed = [
        statement["Condition"]["StringEquals"]["iam:PassedToService"]
        for policy in properties(template, "AWS::IAM::Policy")
        for statement in policy["PolicyDocument"]["Statement"]
        if "iam:PassRole" in listed(statement["Action"])
    ]
    assert "emr-serverless.amazonaws.com" in passed


def test_jobs_carry_no_tags_which_only_a_right_of_its_own_would_allow(machine: State) -> None:
    """EMR Serverless user guide, "Tagging your resources": `emr-serverless:TagResource`."""
    for stage in ("Clean", "Validate"):
        assert "Tags" not in machine[f"{stage}OnSpark"]["Parameters"]


def test_job_writes_objects_and_nothing_else(template: assertions.Template) -> None:
    """Which objects: tests/infra/test_roles.py."""
    policies = template.find_resources("AWS::IAM::Policy").items()
    [policy] = [found for name, found in policies if name.startswith("SparkJobRole")]
    actions = {
        action
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
    }
    assert not [a for a in actions if a.startswith(("dynamodb:", "secretsmanager:")) or "*" in a]


def test_functions_know_what_is_too_large_for_them(template: assertions.Template) -> None:
    limits = {
        found["FunctionName"]: found["Environment"]["Variables"].get("DROPFORGE_MAX_BYTES")
        for found in properties(template, "AWS::Lambda::Function")
    }
    told = {name for name, limit in limits.items() if limit == "2147483648"}
    assert told == {"dropforge-clean", "dropforge-validate"}


def test_every_name_in_the_definition_is_filled_in(template: assertions.Template) -> None:
    [found] = properties(template, "AWS::StepFunctions::StateMachine")
    names = workflow.placeholders(json.dumps(found["DefinitionString"]))
    assert names <= set(found["DefinitionSubstitutions"])
    assert {"StartJobRun", "SparkApplicationId", "SparkRoleArn"} <= names
