"""The page about a move: the old model, the new one, and whether customers may be switched.

Reads a run that trained a champion's dataset elsewhere, and what the judge found. Answers and
tickets on it are redacted text of the test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Literal

import msgspec

from dropforge.artifacts import Comparison, Verdict
from dropforge.judge import Judged, Outcome, Sample
from dropforge.page import Markup, Table, checks, interval, page, side_by_side, tiles
from dropforge.project.judging import Gate

SHOWN_PAIRS = 12
OLD, NEW = "champion", "challenger"
"""What the judge calls them."""
Level = Literal["promote", "reject", "unsure"]


class Trained(msgspec.Struct, frozen=True):
    """A model version, as a reader wants it; `usd` is what its training costs by list prices."""

    version: str
    backend: str
    model: str
    model_id: str
    made_at: float
    usd: float | None = None


class Moved(msgspec.Struct, frozen=True):
    """All about one move.

    Attributes:
        ends: the first day on which the old model does not answer (ISO 8601), where known.
        days_left: until then, when the move began.
        state: where the run stands: its status, and the stage it is at or failed in.
        answering: the version that answers now.
        against: the version that the new model was compared with.
    """

    project: str
    dataset: str
    old: Trained
    new: Trained | None
    started_at: float
    state: tuple[str, str]
    answering: str
    ends: str | None = None
    ends_from: str | None = None
    days_left: int | None = None
    error: str = ""
    against: str | None = None
    verdict: Verdict | None = None

    @property
    def against_old(self) -> Comparison | None:
        """The judge's comparison with the old model, if there was one."""
        if self.verdict is None or self.against not in (None, self.old.version):
            return None
        return self.verdict.evaluation.comparisons.get(OLD)


def headline(moved: Moved) -> tuple[Level, str]:
    """Whether customers may be switched to the new model, in one sentence."""
    status, stage = moved.state
    if status == "failed":
        return "reject", f"not yet: the run failed at {stage}. {moved.error}"
    if moved.verdict is None or moved.new is None:
        return "unsure", f"not yet: the run is still at {stage}"
    decision = moved.verdict.decision
    if decision.verdict != "promote":
        level: Level = "reject" if decision.verdict == "reject" else "unsure"
        return level, f"not yet: {decision.verdict}: {'; '.join(decision.reasons)}"
    if moved.answering == moved.new.version:
        return "promote", f"switched: {moved.new.version} answers in place of {moved.old.version}"
    command = f"dropforge promote {moved.new.version} -p {moved.project}"
    return "promote", f"ready to switch: `{command}`"


def text_report(moved: Moved) -> list[str]:
    """The same in a few lines, for a terminal."""
    lines = [headline(moved)[1], f"old  {_one_line(moved.old)}{_until(moved)}"]
    if moved.new:
        lines.append(f"new  {_one_line(moved.new)}")
    lines.append(f"moved {_moved(moved)}")
    if moved.against_old:
        lines.append(f"judged new against old: {_rate(moved.against_old)}")
    return [*lines, *(answer for level, _, answer in _findings(moved) if level != "good")]


def _one_line(trained: Trained) -> str:
    cost = "" if trained.usd is None else f", training about ${trained.usd:,.2f}"
    return f"{trained.version}  {trained.model} on {trained.backend}{cost}"


def _until(moved: Moved) -> str:
    return f", goes dark on {moved.ends}" if moved.ends else ""


def _moved(moved: Moved) -> str:
    left = "" if moved.days_left is None else f", with {moved.days_left} days left"
    return f"on {_day(moved.started_at)}{left}"


def _rate(comparison: Comparison) -> str:
    rate = comparison.win_rate
    counts = f"{comparison.wins} won, {comparison.losses} lost, {comparison.ties} ties"
    return f"wins {rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}] ({counts})"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def migration_report(moved: Moved, gate: Gate, samples: Sequence[Sample]) -> str:
    """One self-contained HTML page."""
    level, said = headline(moved)
    return page(
        f"{moved.project}: from {moved.old.backend} to {moved.new.backend if moved.new else '…'}",
        Markup(f'<strong class="{level}">{escape(said)}</strong>'),
        [
            ("At a glance", tiles(_figures(moved))),
            ("What to know", checks(_findings(moved))),
            ("The two models", _models(moved)),
            ("Win rate of the new model with its 95 % interval", _rates(moved, gate)),
            ("Facts right", _facts(moved)),
            ("Answers to read, the old model's better ones first", _pairs(moved, samples)),
        ],
        footer=f"dataset {moved.dataset}"
        + (f"; evaluation {moved.verdict.evaluation.hash}" if moved.verdict else ""),
    )


