"""Warm answers of the function process, one at a time as Lambda asks, over what they must cost.

Overhead is the time from the event's handing over to the answer's last byte, less the time of the
same call of the stub by a bare socket from the same core. The empty handler shows how much of it is
the runtime and its HTTP; CPU time is of the function's process, the work after the answer included.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from benchmarks.figures import Figure
from benchmarks.serving import functions
from benchmarks.serving.processes import SUBJECT, Upstream, on_core

ROUNDS, EVENTS, STREAMS = 8, 250, 400
PLAIN = {"cache": {"exact": False}}
WITH_BOTH = {"cache": {"exact": True, "hours": 24}, "price": {"input": 0.4, "output": 1.6}}


@dataclass
class Warm:
    """Microseconds of each request, and of CPU time a request by round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return median(self.wall)

    @property
    def cpu_each(self) -> float:
        """Of the round that neighbours disturbed least."""
        return min(self.cpu)


def figures(upstream: Upstream, asset: Path, rounds: int = ROUNDS) -> Iterator[Figure]:
    """Overhead without and with cache and budget, and how long a stream's first byte takes."""
    plain, empty, bare = measured(upstream, asset, PLAIN, rounds)
    over, over_empty = plain.p50 - median(bare), plain.p50 - median(bare) - empty.p50
    cpu = plain.cpu_each - empty.cpu_each
    yield Figure(
        "warm answer, cache and budget off: p50 over the bare upstream call "
        f"({median(bare):.0f} µs); of it the empty handler's round trip",
        f"{over:.0f} µs; {empty.p50:.0f} µs, so {over_empty:.0f} µs above both",
        "at most 300 µs",
        over <= 300,
    )
    yield Figure(
        f"CPU time a request above an empty handler ({empty.cpu_each:.0f} µs), both off; best of "
        f"{rounds} rounds",
        f"{cpu:.0f} µs",
        "at most 150 µs",
        cpu <= 150,
    )
    both, empty, bare = measured(upstream, asset, WITH_BOTH, rounds, budget=True)
    yield Figure(
        "the same with the exact cache (all misses) and a budget on: p50 over the bare upstream "
        "call; CPU time above an empty handler",
        f"{both.p50 - median(bare):.0f} µs (the stub's registry included); "
        f"{both.cpu_each - empty.cpu_each:.0f} µs",
    )
    yield from first_bytes(upstream, asset)


def measured(
    upstream: Upstream,
    asset: Path,
    serve: dict[str, Any],
    rounds: int,
    *,
    budget: bool = False,
) -> tuple[Warm, Warm, list[float]]:
    """The chat function, an empty one and the bare call, in turn."""
    upstream.set(serve=serve)
    chat, empty, bare = Warm(), Warm(), list[float]()
    ours = functions.ours(asset)
    nothing = functions.ours(asset, functions.EMPTY, "empty")
    with (
        ours.started(upstream, asset) as function,
        nothing.started(upstream, asset) as idle,
    ):
        for turn in range(rounds + 1):
            events = [_event(f"{turn}-{number}", budget=budget) for number in range(EVENTS)]
            for process, found in ((function, chat), (idle, empty)):
                done, cpu = process.run(events)
                if turn:  # the first round warms up
                    found.wall += [(one.last - one.handed) * 1e6 for one in done]
                    found.cpu.append(cpu / EVENTS * 1e6)
                if process is function:
                    _check(done[-1].answer)
            bare += _bare(upstream, EVENTS)
    return chat, empty, bare


def _event(number: str, *, budget: bool) -> dict[str, Any]:
    event = functions.event(question=f"Where is order LU-{number}?")
    if not budget:
        return event
    about = event["requestContext"]
    authorizer = {**about["authorizer"], "budget_usd": "100"}
    return {**event, "requestContext": {**about, "authorizer": authorizer}}


def _check(answer: bytes) -> None:
    if b'"statusCode":200' not in answer or b"chatcmpl-upstream-1" not in answer:
        raise RuntimeError(f"the function answered {answer[:500]!r}")


def _bare(upstream: Upstream, count: int) -> list[float]:
    """Microseconds of the stub's call by a plain socket on the subject's core."""
    body = b'{"model":"ft:shop:2","messages":[{"role":"user","content":"Where is order LU-4711?"}]}'
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: stub\r\nContent-Type: application/json\r\n"
    sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    place = urlsplit(upstream.url)
    found = []
    with on_core(SUBJECT), socket.create_connection((place.hostname, place.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(sent)
            read = connection.recv(1 << 16)
            while b"fp_1" not in read:
                read += connection.recv(1 << 16)
            found.append((time.perf_counter() - began) * 1e6)
    return found


def first_bytes(upstream: Upstream, asset: Path, count: int = STREAMS) -> Iterator[Figure]:
    """From the moment when the stub writes a stream's first byte, 5 ms after it was asked."""
    upstream.set(delay=0.005, pace=0.0005, serve=PLAIN)
    with functions.ours(asset).started(upstream, asset) as function:
        events = [functions.event(stream=True)] * count
        function.run(events[:20])
        upstream.stats()
        done, cpu = function.run(events)
        firsts = upstream.stats()["firsts"]
    if b"[DONE]" not in done[-1].answer or len(firsts) != count:
        raise RuntimeError(f"{len(firsts)} streams, the last of them {done[-1].answer[-500:]!r}")
    late = [(one.first - first) * 1e3 for one, first in zip(done, firsts, strict=True)]
    p50, p99 = median(late), _p99(late)
    yield Figure(
        f"first streamed byte after the upstream's first, {count} streams: p50, p99",
        f"{p50:.2f} ms, {p99:.2f} ms ({cpu / count * 1e6:.0f} µs of CPU time a stream of 22 parts)",
        "at most 5 ms",
        p99 <= 5,
    )


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98]
