"""A load generator: HTTP/1.1 over kept-open connections, as fast as they answer or for a while."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """What `clients` got in `seconds`.

    Attributes:
        whole, first: seconds until an answer's last byte, and until its first (of the body).
        failures: what did not end well, by class: a status, or the name of an error.
        sample, bad: the first answer, and the first that was a failure.
    """

    clients: int
    seconds: float = 0.0
    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    sample: bytes = b""
    bad: bytes = b""

    @property
    def a_second(self) -> float:
        return len(self.whole) / self.seconds


def run(url: str, body: bytes, headers: Mapping[str, str], *, clients: int, seconds: float) -> Load:
    """Each client asks again as soon as it has its answer."""
    return asyncio.run(_run(url, body, headers, clients, seconds))


async def _run(
    url: str, body: bytes, headers: Mapping[str, str], clients: int, seconds: float
) -> Load:
    place = urlsplit(url)
    lines = [f"POST {place.path} HTTP/1.1", f"Host: {place.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sent = "\r\n".join((*lines, "Content-Type: application/json", "", "")).encode() + body
    load = Load(clients)
    began = time.perf_counter()
    end = began + seconds
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(place.hostname or "", place.port or 80, sent, end, load))
    load.seconds = time.perf_counter() - began
    return load


async def _client(host: str, port: int, sent: bytes, end: float, load: Load) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while time.perf_counter() < end:
        try:
            streams = streams or await asyncio.open_connection(host, port)
            if not await asyncio.wait_for(_ask(*streams, sent, load), 60):
                streams[1].close()
                streams = None
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            load.failures[type(error).__name__] += 1
            if streams:
                streams[1].close()
            streams = None
    if streams:
        streams[1].close()


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes, load: Load
) -> bool:
    """One exchange; whether the connection may be used again. A stream has to end with [DONE]."""
    began = time.perf_counter()
    writer.write(sent)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head.split(b" ", 2)[1].decode()
    first, body = await _body(reader, head)
    ended = time.perf_counter()
    broken = b"text/event-stream" in head and not body.rstrip().endswith(b"data: [DONE]")
    if status != "200" or broken:
        load.failures["broken stream" if broken else status] += 1
        load.bad = load.bad or head + body
    else:
        load.whole.append(ended - began)
        load.first.append(first - began)
    load.sample = load.sample or head + body
    return b"connection: close" not in head


async def _body(reader: asyncio.StreamReader, head: bytes) -> tuple[float, bytes]:
    if b"transfer-encoding: chunked" not in head:
        _, found, length = head.partition(b"content-length:")
        if not found:
            body = await reader.read()
            return time.perf_counter(), body
        body = await reader.readexactly(int(length.split(b"\r\n")[0]))
        return time.perf_counter(), body
    body, first = b"", 0.0
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
        first = first or time.perf_counter()
    await reader.readuntil(b"\r\n")
    return first or time.perf_counter(), body
