from __future__ import annotations

import json

from infra import workflow
from infra.config import Settings
from tests.infra.assembly import OPTIONS, Assembly, listed, text

COMMON = {
    "DROPFORGE_BUCKET",
    "DROPFORGE_TABLE",
    "LOG_LEVEL",
    "POWERTOOLS_METRICS_NAMESPACE",
    "POWERTOOLS_SERVICE_NAME",
}
JUDGES = {"DROPFORGE_JUDGE_BASE_URL", "DROPFORGE_JUDGE_SECRET_ARN"}
PROVIDER = {
    "DROPFORGE_ENDPOINT_NAME",
    "DROPFORGE_PROVIDERS",
}
TRAINING = {
    *PROVIDER,
    "DROPFORGE_BASE_COMPONENT",
    "DROPFORGE_POLL_SECONDS",
    "DROPFORGE_TRAINING_INSTANCE",
    "DROPFORGE_WEBHOOKS",
}
SERVERLESS = {
    "DROPFORGE_ACCEPT_EULA",
    "DROPFORGE_KEY_ARN",
    "DROPFORGE_PACKAGE_GROUP_ARN",
    "DROPFORGE_TRAINING_HOURS",
    "DROPFORGE_TRAINING_ROLE_ARN",
}
ENVIRONMENT = {
    "drop": {"DROPFORGE_STATE_MACHINE_ARN", "DROPFORGE_BASE_COMPONENT"},
    "clean": {"DROPFORGE_MAX_BYTES"},
    "validate": {"DROPFORGE_MAX_BYTES", "DROPFORGE_TRAINING_INSTANCE"},
    "launch": {*TRAINING, *SERVERLESS},
    "poll": TRAINING,
    "wait": set(),
    "fallback": TRAINING,
    "parity": TRAINING,
    "plan": set(),
    "judge": {*PROVIDER, *JUDGES},
    "verdict": set(),
    "ask": {
        "DROPFORGE_APPROVAL_SECRET_ARN",
        "DROPFORGE_DEPLOYMENT_PARAMETER",
        "DROPFORGE_TOPIC_ARN",
    },
    "approve": {"DROPFORGE_APPROVAL_SECRET_ARN"},
    "promote": set(),
    "canary": set(),
    "rollback": set(),
    "fail": set(),
    "schedule": {"DROPFORGE_STATE_MACHINE_ARN"},
    "watch": {*PROVIDER, "DROPFORGE_STATE_MACHINE_ARN"},
    "drift": {*PROVIDER, "DROPFORGE_JUDGE_BASE_URL", "DROPFORGE_JUDGE_SECRET_ARN"},
    "extract": set(),
    "authorize": set(),
    "chat": {
        "AWS_LAMBDA_EXEC_WRAPPER",
        *PROVIDER,
        "DROPFORGE_DEADLINE_SECONDS",
        "DROPFORGE_SHADOW_QUEUE",
        "DROPFORGE_COLLECT_QUEUE",
        "DROPFORGE_CACHE_TABLE",
        "DROPFORGE_CHECK_QUEUE",
    },
    "check": {*PROVIDER, "DROPFORGE_DEADLINE_SECONDS", "DROPFORGE_CACHE_TABLE"},
    "shadow": {*PROVIDER, "DROPFORGE_DEADLINE_SECONDS"},
    "keep": set(),
}


def test_functions_have_the_environment_their_settings_are_read_from(assembly: Assembly) -> None:
    found = {
        name: set(function["Environment"]["Variables"]) - COMMON
        for name, function in assembly.functions().items()
    }

    assert found == ENVIRONMENT
    for name, function in assembly.functions().items():
        variables = function["Environment"]["Variables"]
        assert variables.keys() >= COMMON
        assert variables["POWERTOOLS_SERVICE_NAME"] == name
        assert variables["POWERTOOLS_METRICS_NAMESPACE"] == "Dropforge"


def test_functions_are_traced_logged_and_sized_by_the_settings(
    assembly: Assembly, settings: Settings
) -> None:
    for name, function in assembly.functions().items():
        size = settings.functions.of(name)
        assert function["Runtime"] == "python3.13"
        assert function["TracingConfig"] == {"Mode": "Active"}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["LoggingConfig"]["LogGroup"]
        assert (function["MemorySize"], function["Timeout"]) == (size.memory_mb, size.timeout_s)


def test_functions_of_one_asset_share_their_code(assembly: Assembly) -> None:
    codes = {n: json.dumps(f["Code"]) for n, f in assembly.functions().items()}
    chat = {codes.pop(name) for name in ("chat", "authorize")}
    data = {codes.pop(name) for name in ("clean", "validate", "extract", "keep")}

    assert len(chat) == len(data) == len(set(codes.values())) == 1
    assert len(chat | data | set(codes.values())) == 3


