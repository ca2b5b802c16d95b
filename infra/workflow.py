"""The state machine, as data: what runs after what, what is tried again, and where failures go.

Reads `{"run": {...}}`, the drop function's `Run`; every stage's result is placed beside it. Names
in `${...}` are filled in at deployment. Times are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from infra.config import Settings
from infra.training_job import training_job, waiting_s

State = dict[str, Any]

NAME = "dropforge-pipeline"
TIMEOUT_S = 7 * 24 * 3600
"""A whole run: the longest training a project may ask for is 120 hours."""
MARGIN_S = 10
"""A task waits this much longer than its function runs, so that the function's error wins."""
FUNCTIONS = ("clean", "validate", "launch", "poll", "plan", "judge", "verdict", "promote", "fail")
SPARK_DONE = {"clean": "Cleaned", "validate": "Validated"}
SPARK_FOLDER = "local:///opt/dropforge/spark"
"""Where spark/Dockerfile puts the entry points."""
SPARK_LOGS = "/aws/emr-serverless/dropforge"
SPARK_HOURS = 12
SPARK_CONF = {
    "spark.driver.cores": "4",
    "spark.driver.memory": "24g",
    "spark.executor.cores": "4",
    "spark.executor.memory": "12g",
    "spark.executor.memoryOverhead": "8g",  # the Python workers'
    "spark.emr-serverless.driver.disk": "200g",
    "spark.emr-serverless.executor.disk": "200g",
}
"""Workers of 4 vCPUs; the driver chooses a dataset's rows, at about 1 KB each."""

_TRANSIENT = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)


def definition(settings: Settings) -> State:
    """The Amazon States Language document (JSONPath)."""
    return {
        "Comment": "Clean, validate, train, judge and promote what one dropped file holds.",
        "StartAt": "Clean",
        "TimeoutSeconds": TIMEOUT_S,
        "States": {
            **_or_on_spark(settings, "clean", "$.clean", then="Validate"),
            **_or_on_spark(settings, "validate", "$.dataset", then="Launch"),
            "Launch": _stage(settings, "launch", "$.job", then="StartTrainingJob?"),
            "StartTrainingJob?": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Variable": "$.job.start_training_job",
                        "BooleanEquals": True,
                        "Next": "TrainOnSageMaker",
                    }
                ],
                "Default": "Poll",
            },
            "TrainOnSageMaker": _training(settings),
            "Poll": _stage(settings, "poll", "$.poll", then="JobState?"),
            "JobState?": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.poll.state", "StringEquals": "Pending", "Next": "WaitForJob"},
                    {"Variable": "$.poll.state", "StringEquals": "Completed", "Next": "Plan"},
                ],
                "Default": "UnknownJobState",
            },
            "WaitForJob": {"Type": "Wait", "SecondsPath": "$.job.poll_seconds", "Next": "Poll"},
            "UnknownJobState": {
                "Type": "Pass",
                "Result": {
                    "Error": "UnknownJobState",
                    "Cause": "Poll answered with a state that is neither Pending nor Completed.",
                },
                "ResultPath": "$.error",
                "Next": "Fail",
            },
            "Plan": _stage(settings, "plan", "$.plan", then="Judge"),
            "Judge": _judging(settings),
            "Verdict": _stage(settings, "verdict", "$.evaluation", then="Promote"),
            "Promote": _stage(settings, "promote", "$.promotion", then="Succeeded"),
            "Succeeded": {"Type": "Succeed"},
            "Fail": _guarded(
                _task(settings, "fail"), result=None, then="Failed", on_error="Failed"
            ),
            "Failed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
        },
    }


