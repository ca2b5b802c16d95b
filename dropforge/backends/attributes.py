"""Plain Python values as DynamoDB attribute values, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

Item = dict[str, Any]


def to_attribute(value: object) -> Item:
    """A DynamoDB attribute value: None, bool, int, float, str, bytes, list, dict, set of str.

    Raises:
        TypeError: for any other type, and for what DynamoDB has no number for (NaN, infinity).
    """
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int():
            return {"N": str(value)}
        case float() if value - value == 0:
            return {"N": repr(value)}
        case bytes():
            return {"B": base64.b64encode(value).decode()}
        case list() | tuple():
            return {"L": [to_attribute(entry) for entry in value]}
        case dict():
            return {"M": to_item(value)}
        case set() | frozenset() if value and all(isinstance(entry, str) for entry in value):
            return {"SS": sorted(value)}
    raise TypeError(f"DynamoDB has no type for {type(value).__name__} {value!r}")


def from_attribute(attribute: Item) -> Any:
    """The plain value. A number without a fraction or exponent is an int, any other a float."""
    ((kind, value),) = attribute.items()
    match kind:
        case "N":
            return _number(value)
        case "NULL":
            return None
        case "L":
            return [from_attribute(entry) for entry in value]
        case "M":
            return from_item(value)
        case "B":
            return base64.b64decode(value)
        case "SS":
            return set(value)
        case "NS":
            return {_number(entry) for entry in value}
        case "BS":
            return {base64.b64decode(entry) for entry in value}
    return value


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def to_item(values: Mapping[str, object]) -> Item:
    return {name: to_attribute(value) for name, value in values.items()}


def from_item(attributes: Mapping[str, Item]) -> Item:
    return {name: from_attribute(attribute) for name, attribute in attributes.items()}