def test_drops_travel_from_the_bucket_by_way_of_a_queue_to_the_function(
    assembly: Assembly,
) -> None:
    rule = assembly.one("AWS::Events::Rule", "Dropped")
    mapping = assembly.one("AWS::Lambda::EventSourceMapping", "DropFunction")
    detail = rule["EventPattern"]["detail"]

    assert rule["EventPattern"]["source"] == ["aws.s3"]
    assert rule["EventPattern"]["detail-type"] == ["Object Created"]
    assert "Bucket" in text(detail["bucket"]["name"][0])
    assert detail["object"]["key"] == [
        {"prefix": "exports/"},
        {"wildcard": "projects/*/project.yaml"},
        {"wildcard": "projects/*/golden.jsonl"},
    ]
    assert rule["Targets"][0]["Arn"] == mapping["EventSourceArn"]
    assert rule["Targets"][0]["DeadLetterConfig"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 4}


def test_messages_are_tried_three_times_and_then_kept_for_a_person(
    assembly: Assembly, settings: Settings
) -> None:
    queue = assembly.one("AWS::SQS::Queue", "Drops")
    letters = assembly.one("AWS::SQS::Queue", "DropDeadLetters")

    assert queue["RedrivePolicy"]["maxReceiveCount"] == 3
    assert "DropDeadLetters" in text(queue["RedrivePolicy"]["deadLetterTargetArn"])
    assert queue["VisibilityTimeout"] >= 6 * settings.functions.drop.timeout_s
    assert letters["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_queue_takes_events_of_this_account_only(assembly: Assembly) -> None:
    for policy in assembly.properties("AWS::SQS::QueuePolicy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                assert statement["Condition"], policy


def test_asynchronous_functions_have_a_dead_letter_queue(assembly: Assembly) -> None:
    functions = assembly.functions()

    for name in ("fail", "schedule", "extract"):
        letters = text(functions[name]["DeadLetterConfig"]["TargetArn"])
        assert "EventDeadLetters" in letters


def test_runs_that_end_unnoticed_are_told_to_the_fail_function(assembly: Assembly) -> None:
    rule = assembly.one("AWS::Events::Rule", "RunEnded")
    detail = rule["EventPattern"]["detail"]

    assert detail["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert "StateMachine" in text(detail["stateMachineArn"][0])
    assert "FailFunction" in text(rule["Targets"][0]["Arn"])
    assert rule["Targets"][0]["DeadLetterConfig"]


def test_state_machine_is_logged_without_its_data_and_traced(assembly: Assembly) -> None:
    machine = assembly.one("AWS::StepFunctions::StateMachine")

    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert machine["LoggingConfiguration"]["Level"] == "ALL"
    assert not machine["LoggingConfiguration"]["IncludeExecutionData"]


def test_state_machine_may_invoke_exactly_the_functions_it_names(assembly: Assembly) -> None:
    invoked = [
        text(resource)
        for name, statement in assembly.statements()
        if name.startswith("StateMachineRole") and "lambda:InvokeFunction" in statement["Action"]
        for resource in listed(statement["Resource"])
    ]
    machine = assembly.one("AWS::StepFunctions::StateMachine")
    named = {
        text(arn)
        for name, arn in machine["DefinitionSubstitutions"].items()
        if name.endswith("FunctionArn")
    }

    assert set(invoked) == named
    assert len(named) == len(workflow.FUNCTIONS)


def test_monthly_schedule_tells_the_function_its_scheduled_time(assembly: Assembly) -> None:
    schedule = assembly.one("AWS::Scheduler::Schedule", "Monthly")

    assert schedule["Name"] == "dropforge-monthly"
    assert schedule["ScheduleExpression"] == "cron(0 6 1 * ? *)"
    assert json.loads(schedule["Target"]["Input"]) == {"time": "<aws.scheduler.scheduled-time>"}
    assert "ScheduleFunction" in text(schedule["Target"]["Arn"])
    assert "EventDeadLetters" in text(schedule["Target"]["DeadLetterConfig"]["Arn"])


def test_databases_are_read_every_night(assembly: Assembly) -> None:
    schedule = assembly.one("AWS::Scheduler::Schedule", "Extractions")

    assert schedule["Name"] == "dropforge-extractions"
    assert schedule["ScheduleExpression"] == "cron(0 3 * * ? *)"
    assert "ExtractFunction" in text(schedule["Target"]["Arn"])
    assert "EventDeadLetters" in text(schedule["Target"]["DeadLetterConfig"]["Arn"])


def test_no_function_is_in_a_vpc_where_none_is_named(assembly: Assembly) -> None:
    assert not [name for name, f in assembly.functions().items() if "VpcConfig" in f]


def test_extract_alone_enters_the_vpc_of_the_databases(with_options: Assembly) -> None:
    functions = with_options.functions().items()
    inside = {name: f["VpcConfig"] for name, f in functions if "VpcConfig" in f}

    assert inside == {
        "extract": {
            "SubnetIds": OPTIONS["vpc.subnet_ids"].split(","),
            "SecurityGroupIds": [OPTIONS["vpc.security_group_ids"]],
        }
    }
    policies = json.dumps(with_options.resources("AWS::IAM::Policy"))
    assert policies.count("ec2:CreateNetworkInterface") == 1


def test_models_in_production_are_looked_at_every_week(assembly: Assembly) -> None:
    looks = assembly.one("AWS::Scheduler::Schedule", "Looks")
    assert looks["ScheduleExpression"] == "cron(0 4 ? * MON *)"
    assert "Drift" in text(looks["Target"]["Arn"])
    assert looks["Target"]["DeadLetterConfig"]
