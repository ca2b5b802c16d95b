"""The data stages against their peers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import deduplicate, redact, stage, validate
from benchmarks.figures import Figure


def figures() -> Iterator[Figure]:
    """Every figure of the data stages; takes about six minutes."""
    for part in (deduplicate, redact, validate, stage):
        yield from part.figures()
