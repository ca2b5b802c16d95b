"""A stand-in for Lambda's Runtime API: hands a function's process its events, and times it.

docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html and …/runtimes-custom.html (streaming). The
thread that serves `next` takes the times, so that no wait for another thread is in them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.processes import OTHERS, on_core

PRELUDE_END = b"\0" * 8
"""Between a streamed answer's head and its body."""
SEPARATOR = b"\r\n\r\n"
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Length: 15\r\n\r\n{"status":"OK"}'


@dataclass
class Invocation:
    """One event's way: points on CLOCK_MONOTONIC, and what came back."""

    handed: float
    first: float = 0.0
    last: float = 0.0
    answer: bytes = b""
    failed: bool = False


class RuntimeApi:
    """Serves one function process; `address` is its AWS_LAMBDA_RUNTIME_API."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.waiting = threading.Event()
        self._events: list[bytes] = []
        self._done: list[Invocation] = []
        self._expected = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def offer(self, events: Sequence[dict[str, Any]]) -> None:
        """The next events for the function, which may not have started yet."""
        with self._changed:
            self._expected = len(events)
            self._done = []
            self._events = [json.dumps(event).encode() for event in reversed(events)]
            self._changed.notify_all()

    def results(self, seconds: float = 120) -> list[Invocation]:
        """What became of the events that were offered, once all are answered.

        Raises RuntimeError where the function did not answer in time, or reported an error.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._done) >= self._expected, seconds):
                raise RuntimeError(f"{len(self._done)} of {self._expected} events were answered")
        if failed := [one for one in self._done if one.failed]:
            raise RuntimeError(f"the function failed: {failed[0].answer[:500]!r}")
        return self._done

    def idle(self, seconds: float = 60) -> None:
        """Waits until the function asks for an event and there is none."""
        if not self.waiting.wait(seconds):
            raise RuntimeError("the function does not ask for events")

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with on_core(OTHERS), connection, suppress(ConnectionResetError):
            peer = _Peer(connection)
            while head := peer.until(SEPARATOR):
                if b"/invocation/next" in head:
                    self._next(connection)
                else:
                    self._answered(peer, head)
                    connection.sendall(ACCEPTED)
                    if b"connection: close" in head.lower():
                        return

    def _next(self, connection: socket.socket) -> None:
        with self._changed:
            if not self._events:
                self.waiting.set()
                self._changed.wait_for(lambda: bool(self._events))
                self.waiting.clear()
            event = self._events.pop()
        left = int((time.time() + 29) * 1000)
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            "Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"
            f"Lambda-Runtime-Deadline-Ms: {left}\r\n"
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:1:function:chat\r\n"
            "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n"
            f"Content-Length: {len(event)}\r\n\r\n"
        )
        self._now = Invocation(time.perf_counter())
        connection.sendall(head.encode() + event)

    def _answered(self, peer: _Peer, head: bytes) -> None:
        one = self._now
        one.failed = b"/response" not in head.split(b" ")[1]
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            one.answer, one.first = peer.chunks()
        else:
            length = int(lowered.partition(b"content-length:")[2].split(b"\r\n")[0])
            one.answer = peer.exactly(length)
            one.first = time.perf_counter()
        one.last = time.perf_counter()
        with self._changed:
            self._done.append(one)
            self._changed.notify_all()


class _Peer:
    """A buffered reader of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def until(self, mark: bytes) -> bytes:
        """Up to the mark, which is left out; empty at the end of the connection."""
        while mark not in self._read:
            if not self._more():
                return b""
        found, _, self._read = self._read.partition(mark)
        return found

    def exactly(self, length: int) -> bytes:
        while len(self._read) < length:
            if not self._more():
                raise ConnectionError("the function hung up")
        found, self._read = self._read[:length], self._read[length:]
        return found

    def chunks(self) -> tuple[bytes, float]:
        """A chunked body, and when the first of it behind its prelude was there."""
        whole, first = b"", 0.0
        while length := int(self.until(b"\r\n"), 16):
            whole += self.exactly(length)
            if not first and whole.partition(PRELUDE_END)[2]:
                first = time.perf_counter()
            self.exactly(2)
        self.until(SEPARATOR if self._trailers() else b"\r\n")
        return whole, first

    def _trailers(self) -> bool:
        while len(self._read) < 2:
            self._more()
        return not self._read.startswith(b"\r\n")

    def _more(self) -> bool:
        data = self._connection.recv(1 << 16)
        self._read += data
        return bool(data)
