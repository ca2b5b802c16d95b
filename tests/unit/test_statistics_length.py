from __future__ import annotations

from math import exp
from random import Random
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Interval
from dropforge.statistics import length_controlled

N = 200
CUSTOMERS = [str(ticket // 2) for ticket in range(N)]


def judged(
    random: Random, level: float, taste: float, n: int = N
) -> tuple[list[float], list[tuple[int, int]]]:
    """Scores of a judge who, at equal length, prefers the challenger with odds exp(level).

    The challenger writes 60 words more on average; a standard deviation (40) of them adds `taste`
    to the log odds.
    """
    lengths = [(max(1, round(random.gauss(160, 40))), 100) for _ in range(n)]
    chances = [1 / (1 + exp(-level - taste * (ours - 100) / 40)) for ours, _ in lengths]
    return [float(random.random() < chance) for chance in chances], lengths


def found_in(
    scores: list[float], lengths: list[tuple[int, int]], customers: list[str] | None = None
) -> Interval:
    found = length_controlled(scores, lengths, customers or CUSTOMERS[: len(scores)])
    assert found is not None
    return found


def test_a_win_rate_made_of_length_alone_goes() -> None:
    scores, lengths = judged(Random(1), level=0.0, taste=1.0)

    found = found_in(scores, lengths)

    assert sum(scores) / N > 0.7
    assert found.low < 0.5 < found.high
    assert found.point < 0.6


def test_a_win_rate_that_has_nothing_to_do_with_length_stays() -> None:
    scores, lengths = judged(Random(2), level=0.85, taste=0.0)

    found = found_in(scores, lengths)

    assert found.low < 0.7 < found.high
    assert found.low > 0.5


def test_equal_lengths_leave_the_mean_as_it_is_but_for_the_prior() -> None:
    scores = [1.0] * 120 + [0.5] * 40 + [0.0] * 40

    found = found_in(scores, [(80, 80)] * N)

    assert found.point == pytest.approx((140 + 0.5) / (N + 1))


def test_lengths_count_by_their_spread_not_their_unit() -> None:
    scores, lengths = judged(Random(3), level=0.4, taste=0.7)
    letters = [(6 * ours, 6 * theirs) for ours, theirs in lengths]

    found, other = found_in(scores, lengths), found_in(scores, letters)

    assert (found.point, found.low) == pytest.approx((other.point, other.low))


@given(st.integers(0, 50), st.floats(-1, 1), st.floats(-1, 2))
def test_it_mirrors_where_the_answers_change_places(seed: int, level: float, taste: float) -> None:
    scores, lengths = judged(Random(seed), level, taste, n=40)
    swapped = [(theirs, ours) for ours, theirs in lengths]

    found = found_in(scores, lengths)
    other = found_in([1 - score for score in scores], swapped)

    assert (other.point, other.low, other.high) == pytest.approx(
        (1 - found.point, 1 - found.high, 1 - found.low)
    )
    assert 0 <= found.low < found.point < found.high <= 1


def test_customers_whose_tickets_go_the_same_way_make_it_wider() -> None:
    scores, lengths = judged(Random(4), level=0.5, taste=0.5, n=50)
    copies = [x for x in scores for _ in range(4)], [x for x in lengths for _ in range(4)]

    single = found_in(*copies, [str(ticket) for ticket in range(N)])
    together = found_in(*copies, [str(ticket // 4) for ticket in range(N)])

    assert together.point == single.point
    assert together.high - together.low > 1.7 * (single.high - single.low)


@pytest.mark.parametrize("every", [0.0, 1.0])
def test_only_wins_or_only_losses_end_well(every: float) -> None:
    _, lengths = judged(Random(5), 0.0, 0.0)

    found = found_in([every] * N, lengths)

    assert abs(found.point - every) < 0.01
    assert 0.01 < found.high - found.low < 0.06


def test_scores_that_length_alone_decides_end_well() -> None:
    lengths = [(100 + ticket - N // 2, 100) for ticket in range(N)]

    found = found_in([float(ours > 100) for ours, _ in lengths], lengths)

    assert found.low < 0.5 < found.high


def test_few_tickets_one_customer_or_one_difference_say_nothing() -> None:
    scores, lengths = judged(Random(6), 0.5, 0.5)

    assert length_controlled(scores[:19], lengths[:19], CUSTOMERS[:19]) is None
    assert length_controlled([], [], []) is None
    assert length_controlled(scores, lengths, ["a"] * N) is None
    assert length_controlled(scores, [(120, 100)] * N, CUSTOMERS) is None


def test_it_refuses_what_is_no_score_or_no_ticket() -> None:
    scores, lengths = judged(Random(7), 0.5, 0.5)

    with pytest.raises(ValueError, match="one each"):
        length_controlled(scores, lengths[:-1], CUSTOMERS)
    with pytest.raises(ValueError, match="a score"):
        length_controlled([float("nan"), *scores[1:]], lengths, CUSTOMERS)


def test_it_covers_the_rate_at_equal_length() -> None:
    random, missed = Random(8), 0
    for _ in range(600):
        scores, lengths = judged(random, level=0.6, taste=0.3, n=120)
        found = found_in(scores, lengths)
        missed += not found.low <= 1 / (1 + exp(-0.6)) <= found.high

    assert 0.02 < missed / 600 < 0.08  # standard error .009


def test_it_is_quick() -> None:
    scores, lengths = judged(Random(9), 0.5, 0.5, n=5000)
    began = process_time()

    length_controlled(scores, lengths, [str(ticket // 2) for ticket in range(5000)])

    assert process_time() - began < 3
