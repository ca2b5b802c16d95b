from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import Comparison, Evaluation
from dropforge.judge import wilson
from dropforge.project import Gate
from dropforge.promote import MIN_SCORED, MIN_WITH_FACTS, decide

GATE = Gate()


def comparison(
    wins: int,
    losses: int,
    ties: int = 0,
    unscored: int = 0,
    *,
    opponent: str = "base",
    sure: float = 0.9,
) -> Comparison:
    scored = wins + losses + ties
    share = (wins + ties / 2) / scored if scored else 0.5
    rate = wilson(share, scored)
    return Comparison(opponent, wins, losses, ties, 0, unscored, rate, sure)


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
    assert "may be as low as 43 %; its lower bound must pass 50 %" in decision.reasons[0]


def test_every_reason_against_is_told() -> None:
    decision = decide(evaluation(comparison(30, 70), champion(10, 90), recall=0.1), GATE)
    assert len(decision.reasons) == 3


def test_equal_to_the_champion_is_enough() -> None:
    assert decide(evaluation(comparison(85, 15), champion(50, 50)), GATE).verdict == "promote"


def test_fact_floor_is_left_out_for_few_tickets_with_facts() -> None:
    few = evaluation(comparison(85, 15), recall=0.0, with_facts=MIN_WITH_FACTS - 1)
    assert decide(few, GATE).verdict == "promote"


def test_strict_gate_asks_more_of_the_lower_bound() -> None:
    found = evaluation(comparison(75, 25))
    assert decide(found, GATE).verdict == "promote"
    assert decide(found, Gate(lower_bound=0.7)).verdict == "not enough evidence"


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
        and base.win_rate.low > GATE.lower_bound
        and recall >= GATE.fact_recall
    )
    assert (decision.verdict == "promote") == passed
    assert decision.reasons
