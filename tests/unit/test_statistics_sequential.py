from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import log, log1p, prod, sqrt
from random import Random
from time import process_time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dropforge.artifacts import Interval
from dropforge.statistics import (
    Evidence,
    confidence_sequence,
    evidence_above,
    evidence_below,
    running_evidence,
)
from dropforge.statistics.plan import plan
from dropforge.statistics.sequential import capital, payoff

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), max_size=60)
THRESHOLD = st.sampled_from([0.1, 0.5, 0.7, 0.95])


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("ties", [0.0, 0.3])
@pytest.mark.parametrize(("horizon", "alpha"), [(8, 0.05), (4, 0.2), (1, 0.5)])
def test_capital_is_a_fair_game_where_the_mean_is_the_threshold(
    threshold: float, ties: float, horizon: int, alpha: float
) -> None:
    """Exactly: every sequence of eight scores, weighted with its chance."""
    mean = reached = 0.0
    for chance, scores in _sequences(8 if not ties else 7, threshold, ties):
        trace = list(capital(scores, threshold, horizon=horizon, alpha=alpha))
        mean += chance * trace[-1]
        reached += chance * (max(trace) >= 1 / alpha)

    assert mean == pytest.approx(1, abs=1e-6)
    assert reached <= alpha


def _sequences(n: int, mean: float, ties: float) -> Iterator[tuple[float, list[float]]]:
    chances = {1.0: mean - ties / 2, 0.5: ties, 0.0: 1 - mean - ties / 2}
    possible = [score for score, chance in chances.items() if chance > 0]
    for scores in product(possible, repeat=n):
        yield prod(chances[score] for score in scores), list(scores)


@given(st.data())
@settings(max_examples=4 * settings().max_examples)
def test_a_better_score_never_lowers_the_evidence(data: st.DataObject) -> None:
    scores, threshold = data.draw(SCORES), data.draw(THRESHOLD)
    assume(scores)
    place = data.draw(st.integers(0, len(scores) - 1))
    better = [*scores]
    better[place] = data.draw(st.floats(scores[place], 1.0))

    before = list(running_evidence(scores, threshold, horizon=40))
    after = list(running_evidence(better, threshold, horizon=40))

    assert all(b >= a * (1 - 1e-6) for a, b in zip(before, after, strict=True))


@given(SCORES, THRESHOLD, st.integers(1, 80))
def test_evidence_once_reached_stays_and_starts_at_one(
    scores: list[float], threshold: float, horizon: int
) -> None:
    trace = list(running_evidence(scores, threshold, horizon=horizon))

    assert trace == sorted(trace)
    assert all(evidence >= 1 for evidence in trace)
    found = evidence_above(scores, threshold, horizon=horizon)
    assert found == Evidence(trace[-1] if trace else 1.0, len(scores))


@given(SCORES, THRESHOLD)
def test_evidence_below_mirrors_evidence_above(scores: list[float], threshold: float) -> None:
    mirrored = [1 - score for score in scores]

    assert evidence_below(scores, threshold, horizon=50) == evidence_above(
        mirrored, 1 - threshold, horizon=50
    )


def test_a_higher_threshold_has_less_evidence_against_it() -> None:
    scores = [1.0, 1.0, 0.0, 1.0, 0.5] * 20
    found = [evidence_above(scores, t, horizon=100).e_value for t in (0.4, 0.5, 0.6, 0.7, 0.8)]

    assert found == sorted(found, reverse=True)
    assert found[0] > 20
    assert found[-1] < 3


def test_all_wins_are_enough_early_and_all_ties_never_against_their_own_mean() -> None:
    wins = list(running_evidence([1.0] * 30, 0.5, horizon=200))

    assert next(n for n, evidence in enumerate(wins, 1) if evidence >= 20) <= 12
    assert evidence_above([0.5] * 200, 0.5, horizon=200).e_value == pytest.approx(1)
    assert evidence_above([0.5] * 200, 0.4, horizon=200).e_value >= 20


def test_evidence_goes_on_beyond_the_horizon() -> None:
    scores = [1.0] * 3 + [0.0] * 7 + [1.0, 1.0, 1.0, 0.5] * 100
    trace = list(running_evidence(scores, 0.5, horizon=10))

    assert trace[9] < 20 < trace[-1]


@pytest.mark.parametrize(
    ("scores", "threshold", "expected"),
    [
        ([], 0.7, 1.0),
        ([1.0, 1.0], 1.0, 1.0),
        ([0.0, 0.0], 0.0, 1.0),
        ([0.0, 0.5], 0.0, 1e12),
    ],
)
def test_evidence_at_the_edges(scores: list[float], threshold: float, expected: float) -> None:
    assert evidence_above(scores, threshold, horizon=10).e_value == expected


def test_evidence_is_finite_however_strong() -> None:
    assert evidence_above([1.0] * 5000, 0.5, horizon=100).e_value == 1e12


@pytest.mark.parametrize(
    ("scores", "threshold", "horizon", "alpha", "said"),
    [
        ([float("nan")], 0.5, 10, 0.05, "a score"),
        ([1.1], 0.5, 10, 0.05, "a score"),
        ([1.0], float("nan"), 10, 0.05, "the threshold"),
        ([1.0], -0.1, 10, 0.05, "the threshold"),
        ([1.0], 0.5, 0, 0.05, "a horizon"),
        ([1.0], 0.5, 10, 0.0, "alpha"),
        ([1.0], 0.5, 10, float("nan"), "alpha"),
    ],
)
def test_evidence_refuses_what_makes_no_sense(
    scores: list[float], threshold: float, horizon: int, alpha: float, said: str
) -> None:
    for evidence in (evidence_above, evidence_below):
        with pytest.raises(ValueError, match=said):
            evidence(scores, threshold, horizon=horizon, alpha=alpha)


