"""Lists of turns: OpenAI chat (`messages`), ShareGPT (`conversations`), and their like.

A turn has a role (role, from, author, sender, direction, …) and a text (content, value, text, …).
What the system, a tool or a developer says is left out, and so are calls of tools and notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dropforge.export.mapping import Fields, Names
from dropforge.export.rows import Turn, UnknownShapeError
from dropforge.export.shapes.found import (
    Found,
    is_internal,
    objects,
    person,
    side_of,
    text_of,
)

LISTS = (
    *("messages", "turns", "conversations", "conversation", "dialogue", "dialog", "chat"),
    *("transcript", "thread", "threads", "history", "utterances", "events"),
)


def may_be(keys: frozenset[str], names: Names) -> bool:
    return "turns" in names.chosen or any(name in keys for name in LISTS)


def read(fields: Fields, names: Names) -> Found | None:
    listed = _listed(fields, names)
    if listed is None:
        return None
    said = objects(listed)
    people = [person(turn["author"]) for turn in said if "author" in turn]
    return Found(
        tuple(_turns(said, names)), people=tuple(people), subject=names.text(fields, "subject")
    )


def _listed(fields: Fields, names: Names) -> list[Any] | None:
    if "turns" in names.chosen:
        chosen = names.value(fields, "turns")
        return chosen if isinstance(chosen, list) else None
    return next((fields[name] for name in LISTS if isinstance(fields.get(name), list)), None)


def _turns(said: list[Fields], names: Names) -> Iterator[Turn]:
    for turn in said:
        if is_internal(turn):
            continue
        side = side_of(turn, names)
        if side is None:
            continue
        text = text_of(turn, names)
        if text is None and (turn.get("tool_calls") or turn.get("function_call")):
            continue
        if text is None:
            raise UnknownShapeError("a turn without text")
        yield Turn(side, text)
