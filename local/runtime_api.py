"""The emulator's side of Lambda's Runtime API: an event in a function's hands, and what it sends.

Shapes: Lambda developer guide, "Using the Lambda runtime API for custom runtimes".
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping


class FunctionFailedError(Exception):
    """The function ended without an answer, or in the middle of one; the message says how."""


class Invocation:
    """One event in a function's hands, and the answer that comes back."""

    def __init__(self, event: bytes, seconds: float) -> None:
        self.request_id = str(uuid.uuid4())
        self.event = event
        self.started = time.time()
        self.deadline_ms = int((self.started + seconds) * 1000)
        self.failed = False
        self.abandoned = False
        self.hang_up: Callable[[], None] = lambda: None
        self._parts: asyncio.Queue[bytes | FunctionFailedError] = asyncio.Queue()
        self._ended = False

    async def read(self) -> bytes:
        """The next bytes of the answer; none at its end. Raises FunctionFailedError."""
        part = await self._parts.get()
        if isinstance(part, FunctionFailedError):
            raise part
        return part

    def write(self, part: bytes) -> None:
        if not self._ended:
            self._parts.put_nowait(part)

    def end(self, error: FunctionFailedError | None = None) -> None:
        """No more bytes will come; only the first call counts."""
        if not self._ended:
            self._parts.put_nowait(error or b"")
            self._ended, self.failed = True, error is not None

    def abandon(self) -> None:
        """The caller is gone: the function's connection is cut, and it may notice."""
        self.abandoned = True
        self.hang_up()
        self.end(FunctionFailedError("the caller is gone"))


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """A request's path and headers, their names in small letters; None where none comes."""
    first = await reader.readline()
    if not first.endswith(b"\r\n"):
        return None
    return first.split()[1].decode(), await _fields(reader)


async def read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], take: Callable[[bytes], None]
) -> str:
    """Hands a request's body over as it comes; the error type in its trailers, or nothing.

    Raises EOFError when it breaks off.
    """
    if headers.get("transfer-encoding", "").lower() != "chunked":
        take(await reader.readexactly(int(headers.get("content-length") or 0)))
        return ""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        take(await reader.readexactly(size))
        await reader.readexactly(2)
    return (await _fields(reader)).get("lambda-runtime-function-error-type", "")


async def _fields(reader: asyncio.StreamReader) -> dict[str, str]:
    fields = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields
