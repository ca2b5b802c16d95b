"""What people's labels tell of judges, and which pairs they are asked about."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Agreement
from dropforge.calibration import (
    NARROW,
    Calibration,
    Label,
    Labelled,
    between_people,
    calibrate,
    choose_pairs,
    family,
    in_words,
    labels_needed,
    outcome_of,
    pair_key,
    pairs_of,
    people_say,
    same_family,
    what_is_missing,
)
from dropforge.judge import Judged, Outcome, Sample
from dropforge.statistics import wilson
from tests.support.labels import JUDGE, SECOND, by, sample

LABELLED: tuple[Labelled, ...] = ("win", "tie", "loss")
OPPOSITE = {"win": Outcome.LOSS, "loss": Outcome.WIN, "tie": Outcome.WIN}


def label(pair: str, outcome: Labelled | None, who: str = "ann", at: float = 1.0) -> Label:
    return Label(pair, "e1", "t1", "base", outcome, who, at)


def labelled(
    count: int, judge: Callable[[Labelled], Outcome], seed: int = 1
) -> tuple[list[Label], list[Sample]]:
    """Tickets with people's labels at random, and a judge who is told them."""
    chance = random.Random(seed)
    labels, samples = [], []
    for number in range(count):
        said = chance.choice(LABELLED)
        one = sample(number, base=by(**{JUDGE: judge(said)}))
        samples.append(one)
        labels.append(label(pair_key(one, "base"), said))
    return labels, samples


def about(point: float, labels: int, kappa: float = 0.5) -> Agreement:
    return Agreement(labels, wilson(point, labels), kappa)


# --- Judges beside people


def test_judge_that_says_what_people_say_agrees_always() -> None:
    found = calibrate(*labelled(60, Outcome))[JUDGE].agreement
    assert found.labels == 60
    assert found.agreement.point == 1.0
    assert found.agreement.low == pytest.approx(wilson(1.0, 60).low)
    assert found.kappa == pytest.approx(1.0)


def test_judge_that_says_the_opposite_never_agrees() -> None:
    found = calibrate(*labelled(60, lambda said: OPPOSITE[said]))[JUDGE]
    assert found.agreement.agreement.point == 0.0
    assert found.agreement.kappa < -0.3
    assert 20 < found.opposite < 60  # a tie called a win is no opposite


def test_judge_that_guesses_agrees_as_often_as_chance() -> None:
    guess = random.Random(2)
    found = calibrate(*labelled(900, lambda _: Outcome(guess.choice(LABELLED))))[JUDGE].agreement
    assert found.agreement.low < 1 / 3 < found.agreement.high
    assert abs(found.kappa) < 0.1


def test_every_judge_of_a_panel_is_measured_by_the_same_labels() -> None:
    samples = [sample(n, base=by(**{JUDGE: Outcome.WIN, SECOND: Outcome.LOSS})) for n in range(20)]
    found = calibrate([label(pair_key(s, "base"), "win") for s in samples], samples)
    assert {judge: one.agreement.agreement.point for judge, one in found.items()} == {
        JUDGE: 1.0,
        SECOND: 0.0,
    }


def test_undecided_pairs_are_counted_and_left_out() -> None:
    samples = [
        sample(n, base=by(**{JUDGE: Outcome.UNSCORED if n < 3 else Outcome.WIN})) for n in range(10)
    ]
    found = calibrate([label(pair_key(s, "base"), "win") for s in samples], samples)[JUDGE]
    assert (found.unscored, found.agreement.labels, found.agreement.agreement.point) == (3, 7, 1.0)


def test_unlabelled_pairs_tell_nothing_of_a_judge() -> None:
    assert calibrate([], [sample(1)]) == {}
    assert calibrate([label("another pair", "win")], [sample(1)]) == {}


def test_label_stays_good_for_another_judge_of_the_same_answers() -> None:
    before, later = sample(1), sample(1, base=by(**{SECOND: Outcome.TIE}))
    found = calibrate([label(pair_key(before, "base"), "tie")], [before, later])
    assert found[JUDGE].agreement.agreement.point == 0.0
    assert found[SECOND].agreement.agreement.point == 1.0


def test_label_is_of_no_use_once_an_answer_has_changed() -> None:
    changed = sample(1, answers={"challenger": "another answer", "base": "bad answer 1"})
    assert calibrate([label(pair_key(sample(1), "base"), "win")], [changed]) == {}


def test_judge_asked_twice_about_the_same_answers_counts_once_by_its_last_outcome() -> None:
    first, again = sample(1), sample(1, base=by(**{JUDGE: Outcome.LOSS}))
    found = calibrate([label(pair_key(first, "base"), "loss")], [first, again])[JUDGE].agreement
    assert (found.labels, found.agreement.point) == (1, 1.0)


# --- Several people


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        (["win"], "win"),
        (["win", "win", "loss"], "win"),
        (["win", "loss"], "tie"),
        (["win", "tie", "loss"], "tie"),
        (["win", "win", "tie", "loss"], "tie"),  # half is no majority
        (["loss", "loss", "loss", "tie"], "loss"),
    ],
)
def test_people_say_what_most_of_them_say_else_a_tie(votes: list[Labelled], said: str) -> None:
    labels = [label("p", vote, who=f"person {i}") for i, vote in enumerate(votes)]
    assert people_say(labels) == {"p": said}


def test_last_word_of_a_person_counts_and_a_label_may_be_taken_back() -> None:
    assert people_say([label("p", "loss", at=2), label("p", "win", at=1)]) == {"p": "loss"}
    assert people_say([label("p", "win", at=1), label("p", None, at=2)]) == {}


def test_people_are_compared_on_the_pairs_that_two_have_labelled() -> None:
    labels = [label(f"p{i}", "win") for i in range(10)]
    labels += [label(f"p{i}", "win" if i else "loss", who="bob") for i in range(4)]
    found = between_people(labels)
    assert (found.labels, found.agreement.point) == (4, 0.75)
    assert between_people([*labels, label("p0", None, who="bob", at=2)]).labels == 3


# --- Which pairs


SAMPLES = [sample(n) for n in range(40)]


def keys(samples: list[Sample], **more: Any) -> list[str]:
    asked = {"done": (), "limit": 1000, "seed": 1, **more}
    return [pair.key for pair in choose_pairs(samples, **asked)]


def test_choice_is_the_same_for_a_seed_and_differs_between_seeds() -> None:
    assert keys(SAMPLES) == keys(SAMPLES[::-1])
    assert keys(SAMPLES) != keys(SAMPLES, seed=2)
    assert sorted(keys(SAMPLES)) == sorted(keys(SAMPLES, seed=2))


def test_limit_is_kept_and_what_is_done_is_not_asked_again() -> None:
    first = keys(SAMPLES, limit=15)
    assert keys(SAMPLES)[:15] == first
    rest = keys(SAMPLES, done=first)
    assert len(rest) == 25
    assert not set(first) & set(rest)


def test_pairs_that_others_labelled_come_last() -> None:
    theirs = keys(SAMPLES, limit=10)
    chosen = keys(SAMPLES, by_others=theirs)
    assert chosen[-10:] == theirs
    assert len(chosen) == 40


def test_judges_outcomes_do_not_influence_the_choice() -> None:
    judged = [Judged(outcome) for outcome in Outcome]
    otherwise = [sample(n, base=judged[n % 4]) for n in range(40)]
    assert keys(SAMPLES) == keys(otherwise)


def test_every_pair_is_chosen_as_often_as_any_other() -> None:
    seen = Counter(key for seed in range(2000) for key in keys(SAMPLES[:10], limit=3, seed=seed))
    assert len(seen) == 10
    assert all(510 < count < 690 for count in seen.values())  # 600, standard deviation 20


def test_equal_answers_and_missing_ones_are_nothing_to_label() -> None:
    equal = sample(1, answers={"challenger": "Yes. ", "base": "Yes."})
    missing = sample(2, answers={"challenger": "Yes."})
    assert keys([equal, missing]) == []


def test_same_two_texts_against_base_and_champion_are_one_pair() -> None:
    texts = {"challenger": "a", "base": "b", "champion": "b"}
    both = sample(
        1, answers=texts, judged={"base": by(j=Outcome.WIN), "champion": by(j=Outcome.WIN)}
    )
    assert len(pairs_of([both])) == 1
    texts["champion"] = "c"
    assert len(pairs_of([both])) == 2


