"""What is drift and what is chance, and what a look keeps."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product
from math import comb
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.chat import ChatExample, Message
from dropforge.drift import (
    SURE,
    Asked,
    FirstAnswer,
    Look,
    Pair,
    Ratings,
    address,
    chance_of_falls,
    decode_baseline,
    encode_baseline,
    golden_set,
    in_turn,
    is_fall,
    look,
    ticket_set,
)
from dropforge.golden import GoldenQuestion
from dropforge.judge import Judged, Outcome

RIGHT, WRONG = "You have 30 days.", "You have 14 days."
ABOUT: dict[str, Any] = {
    "project": "shop",
    "version": "v1",
    "day": "2026-11-22",
    "at": 1.0,
    "golden": "g",
    "questions": 40,
    "tolerance": 0.1,
    "ratings": Ratings(),
}


def asked(name: str, *, checked: bool = True) -> Asked:
    question = GoldenQuestion(name, (Message("user", f"How long, {name}?"),), RIGHT)
    return Asked(question, checked, name)


def pair(name: str, then: str | None, now: str, score: float | None = 0.0, **more: Any) -> Pair:
    first = None if then is None else FirstAnswer(name, "2026-11-01", then)
    outcomes = {0.0: Outcome.LOSS, 0.5: Outcome.TIE, 1.0: Outcome.WIN}
    outcome = Outcome.UNSCORED if score is None else outcomes[score]
    judged = None if then in (None, now) else Judged(outcome, score=score)
    return Pair(asked(name, **more), first, now, judged)


def looked(*changes: tuple[int, str, str, float | None], **about: Any) -> Look:
    """A look with so many questions of each kind: (how many, then, now, judges' score)."""
    kinds = [kind for kind in changes for _ in range(kind[0])]
    pairs = [pair(f"q{i}", then, now, score) for i, (_, then, now, score) in enumerate(kinds)]
    return look(pairs, **{**ABOUT, **about})


# --- chance


def test_chance_of_falls_is_the_binomial_tail() -> None:
    assert chance_of_falls(5, 0) == 1 / 32
    assert chance_of_falls(8, 2) == pytest.approx((45 + 10 + 1) / 1024)
    assert chance_of_falls(0, 0) == chance_of_falls(0, 7) == 1


@given(st.integers(0, 6), st.integers(0, 6))
def test_chance_is_exact_for_every_way_the_coins_may_fall(fell: int, rose: int) -> None:
    changes = fell + rose
    as_many = sum(sum(coins) >= fell for coins in product((0, 1), repeat=changes))
    assert chance_of_falls(fell, rose) == float(Fraction(as_many, 2**changes))


@pytest.mark.parametrize("changes", [1, 4, 5, 10, 59])
def test_where_nothing_fell_a_fall_is_found_in_less_than_5_percent(changes: int) -> None:
    ways = {k: comb(changes, k) for k in range(changes + 1)}
    found = sum(n for k, n in ways.items() if chance_of_falls(k, changes - k) < SURE)
    assert found / 2**changes < 0.05


def rings(was: list[bool], now: list[bool]) -> bool:
    fell = sum(a and not b for a, b in zip(was, now, strict=True))
    rose = sum(b and not a for a, b in zip(was, now, strict=True))
    return is_fall(len(was), fell, rose, 0.1)


@pytest.mark.parametrize(("questions", "tossed"), [(30, 1.0), (100, 1.0), (50, 0.2)])
def test_model_whose_answers_are_coin_tosses_rings_in_less_than_5_percent(
    questions: int, tossed: float
) -> None:
    """The figures of docs/golden.md: 0.029, 0.038 and 0.007."""
    rng, rang = random.Random(7), 0
    for _ in range(4000):
        chances = [0.5 if rng.random() < tossed else 1.0 for _ in range(questions)]
        was, now = ([rng.random() < p for p in chances] for _ in range(2))
        rang += rings(was, now)
    assert rang / 4000 < 0.05


def test_fall_from_90_to_60_percent_is_found_with_30_questions() -> None:
    """The figure of docs/golden.md: 0.97."""
    rng = random.Random(7)
    levels = [[rng.random() for _ in range(30)] for _ in range(1000)]
    found = [rings([x < 0.9 for x in row], [x < 0.6 for x in row]) for row in levels]
    assert sum(found) / 1000 > 0.93


# --- drift or not


def test_model_that_says_the_same_has_not_drifted() -> None:
    found = looked((20, RIGHT, RIGHT, None), (5, WRONG, WRONG, None))
    assert not found.drifted
    assert (found.same, found.compared, found.unscored, found.changed) == (25, 25, 0, ())
    assert found.win_rate is not None
    assert found.win_rate.point == 0.5
    assert (found.right, found.right_then, found.checked) == (20, 20, 25)
    assert found.sentence == "20 of 25 answers right, 20 at first; no drift"


def test_fall_beyond_tolerance_and_chance_is_drift() -> None:
    found = looked((20, RIGHT, RIGHT, None), (6, RIGHT, WRONG, 0.5))
    assert found.drifted
    assert (found.fell, found.rose) == (6, 0)
    assert found.chance == 1 / 64
    assert "20 of 26 answers are right, 26 were at first" in found.findings[0]
    assert found.sentence.startswith("drift: 20 of 26")


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ([(20, RIGHT, RIGHT, None), (4, RIGHT, WRONG, 0.5)], {}),  # p = 1/16
        ([(90, RIGHT, RIGHT, None), (8, RIGHT, WRONG, 0.5)], {}),  # p = 1/256, but 8 %
        ([(10, RIGHT, WRONG, 0.5), (10, WRONG, RIGHT, 0.5)], {}),
        ([(20, RIGHT, RIGHT, None), (6, RIGHT, WRONG, 0.5)], {"tolerance": 0.3}),
        ([(18, RIGHT, RIGHT, None), (2, RIGHT, WRONG, 0.5)], {}),  # 10 % is not more than 10 %
    ],
)
def test_fall_within_tolerance_or_chance_is_none(
    changes: list[tuple[int, str, str, float | None]], about: dict[str, Any]
) -> None:
    assert not looked(*changes, **about).drifted


