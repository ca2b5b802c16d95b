"""The chat function's runtime: Lambda's Runtime API, with answers that stream and work after them.

Lambda's own runtime for Python holds an answer back until it is whole. This one takes its place:
Lambda starts `bootstrap`, beside this file, with the interpreter's path (AWS_LAMBDA_EXEC_WRAPPER).

    GET  /runtime/invocation/next            an event; the process may be frozen while it waits
    POST /runtime/invocation/<id>/response   the answer, as it is written
    POST /runtime/invocation/<id>/error      instead of an answer
    POST /runtime/init/error                 the handler could not even be imported

An invocation lasts until the next event is asked for, not until the answer is sent: what a handler
leaves for `finish` is done in between. Sources: Lambda developer guide, "Using the Lambda runtime
API for custom runtimes" and "Implementing response streaming in a custom runtime"; API Gateway
developer guide, "Lambda proxy integration with payload response streaming" (a JSON head, eight
zero bytes, the body).
"""

from __future__ import annotations

import base64
import gc
import importlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from io import BufferedIOBase
from typing import Any, NoReturn, Protocol

import msgspec

API = "/2018-06-01/runtime"
DELIMITER = bytes(8)
STREAMED = {
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    "Transfer-Encoding": "chunked",
}
END = b"0\r\n\r\n"


class Response(Protocol):
    """What a handler returns. `head` has `statusCode` and `headers`."""

    head: dict[str, Any]

    def parts(self) -> Iterator[bytes] | tuple[bytes, ...]:
        """The body; a tuple of all of it goes out in one write.

        An iterator is closed early where nobody reads it any more.
        """

    def finish(self) -> None:
        """Work after the answer; called in every case."""


Handler = Callable[[dict[str, Any], "Context"], Response]


class Context:
    """What a handler may know about its invocation."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self._deadline = int(headers["lambda-runtime-deadline-ms"])

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._deadline - int(time.time() * 1000))


class RuntimeApi:
    """The API at `host:port`, over plain sockets: http.client would double what a request costs.

    Every method raises OSError where the API is gone.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority
        host, _, port = authority.rpartition(":")
        self._address = (host, int(port))
        self._events = _Wire(self._connected())
        self._answers: _Wire | None = None

    def next(self) -> tuple[dict[str, Any], Context]:
        """The next event, however long it takes to come."""
        self._events.send(_request(self._authority, "GET", "invocation/next"))
        status, headers, event = self._events.answer()
        if b" 200 " not in status:
            raise ConnectionError(f"no next invocation: {status!r}")
        os.environ["_X_AMZN_TRACE_ID"] = headers.get("lambda-runtime-trace-id", "")
        return msgspec.json.decode(event), Context(headers)

    def answer(self, request_id: str, response: Response) -> None:
        """Sends each part at once, on a connection that is kept for the next answer.

        An answer that nobody takes any more ends here, without an error. The developer guide closes
        the connection after each answer; Lambda's own runtime for Node.js keeps it (the agent of
        src/client/rapid-client.ts), which saves 70 µs of CPU time.
        """
        chunks = _chunks(response)
        head = _request(self._authority, "POST", f"invocation/{request_id}/response", STREAMED)
        try:
            if self._answers is None or self._answers.is_closed():
                self._answers = _Wire(self._connected())
            self._answers.send(head + next(chunks))
            for chunk in chunks:
                self._answers.send(chunk)
            self._answers.answer()  # the next event may be asked for once the answer is taken
        except OSError as error:
            note(error)
            if self._answers is not None:
                self._answers.close()
        finally:
            chunks.close()

    def fail(self, path: str, error: BaseException) -> None:
        """Reports what came instead of an answer: the class and the place, no value of a caller."""
        note(error)
        body = _described(error)
        headers = {**_types(error), "Content-Length": str(len(body)), "Connection": "close"}
        with self._connected() as api:
            api.sendall(_request(self._authority, "POST", path, headers) + body)
            while api.recv(4096):
                pass

    def _connected(self) -> socket.socket:
        api = socket.socket()
        api.connect(self._address)
        api.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return api


class _Wire:
    """A connection that is kept from one request to the next."""

    def __init__(self, api: socket.socket) -> None:
        self._socket = api
        self._told = api.makefile("rb")
        self.send = api.sendall

    def answer(self) -> tuple[bytes, dict[str, str], bytes]:
        """The status line, the header fields and the body of what is answered to a request."""
        status = self._told.readline()
        if not status:
            raise ConnectionError("the Runtime API hung up")
        headers = _headers(self._told)
        body = _body(self._told, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    def is_closed(self) -> bool:
        """Whether it was closed, here or by the API: nothing else comes between requests."""
        if self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(0):
            self.close()
            return True
        return False

    def close(self) -> None:
        self._told.close()
        self._socket.close()


def main() -> NoReturn:
    """Serves until Lambda ends the process. Environment: AWS_LAMBDA_RUNTIME_API, _HANDLER."""
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        module, _, name = os.environ["_HANDLER"].rpartition(".")
        handler: Handler = getattr(importlib.import_module(module), name)
    except Exception as error:
        api.fail("init/error", error)
        sys.exit(1)
    gc.freeze()
    while True:
        serve(api, handler)


def serve(api: RuntimeApi, handler: Handler) -> None:
    """One invocation, from its event to the end of the work after its answer."""
    event, context = api.next()
    try:
        response = handler(event, context)
    except Exception as error:
        api.fail(f"invocation/{context.aws_request_id}/error", error)
        return
    api.answer(context.aws_request_id, response)
    try:
        response.finish()
    except Exception as error:
        note(error)


def note(error: BaseException) -> None:
    """One line for the log."""
    print(_described(error).decode(), file=sys.stderr, flush=True)


def _request(
    authority: str, method: str, path: str, headers: Mapping[str, str] | None = None
) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return f"{method} {API}/{path} HTTP/1.1\r\nHost: {authority}\r\n{lines}\r\n".encode()


def _headers(told: BufferedIOBase) -> dict[str, str]:
    headers = {}
    while (line := told.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return headers


def _body(told: BufferedIOBase, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "") != "chunked":
        return told.read(int(headers["content-length"]))
    parts = []
    while size := int(told.readline(), 16):
        parts.append(told.read(size))
        told.readline()
    _headers(told)
    return b"".join(parts)


def _chunks(response: Response) -> Generator[bytes, None, None]:
    """The response in HTTP's chunked coding; trailers tell of an error under way."""
    parts = response.parts()
    try:
        head = _chunk(msgspec.json.encode(response.head) + DELIMITER)
        if isinstance(parts, tuple):
            yield b"".join((head, *(_chunk(part) for part in parts if part), END))
            return
        yield head
        for part in parts:
            if part:
                yield _chunk(part)
    except Exception as error:
        note(error)
        body = {"Lambda-Runtime-Function-Error-Body": base64.b64encode(_described(error)).decode()}
        trailers = "".join(f"{key}: {value}\r\n" for key, value in (_types(error) | body).items())
        yield b"0\r\n" + trailers.encode() + b"\r\n"
    else:
        yield END
    finally:
        if hasattr(parts, "close"):
            parts.close()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _types(error: BaseException) -> dict[str, str]:
    return {"Lambda-Runtime-Function-Error-Type": f"Function.{type(error).__name__}"}


def _described(error: BaseException) -> bytes:
    """Lambda's error object. A message might quote a caller: it names the place instead."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
    kind = type(error).__name__
    return msgspec.json.encode({"errorType": kind, "errorMessage": f"{kind} in {at}"})
