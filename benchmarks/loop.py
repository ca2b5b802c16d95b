"""The loop in which this project is built, timed: setup, demo, tests and CI as a newcomer has them.

A run clones the last commit into a temporary folder and sets it up there; CI has a clone of its
own. What was measured lies in build/bench/loop.json until the page is written, so that parts can be
measured on their own and a second time: `python -m benchmarks loop --only demo --runs 1`. The last
two runs of a part on this machine stand side by side, and beside them the last one of each setting
in VARIABLES that was in the environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.figures import ROOT, Figure, machine
from tests.e2e.conftest import three_free_ports

RESULTS: Final = ROOT / "build/bench/loop.json"
VARIABLES: Final = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
"""What has torch compute as another processor would."""
BESIDE: Final = 2


@dataclass(frozen=True)
class Part:
    """A command of the loop, and the seconds that it is to take."""

    command: tuple[str, ...]
    name: str
    asked: int | None = None


PARTS: Final = {
    "setup": Part(("make", "setup"), "`make setup`"),
    "demo": Part(("make", "demo"), "`make demo`", 240),
    "test-fast": Part(("make", "test-fast"), "`make test-fast`", 60),
    "test": Part(("make", "test"), "`make test`", 600),
    "ci": Part(("bash", ".ci/run"), "`bash .ci/run`, setup included", 900),
}
PROMOTION: Final = Part((), "of the demo: drop → promotion", 150)


class Result(msgspec.Struct, frozen=True):
    """One run of a part.

    Attributes:
        setting: what of VARIABLES was set, as one writes it before a command.
        ended: exit status, with the counts of the tests where it ran any.
        folders: seconds of the tests by their folder, as the suite printed them.
    """

    part: str
    commit: str
    machine: str
    setting: str
    seconds: float
    status: int
    ended: str
    promotion: float | None = None
    folders: dict[str, float] = {}


def figures(runs: int = BESIDE, only: Sequence[str] | None = None) -> Iterator[Figure]:
    """So many runs of the parts, one after another, then the rows of all that was measured.

    Takes an hour for two runs on two cores.
    """
    for number in range(runs):
        for result in run(only or list(PARTS)):
            told = f"{result.part} {result.seconds:.0f} s ({result.ended})"
            print(f"run {number + 1}: {told}", flush=True)
            save(result)
    yield from rows(load())


def run(parts: Sequence[str]) -> Iterator[Result]:
    """The parts, in one clone but for CI; setup is a part of every clone, told where asked."""
    if inside := [part for part in parts if part != "ci"]:
        with clone() as folder:
            setup = measure("setup", folder)
            for part in inside:
                yield setup if part == "setup" else measure(part, folder)
    if "ci" in parts:
        with clone() as folder:
            yield measure("ci", folder)


@contextmanager
def clone() -> Iterator[Path]:
    """The last commit in a folder of its own; what is not committed is left out."""
    with tempfile.TemporaryDirectory(prefix="dropforge-loop-") as name:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), name], check=True)
        subprocess.run(["git", "-C", name, "checkout", "--quiet", _commit()], check=True)
        try:
            yield Path(name)
        finally:
            _make(Path(name), "make", "down")


def measure(part: str, folder: Path) -> Result:
    """Runs a part in a clone; what it prints goes to standard error as well."""
    began = time.monotonic()
    printed, status = _make(folder, *PARTS[part].command)
    seconds = time.monotonic() - began
    if part == "demo":
        _make(folder, "make", "down")
    promoted = re.search(r"from the drop to the promotion (\d+) s", printed)
    return Result(
        part=part,
        commit=_commit()[:7],
        machine=machine(),
        setting=" ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ),
        seconds=seconds,
        status=status,
        ended=", ".join([f"exit {status}", *_counts(printed)]),
        promotion=float(promoted[1]) if promoted else None,
        folders=_folders(printed),
    )


def _make(folder: Path, *command: str) -> tuple[str, int]:
    """All that a command prints, and its exit status; nothing of this process's own settings."""
    ours = ("AWS_", "DROPFORGE_", "MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    python = str(Path(sys.executable).resolve())  # outside of this virtual environment
    environment |= {"DROPFORGE_PORT": str(three_free_ports()), "PYTHON": python}
    lines = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            sys.stderr.write(line)
            lines.append(line)
    return "".join(lines), process.returncode


def _counts(printed: str) -> list[str]:
    """The counts of pytest's last line: 5505 passed, 1 failed, …"""
    found = re.findall(r"^=* ?(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", printed, re.MULTILINE)
    return found[-1:]


def _folders(printed: str) -> dict[str, float]:
    """The lines under `seconds by folder` in pytest's summary."""
    _, _, table = printed.partition("seconds by folder")
    found = re.findall(r"^ *([\d.]+) +(tests/\w+) +\d+ tests$", table, re.MULTILINE)
    return {name: float(seconds) for seconds, name in found}


def _commit() -> str:
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()


def load() -> list[Result]:
    """What was measured so far on this machine."""
    if not RESULTS.exists():
        return []
    kept = msgspec.json.decode(RESULTS.read_bytes(), type=list[Result])
    return [one for one in kept if one.machine == machine()]


def save(result: Result) -> None:
    """Beside what was measured before."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_bytes(msgspec.json.encode([*load(), result]))


def rows(results: Sequence[Result]) -> Iterator[Figure]:
    """A row for each part, its runs side by side; of the demo one for its promotion, too."""
    for name, part in PARTS.items():
        found = _beside([one for one in results if one.part == name])
        if found:
            yield _row(part, {column: (one.seconds, one) for column, one in found.items()})
        if promoted := {c: (one.promotion, one) for c, one in found.items() if one.promotion}:
            yield _row(PROMOTION, promoted)
    if folders := [one.folders for one in results if one.part == "test" and one.folders]:
        yield Figure(
            "seconds of each folder of tests, all workers together, last run",
            ", ".join(f"{folder} {seconds:.0f}" for folder, seconds in folders[-1].items()),
        )


def _beside(results: Sequence[Result]) -> dict[str, Result]:
    """The results of a part that stand in its row, by what is said of each."""
    plain = [one for one in results if not one.setting][-BESIDE:]
    columns = dict(zip(("first run", "second run"), plain, strict=False))
    return columns | {f"with {one.setting}": one for one in results if one.setting}


def _row(part: Part, measured: Mapping[str, tuple[float, Result]]) -> Figure:
    """What ended badly is not reached, however quickly."""
    commits = ", ".join(dict.fromkeys(one.commit for _, one in measured.values()))
    told = [
        f"{column} {seconds:.0f} s ({one.ended})" for column, (seconds, one) in measured.items()
    ]
    reached = all(
        one.status == 0 and (part.asked is None or seconds < part.asked)
        for seconds, one in measured.values()
    )
    name = f"{part.name} (commit {commits})"
    if part.asked is None:
        return Figure(name, "; ".join(told), reached=None if reached else False)
    return Figure(name, "; ".join(told), f"under {part.asked} s", reached)
