"""A judge's opinion about one ordered pair, and how JSON is found in what a judge says."""

from __future__ import annotations

import re
from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")
MAX_ANSWER = 20_000
"""Characters of a judge's answer that are read: a longer one has gone astray."""


class Opinion(msgspec.Struct, frozen=True):
    """A judge's answer about one ordered pair."""

    winner: Literal["A", "B", "tie"]
    confidence: float
    rationale: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the confidence is one: in range, and a number at all."""
        return 0 <= self.confidence <= 1


def find_json(text: str, kind: type[T]) -> T | None:
    """The one JSON object in a text, in or out of a code fence; None where it is no `kind`.

    Raises nothing, whatever the text.
    """
    found = re.search(r"\{.*\}", text[:MAX_ANSWER], re.DOTALL)
    if not found:
        return None
    try:
        return msgspec.json.decode(found[0], type=kind, strict=False)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeEncodeError are ValueErrors
        return None
