from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dropforge.artifacts import Interval
from dropforge.judge import (
    Judged,
    JudgedBy,
    Outcome,
    Pair,
    Question,
    Sample,
    compare_arm,
    evaluate,
    evaluation_hash,
    judge_pairs,
    jurors,
    make_sample,
    nonce_of,
    questions,
    warnings,
)
from dropforge.judge.questions import SCORES
from dropforge.project.judging import Checks, Gate, JudgeChoice, Judging
from dropforge.statistics import wilson
from tests.support.tickets import example

TICKET = example(1)
JUDGING = Judging(rubric="Be fair.")
Messages = list[dict[str, str]]
Ask = Callable[[Messages], str]
ABOUT: dict[str, Any] = {
    "project": "p",
    "hash": "h",
    "version": "v",
    "dataset": "d",
    "judge": "j",
}


def says(winner: str, confidence: float = 0.9) -> str:
    return json.dumps({"winner": winner, "confidence": confidence, "rationale": "so"})


def in_turn(*answers: str) -> Ask:
    """A judge that gives these answers one after the other, and no more."""
    left = iter(answers)
    return lambda messages: next(left)


def prefers(score: Callable[[str], float]) -> Ask:
    """A judge without a preference for a place: the higher score wins."""

    def ask(messages: Messages) -> str:
        a, b = (section(messages, name) for name in ("answer_a", "answer_b"))
        return says("tie" if score(a) == score(b) else "A" if score(a) > score(b) else "B")

    return ask


def section(messages: Messages, name: str) -> str:
    text = messages[-1]["content"]
    return text.split(f'<{name} nonce="n1">\n')[1].split(f'\n</{name} nonce="n1">')[0]


def judged(
    *asks: Ask, challenger: str = "good", opponent: str = "bad", judging: Judging = JUDGING
) -> Judged:
    """What a panel with these judges makes of a pair."""

    def ask_all(asked: Sequence[Question]) -> list[str]:
        return [asks[question.juror](question.messages) for question in asked]

    [found] = judge_pairs([Pair(TICKET, "base", challenger, opponent, "n1")], ask_all, judging)
    return found


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
    assert found.score == SCORES[outcome]


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_swapping_the_sides_mirrors_the_outcome(one: str, other: str) -> None:
    mirror = {Outcome.WIN: Outcome.LOSS, Outcome.LOSS: Outcome.WIN, Outcome.TIE: Outcome.TIE}
    ask = prefers(len)
    there = judged(ask, challenger=one, opponent=other)
    back = judged(ask, challenger=other, opponent=one)
    assert back.outcome == mirror[there.outcome]
    assert not there.flipped


@given(st.text(), st.text(), st.sampled_from("AB"))
def test_judge_that_prefers_a_place_never_decides(one: str, other: str, place: str) -> None:
    found = judged(lambda messages: says(place), challenger=one, opponent=other)
    assert (found.outcome, found.flipped, found.score) == (Outcome.TIE, True, 0.5)


def test_unreadable_answer_is_asked_for_once_more() -> None:
    found = judged(in_turn("no idea", says("B"), says("A")))
    assert found.outcome == Outcome.WIN


def test_twice_unreadable_is_unscored() -> None:
    found = judged(in_turn("no idea", says("B"), "still none"))
    assert (found.outcome, found.confidence, found.score) == (Outcome.UNSCORED, 0.0, None)


def test_only_what_cannot_be_read_is_asked_again() -> None:
    seen: list[list[str]] = []

    def ask(asked: Sequence[Question]) -> list[str]:
        seen.append([question.id for question in asked])
        return ["?" if q.id.endswith("second") and len(seen) == 1 else says("tie") for q in asked]

    pairs = [Pair(TICKET, arm, "a", "b", "n") for arm in ("base", "champion")]
    judge_pairs(pairs, ask, JUDGING)
    assert len(seen[0]) == 4
    assert seen[1] == [name for name in seen[0] if name.endswith("second")]


def test_no_pair_asks_nobody() -> None:
    assert judge_pairs([], in_turn, JUDGING) == []  # type: ignore[arg-type]


PANEL = Judging(panel=(JudgeChoice(model="b"), JudgeChoice(model="c")))


@pytest.mark.parametrize(
    ("said", "outcome", "score"),
    [
        ("WWW", Outcome.WIN, 1.0),
        ("WWL", Outcome.WIN, 2 / 3),
        ("WLL", Outcome.LOSS, 1 / 3),
        ("WLT", Outcome.TIE, 0.5),
        ("WTT", Outcome.WIN, 2 / 3),
        ("WW?", Outcome.WIN, 1.0),
        ("WL?", Outcome.TIE, 0.5),
        ("W??", Outcome.UNSCORED, None),
        ("???", Outcome.UNSCORED, None),
    ],
)
def test_panel_scores_by_the_mean_of_those_that_scored(
    said: str, outcome: Outcome, score: float | None
) -> None:
    orders = {"W": ("A", "B"), "L": ("B", "A"), "T": ("tie", "tie")}

    def juror(letter: str) -> Ask:
        if letter == "?":
            return lambda messages: "?"
        return in_turn(*(says(winner) for winner in orders[letter]))

    found = judged(*map(juror, said), judging=PANEL)
    assert (found.outcome, found.score) == (outcome, pytest.approx(score) if score else score)
    assert [by.outcome is Outcome.UNSCORED for by in found.by] == [s == "?" for s in said]
    assert len({by.judge for by in found.by}) == 3


