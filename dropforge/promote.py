"""Promote: the gate between an evaluation and the customers.

Reads `judge/<project>/<hash>/verdict.json`; the edge moves the pointers in the registry.
"""

from __future__ import annotations

from collections.abc import Iterator

from dropforge.artifacts import Comparison, Decision, Evaluation, Rule
from dropforge.project.judging import Gate
from dropforge.statistics import samples_needed

MIN_SCORED = 20
"""Scored tickets below which no win rate is evidence: 20 wins of 20 still means 84-100 %."""

MIN_WITH_FACTS = 10
"""Tickets with checkable facts below which the fact floor says nothing and is not applied."""


def decide(evaluation: Evaluation, gate: Gate) -> Decision:
    """The gate's verdict, the reasons that decided, and every rule with its numbers.

    A win rate alone is not enough: a model that sounds like the agents and gets the facts wrong
    wins against a base model too, so facts have a floor of their own.

    * not enough evidence: too few tickets, too few of them scored, a judge unsure of itself or not
      shown to agree with people, or a win rate that may still be chance
    * reject: the win rate, the facts, the champion, the golden questions or the checks say no
    * promote: every rule holds
    """
    base = evaluation.comparisons.get("base")
    if base is None:
        return Decision("not enough evidence", ("the challenger was not compared with the base",))
    thin = list(_thin(evaluation, base, gate))
    against = list(_against(evaluation, base, gate))
    proof = Rule(
        "evidence against the base", base.e_value, 1 / gate.alpha, _proven(base, gate), share=False
    )
    rules = (*(rule for rule, _ in thin), *(rule for rule, _ in against), proof)
    if missing := [why for rule, why in thin if not rule.held]:
        return Decision("not enough evidence", tuple(missing), rules)
    if wrong := [why for rule, why in against if not rule.held]:
        return Decision("reject", tuple(wrong), rules)
    if not proof.held:
        return Decision("not enough evidence", (_chance(base, gate),), rules)
    return Decision("promote", (_won(base, evaluation),), rules)


Ruled = Iterator[tuple[Rule, str]]
"""Rules, each with what is said where it does not hold."""


def _thin(evaluation: Evaluation, base: Comparison, gate: Gate) -> Ruled:
    """Whether there is evidence at all."""
    champion = evaluation.comparisons.get("champion")
    for comparison in filter(None, (base, champion)):
        scored, name = comparison.scored, f"against the {comparison.opponent}"
        yield (
            Rule(f"tickets scored {name}", scored, MIN_SCORED, scored >= MIN_SCORED, share=False),
            f"{scored} tickets scored {name}; at least {MIN_SCORED} are needed",
        )
        of = scored + comparison.unscored
        share = scored / of if of else 1.0
        yield (
            Rule(f"share scored {name}", share, gate.scored, share >= gate.scored),
            f"only {_percent(share)} of the tickets could be scored {name}, "
            f"asked for {_percent(gate.scored)}",
        )
    sure = base.confidence
    yield (
        Rule(
            "confidence of the judge",
            sure,
            gate.confidence,
            sure > gate.confidence or not base.scored,
        ),
        f"the judge's mean confidence is {_percent(sure)}, "
        f"asked for more than {_percent(gate.confidence)}",
    )
    if gate.agreement is not None:
        yield from _agreement(evaluation, gate.agreement)


def _agreement(evaluation: Evaluation, floor: float) -> Ruled:
    """Every judge of the panel has to agree with people; one that nobody labelled for does not."""
    for judge in evaluation.judges:
        known = evaluation.agreement.get(judge)
        low = known.agreement.low if known else 0.0
        yield (
            Rule(f"agreement of {judge} with people", low, floor, low >= floor),
            f"the judge {judge} agrees with people on "
            + (
                f"{_percent(known.agreement.point)} of {known.labels} labelled pairs, which may be "
                f"{_percent(low)}"
                if known
                else "no labelled pair yet"
            )
            + f"; asked for {_percent(floor)} (`dropforge label`)",
        )


