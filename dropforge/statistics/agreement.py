"""How well a judge agrees with people about the same pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dropforge.artifacts import Agreement
from dropforge.statistics.intervals import wilson

OUTCOMES = {"loss": 0.0, "tie": 0.5, "win": 1.0}
"""Their places: a win called a loss is twice as far off as a win called a tie."""


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """The share of equal outcomes, and kappa: how much of the disagreement by chance is gone.

    Kappa is Cohen's, with linear weights (Cohen 1968, "Weighted kappa: nominal scale agreement with
    provision for scaled disagreement or partial credit"): 1 - seen / expected disagreement. It is
    0 where chance alone would agree always: one side and the other know a single outcome.

    Args:
        pairs: (the judge's outcome, the person's), each "win", "tie" or "loss".

    Raises:
        ValueError: another outcome.
    """
    if unknown := {outcome for pair in pairs for outcome in pair} - OUTCOMES.keys():
        raise ValueError(f"no outcome: {', '.join(sorted(unknown))}")
    n = len(pairs)
    equal = sum(judge == person for judge, person in pairs)
    seen = sum(_distance(*pair) for pair in pairs) / n if n else 0.0
    judges, people = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    expected = sum(
        judges[a] * people[b] * _distance(a, b) for a in OUTCOMES for b in OUTCOMES
    ) / max(1, n * n)
    kappa = 1 - seen / expected if expected else 0.0
    return Agreement(n, wilson(equal / n if n else 0.5, n), kappa)


def _distance(a: str, b: str) -> float:
    return abs(OUTCOMES[a] - OUTCOMES[b])
