from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Agreement, Comparison, Evaluation, GoldenScore, Interval
from dropforge.project.judging import Gate
from dropforge.promote import MIN_SCORED, MIN_WITH_FACTS, decide
from dropforge.statistics import evidence_above, wilson

GATE = Gate()


def comparison(
    wins: int,
    losses: int,
    ties: int = 0,
    unscored: int = 0,
    *,
    opponent: str = "base",
    sure: float = 0.9,
    over: float = GATE.lower_bound,
) -> Comparison:
    """Wins and losses in a shuffled order, with the evidence that they are."""
    scored = wins + losses + ties
    share = (wins + ties / 2) / scored if scored else 0.5
    rate = wilson(share, scored)
    scores = [1.0] * wins + [0.0] * losses + [0.5] * ties
    random.Random(1).shuffle(scores)
    e_value = evidence_above(scores, over, horizon=max(scored, 1)).e_value
    return Comparison(opponent, wins, losses, ties, 0, unscored, rate, sure, e_value=e_value)


def evaluation(
    base: Comparison | None,
    champion: Comparison | None = None,
    recall: float = 0.9,
    with_facts: int = 50,
) -> Evaluation:
    arms = {"base": base, "champion": champion}
    compared = {arm: c for arm, c in arms.items() if c is not None}
    first = next(iter(compared.values()), None)
    samples = first.scored + first.unscored if first else 0
    return Evaluation(
        "shop", "h", "v2", "d", "judge", samples, compared, {"challenger": recall}, with_facts
    )


def champion(wins: int, losses: int, unscored: int = 0) -> Comparison:
    return comparison(wins, losses, unscored=unscored, opponent="champion")


def test_clear_winner_is_promoted_with_its_numbers() -> None:
    decision = decide(evaluation(comparison(85, 15)), GATE)
    assert decision.verdict == "promote"
    assert decision.reasons == ("wins 85 % [77 %, 91 %] against the base, 90 % of the facts right",)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (evaluation(comparison(30, 70)), "win rate against the base 30 %"),
        (evaluation(comparison(70, 30)), "asked for more than 70 %"),
        (evaluation(comparison(85, 15), recall=0.49), "49 % of the facts right"),
        (evaluation(comparison(85, 15), champion(40, 60)), "against the champion 40 %"),
    ],
)
def test_worse_challenger_is_rejected_with_the_reason(found: Evaluation, reason: str) -> None:
    decision = decide(found, GATE)
    assert decision.verdict == "reject"
    assert reason in "; ".join(decision.reasons)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (evaluation(None), "not compared with the base"),
        (evaluation(comparison(MIN_SCORED - 1, 0)), "at least 20 are needed"),
        (evaluation(comparison(70, 0, unscored=30)), "70 % of the tickets could be scored"),
        (evaluation(comparison(85, 15, sure=0.5)), "mean confidence is 50 %"),
        (evaluation(comparison(0, 0, unscored=50)), "0 tickets scored"),
        (
            evaluation(comparison(85, 15), champion(0, 0, unscored=100)),
            "0 tickets scored against the champion",
        ),
    ],
)
def test_thin_evidence_decides_nothing(found: Evaluation, reason: str) -> None:
    decision = decide(found, GATE)
    assert decision.verdict == "not enough evidence"
    assert reason in "; ".join(decision.reasons)


def test_win_rate_that_may_be_chance_decides_nothing() -> None:
    decision = decide(evaluation(comparison(14, 8)), Gate(win_rate=0.6))
    assert decision.verdict == "not enough evidence"
    assert "not yet shown to lie over 50 %" in decision.reasons[0]
    assert "asked for 20; 95 % interval from 43 %" in decision.reasons[0]
    assert "nine times of ten" in decision.reasons[0]


def test_every_reason_against_is_told() -> None:
    decision = decide(evaluation(comparison(30, 70), champion(10, 90), recall=0.1), GATE)
    assert len(decision.reasons) == 3


def test_equal_to_the_champion_is_enough() -> None:
    assert decide(evaluation(comparison(85, 15), champion(50, 50)), GATE).verdict == "promote"


def test_fact_floor_is_left_out_for_few_tickets_with_facts() -> None:
    few = evaluation(comparison(85, 15), recall=0.0, with_facts=MIN_WITH_FACTS - 1)
    assert decide(few, GATE).verdict == "promote"


def test_strict_gate_asks_more_of_the_lower_bound() -> None:
    assert decide(evaluation(comparison(75, 25)), GATE).verdict == "promote"
    strictly = evaluation(comparison(75, 25, over=0.7))
    assert decide(strictly, Gate(lower_bound=0.7)).verdict == "not enough evidence"


