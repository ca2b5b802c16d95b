"""What every function of this package refuses, and the largest number that it returns."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 1e12
"""Where evidence stops counting: finite, so that JSON can carry it."""


def check_scores(scores: Iterable[float]) -> None:
    """Raise ValueError where a score is outside [0, 1], or NaN."""
    for score in scores:
        if not 0 <= score <= 1:  # NaN compares as false
            raise ValueError(f"a score lies between 0 and 1, not at {score}")


def check_share(name: str, share: float) -> None:
    """Raise ValueError where a share is outside [0, 1], or NaN."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} lies between 0 and 1, not at {share}")


def check_chance(name: str, chance: float) -> None:
    """Raise ValueError where a chance is not strictly between 0 and 1."""
    if not 0 < chance < 1:
        raise ValueError(f"{name} lies strictly between 0 and 1, not at {chance}")
