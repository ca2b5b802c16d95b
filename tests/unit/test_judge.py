from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Interval
from dropforge.judge import (
    Judged,
    Outcome,
    Sample,
    choose_samples,
    compare,
    evaluate,
    evaluation_hash,
    fact_recall,
    facts,
    judge_prompt,
    judge_sample,
    parse_opinion,
    summarise_comparison,
    wilson,
)
from dropforge.project import Judging
from tests.support.tickets import example

TICKET = example(1)
Messages = list[dict[str, str]]


def says(winner: str, confidence: float = 0.9) -> str:
    return json.dumps({"winner": winner, "confidence": confidence, "rationale": "so"})


def in_turn(*answers: str) -> Callable[[Messages], str]:
    """A judge that gives these answers one after the other, and no more."""
    left = iter(answers)
    return lambda messages: next(left)


def prefers(score: Callable[[str], float]) -> Callable[[Messages], str]:
    """A judge without a preference for a place: the higher score wins."""

    def ask(messages: Messages) -> str:
        a, b = (section(messages, name) for name in ("answer_a", "answer_b"))
        return says("tie" if score(a) == score(b) else "A" if score(a) > score(b) else "B")

    return ask


def section(messages: Messages, name: str) -> str:
    text = messages[-1]["content"]
    return text.split(f'<{name} nonce="n1">\n')[1].split(f'\n</{name} nonce="n1">')[0]


def judged(
    ask: Callable[[Messages], str], challenger: str = "good", opponent: str = "bad"
) -> Judged:
    return compare(TICKET, challenger, opponent, ask, rubric="Be fair.", nonce="n1")


@pytest.mark.parametrize(
    ("first", "second", "outcome", "flipped"),
    [
        ("A", "B", Outcome.WIN, False),
        ("B", "A", Outcome.LOSS, False),
        ("tie", "tie", Outcome.TIE, False),
        ("A", "A", Outcome.TIE, True),
        ("B", "B", Outcome.TIE, True),
        ("A", "tie", Outcome.TIE, False),
        ("tie", "A", Outcome.TIE, False),
    ],
)
def test_both_orders_decide_together(
    first: str, second: str, outcome: Outcome, flipped: bool
) -> None:
    found = judged(in_turn(says(first, 1.0), says(second, 0.5)))
    assert (found.outcome, found.flipped, found.confidence) == (outcome, flipped, 0.75)


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_swapping_the_sides_mirrors_the_outcome(one: str, other: str) -> None:
    mirror = {Outcome.WIN: Outcome.LOSS, Outcome.LOSS: Outcome.WIN, Outcome.TIE: Outcome.TIE}
    ask = prefers(len)
    there, back = judged(ask, one, other), judged(ask, other, one)
    assert back.outcome == mirror[there.outcome]
    assert not there.flipped


@given(st.text(), st.text(), st.sampled_from("AB"))
def test_judge_that_prefers_a_place_never_decides(one: str, other: str, place: str) -> None:
    found = judged(lambda messages: says(place), one, other)
    assert (found.outcome, found.flipped) == (Outcome.TIE, True)


def test_unreadable_answer_is_asked_for_once_more() -> None:
    found = judged(in_turn("no idea", says("A"), says("B")))
    assert found.outcome == Outcome.WIN


