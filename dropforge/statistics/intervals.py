"""Intervals of a mean score: of independent tickets, and of customers with several tickets each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import sqrt

from dropforge.artifacts import Interval
from dropforge.statistics.scores import check_scores, check_share

Z95 = 1.959964
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson(share: float, n: float, quantile: float = Z95) -> Interval:
    """The Wilson score interval (Wilson 1927, "Probable inference") of a share of n trials, 95 %.

    Ties counted as half make the trials vary less than a coin's, so the interval is wide enough.

    Args:
        n: trials; an effective number of them, with a fraction, where they are not independent.
        quantile: of the distribution of the share's error, two-sided 95 %.

    Raises:
        ValueError: a share outside [0, 1], or n below 0.
    """
    check_share("the share", share)
    if not n >= 0:
        raise ValueError(f"a number of trials is not {n}")
    if n == 0:
        return Interval(0.5, 0.0, 1.0)
    centre = (share + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    half = quantile * sqrt(share * (1 - share) / n + quantile**2 / (4 * n * n))
    half /= 1 + quantile**2 / n
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def clustered(clusters: Sequence[Sequence[float]]) -> Interval:
    """The mean over all scores with a 95 % interval, where the scores of a cluster hang together.

    Wilson's interval for the effective number of tickets: as many independent wins and losses as
    would make the mean vary as much as the clusters show (Kish 1965, "Survey sampling"; Korn and
    Graubard 1998, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", with the t quantile). The variance is the linearised one
    with Bell and McCaffrey's correction for unequal clusters (2002, "Bias reduction in standard
    errors for linear regression with multi-stage samples"). One win and one loss are added to it,
    so that equal scores give Wilson's width, never zero.

    It covers 94 to 96 % from about 50 clusters on, with ties and with clusters of 1 to 4; less, to
    91 %, where a few clusters of 8 hold the rare losses. It was chosen by simulation
    (`benchmarks/judging.py`): at 100 tickets in clusters of 1 to 4, resampling whole clusters
    covers 90 to 94 % by percentiles, 93 to 95 % by BCa or bootstrap-t, and takes far longer.

    Raises:
        ValueError: a score outside [0, 1].
    """
    check_scores(chain.from_iterable(clusters))
    sizes = [len(cluster) for cluster in clusters if cluster]
    sums = [sum(cluster) for cluster in clusters if cluster]
    tickets = sum(sizes)
    if not tickets:
        return Interval(0.5, 0.0, 1.0)
    share = min(1.0, sum(sums) / tickets)
    if len(sizes) == 1:
        return wilson(share, 1)  # how clusters differ, one cannot show
    inner = (share * tickets + 1) / (tickets + 2)
    spread = (
        inner**2
        + (1 - inner) ** 2
        + sum(
            (total - inner * size) ** 2 / (1 - size / tickets)
            for total, size in zip(sums, sizes, strict=True)
        )
    )
    effective = inner * (1 - inner) * tickets**2 / spread
    freedom = tickets**2 / sum(size**2 for size in sizes) - 1
    return wilson(share, effective, t95(freedom))


def t95(freedom: float) -> float:
    """The two-sided 95 % quantile of Student's t, to 1 % from 3 degrees of freedom on; 1 at least.

    The expansion of Cornish and Fisher, Abramowitz and Stegun 1964, "Handbook of mathematical
    functions", 26.7.5.
    """
    v, z = max(1.0, freedom), Z95
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
