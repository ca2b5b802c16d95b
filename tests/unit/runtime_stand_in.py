"""A stand-in for Lambda's Runtime API: hands out events and keeps what a runtime sends back."""

from __future__ import annotations

import json
import queue
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support.http import Handler, Server

TRAILERS = "lambda-runtime-function-error-"


@dataclass
class Told:
    """What a runtime sent: one request, its chunks with their times on time.monotonic()."""

    path: str
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def answer(self) -> tuple[dict[str, Any], bytes]:
        """The head and the body of a streamed answer."""
        head, _, body = self.body.partition(bytes(8))
        return json.loads(head), body


class RuntimeApi(Server):
    """`invoke` gives an event to whoever asks next. `hang_up_after` chunks it cuts an answer off.

    Attributes:
        asked: times at which an event was asked for.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.authority = f"127.0.0.1:{self.server_address[1]}"
        self.events: queue.Queue[tuple[str, dict[str, Any], float] | None] = queue.Queue()
        self.told: queue.Queue[Told] = queue.Queue()
        self.asked: queue.Queue[float] = queue.Queue()
        self.hang_up_after: int | None = None
        self.sends_chunked = False
        self.start()

    def invoke(self, request_id: str = "r1", seconds: float = 10, **event: Any) -> None:
        self.events.put((request_id, event, seconds))

    def vanish(self) -> None:
        """Breaks the connection of whoever waits for an event."""
        self.events.put(None)


class _Handler(Handler):
    wbufsize = -1
    server: RuntimeApi

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next", self.path
        self.server.asked.put(time.monotonic())
        invocation = self.server.events.get()
        if invocation is None:
            self.close_connection = True
            return
        request_id, event, seconds = invocation
        body = json.dumps(event).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:::function:f")
        self.send_header("Lambda-Runtime-Trace-Id", f"Root={request_id}")
        if self.server.sends_chunked:  # as Go's server does with a long body
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        told = Told(self.path, {name.lower(): value for name, value in self.headers.items()})
        if self._read(told):
            told.complete = True
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.close_connection = True
        self.server.told.put(told)

    def _read(self, told: Told) -> bool:
        if told.headers.get("transfer-encoding") != "chunked":
            told.chunks.append(self.rfile.read(int(told.headers["content-length"])))
            return True
        while size := int(self.rfile.readline(), 16):
            told.chunks.append(self.rfile.read(size))
            told.at.append(time.monotonic())
            self.rfile.readline()
            if self.server.hang_up_after == len(told.chunks):
                return False
        while (line := self.rfile.readline().decode().strip()) != "":
            name, _, value = line.partition(": ")
            told.trailers[name.lower().removeprefix(TRAILERS)] = value
        return True
