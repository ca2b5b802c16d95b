"""What the statistics behind a verdict promise, simulated.

Scores are drawn from models whose true win rate is known; each promise is then a share of runs:
how often a model at the threshold passes, how often a good one does, how often an interval covers
the truth, how often a canary is ended for nothing. The functions are the pipeline's own. Shares
near 5 or 95 % are right to ± .6 points (95 %), others to ± 2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from math import comb, exp
from multiprocessing import get_context
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.figures import Figure
from dropforge.judge.sampling import MIN_SCORED, SURE, stays_above
from dropforge.statistics import (
    Counts,
    clustered,
    confidence_sequence,
    evidence_above,
    length_controlled,
    power,
    rate_evidence,
    rating_evidence,
    running_evidence,
    wilson,
)

ALPHA = 0.05
TICKETS = 200
RUNS = 8000
STRICT, DEFAULT = 0.7, 0.5
"""The gate's thresholds of the win rate's evidence: its strict mode and its default."""
AT_200 = f"of {TICKETS} tickets, looked at after each"


class Judged(NamedTuple):
    """Whose tickets are drawn: their mean score, the share of ties, and how they hang together.

    Attributes:
        alike: the correlation of the scores of two tickets of the same customer.
        most: a customer has 1 to this many tickets.
    """

    mean: float
    ties: float = 0.0
    alike: float = 0.0
    most: int = 1

    def scores(self, random: np.random.Generator, n: int) -> np.ndarray[Any, Any]:
        drawn = random.random(n)
        win = self.mean - self.ties / 2
        return np.where(drawn < win, 1.0, np.where(drawn < win + self.ties, 0.5, 0.0))

    def customers(self, random: np.random.Generator, tickets: int) -> list[list[float]]:
        """The scores of this many tickets, a list for each customer."""
        if self.most == 1:
            return [[score] for score in self.scores(random, tickets).tolist()]
        ends = random.integers(1, self.most + 1, tickets).cumsum()
        ends = ends[: int(np.searchsorted(ends, tickets)) + 1]
        ends[-1] = tickets
        sizes = np.diff(ends, prepend=0)
        mood = np.repeat(self.scores(random, len(sizes)), sizes)
        own = self.scores(random, tickets)
        scores = np.where(random.random(tickets) < self.alike**0.5, mood, own).tolist()
        return [scores[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def figures() -> Iterator[Figure]:
    """How long judges are waited for, attacks, simulations; four to five minutes of one core."""
    from benchmarks import judges  # its embedder takes a second to load, in each worker below

    yield from judges.figures()
    yield from _false_promotions()
    yield from _power()
    yield from _early_stops()
    yield from _coverage()
    yield from _anytime_coverage()
    yield from _length_coverage()
    yield from _canary()


def _shares(
    trial: Callable[..., float], cases: Sequence[tuple[Any, ...]], runs: int = RUNS
) -> list[float]:
    """The mean of `runs` trials of each case, on at most two cores."""
    with get_context("forkserver").Pool(min(2, os.cpu_count() or 1)) as pool:
        return pool.starmap(_mean, [(trial, case, runs) for case in cases], chunksize=1)


def _mean(trial: Callable[..., float], case: tuple[Any, ...], runs: int) -> float:
    random = np.random.default_rng(7)
    return fmean(trial(random, *case) for _ in range(runs))


def _false_promotions() -> Iterator[Figure]:
    kinds = {
        "no ties": (0.0, 1),
        "30 % ties": (0.3, 1),
        "customers of 1 to 4 tickets": (0.3, 4),
    }
    for threshold in (STRICT, DEFAULT):
        cases = [(Judged(threshold, ties, 0.5, most), threshold) for ties, most in kinds.values()]
        found = _shares(_promoted, cases)
        yield Figure(
            f"false promotions at a true win rate of {threshold:.0%}, the threshold, {AT_200}",
            ", ".join(f"{kind} {share:.1%}" for kind, share in zip(kinds, found, strict=True)),
            "at most 5 %",
            max(found) <= ALPHA,
        )


def _promoted(random: np.random.Generator, judged: Judged, threshold: float) -> bool:
    """Is the evidence ever enough? A customer counts once, by the mean of their tickets."""
    scores = [sum(own) / len(own) for own in judged.customers(random, TICKETS)]
    return evidence_above(scores, threshold, horizon=len(scores)).e_value >= 1 / ALPHA


def _power() -> Iterator[Figure]:
    for threshold in (STRICT, DEFAULT):
        cases = [(Judged(0.8, 0.2), threshold), (Judged(0.8, 0.2, 0.5, 4), threshold)]
        tied, together = _shares(_promoted, cases, 4000)
        exact = power(0.8, TICKETS, threshold)
        yield Figure(
            f"a model that wins 80 % passes a threshold of {threshold:.0%}, {AT_200}",
            f"no ties {exact:.1%} (exact), 20 % ties {tied:.1%}; "
            f"customers of 1 to 4 tickets, correlation 0.5: {together:.1%}",
            "at least 90 % of single tickets",
            min(exact, tied) >= 0.9,
        )
    yield Figure(
        "the same with 60 tickets",
        f"{power(0.8, 60, STRICT):.1%} (threshold 70 %), {power(0.8, 60, DEFAULT):.1%} (50 %)",
    )


def _early_stops() -> Iterator[Figure]:
    """The judge's own rule (`is_clear`), looked at after every ticket, without a champion."""
    rates = (0.5, 0.6, 0.7, 0.8, 0.9)
    judged = _shares(_judged_share, [(Judged(rate, 0.2),) for rate in rates], 1500)
    saved = [1 - share for share in judged]
    each = ", ".join(f"{rate:.0%}: {share:.0%}" for rate, share in zip(rates, saved, strict=True))
    yield Figure(
        f"judging saved by stopping early, of {TICKETS} tickets, by the true win rate (20 % ties)",
        f"{each}; on average {fmean(saved):.0%}",
        "40 % on average",
        fmean(saved) >= 0.4,
    )


