"""Reads the JSON behind the last `VERDICT:`; what was said on the way there does not count."""

from __future__ import annotations

from dropforge.judges.opinion import Opinion, find_json

MARK = "VERDICT:"


def parse(text: str) -> Opinion | None:
    """The opinion, or None where it cannot be read.

    An answer of JSON alone, without the mark, counts too: some models answer so whatever they are
    asked.
    """
    _, mark, verdict = text.rpartition(MARK)
    bare = text.strip().startswith("{")
    opinion = find_json(verdict, Opinion) if mark or bare else None
    return opinion if opinion is not None and opinion.is_valid else None
