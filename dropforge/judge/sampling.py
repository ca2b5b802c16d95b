"""Which tickets are judged, in which order, and when the evidence is clear enough to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import Literal

from dropforge.artifacts import digest
from dropforge.chat import ChatExample
from dropforge.judge.samples import Sample
from dropforge.project.judging import Gate
from dropforge.statistics import clustered, evidence_above, evidence_below

MIN_SCORED = 20
"""Scored tickets below which no win rate is evidence: 20 wins of 20 still means 84-100 %."""

SURE = 0.95
"""How likely it must be that the point estimate stays over its threshold before judging stops."""


def cluster_of(example: ChatExample) -> str:
    """What a ticket's evidence hangs together by: its customer, else the conversation, else itself.

    Never in clear: see `ChatExample`.
    """
    return example.group or example.conversation or example.id


def choose_samples(examples: Iterable[ChatExample], limit: int) -> list[ChatExample]:
    """The test tickets to judge: at most `limit`, always the same ones of the same test split.

    In an order that has nothing to do with their content, a customer's tickets together, so that a
    look at the first of them sees what all of them would show.
    """
    found = list(examples)
    found.sort(key=lambda e: (digest("sample", cluster_of(e)), digest("sample", e.id)))
    return found[:limit]


def clusters(samples: Sequence[Sample], opponent: str) -> list[list[float]]:
    """The scores against an opponent, a list for each customer, in the order of judging."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        judged = sample.judged.get(opponent)
        if judged is not None and judged.score is not None:
            found.setdefault(sample.cluster or sample.id, []).append(judged.score)
    return list(found.values())


def in_sequence(samples: Sequence[Sample], opponent: str) -> list[float]:
    """One score for each customer, in the order of judging: what a sequential test may look at.

    Tickets of one customer are no independent evidence, so they count as one, by their mean.
    """
    return [sum(scores) / len(scores) for scores in clusters(samples, opponent)]


def is_clear(
    samples: Sequence[Sample], gate: Gate, customers: int
) -> Literal["above", "below"] | None:
    """Whether the verdict on the win rates is clear already; None asks for more tickets.

    `below`: the evidence against a win rate of the gate's `win_rate` or more over the base has
    reached 1 / alpha, or the rate against the champion is sure to stay too low. `above`: the
    evidence for one over `lower_bound` has, and all point estimates are over their thresholds and
    likely to stay there (stochastic curtailment; Lan, Simon & Halperin 1982). The tests are valid
    whenever they are looked at, so looking often lets no worse model through.

    The gate reads other numbers at the end: the mean over tickets, where the tests weigh customers
    alike, and a champion only from `MIN_SCORED` scored tickets on. So judging goes on where these
    would not give the verdict that it stops for.

    Args:
        customers: how many there are among all tickets that may be judged.
    """
    scores = in_sequence(samples, "base")
    if len(scores) < MIN_SCORED:
        return None
    has_champion = any("champion" in sample.judged for sample in samples)
    against_champion = clusters(samples, "champion")
    if has_champion and sum(map(len, against_champion)) < MIN_SCORED:
        return None
    horizon, target = max(customers, len(scores)), 1 / gate.alpha
    reigning = in_sequence(samples, "champion")
    ahead = stays_above(reigning, gate.against_champion, horizon) if has_champion else 1.0
    wins = clustered(clusters(samples, "base")).point > gate.win_rate
    holds = not has_champion or clustered(against_champion).point >= gate.against_champion
    below = evidence_below(scores, gate.win_rate, horizon=horizon, alpha=gate.alpha)
    if (below.e_value >= target and not wins) or (ahead <= 1 - SURE and not holds):
        return "below"
    above = evidence_above(scores, gate.lower_bound, horizon=horizon, alpha=gate.alpha)
    stays = stays_above(scores, gate.win_rate, horizon)
    sure = above.e_value >= target and min(stays, ahead) >= SURE
    return "above" if sure and wins and holds else None


def stays_above(scores: Sequence[float], threshold: float, horizon: int) -> float:
    """The chance that the mean of `horizon` scores lies over a threshold, given the first of them.

    Predictive, with the normal approximation: what is still to come has the mean seen so far, give
    or take its standard error (Spiegelhalter, Freedman & Blackburn 1986).
    """
    n = len(scores)
    mean = sum(scores) / n
    if n >= horizon:
        return float(mean > threshold)
    variance = sum((score - mean) ** 2 for score in scores) / n
    smallest = 0.25 / n  # so few of them that all alike say little
    error = sqrt(max(variance, smallest) / n * (horizon - n) / horizon)
    return NormalDist().cdf((mean - threshold) / error)
