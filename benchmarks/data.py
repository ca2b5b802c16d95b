"""The data stages against their peers: what `make bench` writes about near-duplicates, redaction,
validation and the whole clean stage."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import deduplicate, redact, stage, validate
from benchmarks.figures import Figure


def figures() -> Iterator[Figure]:
    """Every figure of the data stages; takes about six minutes."""
    yield from near_duplicates()
    yield from redaction()
    yield from validate.figures()
    yield from stage.figures()


def near_duplicates() -> Iterator[Figure]:
    """Dropforge, rensa and Daft on the same rows, and Dropforge on ten times as many."""
    ours, rensa, daft, million = deduplicate.figures()
    for one in (ours, million, rensa, daft):
        own = one.name == "Dropforge"
        yield Figure(
            f"near-duplicates, {one.rows:,} rows of 100 words, 12 % planted: {one.name}",
            f"{one.rows_per_cpu_second:,.0f} rows/CPU-s, recall {one.recall:.4f}, precision "
            f"{one.precision:.4f}, {one.peak_bytes_a_row:,.0f} bytes a row beyond the text",
            "160,000 rows/CPU-s; .99; .99; 1.2 KB at 1M" if own else "–",
            one.rows_per_cpu_second >= 160_000
            and min(one.recall, one.precision) >= 0.99
            and (one is ours or one.peak_bytes_a_row <= 1200)
            if own
            else None,
        )
    for peer, asked in ((rensa, 3.0), (daft, 1.4)):
        ratio = ours.rows_per_cpu_second / peer.rows_per_cpu_second
        yield Figure(
            f"near-duplicates: Dropforge / {peer.name}",
            f"{ratio:.1f}×",
            f"at least {asked:g}×",
            ratio >= asked,
        )


def redaction() -> Iterator[Figure]:
    """Our rules, scrubadub and Presidio on the same rows."""
    ours, *peers = redact.figures()
    asked = {"scrubadub 2.0": 3.0, "Presidio + spaCy": 100.0}
    for one in (ours, *peers):
        recall = ", ".join(f"{kind} {share:.2f}" for kind, share in one.recall.items())
        own = one is ours
        yield Figure(
            f"redaction: {one.tool}",
            f"{one.rows_per_second:,.0f} rows/CPU-s; recall {recall}; "
            f"{one.changed:.1%} of the clean rows changed",
            "recall .98 of each kind; under 0.5 %" if own else "–",
            min(one.recall.values()) >= 0.98 and one.changed < 0.005 if own else None,
        )
    for peer in peers:
        ratio = ours.rows_per_second / peer.rows_per_second
        least = asked.get(peer.tool)
        yield Figure(
            f"redaction: Dropforge / {peer.tool}",
            f"{ratio:.1f}×",
            f"at least {least:g}×" if least else "–",
            ratio >= least if least else None,
        )
