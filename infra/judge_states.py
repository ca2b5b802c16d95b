"""The states of judging the cheap way: a look's questions go out as batches, and are waited for.

Read `$.plan`, after every ticket of the look was answered; leave judged tickets in the bucket.
"""

from __future__ import annotations

from infra.config import Settings
from infra.states import State, choice, stage

CHEAP_FUNCTIONS = ("submit", "collect")


def cheap_states(settings: Settings, *, then: str) -> dict[str, State]:
    """Every state from `Cheap?` on, which goes on to `then`; at once where judging is not cheap."""
    return {
        "Cheap?": choice("$.plan.cheap", "Submit", then),
        "Submit": stage(settings, "submit", "$.cheap", then="WaitForBatch"),
        "WaitForBatch": {"Type": "Wait", "SecondsPath": "$.cheap.poll_seconds", "Next": "Collect"},
        "Collect": stage(settings, "collect", "$.cheap", then="Collected?"),
        "Collected?": choice("$.cheap.done", then, "WaitForBatch"),
    }