def test_side_is_by_chance_and_always_the_same_for_a_person() -> None:
    pairs = pairs_of(sample(n) for n in range(400)).values()
    ann = [pair.challenger_side("ann") for pair in pairs]
    assert ann == [pair.challenger_side("ann") for pair in pairs]
    assert 150 < ann.count("left") < 250
    assert ann != [pair.challenger_side("bob") for pair in pairs]


def test_choice_of_a_side_is_turned_into_an_outcome_of_the_challenger() -> None:
    for pair in pairs_of(SAMPLES).values():
        side = pair.challenger_side("ann")
        shown = dict(zip(("left", "right"), pair.shown("ann"), strict=True))
        assert shown[side].startswith("good")
        assert outcome_of(side, side) == "win"
        assert outcome_of("right" if side == "left" else "left", side) == "loss"
        assert outcome_of("tie", side) == "tie"


# --- How many labels, and the words for it


@given(st.floats(0, 1), st.integers(1, 400), st.none() | st.floats(0, 1))
def test_as_many_more_labels_as_said_are_enough_and_one_less_is_not(
    share: float, labels: int, floor: float | None
) -> None:
    def enough(count: int) -> bool:
        at = wilson(share, count)
        return at.high - at.low <= NARROW if floor is None else at.low >= floor

    more = labels_needed(about(share, labels), floor)
    if more is None:
        assert not enough(4000)
    else:
        assert enough(labels + more)
        assert more == 0 or not enough(labels + more - 1)


def test_judge_at_the_floor_never_gets_above_it_by_labels_alone() -> None:
    assert labels_needed(about(0.7, 100), 0.7) is None
    assert "rubric" in what_is_missing(about(0.7, 100), 0.7)


def test_agreement_reads_as_a_sentence() -> None:
    found = Calibration(about(41 / 50, 50, 0.714), opposite=2, unscored=1)
    assert in_words("j", found) == (
        "j agrees on 41 of 50: 82% [69%, 90%], kappa 0.71; it named the other answer on 2; "
        "1 more it left undecided"
    )
    assert in_words("j", Calibration(Agreement(0, wilson(0, 0), 0.0), unscored=2)) == (
        "j: no labelled pair that it decided; 2 more it left undecided"
    )


@pytest.mark.parametrize(
    ("found", "floor", "said"),
    [
        (about(0.82, 50), None, "About 5"),
        (about(0.82, 500), None, "Enough:"),
        (about(0.82, 500), 0.7, "Above the gate's floor of 70%."),
        (about(0.82, 20), 0.7, "more labels, if it goes on so, until it is above the floor of 70%"),
        (about(0.5, 0), 0.7, "Nothing is known"),
    ],
)
def test_what_is_missing_reads_as_a_sentence(
    found: Agreement, floor: float | None, said: str
) -> None:
    assert said in what_is_missing(found, floor)


# --- Families


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-4.1-mini-2025-04-14", "gpt"),
        ("ft:gpt-4.1-mini-2025-04-14:acme-llama::Bx1", "gpt"),
        ("o4-mini", "gpt"),
        ("openai/gpt-oss-120b", "gpt"),
        ("chatgpt-4o-latest", "gpt"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct-Reference", "llama"),
        ("meta-textgeneration-llama-3-2-1b", "llama"),
        ("acme/Llama-3.1-8B-qwen-comparison", "llama"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistral"),
        ("mistral.ministral-3-8b", "mistral"),
        ("Qwen/QwQ-32B", "qwen"),
        ("Qwen2.5-7B-Instruct", "qwen"),
        ("gemini-2.5-flash", "gemini"),
        ("google/gemma-3-4b-it", "gemini"),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "nova"),
        ("models/smollm2-135m/", "smollm"),
        ("meta-llama/unnamed", "llama"),
        ("microsoft/phi-4", "phi"),
        ("innovative-model", ""),
        ("foo1-mini", ""),
        ("sapphire", ""),
        ("", ""),
    ],
)
def test_family_is_told_by_the_name(model: str, kind: str) -> None:
    assert family(model) == kind


def test_same_family_is_same_also_after_a_fine_tune() -> None:
    assert same_family("gpt-4.1", "ft:gpt-4o-mini:acme::1")
    assert not same_family("claude-haiku", "gpt-4o-mini")
    assert same_family("small", "small")
    assert not same_family("small", "large")
    assert not same_family("small", "gpt-4o-mini")
