"""Cleaning in one call: all rows at once, for small inputs."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

from dropforge.chat import ChatExample
from dropforge.clean import Cleaning, Summary
from dropforge.clean.prepare import Rules
from dropforge.export import Rejected, Row, read


class Cleaned(NamedTuple):
    """What became of every row."""

    examples: list[ChatExample]
    rejected: list[Rejected]
    summary: Summary

    @property
    def read(self) -> int:
        return self.summary.read

    @property
    def redacted_rows(self) -> dict[str, int]:
        return self.summary.redacted_rows

    @property
    def repaired(self) -> dict[str, int]:
        return self.summary.repaired

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        return self.summary.rejected


def clean(rows: Iterable[Row], **rules: Any) -> Cleaned:
    """Clean rows by rules; raises as `Cleaning.summary` does."""
    cleaning = Cleaning(Rules(**rules))
    batches = list(cleaning.batches(rows))
    return Cleaned(
        [row for batch in batches for row in batch.kept],
        [row for batch in batches for row in batch.rejected],
        cleaning.summary(),
    )


def clean_file(data: bytes | str, **rules: Any) -> Cleaned:
    """Read a file's bytes and clean its rows."""
    return clean(read(io.BytesIO(data if isinstance(data, bytes) else data.encode())), **rules)
