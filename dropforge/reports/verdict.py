"""The page about one evaluation: what was decided, why, how sure that is, and pairs to read.

Candidate answers and tickets on it are redacted text of the test split; it stays in the bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from dropforge.artifacts import Comparison, Decision, Evaluation, Interval, Rule, Verdict
from dropforge.golden import GoldenResult
from dropforge.judge import Sample
from dropforge.page import (
    Block,
    Line,
    Markup,
    Table,
    checks,
    curves,
    page,
    scrolling,
    tiles,
)
from dropforge.plots import figure, percent
from dropforge.project.judging import Gate
from dropforge.reports.verdict_answers import answers_by_arm, costs, golden_worse
from dropforge.reports.verdict_evidence import how_sure, where
from dropforge.reports.verdict_pairs import pair_style, pairs
from dropforge.train import TrainingEvent

_CLASS = {"promote": "promote", "reject": "reject", "not enough evidence": "unsure"}
_SIGN = {"promote": "✓", "reject": "✗", "not enough evidence": "?"}
_LEVEL = {"promote": "good", "reject": "bad", "not enough evidence": "look"}


def verdict_report(
    verdict: Verdict,
    gate: Gate,
    samples: Sequence[Sample],
    curve: Sequence[TrainingEvent],
    golden: Sequence[GoldenResult] = (),
) -> str:
    """One self-contained HTML page; below 2 MB for 5,000 tickets.

    Args:
        samples: the judged tickets, in the order of judging.
        curve: the loss while training, empty where nobody recorded it.
        golden: what the arms said to the golden questions.
    """
    evaluation, decision = verdict.evaluation, verdict.decision
    return page(
        f"Evaluation of {evaluation.project}/{evaluation.version}",
        _lead(evaluation, decision),
        [
            ("Why", _why(evaluation, decision, gate)),
            *_rules(decision),
            *how_sure(evaluation, gate, samples),
            *where(evaluation, samples),
            *_judges(evaluation),
            ("The answers, by who gave them", answers_by_arm(evaluation)),
            *golden_worse(evaluation, golden),
            ("What answers and judging took", costs(evaluation)),
            ("Loss while training", _loss(curve)),
            ("Pairs to read", pairs(evaluation, samples)),
        ],
        footer=f"judge {', '.join(evaluation.judges or (evaluation.judge,))}, "
        f"{evaluation.samples} test tickets, both orders; "
        f"evaluation {evaluation.hash}; dataset {evaluation.dataset}",
        style=pair_style(evaluation),
    )


def _lead(evaluation: Evaluation, decision: Decision) -> Markup:
    said = {
        "promote": f"{evaluation.version} held every rule of the gate and may answer customers.",
        "reject": f"{evaluation.version} stays away from customers.",
        "not enough evidence": f"{evaluation.version} stays away from customers until more is "
        "known.",
    }
    name, style = decision.verdict, _CLASS[decision.verdict]
    return Markup(
        f'<span class="{style}" aria-hidden="true">{_SIGN[name]}</span> '
        f'<strong class="{style}">{name}</strong>: {escape(said[name])}'
    )


def _why(evaluation: Evaluation, decision: Decision, gate: Gate) -> Markup:
    """The first screen: reasons, the figures that decide, and what weakens them."""
    level = _LEVEL[decision.verdict]
    reasons = checks((level, "", f"{reason}.") for reason in decision.reasons)
    doubts = checks(("look", "", f"{warning}.") for warning in evaluation.warnings)
    head = '<h3 class="part">What to know before trusting the numbers</h3>'
    return Markup(
        f"{reasons}{tiles(_figures(evaluation, gate))}"
        + (f"{head}{doubts}" if evaluation.warnings else "")
    )


def _figures(evaluation: Evaluation, gate: Gate) -> dict[str, str]:
    found = {}
    for comparison in evaluation.comparisons.values():
        rate = comparison.win_rate
        span = f"{percent(rate.low)} to {percent(rate.high)}"
        found[f"win rate against the {comparison.opponent}, 95 % interval {span}"] = percent(
            rate.point
        )
    base = evaluation.comparisons.get("base")
    if base is not None:
        asked = f"evidence that it beats {percent(gate.lower_bound)}, asked for {1 / gate.alpha:g}"
        found[asked] = evidence(base.e_value)
    if "challenger" in evaluation.fact_recall:
        name = f"of the facts right, on {evaluation.samples_with_facts} tickets that have some"
        found[name] = percent(evaluation.fact_recall["challenger"])
    planned = max(evaluation.planned, evaluation.samples)
    found["tickets judged" + (f" of {planned:,}" * (planned > evaluation.samples))] = (
        f"{evaluation.samples:,}"
    )
    return found


def evidence(e_value: float) -> str:
    """An e-value as a figure to read."""
    if e_value >= 1e6:
        return "> 1 million"
    return f"{e_value:,.0f}" if e_value >= 100 else f"{e_value:.1f}"


def _rules(decision: Decision) -> Iterator[tuple[str, Block]]:
    """Every rule; nothing where an older evaluation has none."""
    if not decision.rules:
        return
    broken = sum(not rule.held for rule in decision.rules)
    count = len(decision.rules)
    held = "all held" if not broken else f"{broken} of {count} not held"
    rows = [
        (rule.name, _number(rule, rule.measured), _number(rule, rule.asked), _held(rule))
        for rule in decision.rules
    ]
    yield f"The gate, rule by rule: {held}", Table(("rule", "found", "asked", ""), rows)


def _number(rule: Rule, value: float) -> Markup:
    """A figure that does not break."""
    return Markup(f'<span class="figure">{_figure(rule, value)}</span>')


def _figure(rule: Rule, value: float) -> str:
    if rule.share:
        return f"{100 * value:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"
    return "> 1 million" if value >= 1e6 else f"{value:,.4g}"


def _held(rule: Rule) -> Markup:
    if rule.held:
        return Markup('<span class="held">✓ held</span>')
    return Markup('<span class="missed">✗ not held</span>')


def _judges(evaluation: Evaluation) -> Iterator[tuple[str, Block]]:
    """What kind of judges these were, and whether people agree with them."""
    if evaluation.comparisons:
        header = ("against", "wins", "ties", "losses", "flips", "unscored", "confidence", "place")
        rows = [
            (c.opponent, c.wins, c.ties, c.losses, c.flips, c.unscored, percent(c.confidence), p)
            for c in evaluation.comparisons.values()
            for p in (_place(c),)
        ]
        note = (
            "Flips: the judge named another winner when the two answers changed places; they count "
            "as ties. Place: how much more often than half it preferred the answer shown first."
        )
        counts = scrolling(Table(header, rows), "outcomes")
        yield "How the judge decided", Markup(f'{counts}<p class="note">{escape(note)}</p>')
    yield "Does the judge agree with people?", _agreement(evaluation)


def _place(comparison: Comparison) -> str:
    points = 100 * comparison.position_bias
    if abs(points) < 0.5:
        return "no leaning"
    return f"{abs(points):.0f} points for the {'first' if points > 0 else 'second'}"


def _agreement(evaluation: Evaluation) -> Block:
    judges = evaluation.judges or (evaluation.judge,)
    rows = []
    for judge in judges:
        known = evaluation.agreement.get(judge)
        if known is None or not known.labels:
            rows.append((judge, 0, "not known", "not known"))
        else:
            rows.append((judge, known.labels, _span(known.agreement), f"{known.kappa:.2f}"))
    if not any(labels for _, labels, *_ in rows):
        return (
            f"No labels yet: nobody has compared {' or '.join(judges)} with a person. Run "
            f"`dropforge label -p {evaluation.project}`."
        )
    return Table(("judge", "pairs labelled", "same as people", "kappa"), rows)


def _span(interval: Interval) -> str:
    return f"{percent(interval.point)} [{percent(interval.low)}, {percent(interval.high)}]"


def _loss(curve: Sequence[TrainingEvent]) -> Markup:
    train = [(float(e.step), e.train_loss) for e in curve if e.train_loss is not None]
    held_out = [(float(e.step), e.eval_loss) for e in curve if e.eval_loss is not None]
    drawn = curves([Line("training", train), Line("validation", held_out)], "step")
    return figure("", drawn) if train or held_out else drawn
