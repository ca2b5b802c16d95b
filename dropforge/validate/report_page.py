"""The data report as a page."""

from __future__ import annotations

from collections.abc import Iterable

from dropforge.artifacts import Estimate
from dropforge.page import (
    Block,
    Markup,
    Table,
    bars,
    checks,
    columns,
    page,
    quotes,
    share_bar,
    tiles,
)
from dropforge.validate.report import DataReport, Histogram
from dropforge.validate.split import SPLITS

_SHOWN = 12
_LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
    "und": "too short to tell",
}


def render(report: DataReport) -> str:
    """One self-contained HTML page."""
    dropped = report.read - report.kept
    lead = (
        f"{report.kept:,} of {report.read:,} rows kept, {dropped:,} dropped; "
        f"{report.examples['train']:,} to train on, {report.examples['test']:,} held out to judge."
    )
    return page(
        f"Data report: {report.project}",
        lead,
        [*_came_in(report), *_dropped(report), *_looks_like(report), *_training(report)],
        footer=f"dataset {report.dataset}",
    )


def _came_in(report: DataReport) -> Iterable[tuple[str, Block]]:
    own = report.estimates[0] if report.estimates else None
    yield (
        "At a glance",
        tiles(
            {
                "rows kept": f"{report.kept / report.read:.0%}" if report.read else "–",
                "to train on": f"{report.examples['train']:,}",
                "tokens an epoch": f"{report.tokens['train']:,}",
                "training would cost": _usd(own) if own else "–",
            }
        ),
    )
    marks = [(f.level, f.question, f.answer) for f in report.readiness]
    yield "Ready to train on?", checks(marks)
    if report.warnings:
        yield "Warnings", checks([("look", "", warning) for warning in report.warnings])
    fate = {"kept": report.kept, **report.rejected}
    yield "What became of the rows", share_bar(fate)
    yield (
        "What came in",
        Table(
            ("file", "format", "rows", "kept", "dropped"),
            [(f.name, f.format, f.read, f.kept, f.read - f.kept) for f in report.files],
        ),
    )


def _dropped(report: DataReport) -> Iterable[tuple[str, Block]]:
    yield "What was dropped, by rule", bars(report.rejected)
    for reason, excerpts in report.excerpts.items():
        yield (
            f"Dropped as “{reason}”: examples",
            quotes((f"row {e.position}", e.text) for e in excerpts),
        )
    yield "Duplicate clusters (rows dropped in each)", columns(_clusters(report.cluster_sizes))
    if report.clusters:
        yield (
            "The largest clusters",
            quotes((f"row {c.position}, {_times(c.repeats)}", c.text) for c in report.clusters),
        )


def _times(repeats: int) -> str:
    return "repeated once" if repeats == 1 else f"repeated {repeats:,} times"


def _clusters(sizes: dict[int, int]) -> dict[str, int]:
    """How many clusters have 1, 2, 3–4, 5–9, 10–99, 100 and more repeats."""
    edges = ((1, 1), (2, 2), (3, 4), (5, 9), (10, 99), (100, 10**12))
    names = ("1", "2", "3–4", "5–9", "10–99", "100+")
    counts = (sum(n for size, n in sizes.items() if low <= size <= high) for low, high in edges)
    return dict(zip(names, counts, strict=True)) if sizes else {}


def _looks_like(report: DataReport) -> Iterable[tuple[str, Block]]:
    yield "Personal data and secrets replaced (rows)", bars(report.redacted_rows)
    yield "Repairs (rows)", bars(report.repaired)
    yield "Length of training conversations (tokens)", _lengths(report.token_lengths)
    yield "Length of answers (characters)", _lengths(report.answer_lengths)
    yield "Messages in a conversation", columns(report.turns)
    yield "Languages (rows kept)", bars(_first(_language_names(report.languages)))
    found = "Topics, guessed from words" if report.topics_found else "Topics (rows kept)"
    yield found, bars(_first(report.topics))


def _lengths(histogram: Histogram) -> Block:
    if not histogram.counts:
        return "none"
    last = len(histogram.counts) - 1
    named = {
        f"{i * histogram.width:,}{'+' if i == last else ''}": n
        for i, n in enumerate(histogram.counts)
    }
    note = f"<p>median {histogram.median:,}, longest {histogram.longest:,}</p>"
    return Markup(columns(named) + note)


def _language_names(counts: dict[str, int]) -> dict[str, int]:
    return {_LANGUAGES.get(code, code): n for code, n in counts.items()}


def _first(counts: dict[str, int]) -> dict[str, int]:
    shown = dict(list(counts.items())[:_SHOWN])
    rest = sum(counts.values()) - sum(shown.values())
    return {**shown, f"{len(counts) - len(shown)} others": rest} if rest else shown


def _training(report: DataReport) -> Iterable[tuple[str, Block]]:
    yield (
        "The split",
        Table(
            ("split", "examples", "tokens (o200k, chat template included)"),
            [(split, report.examples[split], report.tokens[split]) for split in SPLITS],
        ),
    )
    if report.left_out:
        yield "Clean rows that stand in no split", bars(report.left_out)
    rows = [
        (e.provider, e.model, f"{'' if e.exact else '≈ '}{e.tokens:,}", _usd(e), _how(e))
        for e in report.estimates
    ]
    yield (
        f"What training would cost (list prices of {report.priced}, all epochs)",
        Table(("with", "model", "tokens", "US$", ""), rows),
    )


def _usd(estimate: Estimate) -> str:
    if estimate.usd is None:
        return "price unknown"
    return f"${estimate.usd:,.2f}"


def _how(estimate: Estimate) -> str:
    if estimate.hours is None:
        return estimate.note
    return f"{estimate.hours:.1f} h on {estimate.note}, on demand"
