from __future__ import annotations

from itertools import product
from math import comb, prod
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.statistics import Counts, rate_evidence, rating_evidence

RATINGS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


def test_rate_evidence_of_one_event_is_the_mixtures_mean_over_its_share() -> None:
    """A tenth of the requests: the mean of the chances from .1 to 1 is .55."""
    found = rate_evidence([(Counts(100, 1), Counts(900, 0))])

    assert found == pytest.approx(0.55 / 0.1)


@pytest.mark.parametrize(("share", "tolerance"), [(0.1, 1.0), (0.5, 1.0), (0.25, 2.0)])
@pytest.mark.parametrize("events", [1, 5, 10])
def test_rate_evidence_is_one_on_average_where_the_rates_are_as_tolerated(
    share: float, tolerance: float, events: int
) -> None:
    requests = 1_000_000
    ours = round(share * requests)
    chance = share * tolerance / (share * tolerance + 1 - share)
    mean = sum(
        comb(events, k)
        * chance**k
        * (1 - chance) ** (events - k)
        * rate_evidence(
            [(Counts(ours, k), Counts(requests - ours, events - k))], tolerance=tolerance
        )
        for k in range(events + 1)
    )

    assert mean == pytest.approx(1)


def test_rate_evidence_grows_with_the_challengers_events_and_falls_with_the_champions() -> None:
    champion = [rate_evidence([(Counts(100, 6), Counts(900, k))]) for k in range(0, 60, 5)]
    challenger = [rate_evidence([(Counts(100, k), Counts(900, 9))]) for k in range(2, 30)]

    assert champion == sorted(champion, reverse=True)
    assert challenger == sorted(challenger)
    assert champion[0] > 20 > champion[-1]


def test_rate_evidence_multiplies_over_the_steps() -> None:
    small, large = (Counts(100, 3), Counts(900, 4)), (Counts(500, 9), Counts(500, 4))

    found = rate_evidence([small, large])

    assert found == pytest.approx(rate_evidence([small]) * rate_evidence([large]))


def test_rate_evidence_takes_a_champion_without_events() -> None:
    assert rate_evidence([(Counts(100, 4), Counts(900, 0))]) > 20
    assert rate_evidence([(Counts(500, 2), Counts(500, 0))]) < 20


def test_a_tolerance_weakens_rate_evidence() -> None:
    steps = [(Counts(100, 9), Counts(900, 18))]

    assert rate_evidence(steps, tolerance=2) < 20 < rate_evidence(steps, tolerance=1)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(Counts(), Counts())],
        [(Counts(100, 0), Counts(900, 0))],
        [(Counts(10, 10), Counts(0, 0))],
        [(Counts(0, 0), Counts(10, 10))],
    ],
)
def test_rate_evidence_of_one_arm_or_of_no_event_is_one(steps: list[tuple[Counts, Counts]]) -> None:
    assert rate_evidence(steps) == 1


def test_rate_evidence_is_finite_and_quick_on_large_counts() -> None:
    assert rate_evidence([(Counts(10**6, 10**4), Counts(10**6, 10**3))]) == 1e12
    assert rate_evidence([(Counts(10**6, 10**4), Counts(10**6, 10**4))]) < 1


