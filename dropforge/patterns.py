"""Regular expressions that people put into their projects: searched in time linear in the text.

By the Rust crate `regex`, which pydantic brings along: whatever somebody writes, no answer of a
model can make it run for hours. It knows no look-around and no back-references.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError


def check_pattern(pattern: str) -> None:
    """Raises ValueError for what is no such expression."""
    try:
        _compiled(pattern)
    except SchemaError as error:
        raise ValueError(
            "is no regular expression that can be searched in a time that grows with the answer"
            " alone (no look-around, no back-references)"
        ) from error


def occurs(pattern: str, text: str) -> bool:
    """Whether the expression is found anywhere in a text. Raises ValueError as `check_pattern`."""
    try:
        _compiled(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


def is_whole(pattern: str, text: str) -> bool:
    """Whether the expression is all of a text; `.` stands for a line's end too."""
    return occurs(rf"(?s)\A(?:{pattern})\z", text)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
