"""HTTP/1.1 as the chat path speaks it: one write for a request, the least of work for an answer.

http.client sends a request in two pieces, and reads the head of an answer with the parser of
e-mails: of 143 µs of CPU time an exchange, 90. Importing it takes a quarter of the chat function's
start (both measured, November 2026). Framing is RFC 9112, section 6; what is unclear is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Protocol

READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 65_536
MAX_FIELDS = 100
MAX_DIGITS = 15
"""Of a length: more is none, and Python refuses to read a number of thousands of digits."""
_INTERIM = range(100, 200)
_BODILESS = (204, 304)
_HEX = frozenset(b"0123456789abcdefABCDEF")


class MalformedAnswerError(ConnectionError):
    """What came is no HTTP/1 answer, too long in a line, of an unclear length, or cut short."""


class Fields(dict[str, str]):
    """Header fields by their names in lower case; `get` takes any."""

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return super().get(name.lower(), default)


def request_bytes(
    method: str, target: str, host: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    """A whole request, for one write.

    Args:
        host: the Host field's value: `host[:port]`, the port left out where it is the scheme's.

    Raises:
        ValueError: the target or a field holds a line break, or a space where none may be.
    """
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    breaks = head.count("\n") + head.count("\r")
    if breaks != 2 * (len(lines) - 1) or " " in target or " " in method or "\0" in head:
        raise ValueError("a request's head holds a line break or a space")
    return head.encode("latin-1") + b"\r\n\r\n" + body


class Source(Protocol):
    """Where an answer comes from, as a buffered or a raw socket reads."""

    def read1(self, size: int, /) -> bytes:
        """What is there, at most `size` bytes; waits for one; empty at the end."""


class Response:
    """An answer; making it reads its head. Every method raises MalformedAnswerError and OSError.

    Attributes:
        status, fields: the head's.
        length: of the body, as announced; None where it was not.
        will_close: whether the connection is of no use after the body; also where two lengths were
            told, or one of a body that may not be: what follows could be taken for the next answer.
        ended: whether all of the body was read.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read = b""  # what has come; up to _at it was taken
        self._at = 0
        version, self.status = self._status()
        self.fields = self._fields()
        while self.status in _INTERIM:
            version, self.status = self._status()
            self.fields = self._fields()
        coding = (self.fields.get("transfer-encoding") or "").lower()
        if coding not in ("", "chunked"):
            raise MalformedAnswerError("an unknown transfer coding")
        self._chunked = coding == "chunked"
        self.length = self._length()
        said = (self.fields.get("connection") or "").lower()
        self.will_close = (
            "close" in said
            or (version == b"HTTP/1.0" and "keep-alive" not in said)
            or (self.length is None and not self._chunked)
            or self._is_doubtful()
        )
        self._left = self.length or 0
        self._between = False  # at the line break that ends a chunk
        self.ended = self.length == 0

    def read1(self, size: int) -> bytes:
        """What is there of the body, at most `size` bytes; waits for one; empty at the end."""
        if self.ended:
            return b""
        if self._chunked and not self._left:
            self._left = self._chunk_size()
            if not self._left:
                self._fields()  # trailers
                self.ended = True
                return b""
        open_ended = self.length is None and not self._chunked
        part = self._some(size if open_ended else min(size, self._left))
        if open_ended:
            self.ended = not part
            return part
        if not part:
            raise MalformedAnswerError("the answer was cut short")
        self._left -= len(part)
        self._between = self._chunked and not self._left
        self.ended = not self._chunked and not self._left
        return part

    def read(self, most: int) -> bytes:
        """The whole body, or the first `most` bytes of it."""
        parts, left = [], most
        while left and (part := self.read1(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _status(self) -> tuple[bytes, int]:
        version, _, rest = self._line().partition(b" ")
        code = rest[:3]
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not (code.isdigit() and len(code) == 3):
            raise MalformedAnswerError("no HTTP/1 status line")
        return version, int(code)

    def _length(self) -> int | None:
        if self.status in _BODILESS:
            return 0
        told = self.fields.get("content-length")
        if told is None or self._chunked:
            return None
        if not (told.isascii() and told.isdigit() and len(told) <= MAX_DIGITS):
            raise MalformedAnswerError("a length that is no number")
        return int(told)

    def _is_doubtful(self) -> bool:
        """Whether another reader could see the body end elsewhere (RFC 9112, section 6.3)."""
        told = self.fields.get("content-length")
        if self.status == 204:
            return self._chunked or told not in (None, "0")
        return self._chunked and (told is not None or self.status == 304)

    def _fields(self) -> Fields:
        fields = Fields()
        for line in self._field_lines():
            name, colon, value = line.partition(":")
            if not colon:
                raise MalformedAnswerError("a header line without a colon")
            name, value = name.lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return fields

    def _field_lines(self) -> list[str]:
        """The lines up to an empty one: at once where all have come, with line ends by the book."""
        end = self._read.find(b"\r\n\r\n", self._at - 2)
        block = self._read[self._at : max(end, self._at)]
        if end >= 0 and len(block) <= MAX_LINE_BYTES and block.count(b"\n") == block.count(b"\r\n"):
            self._at = end + 4
            lines = block.decode("latin-1").split("\r\n") if block else []
        else:
            found = iter(self._line, b"")
            lines = [line.decode("latin-1") for line in islice(found, MAX_FIELDS + 1)]
        if len(lines) > MAX_FIELDS:
            raise MalformedAnswerError(f"more than {MAX_FIELDS} header fields")
        return lines

    def _chunk_size(self) -> int:
        if self._between and self._line():
            raise MalformedAnswerError("a chunk longer than announced")
        told = self._line().partition(b";")[0].strip()
        if not told or len(told) > MAX_DIGITS or not _HEX.issuperset(told):
            raise MalformedAnswerError("a chunk without a length")
        return int(told, 16)

    def _line(self) -> bytes:
        """Without its end, which may be a bare line feed."""
        while (end := self._read.find(b"\n", self._at)) < 0:
            rest = self._read[self._at :]
            more = b"" if len(rest) > MAX_LINE_BYTES else self._source.read1(READ_BYTES)
            if not more:
                raise MalformedAnswerError("a line that does not end, or too long a one")
            self._read, self._at = rest + more, 0
        line = self._read[self._at : end]
        if len(line) > MAX_LINE_BYTES:
            raise MalformedAnswerError("too long a line")
        self._at = end + 1
        return line.removesuffix(b"\r")

    def _some(self, size: int) -> bytes:
        """At most `size` bytes of what has come, or else of what comes next."""
        if self._at == len(self._read):
            return self._source.read1(min(size, READ_BYTES))
        part = self._read[self._at : self._at + size]
        self._at += len(part)
        return part
