"""Shapes of rows: what a JSON object, a Parquet row or a table's row says, whatever wrote it.

A shape is a module with `may_be(keys, names)`, which looks at a row's keys only, and
`read(fields, names)`, which gives what it found, or None where the values are not its own. Of the
shapes that may be, the first that finds something counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from dropforge.export.mapping import (
    OTHER_NAMES,
    Fields,
    Names,
    canonical,
    canonical_keys,
    named,
)
from dropforge.export.rows import Conversation, UnknownShapeError
from dropforge.export.shapes import (
    chat,
    freshdesk,
    hubspot,
    intercom,
    pairs,
    transcript,
    zendesk,
)
from dropforge.export.shapes.found import (
    Found,
    Said,
    first_label,
    identity,
    person,
    with_subject,
)

__all__ = ["Said", "Shapes", "told_by"]


class _Shape(Protocol):
    def may_be(self, keys: frozenset[str], names: Names, /) -> bool: ...
    def read(self, fields: Fields, names: Names, /) -> Found | Said | None: ...


_CHOSEN_TURNS: _Shape = chat
_CHOSEN_ROWS: _Shape = transcript
_CHOSEN_PAIRS: _Shape = pairs
_USUAL: tuple[_Shape, ...] = (zendesk, intercom, freshdesk, hubspot, chat, transcript, pairs)
_MOST_LAYOUTS = 256


class _Layout(NamedTuple):
    """What rows with the same keys have in common."""

    keys: tuple[str, ...]
    shapes: tuple[_Shape, ...]
    names: Names
    others: tuple[str, ...]


def told_by(keys: Iterable[str], names: Names) -> tuple[_Shape, ...]:
    """The shapes that rows with these canonical names may have."""
    known = frozenset(keys)
    if "turns" in names.chosen:
        order: tuple[_Shape, ...] = (_CHOSEN_TURNS,)
    elif "role" in names.chosen and "text" in names.chosen:
        order = (_CHOSEN_ROWS,)
    elif "question" in names.chosen or "answer" in names.chosen:
        order = (_CHOSEN_PAIRS,)
    else:
        order = _USUAL
    return tuple(shape for shape in order if shape.may_be(known, names))


class Shapes:
    """Reads rows as objects, and remembers the layouts it has met."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def read(self, value: Any, position: int) -> Conversation | Said:
        """What the object says.

        Raises:
            UnknownShapeError: it is no object, or no conversation.
        """
        if type(value) is not dict:
            raise UnknownShapeError("not an object")
        layout = self._layout(tuple(value))
        fields = canonical_keys(value)
        names = layout.names
        for shape in layout.shapes:
            found = shape.read(fields, names)
            if found is not None:
                if isinstance(found, Said):
                    about = _completed(found.about, fields, layout)
                    return Said(found.conversation, found.turn, found.when, about, position)
                return conversation(_completed(found, fields, layout), position)
        if len(fields) == 1:  # {"ticket": {...}}
            (inner,) = value.values()
            if isinstance(inner, dict):
                return self.read(inner, position)
        known = named(sorted(layout.keys)[:8])
        raise UnknownShapeError(f"no messages, turns or question and answer, but: {known}")

    def _layout(self, keys: tuple[str, ...]) -> _Layout:
        layout = self._layouts.get(keys)
        if layout is None:
            ours = tuple(canonical(key) for key in keys)
            layout = _Layout(
                keys=ours,
                shapes=told_by(ours, self._names),
                names=self._names.among(ours),
                others=tuple(name for name in OTHER_NAMES if name in ours),
            )
            if len(self._layouts) < _MOST_LAYOUTS and sum(map(len, keys)) < 10_000:
                self._layouts[keys] = layout
        return layout


def conversation(found: Found, position: int) -> Conversation:
    """What was found, as the row of this position."""
    turns = tuple(found.turns)
    return Conversation(
        position=position,
        turns=with_subject(found.subject, turns) if found.subject else turns,
        id=found.id,
        customer=found.customer,
        names=tuple(dict.fromkeys(name for name in found.people if name)),
        language=found.language,
        topic=found.topic,
    )


def _completed(found: Found, fields: Fields, layout: _Layout) -> Found:
    """What the shape did not state, looked up under the usual names."""
    names = layout.names
    people = [person(names.value(fields, "customer_name")), *found.people]
    people += [person(fields[name]) for name in layout.others]
    return Found(
        found.turns,
        id=found.id or names.text(fields, "id"),
        customer=found.customer or identity(names.value(fields, "customer")),
        people=tuple(people),
        subject=found.subject,
        language=found.language or names.text(fields, "language"),
        topic=found.topic or first_label(names.value(fields, "topic")),
    )
