"""The state machine, as data: what runs after what, what is tried again, and where failures go.

Reads `{"run": {...}}`, the drop function's `Run`; every stage's result is placed beside it. An
input that has a `dataset` as well begins with training: the same data on another backend. Names in
`${...}` are filled in at deployment. Times are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from infra.config import Settings
from infra.promotion_states import promotion_states
from infra.states import TRANSIENT, State, arn_name, choice, guarded, retries, stage, task
from infra.training_states import training_states

NAME = "dropforge-pipeline"
TIMEOUT_S = 60 * 24 * 3600
"""A whole run: a project may ask for trainings of 120 hours, on one backend after another, for a
person's yes within a week, and for a canary of 500 hours."""
FUNCTIONS = (
    *("clean", "validate", "launch", "poll", "wait", "fallback", "parity", "plan", "judge"),
    *("verdict", "ask", "promote", "canary", "fail"),
)
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


def definition(settings: Settings) -> State:
    """The Amazon States Language document (JSONPath)."""
    return {
        "Comment": "Clean, validate, train, judge and promote what one dropped file holds.",
        "StartAt": "Dataset?",
        "TimeoutSeconds": TIMEOUT_S,
        "States": {
            "Dataset?": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.dataset", "IsPresent": True, "Next": "Launch"}],
                "Default": "Clean",
            },
            **_or_on_spark(settings, "clean", "$.clean", then="Validate"),
            **_or_on_spark(settings, "validate", "$.dataset", then="Launch"),
            **training_states(settings, then="Plan"),
            "Plan": stage(settings, "plan", "$.plan", then="MoreTickets?"),
            "MoreTickets?": choice("$.plan.more", "Judge", "Verdict"),
            "Judge": _judging(settings),
            "Verdict": stage(settings, "verdict", "$.evaluation", then="Approval?"),
            **promotion_states(settings, then="Succeeded"),
            "Succeeded": {"Type": "Succeed"},
            "Fail": guarded(task(settings, "fail"), result=None, then="Failed", on_error="Failed"),
            "Failed": {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
        },
    }


def substitutions(functions: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """What the `${...}` names stand for: `functions` by name to ARN, and the other `values`."""
    arns = {arn_name(name): arn for name, arn in functions.items()}
    return {**arns, **values}


def placeholders(document: str) -> set[str]:
    """The `${...}` names in a definition's JSON text."""
    return set(re.findall(r"\$\{(\w+)\}", document))


def _or_on_spark(settings: Settings, function: str, result: str, *, then: str) -> dict[str, State]:
    """A stage; what is too large for its function is done by a Spark job, and waited for.

    The function is called again after the job, and finds its name in `$.spark.stage`. Without
    Spark, TooLargeError fails the run as any other error does.
    """
    name = function.capitalize()
    state = stage(settings, function, result, then=then)
    if not settings.spark.image:
        return {name: state}
    on_spark, after = f"{name}OnSpark", f"{SPARK_DONE[function]}OnSpark"
    too_large = {"ErrorEquals": ["TooLargeError"], "ResultPath": "$.too_large", "Next": on_spark}
    return {
        name: {**state, "Catch": [too_large, *state["Catch"]]},
        on_spark: _spark_job(function, then=after),
        after: state,
    }


def _spark_job(function: str, *, then: str) -> State:
    """A job on EMR Serverless; its arguments are those that `spark/job.py` reads.

    Without tags: they need a right of their own, and the application's count for its jobs.
    """
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
    }
    task = {
        "Type": "Task",
        "Resource": "${StartJobRun}",
        "TimeoutSeconds": SPARK_HOURS * 3600 + 600,
        "Parameters": job,
    }
    passing = ("InternalServerException", "ServiceQuotaExceededException", "SdkClientException")
    return {
        **guarded(task, result="$.spark", then=then),
        "ResultSelector": {"stage": function},
        **retries(*(f"EMRServerless.{error}" for error in passing)),
    }


def _judging(settings: Settings) -> State:
    """One judge task for each batch of the look; a batch that fails for good fails the stage.

    What may pass is tried again batch by batch, and not once more around all of them.
    """
    batch = {**task(settings, "judge"), **retries("RetryableError", *TRANSIENT), "End": True}
    judging = guarded(
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
        then="Plan",
    )
    return {**judging, **retries(*TRANSIENT)}