@pytest.mark.parametrize(("threshold", "ties"), [(0.7, 0.0), (0.5, 0.3)])
def test_evidence_seldom_rejects_a_true_null_however_often_one_looks(
    threshold: float, ties: float
) -> None:
    random, runs = Random(5), 1500
    chances = (threshold - ties / 2, ties, 1 - threshold - ties / 2)
    false = sum(
        evidence_above(
            random.choices((1.0, 0.5, 0.0), chances, k=120), threshold, horizon=100
        ).e_value
        >= 20
        for _ in range(runs)
    )

    assert 0.02 < false / runs < 0.05 + 0.017  # three standard errors; and the level is made use of


def test_the_plan_is_the_binomial_test_it_says() -> None:
    """Its first row is worth 1, and it rejects at its level: summed over all ways to the end."""
    rows, goal = plan(12, 0.6, payoff(0.05)), payoff(0.05)
    states, rejected = {0: 1.0}, 0.0
    for row in rows[1:]:
        after: dict[int, float] = {}
        for wins, chance in states.items():
            after[wins] = after.get(wins, 0) + chance * 0.4
            after[wins + 1] = after.get(wins + 1, 0) + chance * 0.6
        rejected += sum(c for wins, c in after.items() if row.value(wins) == goal)
        states = {wins: c for wins, c in after.items() if row.value(wins) < goal}
    by_lot = sum(chance * rows[-1].value(wins) / goal for wins, chance in states.items())

    assert rows[0].value(0) == pytest.approx(1)
    assert rejected <= 1 / goal
    assert rejected + by_lot == pytest.approx(1 / goal)


def test_the_plans_rows_rise() -> None:
    for row in plan(300, 0.7, payoff(0.05)):
        assert all(a < b for a, b in zip(row.values, list(row.values)[1:], strict=False))


@pytest.mark.parametrize(("tickets", "seconds"), [(200, 0.5), (5000, 2.0)])
def test_evidence_is_quick(tickets: int, seconds: float) -> None:
    random = Random(1)
    scores = [float(random.random() < 0.71) for _ in range(tickets)]
    plan.cache_clear()
    began = process_time()

    evidence_above(scores, 0.7, horizon=tickets)

    assert process_time() - began < seconds


def test_confidence_sequence_is_that_of_the_paper() -> None:
    """Against the capital process as Waudby-Smith and Ramdas write it, on a grid of means."""
    random = Random(4)
    scores = random.choices((1.0, 0.5, 0.0), (0.6, 0.2, 0.2), k=150)
    bets = _plug_in_bets(scores)
    kept = [m / 500 for m in range(501) if not _hedged_refutes(scores, bets, m / 500)]

    found = confidence_sequence(scores)

    assert (found.low, found.high) == pytest.approx((kept[0], kept[-1]), abs=0.003)


def _plug_in_bets(scores: list[float]) -> list[float]:
    bets = []
    for t in range(1, len(scores) + 1):
        before = scores[: t - 1]
        means = [(0.5 + sum(before[:i])) / (i + 1) for i in range(1, t)]
        spread = 0.25 + sum((x - m) ** 2 for x, m in zip(before, means, strict=True))
        bets.append(sqrt(2 * log(40) / (spread / t * t * log1p(t))))
    return bets


def _hedged_refutes(scores: list[float], bets: list[float], mean: float) -> bool:
    up = down = 1.0
    for score, bet in zip(scores, bets, strict=True):
        up *= 1 + min(bet, 0.5 / mean if mean else bet) * (score - mean)
        down *= 1 - min(bet, 0.5 / (1 - mean) if mean < 1 else bet) * (score - mean)
        if max(up, down) / 2 >= 20:
            return True
    return False


@given(SCORES)
def test_confidence_sequence_mirrors_and_encloses_the_mean(scores: list[float]) -> None:
    found = confidence_sequence(scores)
    other = confidence_sequence([1 - score for score in scores])

    assert 0 <= found.low <= found.point <= found.high <= 1
    assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-5)


def test_confidence_sequence_only_narrows() -> None:
    random = Random(8)
    scores = [float(random.random() < 0.6) for _ in range(200)]
    looks = [confidence_sequence(scores[:n]) for n in range(0, 201, 20)]

    assert looks[0] == Interval(0.5, 0.0, 1.0)
    assert [look.low for look in looks] == sorted(look.low for look in looks)
    assert [look.high for look in looks] == sorted((look.high for look in looks), reverse=True)
    assert looks[-1].high - looks[-1].low < 0.3


def test_confidence_sequence_misses_seldom_at_all_looks_together() -> None:
    random = Random(6)
    missed = 0
    for _ in range(400):
        found = confidence_sequence([float(random.random() < 0.8) for _ in range(150)])
        missed += not found.low <= 0.8 <= found.high

    assert missed / 400 <= 0.05


def test_confidence_sequence_refuses_what_is_no_score() -> None:
    with pytest.raises(ValueError, match="a score"):
        confidence_sequence([0.5, float("nan")])
