"""Evidence that holds wherever judging stops: looked at after every ticket, stopped for any reason.

A score is that of one independent ticket or customer: a customer with several tickets counts once,
with their mean. What is promised needs only scores in [0, 1] whose mean, given the earlier ones, is
on the null's side of the threshold: ties and the means of a panel are as good as wins and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import log, log1p, sqrt
from operator import mul

import msgspec

from dropforge.artifacts import Interval
from dropforge.statistics.plan import plan
from dropforge.statistics.scores import MOST, check_chance, check_scores, check_share

MIXED = 0.05
"""The share of the starting capital that is bet without a horizon."""
FRACTIONS = tuple(0.95 * 0.7**step for step in range(12))
"""The bets of the mixture, as shares of the largest bet that cannot lose everything."""
HALF_BET = 0.5
"""The most that a confidence sequence bets of its capital: Waudby-Smith and Ramdas' choice."""
LONGEST = 5000
"""Tickets up to which the horizon is planned for."""


class Evidence(msgspec.Struct, frozen=True):
    """How strongly n scores speak against a null hypothesis.

    Attributes:
        e_value: the greatest capital reached so far by betting against the null from a capital of
            1. If the null is true it ever reaches 1 / alpha with a chance of at most alpha (Ville
            1939, "Étude critique de la notion de collectif").
    """

    e_value: float
    n: int


def evidence_above(
    scores: Sequence[float], threshold: float, *, horizon: int, alpha: float = 0.05
) -> Evidence:
    """Evidence against "the mean score is at most `threshold`".

    Args:
        scores: in the order in which they were judged.
        horizon: the scores planned (so customers, where a customer counts once). It decides the
            bets, which have their best chance to reach 1 / alpha by then: one planned much too far
            off costs most of the power. Evidence before and beyond it is as valid.

    Raises:
        ValueError: a score or the threshold outside [0, 1], alpha not in (0, 1), no horizon.
    """
    trace = running_evidence(scores, threshold, horizon=horizon, alpha=alpha)
    return Evidence(max(trace, default=1.0), len(scores))


def evidence_below(
    scores: Sequence[float], threshold: float, *, horizon: int, alpha: float = 0.05
) -> Evidence:
    """Evidence against "the mean score is at least `threshold`": `evidence_above`, mirrored."""
    check_scores(scores)
    check_share("the threshold", threshold)
    mirrored = [1 - score for score in scores]
    return evidence_above(mirrored, 1 - threshold, horizon=horizon, alpha=alpha)


def running_evidence(
    scores: Sequence[float], threshold: float, *, horizon: int, alpha: float = 0.05
) -> Iterator[float]:
    """`evidence_above(...).e_value` after each score."""
    trace = capital(scores, threshold, horizon=horizon, alpha=alpha)
    return (max(1.0, greatest) for greatest in accumulate(trace, max))


def capital(
    scores: Sequence[float], threshold: float, *, horizon: int, alpha: float = 0.05
) -> Iterator[float]:
    """What a bettor against "the mean score is at most `threshold`" has after each score, from 1.

    Nearly all of the capital bets what replicates the payoff of a group-sequential binomial test
    (`plan`): for wins and losses it reaches 1 / alpha just when that test rejects at a level of
    nearly alpha, so the evidence has that test's power. The rest goes into a mixture of constant
    bets (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting"),
    which grows without a limit. Both are capital * (1 + bet * (score - threshold)), the bet known
    before the score and never large enough to lose more than there is: a nonnegative
    supermartingale if the mean is at most the threshold.
    """
    check_scores(scores)
    check_share("the threshold", threshold)
    check_chance("alpha", alpha)
    if horizon < 1:
        raise ValueError(f"a horizon is at least one ticket, not {horizon}")
    if threshold in (0, 1):
        return accumulate((MOST if score > threshold else 1.0 for score in scores), max)
    hedged, mixed = _hedge(scores, threshold, horizon, alpha), _mixture(scores, threshold)
    return (
        min(MOST, (1 - MIXED) * planned + MIXED * open_ended)
        for planned, open_ended in zip(hedged, mixed, strict=True)
    )


def payoff(alpha: float) -> float:
    """What the hedge must pay for all of the capital to reach 1 / alpha, in spite of rounding."""
    return (1 + 1e-9) / alpha / (1 - MIXED)


def _hedge(
    scores: Sequence[float], threshold: float, horizon: int, alpha: float
) -> Iterator[float]:
    """The capital after each score, from 1, of the bettor who replicates the planned test.

    A score between loss and win pays in proportion; the bettor then goes on as if in the state of
    the plan that is worth what is left.
    """
    goal = payoff(alpha)
    rows = plan(min(horizon, LONGEST), threshold, goal)
    worth, done = 1.0, False
    for ticket, score in enumerate(scores, 1):
        if not done and ticket < len(rows):
            wins, after = rows[ticket - 1].wins(worth), rows[ticket]
            stake = min(after.value(wins + 1) - after.value(wins), worth / threshold)
            worth = max(0.0, worth + stake * (score - threshold))
            done = worth <= 0 or worth >= goal * (1 - 1e-10)
        yield worth


def _mixture(scores: Sequence[float], threshold: float) -> Iterator[float]:
    """The capital after each score, from 1, spread evenly over constant bets; may be infinite."""
    bets = [fraction / threshold for fraction in FRACTIONS]
    gains = {score: [1 + bet * (score - threshold) for bet in bets] for score in set(scores)}
    capitals = [1.0] * len(bets)
    for score in scores:
        capitals = list(map(mul, capitals, gains[score]))
        yield sum(capitals) / len(capitals)


def confidence_sequence(scores: Sequence[float], *, alpha: float = 0.05) -> Interval:
    """An interval of the mean score that holds at every look at once, so wherever one stops.

    The hedged-capital confidence sequence with predictable plug-in bets of Waudby-Smith and Ramdas
    (2024, "Estimating means of bounded random variables by betting", section 4.3), limits kept once
    reached. It is wider than an interval for one look: the price of looking always.

    Returns:
        the mean, and the limits that hold with a chance of 1 - alpha; (1/2, 0, 1) without scores.

    Raises:
        ValueError: a score outside [0, 1], alpha not in (0, 1).
    """
    check_scores(scores)
    check_chance("alpha", alpha)
    if not scores:
        return Interval(0.5, 0.0, 1.0)
    mean = sum(scores) / len(scores)
    bets = _plug_in_bets(scores, alpha)
    low = _lower_limit(scores, bets, alpha)
    high = 1 - _lower_limit([1 - score for score in scores], bets, alpha)
    return Interval(mean, min(low, mean), max(high, mean))


def _plug_in_bets(scores: Sequence[float], alpha: float) -> list[float]:
    """The bet before each score, by the spread of those before it."""
    bets, total, spread = [], 0.5, 0.25
    for ticket, score in enumerate(scores, 1):
        variance = spread / ticket
        bets.append(sqrt(2 * log(2 / alpha) / (variance * ticket * log1p(ticket))))
        total += score
        spread += (score - total / (ticket + 1)) ** 2
    return bets


def _lower_limit(scores: Sequence[float], bets: Sequence[float], alpha: float) -> float:
    """The largest mean that betting on more refutes: its capital once was 2 / alpha.

    The capital falls as the mean rises, so it is found by halving.
    """

    def refuted(mean: float) -> bool:
        capital, largest = 1.0, HALF_BET / mean
        for score, bet in zip(scores, bets, strict=True):
            capital *= 1 + min(bet, largest) * (score - mean)
            if capital >= 2 / alpha:
                return True
        return False

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