def test_twice_unreadable_is_unscored() -> None:
    found = judged(in_turn("no idea", "still none", says("B")))
    assert (found.outcome, found.confidence) == (Outcome.UNSCORED, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        says("A"),
        f"Sure! Here it is:\n```json\n{says('A')}\n```",
        '{"confidence": "0.9", "winner": "A", "extra": [1]}',
    ],
)
def test_opinion_is_found_in_what_judges_say(text: str) -> None:
    found = parse_opinion(text)
    assert found is not None
    assert (found.winner, found.confidence) == ("A", 0.9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "I cannot help with that.",
        "{}",
        '{"winner": "A"}',
        '{"winner": "C", "confidence": 0.9}',
        '{"winner": "a", "confidence": 0.9}',
        '{"winner": ["A"], "confidence": 0.9}',
        '{"winner": "A", "confidence": 1.01}',
        '{"winner": "A", "confidence": -0.01}',
        '{"winner": "A", "confidence": NaN}',
        '{"winner": "A", "confidence": "nan"}',
        '{"winner": "A", "confidence": 1e999}',
        '{"winner": "A", "confidence": 0.9, "rationale": "\ud800"}',
        says("A") + says("B"),
        '{"winner": "A", "confidence": 0.9',
        '{"winner": {"a": ' + "[" * 50_000 + "}",
    ],
)
def test_opinion_that_cannot_be_read_is_none(text: str) -> None:
    assert parse_opinion(text) is None


@given(st.text())
def test_any_text_of_a_judge_is_an_opinion_or_none(text: str) -> None:
    found = parse_opinion("{" + text + "}")
    assert found is None or 0 <= found.confidence <= 1


def test_prompt_fences_every_text_with_the_nonce() -> None:
    messages = judge_prompt(TICKET, "first", "second", rubric="Be fair.", nonce="n1")
    assert [m["role"] for m in messages] == ["system", "user"]
    assert section(messages, "question") == f"user: {TICKET.question}"
    assert section(messages, "reference") == TICKET.reference
    assert section(messages, "answer_a") == "first"
    assert section(messages, "answer_b") == "second"
    assert messages[1]["content"].startswith("Be fair.")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs €27.50 or $ 30.", {"€27.50", "$30"}),
        ("Take part LX-40 until 13:00.", {"lx-40", "13:00"}),
        ("2 % off within 9 days", {"2%", "9"}),
        ("1,000 pieces by 12/05/2026", {"1000", "12/05/2026"}),
        (
            "Mail help@shop.example or www.shop.example/faq.",
            {"help@shop.example", "www.shop.example/faq"},
        ),
        ("The VAT of the EU", {"vat", "eu"}),
        ("Ask [EMAIL_1] and [CARD_12]", set()),
        ("No facts here", set()),
    ],
)
def test_facts_are_what_can_be_checked(text: str, found: set[str]) -> None:
    assert facts(text) == found


@pytest.mark.parametrize(
    ("answer", "recall"),
    [
        ("LX-40 is 27.5 euros", 0.5),
        ("€27.50 for part LX-40.", 1.0),
        ("LX-41, €27.55", 0.0),
        ("", 0.0),
    ],
)
def test_recall_is_the_share_of_the_references_facts(answer: str, recall: float) -> None:
    assert fact_recall("Order LX-40 for €27.50", answer) == recall


def test_recall_without_facts_in_the_reference_is_unknown() -> None:
    assert fact_recall("Glad to help", "In 7 days") is None


@given(st.text())
def test_reference_recalls_itself_completely(text: str) -> None:
    assert fact_recall(text, text) in (None, 1.0)


@pytest.mark.parametrize("piece", ["a", "a.", "-", "A-", "x@", "$", "1,", "www.", "_"])
def test_facts_are_found_in_linear_time_on_repetitions(piece: str) -> None:
    began = time.perf_counter()
    facts(piece * (32_000 // len(piece)))
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_known_values(wins: int, n: int, low: float, high: float) -> None:
    found = wilson(wins / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, 2 * n), st.just(n))))
def test_wilson_bounds_are_where_the_score_test_just_rejects(counts: tuple[int, int]) -> None:
    """By its definition: p is a bound where |share - p| = z * sqrt(p * (1 - p) / n)."""
    halves, n = counts
    found = wilson(halves / 2 / n, n)
    assert 0 <= found.low <= found.point <= found.high <= 1
    for bound in (found.low, found.high):
        distance = abs(found.point - bound)
        assert distance == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / n), abs=1e-7)


def test_wilson_of_no_trial_says_nothing() -> None:
    assert wilson(0.0, 0) == Interval(0.5, 0.0, 1.0)


