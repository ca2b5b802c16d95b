"""One JSON text -> what it says: decoding, the faults JSON can have, and a fast way for chats."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from dropforge.export.mapping import Names
from dropforge.export.rows import (
    MAX_LINE,
    Conversation,
    Reason,
    Rejected,
    Row,
    Turn,
    UnknownShapeError,
)
from dropforge.export.shapes import Said, Shapes

_SPACED = (b'" ', b'"\t', b'"\r', b'"\n')
_GAP = re.compile(rb'"[ \t\r\n]+:')


def keys_apart(data: bytes) -> bool:
    """Whether white space stands between a key and its colon somewhere, as few programs write."""
    return any(mark in data for mark in _SPACED) and bool(_GAP.search(data))


class Objects:
    """Reads JSON texts one by one.

    Whoever wrote them himself can spare the look for keys that are there twice (`no_key_twice`).

    Rows that are nothing but a list of turns, the commonest shape of all, are decoded straight
    into structs; whatever does not fit exactly goes the general way, which decides.
    """

    def __init__(self, names: Names, *, no_key_twice: bool = False) -> None:
        self._shapes = Shapes(names)
        self._no_key_twice = no_key_twice
        self._fast = None if names.chosen else _FastChat(names)

    def row(self, text: bytes, position: int, offset: int | None, *, apart: bool) -> Row | Said:
        """What the text says; `apart` is what `keys_apart` says of it or of more around it."""
        if self._fast and not apart:
            turns = self._fast.read(text)
            if turns is not None:
                return Conversation(position, turns[1], turns[0])
        if len(text) > MAX_LINE:
            return Rejected(position, Reason.TOO_LONG, f"{len(text)} bytes", offset)
        try:
            value = msgspec.json.decode(text) if self._no_key_twice else decode(text, apart=apart)
            return self._shapes.read(value, position)
        except UnicodeDecodeError:
            return Rejected(position, Reason.ENCODING, "bytes that are not UTF-8", offset)
        except (ValueError, RecursionError) as error:
            detail = f"not valid JSON: {error}"
            return Rejected(position, Reason.BROKEN_ROW, detail, offset)
        except UnknownShapeError as error:
            return Rejected(position, Reason.UNKNOWN_SHAPE, str(error), offset)


def decode(text: bytes, *, apart: bool = True) -> Any:
    """The JSON value.

    Raises:
        ValueError: it is not valid JSON (UnicodeDecodeError: not UTF-8), or an object in it says
            two things under one key.
        RecursionError: it is nested too deeply.
    """
    text.decode("utf-8")
    value = msgspec.json.decode(text)
    # msgspec takes the last of two equal keys without a word. Every key has its quote and colon,
    # so as many of those as keys means that none is double; text that holds some, look closer.
    if text.count(b'":') != _keys(value) or (apart and keys_apart(text)):
        json.loads(text, object_pairs_hook=_without_contradiction)
    return value


def _keys(value: Any) -> int:
    count, open_values = 0, [value]
    while open_values:
        inner = open_values.pop()
        if type(inner) is dict:
            count += len(inner)
            open_values.extend(v for v in inner.values() if type(v) is dict or type(v) is list)
        elif type(inner) is list:
            open_values.extend(v for v in inner if type(v) is dict or type(v) is list)
    return count


def _without_contradiction(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise ValueError("an object has one key twice, with different values")
    return found


class _ContentTurn(msgspec.Struct, gc=False):
    role: str
    content: str


class _ShareGptTurn(msgspec.Struct, gc=False):
    role: str = msgspec.field(name="from")
    content: str = msgspec.field(name="value")


class _Messages(msgspec.Struct, forbid_unknown_fields=True):
    messages: list[_ContentTurn]
    id: str = ""


class _Turns(msgspec.Struct, forbid_unknown_fields=True):
    turns: list[_ContentTurn]
    id: str = ""


class _Conversations(msgspec.Struct, forbid_unknown_fields=True):
    turns: list[_ShareGptTurn] = msgspec.field(name="conversations")
    id: str = ""


class _FastChat:
    """Rows of only `id` and a list of turns with known roles; anything else is left alone."""

    def __init__(self, names: Names) -> None:
        sides = names.sides
        self._sides = {**sides, **{word.capitalize(): side for word, side in sides.items()}}
        self._decoders: list[msgspec.json.Decoder[Any]] = [
            msgspec.json.Decoder(kind) for kind in (_Messages, _Turns, _Conversations)
        ]
        self._misses = 0

    def read(self, text: bytes) -> tuple[str, tuple[Turn, ...]] | None:
        """The id and the turns; None if the text has to be read the general way."""
        if self._misses > 50:
            return None
        try:
            row = self._decoders[0].decode(text)
        except (ValueError, RecursionError):
            self._misses += 1
            self._decoders.append(self._decoders.pop(0))  # a file mostly keeps to one shape
            return None
        self._misses = 0
        said = row.messages if type(row) is _Messages else row.turns
        # Exactly the keys of the structs, so none can be there twice.
        if text.count(b'":') != 2 * len(said) + 1 + bool(row.id) or len(text) > MAX_LINE:
            return None
        sides, turns = self._sides, []
        for turn in said:
            side = sides.get(turn.role)
            if side is not None:
                turns.append(Turn(side, turn.content))
            elif turn.role not in sides:
                return None
        return row.id.strip(), tuple(turns)
