"""The win rate that is left when the judge's taste for long answers is taken out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import exp, tanh
from statistics import pstdev
from typing import NamedTuple

from dropforge.artifacts import Interval
from dropforge.statistics.intervals import t95, wilson
from dropforge.statistics.scores import check_scores

LEAST = 20
"""Tickets below which two numbers cannot be told apart."""
RIDGE = 0.25
"""Of the length's weight: a normal prior of standard deviation 2. Separated data end well."""
PRIOR = 0.5
"""Wins and losses, half a one each, at equal length: Jeffreys' prior of the win rate there."""
STEPS, LARGEST_STEP, CLOSE = 50, 2.0, 1e-9
MOST_LEVERAGE = 0.9
"""A cluster's part in the fit beyond which its correction stops growing."""


def length_controlled(
    scores: Sequence[float], lengths: Sequence[tuple[int, int]], clusters: Sequence[str]
) -> Interval | None:
    """The win rate if both answers had had the same length, with a 95 % interval.

    A logistic regression of the score on tanh of the difference in length, in its standard
    deviations, read where the difference is 0 (Dubois, Galambosi, Liang and Hashimoto 2024,
    "Length-controlled AlpacaEval"). The interval is `clustered`'s: Wilson's for the effective
    number of tickets, by the regression's sandwich variance over clusters (Bell and McCaffrey
    2002, "Bias reduction in standard errors for linear regression with multi-stage samples").

    Args:
        lengths: (the challenger's, the opponent's) words, ticket by ticket.
        clusters: whose ticket it is.

    Returns:
        None below 20 tickets, for a single cluster, where every pair differs by the same length
        other than 0, and where the regression does not converge.

    Raises:
        ValueError: a score outside [0, 1], or arguments that are not equally many.
    """
    check_scores(scores)
    if not len(scores) == len(lengths) == len(clusters):
        raise ValueError("scores, lengths and clusters are one each of a ticket")
    differences = [ours - theirs for ours, theirs in lengths]
    if len(scores) < LEAST or len(set(clusters)) == 1:
        return None
    spread = pstdev(differences)
    if not spread and any(differences):
        return None
    longer = [tanh(difference / spread) if spread else 0.0 for difference in differences]
    fit = _regression(scores, longer)
    if fit is None:
        return None
    share = _logistic(fit.level)
    sizes = Counter(clusters)
    freedom = len(scores) ** 2 / sum(size**2 for size in sizes.values()) - 2
    variance = share * (1 - share) * _variance(fit, scores, longer, clusters)
    return wilson(share, 1 / variance, t95(freedom))


class _Fit(NamedTuple):
    """Where the penalised likelihood is greatest, and its curvature there (Fisher information)."""

    level: float
    slope: float
    of_level: float
    of_both: float
    of_slope: float

    def chance(self, longer: float) -> float:
        return _logistic(self.level + self.slope * longer)

    @property
    def determinant(self) -> float:
        return self.of_level * self.of_slope - self.of_both**2


def _regression(scores: Sequence[float], longer: Sequence[float]) -> _Fit | None:
    """Newton's method, its steps bounded; None where it has not arrived after `STEPS`."""
    fit = _Fit(0.0, 0.0, 1.0, 0.0, 1.0)
    for _ in range(STEPS):
        middle = _logistic(fit.level)
        up_level = PRIOR * (1 - 2 * middle)
        up_slope = -RIDGE * fit.slope
        of_level, of_both, of_slope = 2 * PRIOR * middle * (1 - middle), 0.0, RIDGE
        for score, x in zip(scores, longer, strict=True):
            chance = fit.chance(x)
            weight = chance * (1 - chance)
            up_level += score - chance
            up_slope += (score - chance) * x
            of_level += weight
            of_both += weight * x
            of_slope += weight * x * x
        fit = _Fit(fit.level, fit.slope, of_level, of_both, of_slope)
        level = (of_slope * up_level - of_both * up_slope) / fit.determinant
        slope = (of_level * up_slope - of_both * up_level) / fit.determinant
        if max(abs(level), abs(slope)) < CLOSE:
            return fit
        fit = fit._replace(level=fit.level + _bounded(level), slope=fit.slope + _bounded(slope))
    return None


def _variance(
    fit: _Fit, scores: Sequence[float], longer: Sequence[float], clusters: Sequence[str]
) -> float:
    """Of the level, on the logit scale: the clusters' influences, squared and summed."""
    influence: dict[str, float] = defaultdict(float)
    leverage: dict[str, float] = defaultdict(float)
    for score, x, name in zip(scores, longer, clusters, strict=True):
        chance = fit.chance(x)
        pull = (fit.of_slope - fit.of_both * x) / fit.determinant
        influence[name] += pull * (score - chance)
        leverage[name] += (
            chance * (1 - chance) * (pull + x * (fit.of_level * x - fit.of_both) / fit.determinant)
        )
    share = _logistic(fit.level)
    prior = PRIOR * (fit.of_slope / fit.determinant) ** 2 * (share**2 + (1 - share) ** 2)
    return prior + sum(
        influence[name] ** 2 / (1 - min(leverage[name], MOST_LEVERAGE)) for name in influence
    )


def _logistic(x: float) -> float:
    return 1 / (1 + exp(-x))


def _bounded(step: float) -> float:
    return max(-LARGEST_STEP, min(LARGEST_STEP, step))