def test_prompt_fences_every_text_with_the_nonce() -> None:
    first, second = questions(Pair(TICKET, "base", "ours", "theirs", "n1"), jurors(JUDGING), "Hm.")
    assert [m["role"] for m in first.messages] == ["system", "user"]
    assert section(first.messages, "question") == f"user: {TICKET.question}"
    assert section(first.messages, "reference") == TICKET.reference
    assert section(first.messages, "answer_a") == section(second.messages, "answer_b") == "ours"
    assert section(first.messages, "answer_b") == section(second.messages, "answer_a") == "theirs"
    assert first.messages[1]["content"].startswith("Hm.")
    assert len({first.id, second.id}) == 2


def sampled(
    outcomes: Sequence[Judged],
    opponent: str = "base",
    words: Callable[[int], tuple[int, int]] = lambda i: (5, 5),
) -> list[Sample]:
    return [
        Sample(
            str(i),
            "q",
            "r",
            {"challenger": "w " * words(i)[0], opponent: "w " * words(i)[1]},
            {opponent: one},
            {},
        )
        for i, one in enumerate(outcomes)
    ]


def outcomes(wins: int = 0, losses: int = 0, ties: int = 0, unscored: int = 0) -> list[Judged]:
    counted = zip(
        (Outcome.WIN, Outcome.LOSS, Outcome.TIE, Outcome.UNSCORED),
        (wins, losses, ties, unscored),
        strict=True,
    )
    return [
        Judged(outcome, confidence=0.8, score=SCORES.get(outcome))
        for outcome, n in counted
        for _ in range(n)
    ]


def test_ties_count_as_half_a_win_and_unscored_not_at_all() -> None:
    samples = sampled(outcomes(wins=6, losses=2, ties=2, unscored=90))
    found = compare_arm("base", samples, Gate(), 100)
    assert (found.scored, found.unscored, found.win_rate.point) == (10, 90, 0.7)
    assert found.wilson == wilson(0.7, 10)
    assert found.confidence == pytest.approx(0.8)


def test_comparison_with_nothing_scored_says_nothing() -> None:
    found = compare_arm("base", sampled(outcomes(unscored=30)), Gate(), 30)
    assert (found.win_rate, found.confidence) == (Interval(0.5, 0.0, 1.0), 0.0)
    assert found.e_value <= 1
    assert found.length_controlled is None


@given(*[st.integers(0, 12)] * 4)
def test_adding_a_win_never_lowers_the_rate_or_the_evidence(
    wins: int, losses: int, ties: int, unscored: int
) -> None:
    before = compare_arm("base", sampled(outcomes(wins, losses, ties, unscored)), Gate(), 60)
    after = compare_arm("base", sampled(outcomes(wins + 1, losses, ties, unscored)), Gate(), 60)
    assert after.win_rate.point >= before.win_rate.point


def test_judge_that_prefers_the_first_place_shows_as_position_bias() -> None:
    first = JudgedBy("j", Outcome.TIE, flipped=True, first=2)
    fair = JudgedBy("j", Outcome.WIN, first=1)
    biased = [Judged(Outcome.TIE, True, 0.9, score=0.5, by=(first,))] * 3
    even = [Judged(Outcome.WIN, False, 0.9, score=1.0, by=(fair,))] * 3
    assert compare_arm("base", sampled(even), Gate(), 6).position_bias == 0
    assert compare_arm("base", sampled(biased + even), Gate(), 6).position_bias == 0.25
    assert compare_arm("base", sampled(biased), Gate(), 6).position_bias == 0.5


def test_every_judge_of_a_panel_has_its_own_rate() -> None:
    by = (JudgedBy("one", Outcome.WIN, first=1), JudgedBy("two", Outcome.LOSS, first=1))
    found = compare_arm("base", sampled([Judged(Outcome.TIE, score=0.5, by=by)] * 9), Gate(), 9)
    assert {judge: rate.point for judge, rate in found.by_judge.items()} == {"one": 1, "two": 0}


def test_sample_holds_what_can_be_told_without_a_judge() -> None:
    answers = {"challenger": TICKET.reference, "base": "", "champion": "Call +49 30 123 456 78"}
    made = make_sample(
        TICKET, answers, {}, Judging(checks=Checks(most_words=30)), similarity={"base": 0.25}
    )
    assert made.recall == {"challenger": 1.0, "base": 0.0, "champion": 0.0}
    assert made.scores["challenger"]["chrf"] == pytest.approx(1.0)
    assert made.scores["base"] == {"chrf": 0.0, "similarity": 0.25}
    assert made.failed == {"base": ("empty",), "champion": ("pii",)}
    assert made.cluster == TICKET.group or TICKET.conversation or TICKET.id


