"""One kept-open HTTP/1.1 connection to one origin, with a deadline over each whole exchange.

For the chat path, where an import is paid for by a waiting person: the standard library only.

    BackendError
    └── HttpError
        ├── ConnectError         nothing was sent; safe to try again
        ├── DeadlineError        the time was up before the answer was complete
        └── BrokenAnswerError    something was sent, and no whole answer came back
"""

from __future__ import annotations

import functools
import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from dropforge.errors import BackendError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MAX_ANSWER_BYTES = 5 * 1024 * 1024  # a Lambda's own answer may have 6 MB


class HttpError(BackendError):
    code = "HTTP"


class ConnectError(HttpError):
    code = "CONNECT"


class DeadlineError(HttpError):
    code = "DEADLINE"


class BrokenAnswerError(HttpError):
    code = "BROKEN_ANSWER"


class HttpAnswer(msgspec.Struct, frozen=True):
    """A complete answer, whatever its status."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str | None:
        """The header's value; its name is matched without regard to case."""
        return self.headers.get(name)


class Connection:
    """Speaks HTTP to one origin over one socket, which it opens, keeps and reopens as needed.

    A socket's own timeout restarts with every byte, so an upstream that trickles could hold a
    request forever. Here every read and write is given only what is left until the deadline.
    Name resolution is the exception: the standard library cannot bound it.

    Not safe for threads: a Lambda container answers one request at a time.
    """

    def __init__(
        self,
        origin: str,
        *,
        connect_seconds: float = 3.0,
        idle_seconds: float = 45.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet.

        Args:
            origin: `http[s]://host[:port]`; a path is ignored.
            connect_seconds: the most that one attempt to connect may take.
            idle_seconds: a socket unused for longer is not trusted. A frozen Lambda container
                does not see the peer hang up.
            clock: seconds, monotonic; deadlines are points on it.
        """
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConnectError("A base URL is not http(s)://host.", hint=f"It is {origin!r}.")
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._http = (
            http.client.HTTPSConnection(parts.hostname, parts.port, context=_tls())
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port)
        )
        self._socket: _DeadlineSocket | None = None
        self._used_at = 0.0

    def request(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        deadline: float,
        resend: bool = False,
    ) -> HttpAnswer:
        """Sends one request and returns the whole answer.

        A failure before the first byte was sent is tried once more. With `resend`, for requests
        that may safely arrive twice, so is a kept-open socket that breaks before it answers.

        Raises:
            ConnectError: no connection, twice.
            DeadlineError: `deadline` passed.
            BrokenAnswerError: reset, cut short, longer than MAX_ANSWER_BYTES, or not HTTP.
        """
        retried = False
        while True:
            reused = self._is_usable()
            try:
                if not reused:
                    self._open(deadline)
                return self._exchange(method, target, body, headers, deadline)
            except (OSError, http.client.HTTPException) as error:
                unsent = self._socket is None or self._socket.sent == 0
                self.close()
                if self._clock() >= deadline:
                    raise DeadlineError(f"{self._origin} did not answer in time.") from error
                if not retried and (unsent or (resend and reused)):
                    retried = True
                    continue
                kind = type(error).__name__
                if unsent:
                    raise ConnectError(f"No connection to {self._origin} ({kind}).") from error
                raise BrokenAnswerError(f"{self._origin} broke off its answer ({kind}).") from error

    def close(self) -> None:
        """Closes the socket; the next request opens another."""
        self._http.close()
        self._socket = None

    def _is_usable(self) -> bool:
        if self._socket is None or self._http.sock is None:  # None after `Connection: close`
            return False
        fresh = self._clock() - self._used_at < self._idle_seconds
        if fresh and not self._socket.has_input():  # input before a request: the peer hung up
            return True
        self.close()
        return False

    def _open(self, deadline: float) -> None:
        self.close()
        remaining = deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError
        self._http.timeout = min(remaining, self._connect_seconds)
        self._http.connect()
        self._socket = _DeadlineSocket(self._http.sock, self._clock)
        self._http.sock = self._socket

    def _exchange(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> HttpAnswer:
        assert self._socket is not None  # noqa: S101 - request() opened it
        self._socket.begin(deadline)
        self._http.request(method, target, body, headers)
        response = self._http.getresponse()
        declared = response.length
        if declared is not None and declared > MAX_ANSWER_BYTES:
            content = None
        elif declared is not None:
            content = response.read()  # raises IncompleteRead when cut; read(n) would not
        else:
            content = response.read(MAX_ANSWER_BYTES + 1)
        if content is None or len(content) > MAX_ANSWER_BYTES:
            self.close()
            raise BrokenAnswerError(f"{self._origin} answered more than {MAX_ANSWER_BYTES} bytes.")
        self._used_at = self._clock()
        return HttpAnswer(response.status, response.headers, content)


class _DeadlineSocket:
    """The part of a socket that http.client uses, each operation cut to what time is left."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        self._sock = sock
        self._clock = clock
        self._deadline = 0.0
        self.sent = 0

    def begin(self, deadline: float) -> None:
        """Starts a new exchange: nothing sent yet, and `deadline` to finish."""
        self._deadline = deadline
        self.sent = 0

    def arm(self) -> None:
        """Raises TimeoutError if the time is up."""
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)

    def has_input(self) -> bool:
        """Whether a read would return at once, be it data or the end."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def sendall(self, data: ReadableBuffer) -> None:
        view = memoryview(data)
        while view:
            self.arm()
            count = self._sock.send(view)
            self.sent += count
            view = view[count:]

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self, self._sock.makefile(mode, buffering=0)))

    def close(self) -> None:
        self._sock.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, owner: _DeadlineSocket, raw: socket.SocketIO) -> None:
        self._owner = owner
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._owner.arm()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """One context for all connections: reading the certificate store takes about 10 ms."""
    return ssl.create_default_context()
