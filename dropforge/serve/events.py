"""Server-sent events out of bytes that come in any pieces.

The rules: html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation. Ids
and retry times are left out: nobody reconnects to a model's answer. Pure, standard library only.
"""

from __future__ import annotations

from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event; its kind is `message` where the stream names none."""

    kind: bytes
    data: bytes


class EventParser:
    """Gives each event in the call that brings its last byte. What no blank line ends is none."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._kind = b""
        self._after_cr = False
        self._began = False

    def feed(self, part: bytes) -> list[Event]:
        """The events that are complete with this part."""
        lines = self._lines(part)
        found = []
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                found.append(Event(self._kind or b"message", b"\n".join(self._data)))
            self._data, self._kind = [], b""
        return found

    def _lines(self, part: bytes) -> list[bytes]:
        """The lines that are complete now; LF, CR and CRLF end one, a CR at once."""
        if self._after_cr and part:
            part = part.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in part:
            self._after_cr = part.endswith(b"\r")
            part = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = part.split(b"\n")
        if whole:
            whole[0] = b"".join([*self._line, whole[0]])
            self._line = []
            if not self._began:
                whole[0] = whole[0].removeprefix(_BOM)
                self._began = True
        if rest:
            self._line.append(rest)
        return whole

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")  # a comment has no name
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._kind = value.removeprefix(b" ")