def samples(recalls: list[float | None]) -> Iterator[Sample]:
    for i, recall in enumerate(recalls):
        yield Sample(
            str(i),
            "q",
            "r",
            {"challenger": "a", "base": "b"},
            {"base": Judged(Outcome.WIN, score=1.0)},
            {"challenger": recall, "base": None if recall is None else 0.0},
            scores={"challenger": {"chrf": 0.5 + i / 4}},
            failed={"base": ("long", "pii")} if i else {},
        )


def test_evaluation_averages_what_the_samples_show() -> None:
    found = evaluate(list(samples([1.0, 0.5, None])), Gate(), planned=9, **ABOUT)
    assert (found.samples, found.planned, found.samples_with_facts) == (3, 9, 2)
    assert found.stopped_early
    assert found.fact_recall == {"challenger": 0.75, "base": 0.0}
    assert found.comparisons["base"].wins == 3
    assert found.scores["challenger"] == {"chrf": 0.75}
    assert found.failed == {"challenger": {}, "base": {"long": 2, "pii": 2}}
    assert found.failing == {"challenger": 0, "base": 2}


def test_evaluation_of_no_samples_has_no_comparison() -> None:
    found = evaluate([], Gate(), **ABOUT)
    assert (found.samples, found.comparisons, found.fact_recall) == (0, {}, {})


def test_reader_is_warned_of_flips_family_and_missing_labels() -> None:
    flipping = sampled([Judged(Outcome.TIE, True, 0.9, score=0.5)] * 10)
    found = evaluate(flipping, Gate(), judges=("gpt-4.1/pairwise/1",), **ABOUT)
    said = " ".join(warnings(found, {"gpt-4.1/pairwise/1": "gpt"}))
    for words in ("gpt family", "changed its mind", "dropforge label"):
        assert words in said
    assert warnings(evaluate([], Gate(), **ABOUT), {}) == ()


def test_evaluation_hash_depends_on_all_that_decides_it() -> None:
    usual = Judging()
    hashes = {
        evaluation_hash("v1", None, "d", usual, prompt="p"),
        evaluation_hash("v2", None, "d", usual, prompt="p"),
        evaluation_hash("v1", "v0", "d", usual, prompt="p"),
        evaluation_hash("v1", None, "e", usual, prompt="p"),
        evaluation_hash("v1", None, "d", usual, "golden", prompt="p"),
        evaluation_hash("v1", None, "d", usual, prompt="other"),
        evaluation_hash("v1", None, "d", Judging(samples=50), prompt="p"),
        evaluation_hash("v1", None, "d", PANEL, prompt="p"),
        evaluation_hash("v1", None, "d", Judging(rubric="Shorter is better."), prompt="p"),
    }
    assert len(hashes) == 9


def test_how_fast_it_is_judged_makes_no_other_evaluation() -> None:
    hurried = Judging(concurrency=2, requests_per_minute=60, look=80)
    hashes = {evaluation_hash("v", None, "d", one, prompt="p") for one in (hurried, Judging())}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("judging", "said"),
    [
        ({"requests_per_minute": 4}, "40 requests, which need 5 a minute"),
        ({"requests_per_minute": 9, "concurrency": 64}, "which need 10 a minute"),
        ({"requests_per_minute": 9, "panel": [{"model": "b"}]}, "80 requests, which need 10"),
        ({"samples": 5000, "batch": 9}, "556 tasks, and at most 500 are run: raise `batch` to 10"),
    ],
)
def test_judging_that_cannot_end_in_time_is_refused(judging: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Judging(**judging)


def test_judging_that_just_ends_in_time_is_taken() -> None:
    assert Judging(requests_per_minute=5).requests_per_minute == 5
    assert Judging(requests_per_minute=10, concurrency=64).tasks == 2
    assert Judging(samples=5000, batch=10).samples == 5000


def test_nonce_is_another_for_every_pair_and_the_same_when_it_is_judged_again() -> None:
    pairs = [(e, t, arm) for e in "ef" for t in "st" for arm in ("base", "champion")]
    nonces = [nonce_of(*pair) for pair in pairs]
    assert len(set(nonces)) == 8
    assert nonces == [nonce_of(*pair) for pair in pairs]
    assert all(len(nonce) == 16 for nonce in nonces)


def test_arms_are_compared_over_the_tickets_that_the_opponent_answered() -> None:
    """A champion with recorded answers to half of the tickets has failed no more by that."""
    found = evaluate(
        [
            Sample(
                str(i),
                "q",
                "r",
                dict.fromkeys(arms, "a"),
                {arm: Judged(Outcome.WIN, score=1.0) for arm in arms if arm != "challenger"},
                dict.fromkeys(arms, 1.0),
                failed=dict.fromkeys(arms, ("long",)),
            )
            for i, arms in enumerate([("challenger", "base", "champion"), ("challenger", "base")])
        ],
        Gate(),
        **ABOUT,
    )
    assert found.fact_recall == {"challenger": 1.0, "base": 1.0, "champion": 1.0}
    assert found.answered == {"challenger": 2, "base": 2, "champion": 1}
    assert found.failing == {"challenger": 2, "base": 2, "champion": 1}
    assert found.failing_beside == {"base": 2, "champion": 1}
