"""What the promote stage tells: that a run is over, or that a canary goes on."""

from __future__ import annotations

import time

from dropforge.backends.registry import SUCCEEDED
from lambdas.edge import Edge, Result


def ended(edge: Edge, version: str, *, promoted: bool, why: str = "") -> Result:
    """End a run that succeeded; `why` its model was not promoted, where the verdict alone does not
    say it."""
    told = {"not_promoted": why} if why else {}
    edge.note({"status": SUCCEEDED, "promoted": promoted, "ended_at": time.time(), **told})
    edge.count(RunsSucceeded=1, Promotions=int(promoted))
    return {"promoted": promoted, "canary": False, "running": False, "version": version}


def in_canary(version: str, *, wait: int) -> Result:
    """Go on with a canary; the next look is `wait` seconds from now."""
    going = {"canary": True, "running": True, "wait_seconds": wait}
    return {"promoted": False, "version": version, **going}