def substitutions(functions: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """What the `${...}` names stand for: `functions` by name to ARN, and the other `values`."""
    arns = {_arn_name(name): arn for name, arn in functions.items()}
    return {**arns, **values}


def placeholders(document: str) -> set[str]:
    """The `${...}` names in a definition's JSON text."""
    return set(re.findall(r"\$\{(\w+)\}", document))


def _arn_name(function: str) -> str:
    return f"{function.capitalize()}FunctionArn"


def _task(settings: Settings, function: str) -> State:
    return {
        "Type": "Task",
        "Resource": f"${{{_arn_name(function)}}}",
        "TimeoutSeconds": settings.functions.of(function).timeout_s + MARGIN_S,
    }


def _stage(settings: Settings, function: str, result: str, *, then: str) -> State:
    """The state that calls a function with the whole state and places its result."""
    return _guarded(_task(settings, function), result=result, then=then)


def _or_on_spark(settings: Settings, function: str, result: str, *, then: str) -> dict[str, State]:
    """A stage; what is too large for its function is done by a Spark job, and waited for.

    The function is called again after the job, and finds its name in `$.spark.stage`. Without
    Spark, TooLargeError fails the run as any other error does.
    """
    name = function.capitalize()
    stage = _stage(settings, function, result, then=then)
    if not settings.spark.image:
        return {name: stage}
    on_spark, after = f"{name}OnSpark", f"{SPARK_DONE[function]}OnSpark"
    too_large = {"ErrorEquals": ["TooLargeError"], "ResultPath": "$.too_large", "Next": on_spark}
    return {
        name: {**stage, "Catch": [too_large, *stage["Catch"]]},
        on_spark: _spark_job(function, then=after),
        after: stage,
    }


def _spark_job(function: str, *, then: str) -> State:
    """A job on EMR Serverless; its arguments are those that `spark/job.py` reads."""
    fields = ("bucket", "project", "key", "version_id", "config", "run_id")
    driver = {
        "EntryPoint": f"{SPARK_FOLDER}/{function}.py",
        "EntryPointArguments.$": f"States.Array({', '.join(f'$.run.{f}' for f in fields)})",
        "SparkSubmitParameters": " ".join(f"--conf {k}={v}" for k, v in SPARK_CONF.items()),
    }
    logs = {"Enabled": True, "LogGroupName": SPARK_LOGS, "LogStreamNamePrefix": function}
    monitoring = {
        "CloudWatchLoggingConfiguration": logs,
        "ManagedPersistenceMonitoringConfiguration": {"Enabled": False},
    }
    job = {
        "Name": f"dropforge-{function}",
        "ApplicationId": "${SparkApplicationId}",
        "ExecutionRoleArn": "${SparkRoleArn}",
        "ExecutionTimeoutMinutes": SPARK_HOURS * 60,
        "JobDriver": {"SparkSubmit": driver},
        "ConfigurationOverrides": {"MonitoringConfiguration": monitoring},
        "Tags": {"application": "dropforge"},
    }
    task = {
        "Type": "Task",
        "Resource": "${StartJobRun}",
        "TimeoutSeconds": SPARK_HOURS * 3600 + 600,
        "Parameters": job,
    }
    passing = ("InternalServerException", "ServiceQuotaExceededException", "SdkClientException")
    return {
        **_guarded(task, result="$.spark", then=then),
        "ResultSelector": {"stage": function},
        **_retries(*(f"EMRServerless.{error}" for error in passing)),
    }


def _guarded(state: State, *, result: str | None, then: str, on_error: str = "Fail") -> State:
    """A state that tries again what may pass, and otherwise tells why it went wrong."""
    caught = "$.error" if on_error == "Fail" else "$.fail_error"
    return {
        **state,
        **_retries("RetryableError", *_TRANSIENT),
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": caught, "Next": on_error}],
        "ResultPath": result,
        "Next": then,
    }


def _retries(*errors: str) -> State:
    """Six tries over about three minutes, spread out so that parallel tasks do not meet again."""
    retry = {
        "ErrorEquals": list(errors),
        "IntervalSeconds": 5,
        "MaxAttempts": 5,
        "BackoffRate": 2,
        "MaxDelaySeconds": 120,
        "JitterStrategy": "FULL",
    }
    return {"Retry": [retry]}


def _judging(settings: Settings) -> State:
    """One judge task for each batch of tickets; a batch that fails for good fails the stage."""
    batch = {**_task(settings, "judge"), **_retries("RetryableError", *_TRANSIENT), "End": True}
    return _guarded(
        {
            "Type": "Map",
            "ItemsPath": "$.plan.batches",
            "MaxConcurrencyPath": "$.plan.concurrency",
            "ItemSelector": {
                "run.$": "$.run",
                "plan.$": "$.plan",
                "model.$": "$.poll.model",
                "batch.$": "$$.Map.Item.Value",
            },
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "INLINE"},
                "StartAt": "JudgeBatch",
                "States": {"JudgeBatch": batch},
            },
        },
        result="$.batches",
        then="Verdict",
    )


def _training(settings: Settings) -> State:
    """A SageMaker training job, waited for; Poll then reads how it ended, whichever way it did."""
    return {
        **_guarded(
            {
                "Type": "Task",
                "Resource": "${CreateTrainingJob}",
                "TimeoutSeconds": waiting_s(settings) + 3600,
                "Parameters": training_job(settings),
            },
            result=None,
            then="Poll",
        ),
        **_retries("SageMaker.AmazonSageMakerException"),
    }
