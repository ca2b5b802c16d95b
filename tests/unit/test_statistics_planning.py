from __future__ import annotations

from itertools import product
from random import Random
from time import process_time

import pytest

from dropforge.statistics import evidence_above, power, samples_needed


@pytest.mark.parametrize(
    ("share", "samples", "threshold", "alpha"),
    [(0.8, 12, 0.5, 0.05), (0.9, 10, 0.7, 0.2), (0.6, 9, 0.5, 0.3), (1.0, 9, 0.7, 0.05)],
)
def test_power_is_the_chance_of_all_sequences_that_pass(
    share: float, samples: int, threshold: float, alpha: float
) -> None:
    chance = 0.0
    for scores in product((0.0, 1.0), repeat=samples):
        found = evidence_above(scores, threshold, horizon=samples, alpha=alpha)
        if found.e_value >= 1 / alpha:
            wins = int(sum(scores))
            chance += share**wins * (1 - share) ** (samples - wins)

    assert power(share, samples, threshold, alpha=alpha) == pytest.approx(chance, abs=1e-5)


def test_power_is_what_simulated_runs_reach() -> None:
    random = Random(9)
    reached = 0
    for _ in range(1000):
        scores = [float(random.random() < 0.8) for _ in range(100)]
        reached += evidence_above(scores, 0.7, horizon=100).e_value >= 20

    assert power(0.8, 100, 0.7) == pytest.approx(reached / 1000, abs=0.045)  # three errors


def test_power_is_at_least_ninety_percent_for_the_strict_gate_at_200_tickets() -> None:
    assert power(0.8, 200, 0.7) >= 0.9
    assert power(0.8, 200, 0.7, ties=0.2) >= 0.9


def test_power_at_the_threshold_is_at_most_alpha() -> None:
    assert power(0.7, 200, 0.7) <= 0.05
    assert power(0.7, 100, 0.7, ties=0.3) <= 0.05 + 0.02


def test_power_grows_with_the_tickets_and_the_share() -> None:
    assert power(0.8, 60, 0.7) < power(0.8, 120, 0.7) < power(0.85, 120, 0.7)


@pytest.mark.parametrize(
    ("share", "samples", "threshold", "expected"),
    [(0.9, 0, 0.5, 0.0), (1.0, 50, 1.0, 0.0), (0.5, 2, 0.0, 0.75), (0.0, 50, 0.5, 0.0)],
)
def test_power_at_the_edges(share: float, samples: int, threshold: float, expected: float) -> None:
    assert power(share, samples, threshold) == pytest.approx(expected)


def test_power_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="no room"):
        power(0.9, 100, 0.7, ties=0.3)
    with pytest.raises(ValueError, match="samples"):
        power(0.9, 5001, 0.7)
    with pytest.raises(ValueError, match="the share"):
        power(float("nan"), 100, 0.7)


@pytest.mark.parametrize(("share", "threshold"), [(0.8, 0.7), (0.8, 0.5), (0.95, 0.7)])
def test_samples_needed_reach_the_power_and_fewer_do_not(share: float, threshold: float) -> None:
    n = samples_needed(share, threshold)

    assert n is not None
    assert power(share, n, threshold) >= 0.9
    assert power(share, int(n * 0.9), threshold) < 0.9


def test_no_samples_are_enough_for_a_model_at_the_threshold_or_for_a_hair_above() -> None:
    assert samples_needed(0.7, 0.7) is None
    assert samples_needed(0.72, 0.7, most=500) is None


def test_samples_needed_for_more_power_are_more() -> None:
    half, most = samples_needed(0.8, 0.7, power=0.5), samples_needed(0.8, 0.7, power=0.99)

    assert half is not None
    assert most is not None
    assert half < most / 2


def test_samples_needed_refuses_a_power_that_is_none() -> None:
    with pytest.raises(ValueError, match="the power"):
        samples_needed(0.8, 0.7, power=1.0)


def test_samples_needed_tells_at_once_where_far_too_many_are() -> None:
    began = process_time()

    assert samples_needed(0.705, 0.7) is None

    assert process_time() - began < 0.5
