"""A question and an answer in one row: support tables, prompt/completion, Alpaca.

HubSpot's CSV export of tickets is one (Ticket name, Ticket description, Resolution).
"""

from __future__ import annotations

from dropforge.export.mapping import WHOLE_QUESTIONS, Fields, Names, plain
from dropforge.export.rows import Turn
from dropforge.export.shapes.found import Found


def may_be(keys: frozenset[str], names: Names) -> bool:
    return names.has(keys, "answer") or names.has(keys, "question")


def read(fields: Fields, names: Names) -> Found | None:
    question, answer = names.text(fields, "question"), names.text(fields, "answer")
    if not question and not names.has(fields, "answer"):
        return None
    subject = names.text(fields, "subject")
    if subject and any(plain(fields.get(name)) == question for name in WHOLE_QUESTIONS):
        subject = ""
    more = plain(fields.get("input"))
    if more and question == plain(fields.get("instruction")):  # Alpaca: what to do, and to what
        question = f"{question}\n\n{more}"
    turns = (Turn("user", question), Turn("assistant", answer))
    return Found(tuple(turn for turn in turns if turn.text), subject=subject)
