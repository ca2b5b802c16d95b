from __future__ import annotations

from itertools import chain
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Interval
from dropforge.statistics import clustered, wilson
from dropforge.statistics.intervals import t95

SCORE = st.sampled_from([0.0, 0.25, 0.5, 1.0])
CLUSTERS = st.lists(st.lists(SCORE, max_size=5), max_size=40)


@pytest.mark.parametrize(
    ("seen", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_that_of_newcombe_1998_table_1(
    seen: int, n: int, low: float, high: float
) -> None:
    found = wilson(seen / n, n)

    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)


def test_wilson_takes_an_effective_number_of_trials() -> None:
    wide, narrow = wilson(0.7, 99.5), wilson(0.7, 100.5)

    assert wide.low < wilson(0.7, 100).low < narrow.low


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_wilson_refuses_what_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(share, 10)


@pytest.mark.parametrize("n", [-1, float("nan")])
def test_wilson_refuses_what_is_no_number_of_trials(n: float) -> None:
    with pytest.raises(ValueError, match="number of trials"):
        wilson(0.5, n)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(3, 3.182), (10, 2.228), (30, 2.042), (120, 1.980)]
)
def test_t95_is_students(freedom: float, quantile: float) -> None:
    assert t95(freedom) == pytest.approx(quantile, rel=0.01)


@pytest.mark.parametrize("clusters", [[], [[]], [[], []]])
def test_clustered_of_no_score_says_nothing(clusters: list[list[float]]) -> None:
    assert clustered(clusters) == Interval(0.5, 0.0, 1.0)


@pytest.mark.parametrize("score", [float("nan"), -0.5, 1.5])
def test_clustered_refuses_what_is_no_score(score: float) -> None:
    with pytest.raises(ValueError, match="a score"):
        clustered([[1.0], [score]])


@given(CLUSTERS)
def test_clustered_encloses_the_mean_and_is_never_a_point(clusters: list[list[float]]) -> None:
    found = clustered(clusters)

    scores = list(chain.from_iterable(clusters))
    if scores:
        assert found.point == pytest.approx(sum(scores) / len(scores))
    assert 0 <= found.low <= found.point <= found.high <= 1
    assert found.low < found.high


@given(CLUSTERS)
def test_clustered_mirrors(clusters: list[list[float]]) -> None:
    found = clustered(clusters)
    other = clustered([[1 - score for score in cluster] for cluster in clusters])

    assert (other.point, other.low, other.high) == pytest.approx(
        (1 - found.point, 1 - found.high, 1 - found.low)
    )


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_clustered_of_equal_scores_is_as_wide_as_wilsons(score: float) -> None:
    found, plain = clustered([[score]] * 100), wilson(score, 100)

    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.1)


def test_clustered_of_single_tickets_is_wilsons() -> None:
    found, plain = clustered([[1.0]] * 140 + [[0.0]] * 60), wilson(0.7, 200)

    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.005)


def test_clustered_is_wider_where_a_customers_tickets_go_the_same_way() -> None:
    together, mixed = [[1.0] * 4] * 30 + [[0.0] * 4] * 20, [[1.0, 1.0, 0.0, 0.5]] * 50

    assert _width(clustered(together)) == pytest.approx(_width(wilson(0.6, 50)), rel=0.05)
    assert _width(clustered(mixed)) < _width(wilson(0.625, 200)) / 2


def test_clustered_is_narrower_where_ties_make_the_scores_vary_less() -> None:
    ties = [[0.5]] * 100 + [[1.0]] * 60 + [[0.0]] * 40

    assert _width(clustered(ties)) < 0.8 * _width(wilson(0.55, 200))


def test_clustered_of_one_customer_says_what_one_trial_says() -> None:
    assert clustered([[1.0, 0.0] * 50]) == wilson(0.5, 1)


def test_clustered_covers_the_mean_with_ties_and_clusters() -> None:
    random, missed = Random(3), 0
    for _ in range(2000):
        clusters = [_customer(random, 0.7, 0.2) for _ in range(80)]
        found = clustered(clusters)
        missed += not found.low <= 0.7 <= found.high

    assert 0.035 < missed / 2000 < 0.065  # standard error .005


def _customer(random: Random, mean: float, ties: float) -> list[float]:
    """1 to 4 tickets of which about half score as the customer's mood decides."""
    chances = (mean - ties / 2, ties, 1 - mean - ties / 2)
    mood, *own = random.choices((1.0, 0.5, 0.0), chances, k=1 + random.randint(1, 4))
    return [mood if random.random() < 0.5 else score for score in own]


def _width(interval: Interval) -> float:
    return interval.high - interval.low
