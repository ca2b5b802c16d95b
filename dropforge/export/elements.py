"""Elements of a JSON file of any size, cut out one by one without decoding the file as a whole.

A row is an element of the array, or of the list that an object wraps (`{"tickets": [...]}`), or
one of several objects one behind the other. Only brackets and strings are looked at, so that what
is wrong inside an element is found when that one is decoded and costs no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from dropforge.errors import SchemaError
from dropforge.export.container import CHUNK, Read
from dropforge.export.rows import MAX_LINE
from dropforge.export.sniff import WRAPPERS

_RUN = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""Up to the next bracket, or to a string that does not end in the buffer."""
_STRING = rb'"(?:[^"\\]++|\\.)*+"'


def _balanced(depth: int) -> bytes:
    inner = rb"|[\[{]" + _balanced(depth - 1) + rb"[\]}]" if depth else b""
    return rb'(?:[^"{}\[\]]++|' + _STRING + inner + rb")*+"


_WHOLE = re.compile(rb"[\[{]" + _balanced(4) + rb"[\]}]", re.DOTALL)
"""An element that is all in the buffer and not nested deeper than most are: found in one go."""
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*+")
_SCALAR = re.compile(rb'[^",\[\]{}]++')
_KEY = re.compile(rb'"([^"\\]{1,40})"\s*:\s*\[$')
_KEY_REACH = 100
_TURN_KEYS = frozenset(("from", "incoming", "body_text", "private", "role"))


class Element(NamedTuple):
    """One element's bytes and its place; no data if it is over MAX_LINE, then `size` tells."""

    offset: int
    data: bytes
    size: int


def elements(read: Read, offset: int) -> Iterator[Element]:
    """The file's rows, as they stand.

    Raises:
        SchemaError: the brackets do not match, or something else than JSON stands between.
    """
    return _Scanner(read, offset).elements()


class _Scanner:
    """A window over the file: `_start` is where the current element begins, `_at` the next byte."""

    def __init__(self, read: Read, offset: int) -> None:
        self._read = read
        self._offset = offset
        self._buffer = b""
        self._start = 0
        self._at = 0
        self._dropped = 0
        self._rows = 0

    def elements(self) -> Iterator[Element]:
        while self._next_byte():
            opening = self._buffer[self._at : self._at + 1]
            if opening == b"[":
                self._at += 1
                yield from self._list()
            elif opening == b"{":
                wrapped = self._scan(find_list=True)
                if wrapped is not None:
                    yield self._counted(wrapped)
                    continue
                yield from self._list()
                self._scan(depth=1)
            else:
                raise self._invalid()

    def _list(self) -> Iterator[Element]:
        while self._next_byte():
            if self._buffer[self._at : self._at + 1] == b"]":
                self._at += 1
                return
            element = self._scan()
            assert element is not None  # noqa: S101
            yield self._counted(element)
        raise self._unclosed()

    def _counted(self, element: Element) -> Element:
        self._rows += 1
        return element

    def _next_byte(self) -> bool:
        """Skips what stands between elements; False at the end of the file."""
        while True:
            match = _BETWEEN.match(self._buffer, self._at)
            assert match  # noqa: S101
            self._start = self._at = match.end()
            if self._at < len(self._buffer):
                return True
            if not self._more():
                return False

    def _more(self) -> bool:
        """Reads on; forgets what is behind `_start`, and most of an element that is too long."""
        if self._at - self._start > MAX_LINE:
            keep = max(self._at - _KEY_REACH, self._start)
            self._dropped += keep - self._start
            self._start = keep
        chunk = self._read(CHUNK)
        self._offset += self._start
        self._buffer = self._buffer[self._start :] + chunk
        self._at -= self._start
        self._start = 0
        return bool(chunk)

    def _scan(self, depth: int = 0, *, find_list: bool = False) -> Element | None:
        """Moves behind the element that begins here, or to the list that an object wraps (None)."""
        self._start, self._dropped = self._at, 0
        first = self._buffer[self._at : self._at + 1]
        if not depth and first not in (b"{", b"[", b'"'):
            return self._scalar()
        if not depth and not find_list and (whole := _WHOLE.match(self._buffer, self._at)):
            self._at = whole.end()
            return self._taken()
        in_string = not depth and first == b'"'
        self._at += in_string
        while True:
            pattern = _IN_STRING if in_string else _RUN
            match = pattern.match(self._buffer, self._at)
            assert match  # noqa: S101
            self._at = match.end()
            mark = self._buffer[self._at : self._at + 1]
            if mark in (b"", b"\\"):
                if not self._more():
                    raise self._unclosed()
                continue
            self._at += 1
            if mark == b'"':
                in_string = not in_string
            else:
                depth += 1 if mark in b"{[" else -1
                if find_list and depth == 2 and mark == b"[" and self._wraps_rows():
                    return None
            if depth <= 0 and not in_string:
                return self._taken()

    def _scalar(self) -> Element:
        while True:
            match = _SCALAR.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer) or not self._more():
                break
        if self._at == self._start:
            raise self._invalid()
        return self._taken()

    def _taken(self) -> Element:
        size = self._dropped + self._at - self._start
        offset = self._offset + self._start - self._dropped
        if size > MAX_LINE:
            return Element(offset, b"", size)
        return Element(offset, self._buffer[self._start : self._at], size)

    def _wraps_rows(self) -> bool:
        """Whether the list that opens here holds the file's rows, and not one ticket's turns."""
        key = _KEY.search(self._buffer[max(0, self._at - _KEY_REACH) : self._at])
        if not key or key[1].decode("ascii", "replace").lower() not in WRAPPERS:
            return False
        while len(self._buffer) - self._at < MAX_LINE and self._more():
            pass
        parts = iter((self._buffer[self._at : self._at + MAX_LINE],))
        try:
            first = next(_Scanner(lambda _: next(parts, b""), 0)._list(), None)
            value = msgspec.json.decode(first.data) if first else None
        except (SchemaError, ValueError, RecursionError):
            return key[1].lower() != b"conversations"
        if key[1].lower() in (b"conversations", b"threads"):
            return isinstance(value, dict) and not _TURN_KEYS & value.keys()
        return isinstance(value, dict)

    def _unclosed(self) -> SchemaError:
        return SchemaError(
            f"The file is not valid JSON: it ends in the middle, after row {self._rows}.",
            hint="Export it again, and check that the upload was complete.",
        )

    def _invalid(self) -> SchemaError:
        return SchemaError(
            f"The file is not valid JSON: something else stands after row {self._rows}.",
            hint="Drop one object a line (.jsonl), or repair the file.",
        )
