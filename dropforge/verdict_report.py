"""The page about one evaluation: the verdict, the numbers that decided it, and pairs to read.

Candidate answers and tickets on it are redacted text of the test split; it stays in the bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

from dropforge.artifacts import Comparison, Verdict
from dropforge.judge import Outcome, Sample
from dropforge.page import Line, Markup, Table, curves, interval, page, side_by_side
from dropforge.project import Gate
from dropforge.train import TrainingEvent

SHOWN_PAIRS = 12
_CLASS = {"promote": "promote", "reject": "reject", "not enough evidence": "unsure"}


def verdict_report(
    verdict: Verdict, gate: Gate, samples: Sequence[Sample], curve: Sequence[TrainingEvent]
) -> str:
    """One self-contained HTML page."""
    evaluation, decision = verdict.evaluation, verdict.decision
    comparisons = list(evaluation.comparisons.values())
    lead = Markup(
        f'Verdict: <strong class="{_CLASS[decision.verdict]}">{decision.verdict}</strong>'
    )
    rates = [
        (f"against {c.opponent}", c.win_rate.point, c.win_rate.low, c.win_rate.high)
        for c in comparisons
    ]
    marks = {"lower bound": gate.lower_bound, "win rate": gate.win_rate}
    facts = [(arm, f"{share:.0%}") for arm, share in evaluation.fact_recall.items()]
    return page(
        f"Evaluation of {evaluation.project}/{evaluation.version}",
        lead,
        [
            ("Why", "; ".join(decision.reasons) + "."),
            ("Win rate with its 95 % interval, against the gate", interval(rates, marks)),
            ("Comparisons", _table(comparisons)),
            (
                f"Facts right, on {evaluation.samples_with_facts} tickets whose reference has some",
                Table(("arm", "facts of the reference stated"), facts),
            ),
            ("Loss while training", _loss(curve)),
            ("Pairs to read", _pairs(samples)),
        ],
        footer=f"judge {evaluation.judge}, {evaluation.samples} test tickets, both orders; "
        f"evaluation {evaluation.hash}; dataset {evaluation.dataset}",
    )


def _table(comparisons: Sequence[Comparison]) -> Table:
    header = ("opponent", "wins", "losses", "ties", "flips", "unscored", "confidence", "win rate")
    return Table(
        header,
        [
            (
                c.opponent,
                c.wins,
                c.losses,
                c.ties,
                c.flips,
                c.unscored,
                f"{c.confidence:.2f}",
                f"{c.win_rate.point:.0%} [{c.win_rate.low:.0%}, {c.win_rate.high:.0%}]",
            )
            for c in comparisons
        ],
    )


def _loss(curve: Sequence[TrainingEvent]) -> Markup:
    train = [(float(e.step), e.train_loss) for e in curve if e.train_loss is not None]
    held_out = [(float(e.step), e.eval_loss) for e in curve if e.eval_loss is not None]
    return curves([Line("training", train), Line("validation", held_out)], "step")


def _pairs(samples: Sequence[Sample]) -> Markup:
    """Losses first: they teach most."""
    order = {Outcome.LOSS: 0, Outcome.UNSCORED: 1, Outcome.TIE: 2, Outcome.WIN: 3}
    against = [s for s in samples if "base" in s.judged]
    chosen = sorted(against, key=lambda s: order[s.judged["base"].outcome])[:SHOWN_PAIRS]
    return side_by_side(
        (
            f"{s.judged['base'].outcome.value}: {s.question}",
            {"reference": s.reference, **_named(s.answers)},
        )
        for s in chosen
    )


def _named(answers: dict[str, str]) -> dict[str, str]:
    return {arm: answers[arm] for arm in ("challenger", "base") if arm in answers}
