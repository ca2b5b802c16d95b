"""Processes on cores of their own, what they spent, and the stub upstream among them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.figures import ROOT

CORES = sorted(os.sched_getaffinity(0))
SUBJECT, OTHERS = CORES[0], CORES[-1]
"""The core that what is measured has for itself, and the one of the stub and of who asks."""


class Upstream:
    """The stub, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def set(self, **wanted: Any) -> None:
        """`delay` and `pace`: seconds before an answer and between its parts; `answer`: its text;
        `serve`: how project `shop` is served. What is left out is as at the start."""
        self._ask("/set", wanted)

    def stats(self) -> dict[str, Any]:
        """What the stub spent since it was asked last: see upstream.Server."""
        return self._ask("/stats", {})

    def spent(self) -> float:
        """Seconds that the stub took itself since it was asked last."""
        return float(sum(seconds for _, seconds in self.stats()["spent"].values()))

    def _ask(self, path: str, body: Any) -> dict[str, Any]:
        sent = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(sent, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def upstream() -> Iterator[Upstream]:
    """A stub of its own, on the core that is not the subject's."""
    command = [sys.executable, "-m", "benchmarks.serving.upstream", "--cpu", str(OTHERS)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Upstream(process.stdout.readline().strip())
        finally:
            process.kill()


def start(
    command: Sequence[str], environment: Mapping[str, str], log: Path, *, cwd: Path = ROOT
) -> subprocess.Popen[bytes]:
    """A process and its children on the subject's core; what it prints goes to `log`."""
    pinned = ["taskset", "--cpu-list", str(SUBJECT), *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            pinned, env=environment, cwd=cwd, stdout=output, stderr=output, start_new_session=True
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process of `start` with its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    found = psutil.Process(pid)
    total = 0.0
    for one in (found, *found.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += _precise(one.pid)
    return total


def _precise(pid: int) -> float:
    """By thread to the nanosecond where the kernel tells, which forgets threads that ended."""
    times = psutil.Process(pid).cpu_times()  # ticks of 10 ms
    with suppress(OSError):
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        exact = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
        return float(max(exact, times.user + times.system - 0.01 * len(tasks)))
    return float(times.user + times.system)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Raises RuntimeError where nothing listens in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """The calling thread on this core, for as long as it lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