def _judged_share(random: np.random.Generator, judged: Judged) -> float:
    scores = judged.scores(random, TICKETS).tolist()
    above = running_evidence(scores, DEFAULT, horizon=TICKETS)
    below = running_evidence([1 - score for score in scores], 1 - STRICT, horizon=TICKETS)
    for n, (good, bad) in enumerate(zip(above, below, strict=True), 1):
        if n < MIN_SCORED:
            continue
        if bad >= 1 / ALPHA:
            return n / TICKETS
        if good >= 1 / ALPHA and stays_above(scores[:n], STRICT, TICKETS) >= SURE:
            return n / TICKETS
    return 1.0


def _coverage() -> Iterator[Figure]:
    """Of the intervals for one look: Wilson's exactly, the clustered one by simulation."""
    sizes = (100, 200, 400)
    rates = [(0.5, 0.0), (0.5, 0.4), (0.7, 0.2), (0.8, 0.0), (0.8, 0.4), (0.9, 0.0), (0.9, 0.2)]
    plain = [_wilson_coverage(rate / 20, n) for n in sizes for rate in range(10, 19)]
    yield _covered("wilson(): single tickets, no ties, true rates .5 to .9 (exact)", plain)
    for alike in (0.0, 0.3):
        for n in sizes if alike else (200,):
            cases = [(Judged(*rate, alike, 4), n) for rate in rates]
            yield _covered(
                f"clustered(): {n} tickets, customers of 1 to 4, correlation {alike:.1f}, "
                "ties 0 to 40 %, true rates .5 to .9",
                _shares(_covers, cases),
            )
    cases = [(Judged(*rate, 0.6, 4), 200) for rate in rates]
    yield _covered("clustered(): the same, 200 tickets, correlation 0.6", _shares(_covers, cases))
    cases = [(Judged(*rate, 0.3, 8), 400) for rate in rates]
    yield _covered("clustered(): 400 tickets, customers of 1 to 8", _shares(_covers, cases))


def _covered(name: str, found: Sequence[float]) -> Figure:
    return Figure(
        f"coverage of {name}",
        f"{min(found):.1%} to {max(found):.1%}, mean {fmean(found):.1%}",
        "94 to 96 %",
        min(found) >= 0.94 and max(found) <= 0.96,
    )


def _wilson_coverage(rate: float, n: int) -> float:
    inside = 0.0
    for wins in range(n + 1):
        found = wilson(wins / n, n)
        if found.low <= rate <= found.high:
            inside += comb(n, wins) * rate**wins * (1 - rate) ** (n - wins)
    return inside


def _covers(random: np.random.Generator, judged: Judged, tickets: int) -> bool:
    found = clustered(judged.customers(random, tickets))
    return found.low <= judged.mean <= found.high


def _anytime_coverage() -> Iterator[Figure]:
    cases = [(Judged(0.5),), (Judged(0.8),), (Judged(0.8, 0.4),)]
    found = _shares(_covers_always, cases, 4000)
    each = ", ".join(f"{_width(*case):.2f}" for case in cases)
    yield Figure(
        f"coverage of confidence_sequence() at all looks together, {TICKETS} tickets "
        "(rates .5, .8, .8 with 40 % ties)",
        ", ".join(f"{share:.1%}" for share in found) + f"; width at the end {each}",
        "at least 95 %",
        min(found) >= 0.95,
    )


