"""Reads `{"winner": …, "confidence": …, "rationale": …}`."""

from __future__ import annotations

from dropforge.judges.opinion import Opinion, find_json


def parse(text: str) -> Opinion | None:
    """The opinion, or None where it cannot be read: no JSON, no winner, out of range."""
    opinion = find_json(text, Opinion)
    return opinion if opinion is not None and opinion.is_valid else None
