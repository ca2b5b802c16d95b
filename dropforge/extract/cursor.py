"""Where an extraction begins and ends: a value of the cursor column."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from dropforge.errors import ProjectError
from dropforge.extract.values import in_utc

_MAX_CURSOR = 1000  # bytes as JSON: S3 keeps 2 KB of metadata beside an object
Kind = Literal["start", "integer", "decimal", "float", "timestamp", "date", "uuid", "text"]
_SORTED = ("integer", "decimal", "float", "timestamp", "date", "uuid")


class Cursor(msgspec.Struct, frozen=True):
    """Where an extraction begins or ends: a value of the cursor column, as text with its type.

    A person's `start` has no type: the database reads it as what it is compared with.
    """

    kind: Kind
    text: str

    @property
    def value(self) -> object:
        """The value that `:cursor` stands for."""
        parse: dict[Kind, Callable[[str], object]] = {
            "integer": int,
            "decimal": Decimal,
            "float": float,
            "timestamp": datetime.fromisoformat,
            "date": date.fromisoformat,
            "uuid": UUID,
        }
        return parse.get(self.kind, str)(self.text)


def cursor_of(value: object, column: str) -> Cursor:
    """A row's cursor value.

    Raises:
        ProjectError: it is NULL, too long, or of a type that has no order.
    """
    match value:
        case bool() | None:
            pass
        case int():
            return Cursor("integer", str(value))
        case Decimal() if value.is_finite():
            return Cursor("decimal", str(value))
        case float() if value - value == 0:
            return Cursor("float", repr(value))
        case datetime():
            return Cursor("timestamp", in_utc(value).isoformat())
        case date():
            return Cursor("date", value.isoformat())
        case UUID():
            return Cursor("uuid", str(value))
        case str() if len(json.dumps(value)) <= _MAX_CURSOR:
            return Cursor("text", value)
    found = "NULL" if value is None else f"a {type(value).__name__} that cannot be one"
    raise ProjectError(
        f"extract.cursor: the column {column} has {found}.",
        hint="Choose a column of numbers, times or short texts, and leave rows without one out: "
        f"`WHERE {column} IS NOT NULL`.",
    )


def reaches(one: Cursor, other: Cursor) -> bool:
    """Whether `one` is at or beyond `other`, as far as can be told: texts sort by the database."""
    if one.kind != other.kind or one.kind not in _SORTED:
        return one == other
    first: Any = one.value
    try:
        reached: bool = first >= other.value
    except TypeError:  # a time with a zone and one without
        return False
    return reached
