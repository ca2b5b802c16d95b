"""Runs as processes of their own that can be killed.

They are forked from a server that has imported the libraries once and has no threads; a fork of the
test process could inherit a lock that another of its threads holds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TextIO

from training import train

PATIENCE_S = 180
"""A child that takes longer hangs; it is killed, and its test fails."""
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload([__name__, "training.train", "transformers", "peft"])


class Child:
    """A run in a process of its own; what it prints can be read line by line."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        read, write = FORKING.Pipe(duplex=False)
        self._process = FORKING.Process(target=_be_child, args=(write, dict(environment)))
        self._process.start()
        write.close()
        self.lines: TextIO = os.fdopen(os.dup(read.fileno()))
        read.close()
        self._watch = threading.Timer(PATIENCE_S, self._process.kill)
        self._watch.start()

    def until(self, start: str) -> str:
        """The output up to the line that starts so."""
        told = ""
        for line in self.lines:
            told += line
            if line.startswith(start):
                return told
        raise AssertionError(f"ended without {start!r}:\n{told}")

    def signal(self, number: int) -> None:
        """Send a signal."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, number)

    def end(self) -> tuple[int, str]:
        """Wait; the exit code (negative: the signal that killed it) and the rest of the output."""
        rest = self.lines.read()
        self.lines.close()
        self._process.join()
        self._watch.cancel()
        return self._process.exitcode or 0, rest


def _be_child(output: Connection, environment: Mapping[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(output.fileno(), 1)
    output.close()
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
    os.environ.update(environment)
    code = 1
    try:
        code = 0 if train.run(os.environ) else train.INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def group(environment: Mapping[str, str], size: int = 2) -> list[Child]:
    """The processes of one run, as torch.distributed.run would start them."""
    port = str(_free_port())
    return [
        Child(
            {
                **environment,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "GLOO_SOCKET_IFNAME": "lo",
            }
        )
        for rank in range(size)
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def ended(children: list[Child]) -> Iterator[tuple[int, str]]:
    """Every child's end."""
    yield from [child.end() for child in children]
