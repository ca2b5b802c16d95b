from __future__ import annotations

import itertools
import random

import pytest

from dropforge.chat import ChatExample
from dropforge.judge import Judged, Outcome, Sample, choose_samples, cluster_of, is_clear
from dropforge.judge.questions import SCORES
from dropforge.judge.sampling import MIN_SCORED, in_sequence, stays_above
from dropforge.project.judging import Gate
from tests.support.tickets import example

GATE = Gate()


def of(customer: str, number: int) -> ChatExample:
    ticket = example(number)
    return ChatExample(ticket.id, customer, number, ticket.messages)


def test_samples_are_the_same_whatever_the_order() -> None:
    rows = [example(i) for i in range(50)]
    chosen = choose_samples(rows, 10)
    assert choose_samples(rows[::-1], 10) == chosen
    assert choose_samples(rows, 20)[:10] == chosen


def test_samples_are_not_simply_the_first() -> None:
    rows = [example(i) for i in range(50)]
    assert choose_samples(rows, 10) != rows[:10]


def test_tickets_of_one_customer_stand_together() -> None:
    rows = [of(f"c{i % 7}", i) for i in range(35)]
    order = [cluster_of(ticket) for ticket in choose_samples(rows, 35)]
    assert sum(a != b for a, b in itertools.pairwise(order)) == 6


def judged(outcome: Outcome) -> Judged:
    return Judged(outcome, confidence=0.9, score=SCORES.get(outcome))


def samples(
    shares: dict[str, float], n: int, seed: int = 1, customers: int | None = None
) -> list[Sample]:
    """Samples that win so often against each opponent."""
    chance = random.Random(seed)
    return [
        Sample(
            str(i),
            "",
            "",
            {},
            {
                arm: judged(Outcome.WIN if chance.random() < share else Outcome.LOSS)
                for arm, share in shares.items()
            },
            {},
            cluster=str(i % customers) if customers else "",
        )
        for i in range(n)
    ]


def test_tickets_of_one_customer_are_one_piece_of_evidence() -> None:
    found = in_sequence(samples({"base": 1.0}, 40, customers=8), "base")
    assert found == [1.0] * 8
    few = samples({"base": 1.0}, 190, customers=MIN_SCORED - 1)
    assert is_clear(few, GATE, MIN_SCORED - 1) is None


@pytest.mark.parametrize(
    ("shares", "n", "clear"),
    [
        ({"base": 1.0}, MIN_SCORED - 1, None),
        ({"base": 1.0}, 40, "above"),
        ({"base": 0.0}, 40, "below"),
        ({"base": 0.72}, 40, None),
        ({"base": 1.0, "champion": 1.0}, 40, "above"),
        ({"base": 1.0, "champion": 0.0}, 40, "below"),
        ({"base": 1.0, "champion": 0.5}, 40, None),
    ],
)
def test_judging_stops_where_the_verdict_is_clear(
    shares: dict[str, float], n: int, clear: str | None
) -> None:
    assert is_clear(samples(shares, n), GATE, 200) == clear


def test_unscored_tickets_are_no_evidence() -> None:
    unscored = [
        Sample(str(i), "", "", {}, {"base": judged(Outcome.UNSCORED)}, {}) for i in range(99)
    ]
    assert is_clear(unscored, GATE, 200) is None


@pytest.mark.parametrize(("scored", "clear"), [(MIN_SCORED - 1, None), (MIN_SCORED, "above")])
def test_champion_that_is_hardly_scored_keeps_judging_going(scored: int, clear: str | None) -> None:
    seen = [
        Sample(s.id, "", "", {}, {**s.judged, "champion": judged(outcome)}, {})
        for i, s in enumerate(samples({"base": 1.0}, 60))
        for outcome in [Outcome.WIN if i < scored else Outcome.UNSCORED]
    ]
    assert is_clear(seen, GATE, 200) == clear


def test_judging_goes_on_where_the_tickets_say_other_than_their_customers() -> None:
    """Forty customers with a ticket each, and one with two hundred that go the other way."""

    def seen(many: Outcome, one: Outcome) -> list[Sample]:
        alone = [Sample(f"a{i}", "", "", {}, {"base": judged(many)}, {}) for i in range(40)]
        heavy = [
            Sample(f"b{i}", "", "", {}, {"base": judged(one)}, {}, cluster="b") for i in range(200)
        ]
        return alone + heavy

    assert is_clear(seen(Outcome.WIN, Outcome.WIN), GATE, 200) == "above"
    assert is_clear(seen(Outcome.WIN, Outcome.LOSS), GATE, 200) is None
    assert is_clear(seen(Outcome.LOSS, Outcome.LOSS), GATE, 200) == "below"
    assert is_clear(seen(Outcome.LOSS, Outcome.WIN), GATE, 200) is None


def test_strict_gate_asks_for_more_tickets() -> None:
    seen = samples({"base": 0.9}, 40)
    assert is_clear(seen, GATE, 200) == "above"
    assert is_clear(samples({"base": 0.78}, 40), Gate(lower_bound=0.7), 200) is None


def test_estimate_stays_above_more_surely_the_farther_and_the_later_it_is() -> None:
    def chance(wins: int, n: int, horizon: int = 200) -> float:
        return stays_above([1.0] * wins + [0.0] * (n - wins), 0.7, horizon)

    assert chance(36, 40) > chance(32, 40) > chance(29, 40) > 0.5
    assert chance(144, 180) > chance(32, 40)
    assert chance(140, 200) == 0
    assert chance(141, 200) == 1
    assert 0.5 < chance(16, 20) < 1