def _covers_always(random: np.random.Generator, judged: Judged) -> bool:
    """A limit once reached is kept, so the last look has missed where any has."""
    found = confidence_sequence(judged.scores(random, TICKETS).tolist())
    return found.low <= judged.mean <= found.high


def _width(judged: Judged) -> float:
    random = np.random.default_rng(1)
    found = [confidence_sequence(judged.scores(random, TICKETS).tolist()) for _ in range(50)]
    return fmean(one.high - one.low for one in found)


def _length_coverage() -> Iterator[Figure]:
    cases = [(level, taste) for level in (0.0, 0.85, 1.4) for taste in (0.0, 0.7)]
    yield _covered(
        "length_controlled(): 200 tickets, 100 customers, rates at equal length .5, .7 and .8, "
        "with and without a taste for length",
        _shares(_covers_length, cases, 5000),
    )


def _covers_length(random: np.random.Generator, level: float, taste: float) -> bool:
    """The challenger writes longer answers; two tickets of a customer often score the same."""
    longer = random.normal(0.5, 1.0, TICKETS)
    chances = 1 / (1 + np.exp(-level - taste * np.tanh(longer)))
    moods = np.repeat(random.random(TICKETS // 2), 2)
    drawn = np.where(random.random(TICKETS) < 0.5, moods, random.random(TICKETS))
    scores = (drawn < chances).astype(float).tolist()
    lengths = [(200 + round(60 * more), 200) for more in longer]
    found = length_controlled(scores, lengths, [str(ticket // 2) for ticket in range(TICKETS)])
    return found is not None and found.low <= 1 / (1 + exp(-level)) <= found.high


def _canary() -> Iterator[Figure]:
    equal = [(share, rate, rate) for share in (0.1, 0.5) for rate in (0.01, 0.1)]
    blamed = _shares(_rolled_back, equal)
    yield Figure(
        "false roll-backs by rate_evidence(): 1,000 requests, error rates 1 and 10 %, "
        "10 and 50 % of traffic",
        f"{min(blamed):.1%} to {max(blamed):.1%}",
        "at most 5 %",
        max(blamed) <= ALPHA,
    )
    worse = [(0.1, 0.06, 0.01), (0.5, 0.06, 0.01), (0.1, 0.3, 0.01)]
    found = _shares(_rolled_back, worse, 2000)
    yield Figure(
        "roll-backs within 1,000 requests at error rates of 6 against 1 % (10 and 50 % of "
        "traffic), and of 30 against 1 % (10 %)",
        ", ".join(f"{share:.0%}" for share in found),
    )
    rated = [(0.1, 0.8, 0.8, 0.1), (0.1, 0.8, 0.8, None), (0.5, 0.9, 0.9, None)]
    blamed = _shares(_rated_worse, rated)
    yield Figure(
        "false roll-backs by rating_evidence(): 300 ratings, share known and not",
        f"{min(blamed):.1%} to {max(blamed):.1%}",
        "at most 5 %",
        max(blamed) <= ALPHA,
    )
    found = _shares(_rated_worse, [(0.1, 0.5, 0.85, 0.1), (0.1, 0.5, 0.85, None)], 2000)
    yield Figure(
        "roll-backs within 300 ratings, 50 against 85 % good ones, 10 % of them the challenger's",
        f"{found[0]:.0%} where the share is known, {found[1]:.0%} where not",
    )


def _rolled_back(random: np.random.Generator, share: float, ours: float, theirs: float) -> bool:
    """Looked at after every event and every 40th request of 1,000."""
    arms = random.random(1000) < share
    events = random.random(1000) < np.where(arms, ours, theirs)
    columns = (arms, arms & events, ~arms, ~arms & events)
    counts = np.stack([column.cumsum() for column in columns], axis=1)
    looks = events | (np.arange(1000) % 40 == 39)
    return any(
        rate_evidence([(Counts(n, k), Counts(m, j))]) >= 1 / ALPHA
        for n, k, m, j in counts[looks].tolist()
    )


def _rated_worse(
    random: np.random.Generator, share: float, ours: float, theirs: float, told: float | None
) -> bool:
    arms = random.random(300) < share
    good = random.random(300) < np.where(arms, ours, theirs)
    return rating_evidence(list(zip(arms.tolist(), good.tolist(), strict=True)), told) >= 1 / ALPHA