def _figures(moved: Moved) -> dict[str, str]:
    against, facts = moved.against_old, _fact_shares(moved)
    return {
        "the old model goes dark on": moved.ends or "no end known",
        "days left when it was moved": "–" if moved.days_left is None else str(moved.days_left),
        "win rate, new against old": f"{against.win_rate.point:.0%}" if against else "–",
        "facts right, new": f"{facts[NEW]:.0%}" if NEW in facts else "–",
    }


def _fact_shares(moved: Moved) -> dict[str, float]:
    return moved.verdict.evaluation.fact_recall if moved.verdict else {}


def _findings(moved: Moved) -> list[tuple[str, str, str]]:
    """(good, look or bad; ""; a sentence), as `page.checks` takes them."""
    found = []
    if moved.verdict:
        recorded = moved.verdict.evaluation.recorded.get(OLD)
        if moved.against_old is None:
            found.append(("bad", "", "The new model was never compared with the old one."))
        elif recorded:
            said = f"The old model's answers were recorded on {recorded}; it was not asked anew."
            found.append(("look", "", said))
        else:
            found.append(("good", "", "Both models were asked the same tickets."))
        found += _doubts(moved.against_old)
        verdict = moved.verdict.decision.verdict
        level = {"promote": "good", "reject": "bad"}.get(verdict, "look")
        reasons = "; ".join(moved.verdict.decision.reasons)
        found.append((level, "", f"The gate says {verdict}: {reasons}."))
    if moved.ends_from:
        found.append(("look", "", f"The old model's end: {moved.ends}, {moved.ends_from}."))
    return found


def _doubts(against: Comparison | None) -> list[tuple[str, str, str]]:
    """What makes the comparison with the old model less sure than its win rate looks."""
    if against is None:
        return []
    found = []
    if against.unscored:
        found.append(("look", "", f"{against.unscored} tickets could not be scored."))
    if against.win_rate.low < 0.5:
        said = (
            f"On so few tickets the new model may be worse than the old one: its win rate may be "
            f"as low as {against.win_rate.low:.0%}."
        )
        found.append(("look", "", said))
    return found


def _models(moved: Moved) -> Table:
    """A row for each property, so that the table fits a telephone too."""
    models = [moved.old, *([moved.new] if moved.new else [])]
    rows: list[tuple[str, ...]] = [
        ("version", *(m.version for m in models)),
        ("base model", *(m.model for m in models)),
        ("provider", *(m.backend for m in models)),
        ("answers as", *(m.model_id for m in models)),
        ("made on", *(_day(m.made_at) for m in models)),
        ("cost by list prices", *(_usd(m) for m in models)),
    ]
    return Table(("", "old", "new")[: 1 + len(models)], rows)


def _usd(trained: Trained) -> str:
    return "not known" if trained.usd is None else f"${trained.usd:,.2f}"


def _rates(moved: Moved, gate: Gate) -> Markup:
    if moved.verdict is None:
        return Markup("<p>not judged yet</p>")
    names = {OLD: "against the old model", "base": "against its own base"}
    if moved.against_old is None:
        names.pop(OLD)
    rates = [
        (names[name], c.win_rate.point, c.win_rate.low, c.win_rate.high)
        for name, c in sorted(moved.verdict.evaluation.comparisons.items(), reverse=True)
        if name in names
    ]
    marks = {"asked for against the old": gate.against_champion}
    return interval(rates, marks)


def _facts(moved: Moved) -> Table | str:
    shares = _fact_shares(moved)
    if not shares or moved.verdict is None:
        return "No ticket was judged whose reference has facts."
    names = {OLD: "old", NEW: "new", "base": "base of the new"}
    rows = [(names[arm], f"{shares[arm]:.0%}") for arm in names if arm in shares]
    count = moved.verdict.evaluation.samples_with_facts
    return Table((f"on {count} tickets", "facts of the reference stated"), rows)


def _pairs(moved: Moved, samples: Sequence[Sample]) -> Markup:
    order = {Outcome.LOSS: 0, Outcome.UNSCORED: 1, Outcome.TIE: 2, Outcome.WIN: 3}
    against = [s for s in samples if OLD in s.judged] if moved.against_old else []
    chosen = sorted(against, key=lambda s: order[s.judged[OLD].outcome])[:SHOWN_PAIRS]
    if not chosen:
        return Markup("<p>none</p>")
    return side_by_side((_heading(s.judged[OLD], s), _texts(s)) for s in chosen)


def _heading(judged: Judged, sample: Sample) -> str:
    said = {
        Outcome.LOSS: "the old one is better",
        Outcome.WIN: "the new one is better",
        Outcome.TIE: "neither is better",
        Outcome.UNSCORED: "unscored",
    }
    return f"{said[judged.outcome]}: {sample.question}"


def _texts(sample: Sample) -> dict[str, str]:
    day = sample.recorded.get(OLD)
    old = f"old, recorded on {day}" if day else "old"
    return {
        old: sample.answers[OLD],
        "new": sample.answers[NEW],
        "reference": sample.reference,
    }
