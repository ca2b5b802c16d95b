"""What was measured, and the page it is written to, section by section."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/benchmarks.md"
SECTIONS = {
    "loop": "The loop on this machine",
    "demo": "The demo, over seeds",
    "memory": "Memory of the local default",
    "data": "Data: near-duplicates, redaction, validation, the clean stage",
    "training": "Training: SmolLM2 on the CPU, against TRL",
    "judging": "Judging: the statistics by simulation, waiting for judges, attacks",
    "serving": "Serving: the chat function, against gateways and a FastAPI proxy",
    "cache": "Cache: near questions, paraphrases, what looking costs",
    "ensemble": "Ensembles: votes and judges over simulated models",
    "load": "Serving under load: the deployed API of the local default",
    "cost": "What the API costs to run, by list prices",
    "lines": "Lines of code",
}
"""By the name of the group of measurements, in the order of the page."""

HEAD = """# Benchmarks

Written by `make bench`; a section is replaced as a whole, by the run whose date and machine it
names. CPU-seconds are user and system time on one thread; peers run in the same run, on the same
input, in environments of their own (locked in `benchmarks/requirements/`).
"""


@dataclass(frozen=True)
class Figure:
    """One line of the page: what was asked for, and whether it was reached."""

    name: str
    measured: str
    asked: str = "–"
    reached: bool | None = None


def write(section: str, figures: Iterable[Figure]) -> None:
    """Replace a section of the page, or add it at its end."""
    page = PAGE.read_text() if PAGE.exists() else ""
    _, *parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    known = {part.partition("\n")[0].removeprefix("## "): part for part in parts}
    known[section] = _section(section, figures)
    parts = [known[name].strip() + "\n" for name in SECTIONS.values() if name in known]
    PAGE.write_text(HEAD + "\n" + "\n".join(parts))


def _section(name: str, figures: Iterable[Figure]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    rows = "\n".join(
        f"| {f.name} | {f.measured} | {f.asked} | {marks[f.reached]} |" for f in figures
    )
    return (
        f"## {name}\n\n{datetime.now(UTC):%Y-%m-%d}, {machine()}.\n\n"
        f"| figure | measured | asked for | reached |\n|---|---|---|---|\n{rows}\n"
    )


def machine() -> str:
    """Processor, cores and Python of this machine."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {name}, Python {platform.python_version()}"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def output(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    told: str | None = None,
    folder: Path = ROOT,
) -> str:
    """What a command prints, its own settings beside this process's; `told` is its input.

    Raises:
        SystemExit: it failed; with all that it said.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise SystemExit(f"{words} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
