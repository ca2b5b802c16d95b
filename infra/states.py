"""Building blocks of the state machine: a function as a task, what is tried again, and catches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.config import Settings

State = dict[str, Any]

MARGIN_S = 10
"""A task waits this much longer than its function runs, so that the function's error wins."""
TRANSIENT = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Sandbox.Timedout",
)


def arn_name(function: str) -> str:
    """The `${...}` name that stands for a function's ARN."""
    return f"{function.capitalize()}FunctionArn"


def task(settings: Settings, function: str) -> State:
    """The state that calls a function with the whole state."""
    return {
        "Type": "Task",
        "Resource": f"${{{arn_name(function)}}}",
        "TimeoutSeconds": settings.functions.of(function).timeout_s + MARGIN_S,
    }


def stage(
    settings: Settings,
    function: str,
    result: str,
    *,
    then: str,
    falls_back: Sequence[str] = (),
) -> State:
    """A task whose result is placed in the state.

    Args:
        falls_back: errors after which another backend is tried.
    """
    state = guarded(task(settings, function), result=result, then=then)
    if falls_back:
        state["Catch"].insert(0, catch(falls_back, "Fallback"))
    return state


def guarded(state: State, *, result: str | None, then: str, on_error: str = "Fail") -> State:
    """A state that tries again what may pass, and otherwise tells why it went wrong."""
    caught = "$.error" if on_error == "Fail" else "$.fail_error"
    return {
        **state,
        **retries("RetryableError", *TRANSIENT),
        "Catch": [catch(["States.ALL"], on_error, caught)],
        "ResultPath": result,
        "Next": then,
    }


def catch(errors: Sequence[str], then: str, place: str | None = "$.error") -> State:
    """What happens after an error; its name and cause are kept at `place`."""
    return {"ErrorEquals": list(errors), "ResultPath": place, "Next": then}


def retries(*errors: str) -> State:
    """Six tries over about three minutes, spread out so that parallel tasks do not meet again.

    An endpoint that wakes from zero, and a job that another run is starting, take longer: they are
    looked at every minute, for twenty.
    """
    slow = {
        "ErrorEquals": ["AsleepError", "StartingError"],
        "IntervalSeconds": 60,
        "MaxAttempts": 20,
        "BackoffRate": 1,
    }
    passing = {
        "ErrorEquals": list(errors),
        "IntervalSeconds": 5,
        "MaxAttempts": 5,
        "BackoffRate": 2,
        "MaxDelaySeconds": 120,
        "JitterStrategy": "FULL",
    }
    return {"Retry": [slow, passing] if "RetryableError" in errors else [passing]}


def choice(variable: str, then: str, default: str) -> State:
    """`then` where a variable is true, `default` where it is not."""
    chosen = {"Variable": variable, "BooleanEquals": True, "Next": then}
    return {"Type": "Choice", "Choices": [chosen], "Default": default}
