"""Runs as processes of their own that can be killed: forked, so that nothing is imported anew."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from training import train


class Child:
    """A run in a process of its own; what it prints can be read line by line."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(read)
            _be_child(write, environment)
        os.close(write)
        self.lines: TextIO = os.fdopen(read)

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
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait; the exit code (negative: the signal that killed it) and the rest of the output."""
        rest = self.lines.read()
        self.lines.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), rest


def _be_child(write: int, environment: Mapping[str, str]) -> None:
    os.dup2(write, 1)
    sys.stdout = sys.stderr = os.fdopen(write, "w", buffering=1)
    os.environ.update(environment)
    code = 1
    try:
        code = 0 if train.run(os.environ) else train.INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def group(environment: Mapping[str, str], folder: Path, port: int, size: int = 2) -> list[Child]:
    """The processes of one run, as torch.distributed.run would start them."""
    return [
        Child(
            {
                **environment,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "GLOO_SOCKET_IFNAME": "lo",
            }
        )
        for rank in range(size)
    ]


def ended(children: list[Child]) -> Iterator[tuple[int, str]]:
    """Every child's end."""
    yield from [child.end() for child in children]
