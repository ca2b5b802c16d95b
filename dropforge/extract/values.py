"""A database's values as JSON has them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

_INT64 = range(-(2**63), 2**64)


def in_utc(value: datetime) -> datetime:
    """A time with a zone in UTC, so that the session's zone decides nothing; another as it is."""
    return value if value.tzinfo is None else value.astimezone(UTC)


def plain(value: Any) -> Any:
    """A column's value as JSON has it: numbers exact, times in ISO 8601, bytes as text."""
    match value:
        case None | bool() | float() | str():
            return value
        case int():
            return value if value in _INT64 else str(value)
        case Decimal():
            return _number(value)
        case datetime():
            return in_utc(value).isoformat()
        case date() | time():
            return value.isoformat()
        case bytes() | memoryview() | bytearray():
            return _text(bytes(value))
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
    return str(value)


def _number(value: Decimal) -> int | str | None:
    """A whole number as one, so that ids look like ids; another as its digits, which are exact."""
    if not value.is_finite():
        return None
    whole = value == value.to_integral_value() and int(value) in _INT64
    return int(value) if whole and value.as_tuple().exponent == 0 else str(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()
