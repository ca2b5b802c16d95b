"""Reads `{"a": mark, "b": mark, "rationale": …}`."""

from __future__ import annotations

from typing import Literal

import msgspec

from dropforge.judges.opinion import Opinion, find_json

LOWEST, HIGHEST = 1, 10


class Grades(msgspec.Struct, frozen=True):
    """The marks of both answers."""

    a: float
    b: float
    rationale: str = ""


def parse(text: str) -> Opinion | None:
    """The opinion that the marks make, or None where they cannot be read or are out of range.

    Confidence is 0.5 for equal marks and grows by the difference's share of the scale: it says how
    far apart the answers are, which is all that marks tell.
    """
    grades = find_json(text, Grades)
    if grades is None or not all(LOWEST <= mark <= HIGHEST for mark in (grades.a, grades.b)):
        return None
    apart = abs(grades.a - grades.b) / (HIGHEST - LOWEST)
    winner: Literal["A", "B", "tie"] = (
        "tie" if grades.a == grades.b else "A" if grades.a > grades.b else "B"
    )
    return Opinion(winner, 0.5 + apart / 2, grades.rationale)
