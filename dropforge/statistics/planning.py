"""How many tickets a model of a given quality needs to pass, and how often it passes with fewer."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, exp, log1p, sqrt
from random import Random
from statistics import NormalDist

from dropforge.statistics.plan import Row, plan
from dropforge.statistics.scores import check_chance, check_share
from dropforge.statistics.sequential import (
    FRACTIONS,
    LONGEST,
    MIXED,
    payoff,
    running_evidence,
)


def power(
    share: float, samples: int, threshold: float, *, alpha: float = 0.05, ties: float = 0.0
) -> float:
    """The chance that `evidence_above` reaches 1 / alpha within `samples` tickets, its horizon.

    Args:
        share: the true mean score.
        ties: the share of tickets that score 1/2; the others win or lose.

    Without ties it is exact, but for paths that fall five standard deviations behind and come
    back; with ties it comes from simulated runs, and is right to about 3 points.

    Raises:
        ValueError: a share outside [0, 1], more ties than the share leaves room for, or more
            samples than `LONGEST`.
    """
    check_share("the share", share)
    check_share("the threshold", threshold)
    check_chance("alpha", alpha)
    if not 0 <= samples <= LONGEST:
        raise ValueError(f"samples lie between 0 and {LONGEST}, not at {samples}")
    if not 0 <= ties / 2 <= min(share, 1 - share):
        raise ValueError(f"a mean score of {share} leaves no room for {ties} ties")
    if samples == 0 or threshold == 1:
        return 0.0
    if threshold == 0:
        return 1 - (1 - share - ties / 2) ** samples
    if ties:
        return _simulated_power(share, samples, threshold, alpha, ties)
    return _exact_power(share, samples, threshold, alpha)


def _simulated_power(
    share: float, samples: int, threshold: float, alpha: float, ties: float
) -> float:
    random = Random(7)  # noqa: S311 - a simulation
    chances = (share - ties / 2, ties, 1 - share - ties / 2)
    runs = max(200, min(1000, 200_000 // samples))
    reached = 0
    for _ in range(runs):
        scores = random.choices((1.0, 0.5, 0.0), chances, k=samples)
        trace = running_evidence(scores, threshold, horizon=samples, alpha=alpha)
        reached += any(evidence >= 1 / alpha for evidence in trace)
    return reached / runs


def _exact_power(share: float, samples: int, threshold: float, alpha: float) -> float:
    """The chance by summing over every way from ticket to ticket (wins and losses alone)."""
    chances, first, reached = [1.0], 0, 0.0
    for row, top in _rejecting(samples, threshold, alpha):
        kept = max(0, row.first - first)
        chances, first = chances[kept:], first + kept
        reached += sum(chances[max(0, top - first) :])
        del chances[max(0, top - first) :]
        lost, won = [*chances, 0.0], [0.0, *chances]
        chances = [(1 - share) * a + share * b for a, b in zip(lost, won, strict=True)]
    return min(1.0, reached)


def _rejecting(samples: int, threshold: float, alpha: float) -> Iterator[tuple[Row, int]]:
    """By tickets, from 0 to `samples`: the plan's row, and the fewest wins with 1 / alpha."""
    bets = [fraction / threshold for fraction in FRACTIONS]
    gains = [log1p(bet * (1 - threshold)) for bet in bets]
    losses = [log1p(-bet * threshold) for bet in bets]

    def reached(row: Row, wins: int, lost: int) -> bool:
        grown = [wins * gain + lost * loss for gain, loss in zip(gains, losses, strict=True)]
        mixed = sum(exp(min(g, 60.0)) for g in grown) / len(grown)
        return (1 - MIXED) * row.value(wins) + MIXED * mixed >= 1 / alpha

    for tickets, row in enumerate(plan(samples, threshold, payoff(alpha))):
        top = row.first + len(row.values) - 2
        while top > row.first and reached(row, top - 1, tickets - top + 1):
            top -= 1
        yield row, top


def samples_needed(
    share: float,
    threshold: float,
    *,
    power: float = 0.9,
    alpha: float = 0.05,
    most: int = LONGEST,
) -> int | None:
    """The fewest tickets, to 1 %, with which a model of this true share passes with that chance.

    For wins and losses; ties make it need fewer. None where `most` tickets are not enough.

    Raises:
        ValueError: as `power` does.
    """
    check_chance("the power", power)
    check_share("the share", share)
    check_share("the threshold", threshold)
    check_chance("alpha", alpha)
    if share <= threshold:
        return None
    few, enough = 0, ceil(_single_look(share, threshold, power, alpha))
    if enough > most:
        return None
    while _power(share, enough, threshold, alpha) < power:
        if enough == most:
            return None
        few, enough = enough, min(ceil(1.1 * enough), most)
    while enough - few > max(1, enough // 100):
        middle = (few + enough) // 2
        if _power(share, middle, threshold, alpha) < power:
            few = middle
        else:
            enough = middle
    return enough


def _single_look(share: float, threshold: float, power: float, alpha: float) -> float:
    """Nearly what the best test needs that looks only once: where the search begins (Fleiss 1981,
    "Statistical methods for rates and proportions", section 2.5)."""
    normal = NormalDist()
    null = normal.inv_cdf(1 - alpha) * sqrt(threshold * (1 - threshold))
    true = normal.inv_cdf(power) * sqrt(share * (1 - share))
    return max(1.0, ((null + true) / (share - threshold)) ** 2)


def _power(share: float, samples: int, threshold: float, alpha: float) -> float:
    return power(share, samples, threshold, alpha=alpha)