def with_golden(worse: tuple[str, ...]) -> Evaluation:
    golden = GoldenScore("g", 10, {"challenger": 10 - len(worse), "base": 10}, "base", worse)
    return msgspec.structs.replace(evaluation(comparison(85, 15)), golden=golden)


def test_golden_question_that_got_worse_rejects_unless_the_gate_allows_it() -> None:
    assert decide(with_golden(()), GATE).verdict == "promote"
    decision = decide(with_golden(("returns", "vat")), GATE)
    assert decision.verdict == "reject"
    assert "2 of 10 golden questions" in decision.reasons[0]
    assert "returns, vat" in decision.reasons[0]
    assert decide(with_golden(("returns", "vat")), Gate(regressions=2)).verdict == "promote"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [(0, 0, "promote"), (5, 0, "promote"), (6, 0, "reject"), (30, 26, "promote")],
)
def test_failed_checks_count_beyond_the_opponents(ours: int, theirs: int, verdict: str) -> None:
    found = msgspec.structs.replace(
        evaluation(comparison(85, 15)),
        failing={"challenger": ours, "base": theirs},
        failed={"challenger": {"pii": ours}},
    )
    decision = decide(found, GATE)
    assert decision.verdict == verdict
    assert verdict == "promote" or "(pii 6)" in decision.reasons[0]


def test_checks_are_held_against_a_champion_that_answered_half_on_its_own_tickets() -> None:
    found = msgspec.structs.replace(
        evaluation(comparison(85, 15), champion(30, 20)),
        failing={"challenger": 20, "base": 20, "champion": 10},
        failed={"challenger": {"long": 20}},
        answered={"challenger": 100, "base": 100, "champion": 50},
        failing_beside={"base": 20, "champion": 10},
    )
    assert decide(found, GATE).verdict == "promote"
    worse = msgspec.structs.replace(found, failing_beside={"base": 20, "champion": 13})
    decision = decide(worse, GATE)
    assert decision.verdict == "reject"
    assert "13 of 50 answers fail a check (of all 100: long 20), 10" in decision.reasons[0]


@pytest.mark.parametrize(
    ("low", "floor", "verdict"),
    [
        (None, None, "promote"),
        (None, 0.6, "not enough evidence"),
        (0.55, 0.6, "not enough evidence"),
        (0.65, 0.6, "promote"),
    ],
)
def test_judge_that_is_not_shown_to_agree_with_people_promotes_nothing(
    low: float | None, floor: float | None, verdict: str
) -> None:
    known = {} if low is None else {"j/1": Agreement(50, Interval(0.8, low, 0.9), 0.7)}
    found = evaluation(comparison(85, 15))
    found = msgspec.structs.replace(found, judges=("j/1",), agreement=known)
    decision = decide(found, Gate(agreement=floor))
    assert decision.verdict == verdict
    assert verdict == "promote" or "dropforge label" in decision.reasons[0]


def test_every_judge_of_a_panel_has_to_agree() -> None:
    known = {"a": Agreement(50, Interval(0.8, 0.7, 0.9), 0.7)}
    found = msgspec.structs.replace(
        evaluation(comparison(85, 15)), judges=("a", "b"), agreement=known
    )
    decision = decide(found, Gate(agreement=0.6))
    assert decision.verdict == "not enough evidence"
    assert "the judge b agrees with people on no labelled pair yet" in decision.reasons[0]


def test_every_number_that_decided_stands_in_the_verdict() -> None:
    rules = {
        r.name: r for r in decide(evaluation(comparison(85, 15), champion(60, 40)), GATE).rules
    }
    assert set(rules) >= {
        "tickets scored against the base",
        "share scored against the base",
        "confidence of the judge",
        "win rate against the base",
        "facts right",
        "win rate against the champion",
        "evidence against the base",
    }
    assert all(rule.held for rule in rules.values())
    assert (rules["win rate against the base"].measured, rules["facts right"].asked) == (0.85, 0.5)


counts = st.integers(0, 120)


@given(counts, counts, counts, counts, st.floats(0, 1), st.floats(0, 1))
def test_promotion_always_means_every_threshold_was_passed(
    wins: int, losses: int, ties: int, unscored: int, sure: float, recall: float
) -> None:
    base = comparison(wins, losses, ties, unscored, sure=sure)
    decision = decide(evaluation(base, recall=recall), GATE)
    passed = (
        base.scored >= MIN_SCORED
        and base.scored >= GATE.scored * (base.scored + unscored)
        and sure > GATE.confidence
        and base.win_rate.point > GATE.win_rate
        and base.e_value >= 1 / GATE.alpha
        and recall >= GATE.fact_recall
    )
    assert (decision.verdict == "promote") == passed
    assert (decision.verdict == "promote") == all(rule.held for rule in decision.rules)
    assert decision.reasons
