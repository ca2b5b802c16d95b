from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Interval
from dropforge.statistics import Agreement, agreement, wilson

OUTCOMES = ("win", "tie", "loss")
PAIRS = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)), max_size=60)


def pairs(counts: dict[tuple[str, str], int]) -> list[tuple[str, str]]:
    return [pair for pair, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "kappa"),
    [(20, 5, 10, 15, 0.4), (45, 15, 25, 15, 0.1304), (25, 35, 5, 35, 0.2593)],
)
def test_kappa_of_two_outcomes_is_cohens(
    both: int, first: int, second: int, neither: int, kappa: float
) -> None:
    """The examples of the English Wikipedia's article on Cohen's kappa."""
    counts = {
        ("win", "win"): both,
        ("win", "loss"): first,
        ("loss", "win"): second,
        ("loss", "loss"): neither,
    }

    assert agreement(pairs(counts)).kappa == pytest.approx(kappa, abs=5e-5)


def test_kappa_with_ties_is_weighted_by_the_distance() -> None:
    """By hand: 10 labels, margins of 4, 3 and 3 on both sides. Seen: two misses by half, one by
    all; expected by chance: 2 (12 + 9) misses of 100 by half, 2 * 12 by all."""
    counts = {
        ("win", "win"): 3,
        ("tie", "tie"): 2,
        ("loss", "loss"): 2,
        ("win", "tie"): 1,
        ("tie", "loss"): 1,
        ("loss", "win"): 1,
    }
    found = agreement(pairs(counts))

    assert found.kappa == pytest.approx(1 - 0.2 / 0.45)
    assert found.agreement == wilson(0.7, 10)
    assert found.labels == 10


def test_a_win_called_a_loss_is_worse_than_a_win_called_a_tie() -> None:
    right = [("win", "win")] * 10 + [("tie", "tie")] * 10 + [("loss", "loss")] * 10

    far, near = agreement([*right, ("loss", "win")]), agreement([*right, ("tie", "win")])

    assert far.agreement == near.agreement
    assert far.kappa < near.kappa < 1


def test_agreement_of_no_label_says_nothing() -> None:
    assert agreement([]) == Agreement(0, Interval(0.5, 0.0, 1.0), 0.0)


def test_kappa_of_a_single_outcome_is_none_to_speak_of() -> None:
    found = agreement([("win", "win")] * 50)

    assert found.kappa == 0
    assert found.agreement.point == 1


def test_agreement_refuses_another_outcome() -> None:
    with pytest.raises(ValueError, match="unscored"):
        agreement([("win", "unscored")])


@given(PAIRS)
def test_agreement_is_bounded_and_the_same_from_both_sides(labels: list[tuple[str, str]]) -> None:
    found = agreement(labels)

    assert -1 <= found.kappa <= 1
    assert found.kappa == pytest.approx(agreement([(b, a) for a, b in labels]).kappa)
    assert found.agreement.low <= found.agreement.point <= found.agreement.high


@given(PAIRS)
def test_one_who_always_agrees_has_kappa_one(labels: list[tuple[str, str]]) -> None:
    own = [(person, person) for _, person in labels]

    assert agreement(own).kappa == (1 if len(set(own)) > 1 else 0)