@pytest.mark.parametrize("counts", [Counts(1, 2), Counts(5, -1)])
def test_rate_evidence_refuses_counts_that_cannot_be(counts: Counts) -> None:
    with pytest.raises(ValueError, match="events of"):
        rate_evidence([(counts, Counts(10, 1))])


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf")])
def test_rate_evidence_refuses_a_tolerance_that_is_none(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        rate_evidence([(Counts(10, 1), Counts(10, 1))], tolerance=tolerance)


def test_rate_evidence_seldom_blames_an_equal_challenger_at_any_request() -> None:
    random = Random(1)
    blamed = sum(_worst_rate_evidence(random, 0.1, 0.05, 0.05, 600) >= 20 for _ in range(1000))

    assert blamed / 1000 <= 0.05


def test_rate_evidence_finds_a_challenger_with_three_times_the_errors() -> None:
    random = Random(2)
    found = sum(_worst_rate_evidence(random, 0.3, 0.15, 0.05, 900) >= 20 for _ in range(100))

    assert found > 90


def _worst_rate_evidence(
    random: Random, share: float, ours: float, theirs: float, requests: int
) -> float:
    """The greatest evidence, looked at after every event and every tenth request."""
    counts, worst = {True: [0, 0], False: [0, 0]}, 1.0
    for request in range(requests):
        arm = random.random() < share
        event = random.random() < (ours if arm else theirs)
        counts[arm][0] += 1
        counts[arm][1] += event
        if event or request % 10 == 0:
            worst = max(worst, rate_evidence([(Counts(*counts[True]), Counts(*counts[False]))]))
    return worst


@pytest.mark.parametrize("share", [0.2, 0.5, None])
@pytest.mark.parametrize(("ours", "theirs"), [(0.6, 0.6), (0.9, 0.9), (0.8, 0.5)])
def test_rating_evidence_of_all_sequences_keeps_its_promise(
    share: float | None, ours: float, theirs: float
) -> None:
    """Exactly, over seven ratings: evidence of 1 / alpha has a chance of at most alpha."""
    real = share or 0.4
    chances = {
        (True, True): real * ours,
        (True, False): real * (1 - ours),
        (False, True): (1 - real) * theirs,
        (False, False): (1 - real) * (1 - theirs),
    }
    reached = dict.fromkeys((0.05, 0.2, 0.5, 0.7), 0.0)
    for ratings in product(chances, repeat=7):
        evidence = rating_evidence(ratings, share)
        for alpha in reached:
            if evidence >= 1 / alpha:
                reached[alpha] += prod(chances[rating] for rating in ratings)

    assert all(chance <= alpha for alpha, chance in reached.items())
    assert reached[0.7] > 0  # it does bet


@pytest.mark.parametrize("share", [0.1, None])
def test_rating_evidence_finds_a_challenger_that_people_like_less(share: float | None) -> None:
    random = Random(3)
    found = [
        rating_evidence(_ratings(random, 0.1, 0.5, 0.85, 400), share) >= 20 for _ in range(100)
    ]

    assert sum(found) > 85


@pytest.mark.parametrize("share", [0.1, None])
def test_rating_evidence_seldom_blames_an_equal_challenger(share: float | None) -> None:
    random = Random(4)
    blamed = [
        rating_evidence(_ratings(random, 0.1, 0.8, 0.8, 300), share) >= 20 for _ in range(1000)
    ]

    assert sum(blamed) <= 50


def test_rating_evidence_without_a_share_takes_one_that_changes() -> None:
    random = Random(5)
    blamed = 0
    for _ in range(500):
        steps = [_ratings(random, share, 0.8, 0.8, 100) for share in (0.05, 0.25, 0.5)]
        blamed += rating_evidence([rating for step in steps for rating in step]) >= 20

    assert blamed <= 25


def _ratings(
    random: Random, share: float, ours: float, theirs: float, n: int
) -> list[tuple[bool, bool]]:
    arms = [random.random() < share for _ in range(n)]
    return [(arm, random.random() < (ours if arm else theirs)) for arm in arms]


@given(RATINGS, st.sampled_from([0.1, 0.5, None]))
def test_rating_evidence_once_reached_stays(
    ratings: list[tuple[bool, bool]], share: float | None
) -> None:
    looks = [rating_evidence(ratings[:n], share) for n in range(len(ratings) + 1)]

    assert looks[0] == 1
    assert looks == sorted(looks)


@given(st.lists(st.booleans(), max_size=60), st.booleans())
def test_rating_evidence_of_one_arm_is_one(good: list[bool], ours: bool) -> None:
    assert rating_evidence([(ours, g) for g in good]) == 1
    assert rating_evidence([(ours, g) for g in good], float(ours)) == pytest.approx(1)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_rating_evidence_refuses_what_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="the share"):
        rating_evidence([], share)
