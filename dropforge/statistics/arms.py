"""Evidence from live traffic: does a canary's new model do worse than the champion beside it?

Valid wherever one looks: after every request or rating, and stopped at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, lgamma, log, log1p

import msgspec

from dropforge.statistics.scores import MOST, check_share

PRIOR = 4.0
"""Ratings of the common rate that each arm's estimate starts with."""


class Counts(msgspec.Struct, frozen=True):
    """One arm's traffic in a step of a canary so far: requests, and those of them with an event."""

    requests: int = 0
    events: int = 0


def rate_evidence(steps: Sequence[tuple[Counts, Counts]], *, tolerance: float = 1.0) -> float:
    """Evidence against "the challenger's rate of an event is at most `tolerance` times as high".

    Each event is the challenger's with a chance that the null bounds by its share of the step's
    requests. What is bet is a mixture, even over all greater chances (Robbins 1970, "Statistical
    methods related to the law of the iterated logarithm"; for two arms Turner, Ly and Grünwald
    2021, "Safe tests for 2 x 2 contingency tables"); the steps' evidence is multiplied.

    The share is the one seen so far: common events follow it closely, and rare ones leave it time
    to settle. In simulated canaries of equal arms (rates of .2 to 80 %, 5 to 50 % of the traffic),
    looked at after every request, 20 was reached in 3 of 100 at most.

    Args:
        steps: of each step of the canary (challenger's, champion's) counts since the step began.
            Within a step the shares of traffic stay the same.

    Returns:
        the e-value of the counts now. A caller who looked earlier, and found more, may keep that.

    Raises:
        ValueError: more events than requests, a negative count, a tolerance not above 0.
    """
    if not 0 < tolerance < inf:
        raise ValueError(f"a tolerance is above 0, not {tolerance}")
    total = sum(_log_rate_evidence(*step, tolerance) for step in steps)
    return min(MOST, exp(min(total, 700.0)))


def _log_rate_evidence(challenger: Counts, champion: Counts, tolerance: float) -> float:
    for arm in (challenger, champion):
        if not 0 <= arm.events <= arm.requests:
            raise ValueError(f"{arm.events} events of {arm.requests} requests")
    ours, theirs = challenger.events, champion.events
    weight = challenger.requests * tolerance
    if not ours + theirs or not challenger.requests or not champion.requests:
        return 0.0
    chance = weight / (weight + champion.requests)
    # The integral of t^ours (1-t)^theirs from chance to 1, by that of a beta distribution.
    whole = lgamma(ours + 1) + lgamma(theirs + 1) - lgamma(ours + theirs + 2)
    null = ours * log(chance) + theirs * log1p(-chance)
    return whole + _log_binomial_cdf(ours, ours + theirs + 1, chance) - log1p(-chance) - null


def _log_binomial_cdf(most: int, n: int, chance: float) -> float:
    """log P(at most `most` of n), each with this chance."""
    term = n * log1p(-chance)
    odds = log(chance) - log1p(-chance)
    terms = [term]
    for k in range(1, most + 1):
        term += log((n - k + 1) / k) + odds
        terms.append(term)
    top = max(terms)
    return top + log(sum(exp(t - top) for t in terms))


def rating_evidence(ratings: Sequence[tuple[bool, bool]], share: float | None = None) -> float:
    """Evidence against "the challenger's answers are rated at least as well as the champion's".

    Both arms' chances of a good rating are estimated from the ratings before, the challenger's
    never the better one; a rating then counts by how much likelier it is of its own arm than of
    the two together (Turner, Ly and Grünwald 2021, "Safe tests for 2 x 2 contingency tables").

    Args:
        ratings: in order of time: is it the challenger's, is it a good one.
        share: the chance with which a rating is the challenger's. None: not known, or not always
            the same; then ratings are taken in blocks, each as it came with ratings of both arms.

    Returns:
        the greatest evidence reached; 1 / alpha has a chance of at most alpha if the null is true.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if share is not None:
        check_share("the share", share)
    seen = {True: [0, 0], False: [0, 0]}
    greatest = total = 0.0
    for block in _blocks(ratings) if share is None else ([rating] for rating in ratings):
        weight = sum(ours for ours, _ in block) / len(block) if share is None else share
        good = _good_chances(seen[True], seen[False])
        pooled = weight * good[True] + (1 - weight) * good[False]
        for ours, is_good in block:
            own = good[ours]
            total += log(own / pooled) if is_good else log((1 - own) / (1 - pooled))
            seen[ours][is_good] += 1
        greatest = max(greatest, total)
    return min(MOST, exp(min(greatest, 700.0)))


def _blocks(ratings: Sequence[tuple[bool, bool]]) -> Iterator[list[tuple[bool, bool]]]:
    """The ratings cut as soon as a block has some of both arms; the unfinished last one is not."""
    block: list[tuple[bool, bool]] = []
    for rating in ratings:
        block.append(rating)
        if rating[0] != block[0][0]:
            yield block
            block = []


def _good_chances(challenger: Sequence[int], champion: Sequence[int]) -> dict[bool, float]:
    """Each arm's chance of a good rating by its (bad, good) ones, the challenger's not the better.

    Both lean towards the rate of the two together, as `PRIOR` ratings of it would make them.
    """
    good, n = challenger[1] + champion[1], sum(challenger) + sum(champion)
    both = (good + 0.5) / (n + 1)
    ours = (challenger[1] + PRIOR * both) / (sum(challenger) + PRIOR)
    theirs = (champion[1] + PRIOR * both) / (sum(champion) + PRIOR)
    return {True: ours, False: theirs} if ours < theirs else {True: both, False: both}
