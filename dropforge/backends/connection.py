"""One kept-open HTTP/1.1 connection to one origin, with a deadline over each whole exchange.

For the chat path, where an import is paid for by a waiting person: the standard library only.

    BackendError
    └── HttpError
        ├── ConnectError         nothing was sent; safe to try again
        │   └── UnsendableError  what was to be sent fits into no request
        ├── DeadlineError        the time was up before the answer was complete
        └── BrokenAnswerError    something was sent, and no whole answer came back
"""

from __future__ import annotations

import functools
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from dropforge.backends.http1 import READ_BYTES, Fields, Response, request_bytes
from dropforge.errors import BackendError

MAX_ANSWER_BYTES = 5 * 1024 * 1024  # a Lambda's own answer may have 6 MB
DRAIN_SECONDS = 0.02
"""What the end of a stream may take to come after all that was wanted of it."""

ResultT = TypeVar("ResultT")


class HttpError(BackendError):
    code = "HTTP"


class ConnectError(HttpError):
    code = "CONNECT"


class UnsendableError(ConnectError):
    code = "UNSENDABLE"


class DeadlineError(HttpError):
    code = "DEADLINE"


class BrokenAnswerError(HttpError):
    code = "BROKEN_ANSWER"


class HttpAnswer(msgspec.Struct, frozen=True):
    """A complete answer, whatever its status."""

    status: int
    headers: Fields
    body: bytes

    def header(self, name: str) -> str | None:
        """The header's value; its name is matched without regard to case."""
        found: str | None = self.headers.get(name)
        return found


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
            connect_seconds: the most that one attempt to connect may take, TLS's handshake and all
                of the host's addresses together.
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
        self._secure = parts.scheme == "https"
        usual = 443 if self._secure else 80
        self._address = (parts.hostname, parts.port or usual)
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._host = name if parts.port in (None, usual) else f"{name}:{parts.port}"
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
            ConnectError: no connection, twice; UnsendableError: a header that is none.
            DeadlineError: `deadline` passed.
            BrokenAnswerError: reset, cut short, longer than MAX_ANSWER_BYTES, or not HTTP.
        """

        def exchange() -> HttpAnswer:
            response = self._send(method, target, body, headers)
            content = self.whole(response)
            self.used()
            return HttpAnswer(response.status, response.fields, content)

        return self._tried(exchange, deadline, resend=resend)

    def stream(
        self, method: str, target: str, body: bytes, headers: Mapping[str, str], *, deadline: float
    ) -> HttpStream:
        """Sends one request and returns its answer when the head of it has come.

        The stream has to be read to its end, or closed, before the next request.

        Args:
            deadline: for the head, and for what is read of the body; `HttpStream.until` moves it.

        Raises:
            HttpError: as `request`.
        """

        def exchange() -> HttpStream:
            return HttpStream(self, self._send(method, target, body, headers))

        return self._tried(exchange, deadline, resend=False)

    def _tried(self, exchange: Callable[[], ResultT], deadline: float, *, resend: bool) -> ResultT:
        """The exchange's result, over a kept-open connection or a new one."""
        retried = False
        while True:
            reused = self._is_usable()
            try:
                if not reused:
                    self._open(deadline)
                assert self._socket is not None  # noqa: S101 - opened
                self._socket.begin(deadline)
                self._used_at = -inf  # nobody else's until this exchange has ended
                return exchange()
            except OSError as error:
                unsent = self._socket is None or self._socket.sent == 0
                if self._clock() >= deadline:
                    raise self.broken(error, late=True) from error
                self.close()
                if not retried and (unsent or (resend and reused)):
                    retried = True
                    continue
                if unsent:
                    kind = type(error).__name__
                    raise ConnectError(f"No connection to {self._origin} ({kind}).") from error
                raise self.broken(error, late=False) from error
            except BaseException:
                self.close()  # what comes of this exchange is not to be read by the next one
                raise

    def broken(self, error: Exception, *, late: bool) -> HttpError:
        """Closes the connection; what its failure means, if need be that the time was up."""
        self.close()
        if late:
            return DeadlineError(f"{self._origin} did not answer in time.")
        return BrokenAnswerError(f"{self._origin} broke off its answer ({type(error).__name__}).")

    def until(self, deadline: float) -> None:
        """Moves the deadline of the exchange under way."""
        if self._socket is not None:
            self._socket.until(deadline)

    def used(self) -> None:
        """Notes that an exchange ended well just now: the socket may be kept."""
        self._used_at = self._clock()

    def now(self) -> float:
        """The time on the clock that deadlines are on."""
        return self._clock()

    def close(self) -> None:
        """Closes the socket; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _is_usable(self) -> bool:
        if self._socket is None or self._socket.done:
            return False
        fresh = self._clock() - self._used_at < self._idle_seconds
        if fresh and not self._socket.has_input():  # input before a request: the peer hung up
            return True
        self.close()
        return False

    def _open(self, deadline: float) -> None:
        self.close()
        until = min(deadline, self._clock() + self._connect_seconds)
        self._left(until)
        opened = self._connected(until)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure:
                # A handshake as a whole gets the socket's timeout (Modules/_ssl.c, do_handshake).
                opened.settimeout(self._left(until))
                opened = _tls().wrap_socket(opened, server_hostname=self._address[0])
        except BaseException:
            opened.close()
            raise
        self._socket = _DeadlineSocket(opened, self._clock)

    def _connected(self, until: float) -> socket.socket:
        """To the first of the host's addresses that answers; each gets its share of the time."""
        found = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
        for place, (family, kind, protocol, _, address) in enumerate(found):
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(self._left(until) / (len(found) - place))
                opened.connect(address)
            except BaseException as error:
                opened.close()
                if not isinstance(error, OSError) or place == len(found) - 1:
                    raise
            else:
                return opened
        raise ConnectionError("a host without an address")

    def _left(self, until: float) -> float:
        """Seconds until then. Raises TimeoutError where there are none."""
        remaining = until - self._clock()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def _send(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Response:
        assert self._socket is not None  # noqa: S101 - opened
        try:
            request = request_bytes(method, target, self._host, headers, body)
        except ValueError:  # whose text holds the header's
            raise UnsendableError("A request's head holds what no request may.") from None
        self._socket.sendall(request)
        response = Response(self._socket)
        self._socket.done = response.will_close
        return response

    def whole(self, response: Response) -> bytes:
        """A response's whole body."""
        declared = response.length
        if declared is not None and declared > MAX_ANSWER_BYTES:
            content = None
        else:
            content = response.read(MAX_ANSWER_BYTES + 1)
        if content is None or len(content) > MAX_ANSWER_BYTES:
            raise self.too_long()
        return content

    def too_long(self) -> BrokenAnswerError:
        """Closes the connection; the error of an answer over MAX_ANSWER_BYTES."""
        self.close()
        return BrokenAnswerError(f"{self._origin} answered more than {MAX_ANSWER_BYTES} bytes.")


class HttpStream:
    """An answer whose body is read as it comes.

    Attributes:
        status: HTTP's.
    """

    def __init__(self, connection: Connection, response: Response) -> None:
        self._connection = connection
        self._response = response
        self._socket = connection._socket
        self._left = MAX_ANSWER_BYTES
        self._ended = False
        self.status = response.status

    def header(self, name: str) -> str | None:
        """The header's value; its name is matched without regard to case."""
        return self._response.fields.get(name)

    def until(self, deadline: float) -> None:
        """The deadline of what is read from now on."""
        self._connection.until(deadline)

    def whole(self) -> HttpAnswer:
        """All of it at once. Raises DeadlineError, BrokenAnswerError."""
        try:
            content = self._connection.whole(self._response)
        except OSError as error:
            raise self._broken(error) from error
        self._end()
        return HttpAnswer(self.status, self._response.fields, content)

    def parts(self) -> Iterator[bytes]:
        """The body, each part the moment it is there: never waits for more than one byte.

        Raises:
            DeadlineError: the time was up.
            BrokenAnswerError: reset, cut short, or longer than MAX_ANSWER_BYTES.
        """
        while part := self._part():
            yield part

    def drain(self) -> None:
        """Reads what little should be left, so that the connection can be kept."""
        if self._ended:
            return
        self.until(self._connection.now() + DRAIN_SECONDS)
        try:
            while self._part():
                pass
        except HttpError:
            return  # closed then, and opened again when it is needed

    def close(self) -> None:
        """Closes the connection, unless all of the body was read, or it serves another by now."""
        if not self._ended and self._connection._socket is self._socket:
            self._connection.close()

    def _part(self) -> bytes:
        response = self._response
        try:
            # read1 on a chunked body gives what one read of the socket brought of one chunk.
            part = b"" if self._ended else response.read1(READ_BYTES)
        except OSError as error:
            raise self._broken(error) from error
        except BaseException:
            self._connection.close()
            raise
        self._left -= len(part)
        if self._left < 0:
            raise self._connection.too_long()
        if not part:
            self._end()
        return part

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._connection.used()

    def _broken(self, error: Exception) -> HttpError:
        return self._connection.broken(error, late=isinstance(error, TimeoutError))


class _DeadlineSocket:
    """A socket, each operation cut to what time is left.

    Attributes:
        done: it is of no use after the answer under way.
    """

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        self._sock = sock
        self._clock = clock
        self._deadline = 0.0
        self._input = select.poll()
        self._input.register(sock, select.POLLIN)
        self.sent = 0
        self.done = False

    def begin(self, deadline: float) -> None:
        """Starts a new exchange: nothing sent yet, and `deadline` to finish."""
        self._deadline = deadline
        self.sent = 0

    def until(self, deadline: float) -> None:
        """Moves the deadline of the exchange under way."""
        self._deadline = deadline

    def arm(self) -> None:
        """Raises TimeoutError if the time is up."""
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise TimeoutError
        self._sock.settimeout(remaining)

    def has_input(self) -> bool:
        """Whether a read would return at once, be it data or the end."""
        return bool(self._input.poll(0))

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self.arm()
            count = self._sock.send(view)
            self.sent += count
            view = view[count:]

    def read1(self, size: int) -> bytes:
        """What is there, at most `size` bytes; waits for one; empty at the end."""
        self.arm()
        return self._sock.recv(size)

    def close(self) -> None:
        self._sock.close()


@functools.lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """One context for all connections: reading the certificate store takes about 10 ms."""
    return ssl.create_default_context()
