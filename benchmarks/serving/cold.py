"""Cold answers: from the start of a process to the first byte of its first answer.

Nothing is moved from one into the other: interpreter, imports, settings, connections, registry,
key and the model's answer are all inside. Only what the stub itself took is left out. What Lambda
adds before the process (fetching the code, starting the sandbox) is in no number here.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.figures import Figure
from benchmarks.serving import functions
from benchmarks.serving.processes import SUBJECT, Upstream, cpu_seconds, on_core

STARTS = 15


@dataclass(frozen=True)
class Start:
    """Milliseconds of one cold answer.

    Attributes:
        whole: without the stub's own time.
        init: until the function asked for its first event.
        cpu: user and system time of the process.
        upstream: the stub's own time.
    """

    whole: float
    init: float
    cpu: float
    upstream: float


def figures(upstream: Upstream, asset: Path, starts: int = STARTS) -> Iterator[Figure]:
    """Ours and the peer's in turn, so that a noisy neighbour meets both."""
    ours, peer = functions.ours(asset), functions.mangum()
    upstream.set()
    started = {subject.name: [_start(subject, upstream, asset)] for subject in (ours, peer)}
    for found in started.values():
        found.clear()  # the first one reads the disk
    bare = []
    for _ in range(starts):
        bare.append(_interpreter())
        for subject in (ours, peer):
            started[subject.name].append(_start(subject, upstream, asset))
    own, theirs = started[ours.name], started[peer.name]
    yield _cold(ours.name, own, "at most 120 ms", _median(own, "whole") <= 120)
    yield _cold(peer.name, theirs)
    yield Figure(
        f"starting Python alone (same flags), inside both; median of {starts}",
        f"{median(bare):.0f} ms",
    )
    wall = _median(theirs, "whole") / _median(own, "whole")
    cpu = _median(theirs, "cpu") / _median(own, "cpu")
    yield Figure(
        f"cold answer: {peer.name} / {ours.name}",
        f"{wall:.1f}× ({cpu:.1f}× in CPU time)",
        "at least 4×",
        wall >= 4,
    )


def _start(subject: functions.Subject, upstream: Upstream, asset: Path) -> Start:
    upstream.spent()
    with subject.started(upstream, asset, first=functions.event()) as function:
        [one] = function.api.results()
        cpu = cpu_seconds(function.process.pid)
        spent = upstream.spent()
    if b"chatcmpl-upstream-1" not in one.answer:
        raise RuntimeError(f"{subject.name} answered {one.answer[:500]!r}")
    whole, init = one.first - function.began - spent, one.handed - function.began
    return Start(whole * 1e3, init * 1e3, cpu * 1e3, spent * 1e3)


def _interpreter() -> float:
    with on_core(SUBJECT):
        began = time.perf_counter()
        subprocess.run(functions.interpreter(), check=True)
        return (time.perf_counter() - began) * 1e3


def _median(found: Sequence[Start], what: str) -> float:
    return float(median(getattr(one, what) for one in found))


def _cold(
    name: str, found: Sequence[Start], asked: str = "–", reached: bool | None = None
) -> Figure:
    told: Callable[[str], float] = lambda what: _median(found, what)  # noqa: E731
    fastest, slowest = (pick(one.whole for one in found) for pick in (min, max))
    return Figure(
        f"cold answer, process start to first byte, without the stub's {told('upstream'):.1f} ms: "
        f"{name}, median of {len(found)}",
        f"{told('whole'):.0f} ms ({fastest:.0f} to {slowest:.0f}): INIT {told('init'):.0f} ms, "
        f"first request {told('whole') - told('init'):.0f} ms; {told('cpu'):.0f} ms of CPU time",
        asked,
        reached,
    )
