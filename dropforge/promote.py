"""Promote: the gate between an evaluation and the customers.

Reads `judge/<project>/<hash>/verdict.json`; the edge moves the champion pointer in the registry.
"""

from __future__ import annotations

from dropforge.artifacts import Comparison, Decision, Evaluation
from dropforge.project import Gate

MIN_SCORED = 20
"""Scored tickets below which no win rate is evidence: 20 wins of 20 still means 84-100 %."""

MIN_WITH_FACTS = 10
"""Tickets with checkable facts below which the fact floor says nothing and is not applied."""


def decide(evaluation: Evaluation, gate: Gate) -> Decision:
    """The gate's verdict with every reason that decided.

    A win rate alone is not enough: a model that sounds like the agents and gets the facts wrong
    wins against a base model too, so facts have a floor of their own.

    * not enough evidence: too few tickets, too few of them scored, or a judge unsure of itself
    * reject: the win rate, the fact recall or the reigning champion says no
    * promote: nothing speaks against it
    """
    base = evaluation.comparisons.get("base")
    if base is None:
        return Decision("not enough evidence", ("the challenger was not compared with the base",))
    champion = evaluation.comparisons.get("champion")
    thin = [*_thin(base, evaluation.samples, gate), *_unsure(base, gate)]
    if champion is not None:
        thin += _thin(champion, evaluation.samples, gate)
    if thin:
        return Decision("not enough evidence", tuple(thin))
    against = [*_against_base(base, gate), *_against_facts(evaluation, gate)]
    if champion is not None and champion.win_rate.point < gate.against_champion:
        against.append(
            f"win rate against the champion {_percent(champion.win_rate.point)}, "
            f"asked for {_percent(gate.against_champion)}"
        )
    if against:
        return Decision("reject", tuple(against))
    if base.win_rate.low <= gate.lower_bound:
        return Decision(
            "not enough evidence",
            (
                f"the win rate of {_percent(base.win_rate.point)} may be as low as "
                f"{_percent(base.win_rate.low)}; its lower bound must pass "
                f"{_percent(gate.lower_bound)}",
            ),
        )
    return Decision("promote", (_won(base, evaluation),))


def _thin(comparison: Comparison, samples: int, gate: Gate) -> list[str]:
    scored, against = comparison.scored, f"against the {comparison.opponent}"
    reasons = []
    if scored < MIN_SCORED:
        reasons.append(f"{scored} tickets scored {against}; at least {MIN_SCORED} are needed")
    if samples and scored / samples < gate.scored:
        reasons.append(
            f"only {_percent(scored / samples)} of the tickets could be scored {against}, "
            f"asked for {_percent(gate.scored)}"
        )
    return reasons


def _unsure(base: Comparison, gate: Gate) -> list[str]:
    if not base.scored or base.confidence > gate.confidence:
        return []
    return [
        f"the judge's mean confidence is {_percent(base.confidence)}, "
        f"asked for more than {_percent(gate.confidence)}"
    ]


def _against_base(base: Comparison, gate: Gate) -> list[str]:
    if base.win_rate.point > gate.win_rate:
        return []
    return [
        f"win rate against the base {_percent(base.win_rate.point)}, "
        f"asked for more than {_percent(gate.win_rate)}"
    ]


def _against_facts(evaluation: Evaluation, gate: Gate) -> list[str]:
    if evaluation.samples_with_facts < MIN_WITH_FACTS:
        return []
    recall = evaluation.fact_recall["challenger"]
    if recall >= gate.fact_recall:
        return []
    return [f"{_percent(recall)} of the facts right, asked for {_percent(gate.fact_recall)}"]


def _won(base: Comparison, evaluation: Evaluation) -> str:
    rate = base.win_rate
    facts = evaluation.fact_recall.get("challenger")
    won = f"wins {_percent(rate.point)} [{_percent(rate.low)}, {_percent(rate.high)}]"
    return f"{won} against the base" + (
        f", {_percent(facts)} of the facts right" if facts is not None else ""
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
