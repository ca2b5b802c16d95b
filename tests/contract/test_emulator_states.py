"""ASL as dropforge-pipeline uses it: class names, choices, waits, maps, training, single starts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_parts import ROLE, FakeSageMaker, Run, until

TRAIN = "arn:aws:states:::sagemaker:createTrainingJob.sync"


def caught(probe: str, error_equals: list[str], **parameters: Any) -> dict[str, Any]:
    return {
        "Task": {
            "Type": "Task", "Resource": probe, "Parameters": parameters, "ResultPath": "$.result",
            "End": True,
            "Catch": [{"ErrorEquals": error_equals, "ResultPath": "$.error", "Next": "Caught"}],
        },
        "Caught": {"Type": "Pass", "End": True},
    }  # fmt: skip


def output(execution: dict[str, Any]) -> Any:
    assert execution["status"] == "SUCCEEDED", execution
    return json.loads(execution["output"])


def test_task_by_lambda_arn_places_result_and_keeps_input(run_states: Run, probe: str) -> None:
    states = {"Clean": {"Type": "Task", "Resource": probe, "ResultPath": "$.clean", "End": True}}
    assert output(run_states(states, {"run": {"run_id": "1"}})) == {
        "run": {"run_id": "1"},
        "clean": {"run": {"run_id": "1"}},
    }


@pytest.mark.parametrize("message", ["", "plain", "two\nlines: RetryableError", "ключ"])
def test_catch_by_class_name_gets_error_and_cause(
    run_states: Run, probe: str, message: str
) -> None:
    states = caught(probe, ["RetryableError"], **{"raise": "retryable", "message": message})
    error = output(run_states(states, {"kept": 1}))["error"]
    assert error["Error"] == "RetryableError"
    assert json.loads(error["Cause"]) == {"errorMessage": message, "errorType": "RetryableError"}


def test_catch_by_another_class_name_does_not_match(run_states: Run, probe: str) -> None:
    execution = run_states(caught(probe, ["RetryableError"], **{"raise": "value"}))
    assert (execution["status"], execution["error"]) == ("FAILED", "ValueError")


def test_retry_by_class_name_until_success(run_states: Run, probe: str, tmp_path: Path) -> None:
    state = {
        "Type": "Task", "Resource": probe, "End": True,
        "Parameters": {"fail_until": 3, "counter": str(tmp_path / "n")},
        "Retry": [
            {"ErrorEquals": ["Lambda.ServiceException"], "MaxAttempts": 0},
            {
                "ErrorEquals": ["RetryableError"],
                "IntervalSeconds": 0.1, "BackoffRate": 1, "MaxAttempts": 2,
            },
        ],
    }  # fmt: skip
    assert output(run_states({"Task": state})) == 3


def test_choice_on_boolean_and_string(run_states: Run) -> None:
    states = {
        "StartTrainingJob?": {
            "Type": "Choice", "Default": "No",
            "Choices": [{"Variable": "$.job.start", "BooleanEquals": True, "Next": "State"}],
        },
        "State": {
            "Type": "Choice", "Default": "No",
            "Choices": [{"Variable": "$.poll.state", "StringEquals": "Completed", "Next": "Yes"}],
        },
        "Yes": {"Type": "Succeed"},
        "No": {"Type": "Fail", "Error": "No", "Cause": "no"},
    }  # fmt: skip
    assert (
        run_states(states, {"job": {"start": True}, "poll": {"state": "Completed"}})["status"]
        == "SUCCEEDED"
    )
    assert (
        run_states(states, {"job": {"start": True}, "poll": {"state": "Failed"}})["error"] == "No"
    )
    assert run_states(states, {"job": {"start": False}})["error"] == "No"


def test_wait_seconds_path_waits_as_long_as_it_says(run_states: Run) -> None:
    started = time.monotonic()
    states = {"Wait": {"Type": "Wait", "SecondsPath": "$.job.poll_seconds", "End": True}}
    assert output(run_states(states, {"job": {"poll_seconds": 1}})) == {"job": {"poll_seconds": 1}}
    assert time.monotonic() - started >= 1


def judge(probe: str, **fields: Any) -> dict[str, Any]:
    worker = {
        "StartAt": "Judge",
        "States": {"Judge": {"Type": "Task", "Resource": probe, "End": True}},
    }
    worker["ProcessorConfig"] = {"Mode": "INLINE"}  # type: ignore[assignment]
    return {"Map": {"Type": "Map", "ItemProcessor": worker, "End": True, **fields}}


def test_map_item_selector_and_result_selector(run_states: Run, probe: str) -> None:
    states = judge(
        probe,
        ItemsPath="$.plan.batches",
        ItemSelector={"run.$": "$.run", "model.$": "$.poll.model", "batch.$": "$$.Map.Item.Value"},
        ResultSelector={"batches.$": "$[*].batch"},
        ResultPath="$.judged",
    )
    given = {"run": {"run_id": "r"}, "plan": {"batches": [1, 2]}, "poll": {"model": "m"}}
    assert output(run_states(states, given)) == {**given, "judged": {"batches": [1, 2]}}


@pytest.mark.parametrize("limit", [1, 2])
def test_map_max_concurrency_path_is_kept(
    run_states: Run, probe: str, tmp_path: Path, limit: int
) -> None:
    states = judge(
        probe,
        ItemsPath="$.plan.batches",
        MaxConcurrencyPath="$.plan.concurrency",
        ItemSelector={"overlap": str(tmp_path), "wanted": limit},
        ResultPath="$.batches",
    )
    given = {"plan": {"batches": [1, 2, 3, 4], "concurrency": limit}}
    assert max(output(run_states(states, given))["batches"]) == limit


def test_map_failure_in_one_item_is_caught_by_class_name(run_states: Run, probe: str) -> None:
    states = judge(
        probe, ItemsPath="$.items", Catch=[{"ErrorEquals": ["RetryableError"], "Next": "Caught"}]
    )
    states["Caught"] = {"Type": "Pass", "End": True}
    assert (
        output(run_states(states, {"items": [{}, {"raise": "retryable"}]}))["Error"]
        == "RetryableError"
    )


def training(name: str) -> dict[str, Any]:
    return {
        "Train": {
            "Type": "Task", "Resource": TRAIN, "ResultPath": None, "End": True,
            "Parameters": {
                "TrainingJobName": name,
                "HyperParameters.$": "$.job.hyperparameters",
                "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
                "RoleArn": ROLE,
                "OutputDataConfig": {"S3OutputPath.$": "$.job.output_uri"},
                "ResourceConfig": {
                    "InstanceType": "ml.g6e.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 100,
                },
                "StoppingCondition": {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200},
                "EnableManagedSpotTraining": True,
            },
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Caught"}],
        },
        "Caught": {"Type": "Pass", "End": True},
    }  # fmt: skip


JOB = {"job": {"hyperparameters": {"epochs": "1"}, "output_uri": "s3://bucket/train/"}}


def test_training_job_sync_returns_when_it_has_ended(
    run_states: Run, sagemaker: FakeSageMaker
) -> None:
    assert output(run_states(training("job-works"), JOB)) == JOB
    request = sagemaker.created[-1]
    assert request["HyperParameters"] == {"epochs": "1"}
    assert sagemaker.looks["job-works"] == 2


def test_training_job_sync_failure_is_task_failed_with_reason(run_states: Run) -> None:
    error = output(run_states(training("job-fails"), JOB))["error"]
    assert error["Error"] == "States.TaskFailed"
    assert json.loads(error["Cause"])["FailureReason"] == "AlgorithmError: the loss is not a number"


def test_training_job_name_in_use_has_its_error_name(run_states: Run) -> None:
    error = output(run_states(training("job-taken"), JOB))["error"]
    assert error == {
        "Error": "SageMaker.ResourceInUseException",
        "Cause": "Training job names must be unique",
    }


def test_training_job_with_wrong_parameters_fails_the_task(run_states: Run) -> None:
    wrong = {"job": {**JOB["job"], "hyperparameters": {"epochs": 1}}}
    assert output(run_states(training("job-wrong"), wrong))["error"]["Error"] == "States.Runtime"


def waiting(probe: str, **payload: Any) -> dict[str, Any]:
    """A task that waits for its token, at most as long as the input says."""
    return {
        "Task": {
            "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Parameters": {
                "FunctionName": probe, "Payload": {"token.$": "$$.Task.Token", **payload},
            },
            "TimeoutSecondsPath": "$.job.seconds", "ResultPath": None, "Next": "Told",
            "Catch": [
                {"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": "Late"},
                {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"},
            ],
        },
        **{name: {"Type": "Pass", "Result": name, "End": True} for name in ("Told", "Late")},
        "Failed": {"Type": "Pass", "End": True},
    }  # fmt: skip


def test_wait_for_a_token_ends_after_the_time_in_the_input(run_states: Run, probe: str) -> None:
    assert output(run_states(waiting(probe), {"job": {"seconds": 1}})) == "Late"


def test_function_that_cannot_keep_a_token_fails_the_wait_at_once(
    run_states: Run, probe: str
) -> None:
    found = output(run_states(waiting(probe, **{"raise": "value"}), {"job": {"seconds": 60}}))
    assert found["error"]["Error"] == "ValueError"


def test_start_execution_with_a_used_name_is_refused(aws: Callable[[str], Any]) -> None:
    client = aws("stepfunctions")
    definition = json.dumps({"StartAt": "S", "States": {"S": {"Type": "Succeed"}}})
    machine = client.create_state_machine(name="once", definition=definition, roleArn=ROLE)[
        "stateMachineArn"
    ]
    execution = client.start_execution(stateMachineArn=machine, name="a" * 64, input="{}")[
        "executionArn"
    ]
    until(lambda: client.describe_execution(executionArn=execution)["status"] == "SUCCEEDED")
    with pytest.raises(client.exceptions.ExecutionAlreadyExists):
        client.start_execution(stateMachineArn=machine, name="a" * 64, input="{}")


def test_lambda_environment_reaches_the_emulator_and_the_stand_in(
    aws: Callable[[str], Any], probe: str, emulator: str
) -> None:
    names = [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SAGEMAKER",
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
        "AWS_REGION",
    ]
    answer = aws("lambda").invoke(FunctionName=probe, Payload=json.dumps({"environment": names}))
    environment = json.loads(answer["Payload"].read())
    assert environment["AWS_ENDPOINT_URL"] == emulator
    assert environment["AWS_REGION"] == "us-east-1"
    assert (
        environment["AWS_ENDPOINT_URL_SAGEMAKER"]
        == environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"]
        != emulator
    )