def test_answers_that_lose_against_the_first_ones_are_drift_though_none_is_wrong() -> None:
    found = looked((30, RIGHT, f"{RIGHT} Bye.", 0.0))
    assert found.chance == 1
    assert found.drifted
    assert "against its first answers it wins 0%" in found.findings[0]


def test_answers_in_other_words_that_are_as_good_are_none() -> None:
    assert not looked((15, RIGHT, f"{RIGHT} Bye.", 0.0), (15, RIGHT, f"{RIGHT} Hi", 1.0)).drifted
    assert not looked((30, RIGHT, f"{RIGHT} Bye.", 0.5)).drifted


def test_few_lost_among_many_the_same_are_none() -> None:
    assert not looked((27, RIGHT, RIGHT, None), (3, RIGHT, f"{RIGHT} Bye.", 0.0)).drifted


def test_unscored_pairs_count_for_nothing_but_are_told() -> None:
    found = looked((10, RIGHT, RIGHT, None), (20, RIGHT, f"{RIGHT} Bye.", None))
    assert (found.compared, found.unscored, found.drifted) == (10, 20, False)


def test_first_look_has_nothing_to_compare() -> None:
    found = look([pair("a", None, RIGHT), pair("b", None, WRONG)], **ABOUT)
    assert found.is_first
    assert found.win_rate is None
    assert (found.since, found.right, found.right_then) == ("2026-11-22", 1, 1)
    assert found.sentence == "1 of 2 answers right; its first answers are kept"


def test_new_question_is_no_change() -> None:
    found = look([pair("a", RIGHT, RIGHT), pair("new", None, WRONG)], **ABOUT)
    assert (found.right, found.right_then, found.compared, found.asked) == (1, 1, 1, 2)
    assert found.since == "2026-11-01"
    assert not found.is_first


