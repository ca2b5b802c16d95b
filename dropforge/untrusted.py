"""JSON that somebody else wrote: whatever is wrong with it is one error.

msgspec raises its own errors, UnicodeDecodeError for bytes that are no UTF-8, and RecursionError
for what is nested too deep. The chat path reads this: it imports nothing but msgspec.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from dropforge.errors import DropforgeError

ReadT = TypeVar("ReadT")


class UnreadableError(DropforgeError):
    """No JSON, no UTF-8, nested too deep, or of another kind. Quotes nothing of the text."""

    code = "UNREADABLE"


def read_json(body: bytes | str, kind: type[ReadT]) -> ReadT:
    """The value of a JSON text.

    Args:
        kind: what it has to be, as msgspec checks it.

    Raises:
        UnreadableError: it cannot be read, or is something else.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise UnreadableError(f"What came cannot be read ({type(error).__name__}).") from None
