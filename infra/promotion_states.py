"""The states after the verdict: a person's yes, the pointer's move, and the canary's looks.

Read `$.evaluation` and `$.poll.model`; leave in `$.promotion` whether the model answers now.
"""

from __future__ import annotations

from infra.config import Settings
from infra.states import TRANSIENT, State, catch, choice, retries, stage

APPROVAL_S = 7 * 24 * 3600
"""How long a person is waited for: as long as the link that was sent can be used."""


def promotion_states(settings: Settings, *, then: str) -> dict[str, State]:
    """Every state from `Approval?` on; `then` follows where the run is over."""
    return {
        "Approval?": choice("$.evaluation.approval", "WaitForApproval", "Promote"),
        "WaitForApproval": _approval(),
        "Promote": stage(settings, "promote", "$.promotion", then="Canary?"),
        "Canary?": choice("$.promotion.canary", "WaitForCanary", then),
        "WaitForCanary": {
            "Type": "Wait",
            "SecondsPath": "$.promotion.wait_seconds",
            "Next": "Canary",
        },
        "Canary": stage(settings, "canary", "$.promotion", then="CanaryRunning?"),
        "CanaryRunning?": choice("$.promotion.running", "WaitForCanary", then),
    }


def _approval() -> State:
    """Asks a person, and waits for an answer; without one, Promote leaves the champion alone."""
    return {
        "Type": "Task",
        "Resource": "${InvokeAndWait}",
        "Parameters": {
            "FunctionName": "${AskFunctionArn}",
            "Payload": {
                "run.$": "$.run",
                "evaluation.$": "$.evaluation",
                "model.$": "$.poll.model",
                "token.$": "$$.Task.Token",
            },
        },
        "TimeoutSeconds": APPROVAL_S,
        "ResultPath": "$.approval",
        **retries("RetryableError", *TRANSIENT),
        "Catch": [
            catch(["States.Timeout"], "Promote", "$.not_approved"),
            catch(["States.ALL"], "Fail"),
        ],
        "Next": "Promote",
    }