def test_questions_that_cannot_be_checked_are_compared_alone() -> None:
    pairs = [pair(f"q{i}", "Gladly.", "No.", 0.0, checked=False) for i in range(20)]
    found = look(pairs, **ABOUT)
    assert (found.checked, found.share_right, found.compared) == (0, None, 20)
    assert found.drifted
    assert found.changed[0].right_now is None


def test_tickets_of_one_customer_are_one_piece_of_evidence() -> None:
    pairs = [pair(f"q{i}", RIGHT, f"{RIGHT} Bye.", 0.0) for i in range(4)]
    pairs += [pair(f"s{i}", RIGHT, RIGHT) for i in range(4)]
    apart = look(pairs, **ABOUT).win_rate
    one = [
        Pair(Asked(p.asked.question, checked=True, cluster=f"c{n < 4}"), p.first, p.now, p.judged)
        for n, p in enumerate(pairs)
    ]
    together = look(one, **ABOUT).win_rate
    assert apart is not None
    assert together is not None
    assert apart.point == together.point
    assert together.high - together.low > apart.high - apart.low


def test_changed_answers_are_kept_side_by_side() -> None:
    found = looked((1, RIGHT, WRONG, 0.0), (1, RIGHT, RIGHT, None), (1, WRONG, RIGHT, 1.0))
    worse, better = found.changed
    assert (worse.then, worse.now, worse.reference) == (RIGHT, WRONG, RIGHT)
    assert (worse.right_then, worse.right_now, worse.since) == (True, False, "2026-11-01")
    assert worse.is_worse
    assert not better.is_worse


def test_facts_are_the_mean_share_stated() -> None:
    question = GoldenQuestion("a", (Message("user", "?"),), "30 days, then $5")
    one = Pair(
        Asked(question, checked=True, cluster="a"), FirstAnswer("a", "d", "30, $5"), "30", None
    )
    found = look([one, pair("b", RIGHT, RIGHT)], **ABOUT)
    assert (found.facts_then, found.facts) == (1.0, 0.75)


# --- what is asked


def test_golden_questions_are_all_asked_and_checked() -> None:
    question = GoldenQuestion("a", (Message("user", "?"),), RIGHT)
    assert golden_set([question]) == (Asked(question, checked=True, cluster="a"),)


def test_tickets_stand_for_golden_questions() -> None:
    tickets = [
        ChatExample(f"t{n}", f"c{n}", n, (Message("user", "?"), Message("assistant", text)))
        for n, text in enumerate([RIGHT, "Gladly."] * 10)
    ]
    asked = ticket_set(tickets, 12)
    assert len(asked) == 12
    assert asked == ticket_set(reversed(tickets), 12)
    for one in asked:
        assert one.checked is (one.question.reference == RIGHT)
        assert one.cluster == "c" + one.question.id[1:]
        assert one.question.messages == (Message("user", "?"),)
    assert ticket_set([], 12) == ()


def test_order_of_questions_is_the_days_own() -> None:
    listed = [asked(f"q{n}") for n in range(20)]
    monday, tuesday = in_turn(listed, "2026-11-23"), in_turn(listed, "2026-11-24")
    assert monday == in_turn(reversed(listed), "2026-11-23")
    assert monday != tuesday
    assert sorted(m.cluster for m in monday) == sorted(t.cluster for t in tuesday)


def test_another_prompt_model_or_length_has_another_first_answer() -> None:
    prompt = [{"role": "user", "content": "?"}]
    other = [{"role": "system", "content": "Be kind."}, *prompt]
    found = {address("m", prompt, 300), address("m", other, 300), address("n", prompt, 300)}
    assert len({*found, address("m", prompt, 200)}) == 4
    assert address("m", prompt, 300) in found


def test_baseline_comes_back_as_it_was_written() -> None:
    first = {name: FirstAnswer(name, "2026-11-01", f"answer\n{name}") for name in ("b", "a")}
    assert decode_baseline(encode_baseline(first)) == first
    assert decode_baseline(None) == decode_baseline(b"") == {}
