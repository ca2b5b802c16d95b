"""The states of training: launch, wait, poll, and the next backend where one cannot go on.

Read `$.dataset`; leave the trained model in `$.poll.model`. `$.fallback` counts the project's
choices that were given up.
"""

from __future__ import annotations

from infra.config import Settings
from infra.states import State, catch, choice, guarded, retries, stage
from infra.training_job import training_job, waiting_s

GIVES_UP = (
    "BackendError",
    "ModelRetiredError",
    "OverBudgetError",
    "ProviderDownError",
    "RetryableError",
    "States.Timeout",
    "TrainingFailedError",
    "TrainingNotAvailableError",
    "TrainingTimedOutError",
)
"""Errors of a backend that leave the project's other choices open. RetryableError counts when all
tries are used up."""


def training_states(settings: Settings, *, then: str) -> dict[str, State]:
    """Every state from Launch to the trained model, which goes on to `then`."""
    return {
        "Launch": stage(settings, "launch", "$.job", then="StartTrainingJob?", falls_back=GIVES_UP),
        "StartTrainingJob?": choice("$.job.start_training_job", "TrainOnSageMaker", "Poll"),
        "TrainOnSageMaker": _training(settings),
        "Poll": stage(settings, "poll", "$.poll", then="JobState?", falls_back=GIVES_UP),
        "JobState?": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.poll.state", "StringEquals": "Pending", "Next": "Webhooks?"},
                {"Variable": "$.poll.state", "StringEquals": "Completed", "Next": "OwnModel?"},
            ],
            "Default": "UnknownJobState",
        },
        "Webhooks?": choice("$.job.webhooks", "WaitForWebhook", "WaitForJob"),
        "WaitForWebhook": _webhook(),
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
        "OwnModel?": choice("$.job.own", "Parity", then),
        "Parity": stage(settings, "parity", "$.parity", then=then),
        "Fallback": stage(settings, "fallback", "$.fallback", then="AnotherBackend?"),
        "AnotherBackend?": choice("$.fallback.left", "Launch", "Fail"),
    }


def _training(settings: Settings) -> State:
    """A SageMaker training job, waited for.

    Poll reads how it ended, whichever way it did: a create whose answer was lost is refused when it
    is tried again, and the job is there all the same.
    """
    state = guarded(
        {
            "Type": "Task",
            "Resource": "${CreateTrainingJob}",
            "TimeoutSeconds": waiting_s(settings) + 3600,
            "Parameters": training_job(settings),
        },
        result=None,
        then="Poll",
    )
    return {
        **state,
        **retries("SageMaker.AmazonSageMakerException"),
        "Catch": [catch(["States.ALL"], "Poll", "$.not_started")],
    }


def _webhook() -> State:
    """Waits for the provider's word, or for the time of the next poll, whichever comes first."""
    return {
        "Type": "Task",
        "Resource": "${InvokeAndWait}",
        "Parameters": {
            "FunctionName": "${WaitFunctionArn}",
            "Payload": {"run.$": "$.run", "job.$": "$.job", "token.$": "$$.Task.Token"},
        },
        "TimeoutSecondsPath": "$.job.poll_seconds",
        "ResultPath": None,
        "Catch": [
            catch(["States.Timeout"], "Poll", None),
            catch(["States.ALL"], "WaitForJob", None),
        ],
        "Next": "Poll",
    }
