"""Small exports with known content."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from dropforge.chat import ChatExample, Message

_THINGS = ("lamp", "pump", "shelf", "timer", "tray", "cable", "filter", "frame", "bulb", "panel")
_PLACES = ("kitchen", "garage", "attic", "garden", "office", "cellar", "porch", "studio", "hall")
_ILLS = ("is broken", "makes a noise", "arrived late", "has no manual", "smells odd", "is too hot")


def ticket(number: int) -> tuple[str, str]:
    """(question, answer) number so and so; no two of them are alike."""
    thing, place = _THINGS[number % 10], _PLACES[number // 10 % 9]
    ill = _ILLS[number // 90 % 6]
    code = f"{thing[:2].upper()}-{100 + number}"
    question = f"The {thing} in my {place} {ill}, what spare part do I order for case {number}?"
    answer = f"Please order part {code} for the {thing}; it costs €{10 + number}.50 and fits."
    return question, answer


def table(rows: Iterable[Iterable[str]], header: str = "id,question,answer") -> str:
    """CSV text."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(list, rows))
    return f"{header}\n{out.getvalue()}"


def tickets_csv(count: int) -> str:
    """An export of so many good tickets."""
    return table((f"T-{i}", *ticket(i)) for i in range(count))


def tickets_jsonl(count: int) -> str:
    return "".join(
        json.dumps({"question": question, "answer": answer}) + "\n"
        for question, answer in map(ticket, range(count))
    )


def example(number: int = 0, group: str = "", answer: str = "") -> ChatExample:
    question, usual = ticket(number)
    messages = (Message("user", question), Message("assistant", answer or usual))
    return ChatExample(f"id-{number:05d}", group or f"customer-{number}", number + 1, messages)