def outcomes(wins: int = 0, losses: int = 0, ties: int = 0, unscored: int = 0) -> list[Judged]:
    counted = zip(
        (Outcome.WIN, Outcome.LOSS, Outcome.TIE, Outcome.UNSCORED),
        (wins, losses, ties, unscored),
        strict=True,
    )
    return [Judged(outcome, confidence=0.8) for outcome, n in counted for _ in range(n)]


def test_ties_count_as_half_a_win_and_unscored_not_at_all() -> None:
    found = summarise_comparison("base", outcomes(wins=6, losses=2, ties=2, unscored=90))
    assert (found.scored, found.unscored, found.win_rate.point) == (10, 90, 0.7)
    assert found.win_rate == wilson(0.7, 10)
    assert found.confidence == pytest.approx(0.8)


def test_comparison_with_nothing_scored_says_nothing() -> None:
    found = summarise_comparison("base", outcomes(unscored=30))
    assert (found.win_rate, found.confidence) == (Interval(0.5, 0.0, 1.0), 0.0)


@given(*[st.integers(0, 30)] * 4)
def test_adding_a_win_never_lowers_the_rate(
    wins: int, losses: int, ties: int, unscored: int
) -> None:
    before = summarise_comparison("base", outcomes(wins, losses, ties, unscored))
    after = summarise_comparison("base", outcomes(wins + 1, losses, ties, unscored))
    assert after.win_rate.point >= before.win_rate.point


def test_sample_is_judged_against_every_other_arm() -> None:
    answers = {
        "challenger": "three words here",
        "base": "two words",
        "champion": "some more words !",
    }
    ask = prefers(lambda text: len(text.split()))
    sample = judge_sample(TICKET, answers, ask, rubric="", nonce="n1")
    assert {arm: j.outcome for arm, j in sample.judged.items()} == {
        "base": Outcome.WIN,
        "champion": Outcome.LOSS,
    }
    assert set(sample.recall) == set(answers)


def samples(recalls: list[float | None]) -> Iterator[Sample]:
    for i, recall in enumerate(recalls):
        yield Sample(
            str(i),
            "q",
            "r",
            {},
            {"base": Judged(Outcome.WIN)},
            {"challenger": recall, "base": None if recall is None else 0.0},
        )


def test_evaluation_averages_recall_over_tickets_with_facts() -> None:
    about: dict[str, Any] = {
        "project": "p",
        "hash": "h",
        "version": "v",
        "dataset": "d",
        "judge": "j",
    }
    found = evaluate(list(samples([1.0, 0.5, None])), **about)
    assert (found.samples, found.samples_with_facts) == (3, 2)
    assert found.fact_recall == {"challenger": 0.75, "base": 0.0}
    assert found.comparisons["base"].wins == 3


def test_evaluation_of_no_samples_has_no_comparison() -> None:
    found = evaluate([], project="p", hash="h", version="v", dataset="d", judge="j")
    assert (found.samples, found.comparisons, found.fact_recall) == (0, {}, {})


def test_samples_are_the_same_whatever_the_order() -> None:
    rows = [example(i) for i in range(50)]
    chosen = choose_samples(rows, 10)
    assert choose_samples(rows[::-1], 10) == chosen
    assert choose_samples(rows, 20)[:10] == chosen


def test_samples_are_not_simply_the_first() -> None:
    rows = [example(i) for i in range(50)]
    assert choose_samples(rows, 10) != rows[:10]


def test_evaluation_hash_depends_on_all_that_decides_it() -> None:
    usual = Judging()
    hashes = {
        evaluation_hash("v1", None, "d", usual),
        evaluation_hash("v2", None, "d", usual),
        evaluation_hash("v1", "v0", "d", usual),
        evaluation_hash("v1", None, "e", usual),
        evaluation_hash("v1", None, "d", Judging(samples=50)),
    }
    assert len(hashes) == 5