def _against(evaluation: Evaluation, base: Comparison, gate: Gate) -> Ruled:
    """Whether anything speaks against the challenger."""
    point = base.win_rate.point
    yield (
        Rule("win rate against the base", point, gate.win_rate, point > gate.win_rate),
        f"win rate against the base {_percent(point)}, "
        f"asked for more than {_percent(gate.win_rate)}",
    )
    if evaluation.samples_with_facts >= MIN_WITH_FACTS:
        recall = evaluation.fact_recall["challenger"]
        yield (
            Rule("facts right", recall, gate.fact_recall, recall >= gate.fact_recall),
            f"{_percent(recall)} of the facts right, asked for {_percent(gate.fact_recall)}",
        )
    champion = evaluation.comparisons.get("champion")
    if champion is not None:
        point = champion.win_rate.point
        yield (
            Rule(
                "win rate against the champion",
                point,
                gate.against_champion,
                point >= gate.against_champion,
            ),
            f"win rate against the champion {_percent(point)}, "
            f"asked for {_percent(gate.against_champion)}",
        )
    yield from _golden(evaluation, gate)
    yield from _checks(evaluation, gate)


def _golden(evaluation: Evaluation, gate: Gate) -> Ruled:
    golden = evaluation.golden
    if golden is None:
        return
    worse = len(golden.worse)
    yield (
        Rule(
            "golden questions got worse",
            worse,
            gate.regressions,
            worse <= gate.regressions,
            share=False,
        ),
        f"{worse} of {golden.questions} golden questions that the {golden.against} gets right are "
        f"wrong now ({', '.join(golden.worse[:3])}{', …' if worse > 3 else ''}); "
        f"at most {gate.regressions} may be",
    )


def _checks(evaluation: Evaluation, gate: Gate) -> Ruled:
    """Failed checks beyond the opponent's: the champion's, or the base's without one.

    Both are counted over the tickets that the opponent answered.
    """
    opponent = "champion" if "champion" in evaluation.comparisons else "base"
    tickets = evaluation.answered.get(opponent, evaluation.samples)
    if not tickets or "challenger" not in evaluation.failing:
        return
    ours = evaluation.failing_beside.get(opponent, evaluation.failing["challenger"])
    theirs = evaluation.failing.get(opponent, 0)
    more = (ours - theirs) / tickets
    kinds = ", ".join(
        f"{name} {count}" for name, count in evaluation.failed.get("challenger", {}).items()
    )
    of_all = "" if tickets == evaluation.samples else f"of all {evaluation.samples}: "
    yield (
        Rule(f"checks failed beyond the {opponent}'s", more, gate.checks, more <= gate.checks),
        f"{ours} of {tickets} answers fail a check ({of_all}{kinds}), {theirs} of the "
        f"{opponent}'s; at most {_percent(gate.checks)} more may",
    )


def _proven(base: Comparison, gate: Gate) -> bool:
    return base.e_value >= 1 / gate.alpha


def _chance(base: Comparison, gate: Gate) -> str:
    """Why a good win rate is no evidence yet, and how many tickets might make it one."""
    rate = base.win_rate
    needed = samples_needed(rate.point, gate.lower_bound, alpha=gate.alpha)
    more = (
        f"; a model this good is told apart in {needed} tickets nine times of ten"
        if needed and needed > base.scored
        else ""
    )
    return (
        f"the win rate of {_percent(rate.point)} is not yet shown to lie over "
        f"{_percent(gate.lower_bound)} (evidence {base.e_value:.1f}, asked for "
        f"{1 / gate.alpha:.0f}; 95 % interval from {_percent(rate.low)}){more}"
    )


def _won(base: Comparison, evaluation: Evaluation) -> str:
    rate = base.win_rate
    facts = evaluation.fact_recall.get("challenger")
    won = f"wins {_percent(rate.point)} [{_percent(rate.low)}, {_percent(rate.high)}]"
    return f"{won} against the base" + (
        f", {_percent(facts)} of the facts right" if facts is not None else ""
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
