"""`make bench`: measures this checkout on this machine and writes docs/benchmarks.md.

Every figure comes from the run that writes it. A group of measurements is the module of its name,
whose `figures()` yields them; what it needs is imported when its turn comes.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any, Final

from benchmarks.figures import SECTIONS, write
from benchmarks.loop import PARTS

OPTIONS: Final = {"demo": ("seeds",), "loop": ("runs", "only"), "memory": ("minutes",)}
"""What some groups take."""


def main() -> int:
    """Measure, write, and tell; 0 also where a figure falls short, because the page says so."""
    asked = _parser().parse_args()
    for group in asked.groups or SECTIONS:
        print(f"measuring: {SECTIONS[group]}", flush=True)
        options: dict[str, Any] = {name: getattr(asked, name) for name in OPTIONS.get(group, ())}
        figures = import_module(f"benchmarks.{group}").figures(**options)
        found = []
        for figure in figures:
            print(f"{figure.name}: {figure.measured} (asked for: {figure.asked})", flush=True)
            found.append(figure)
        if not asked.show:
            write(SECTIONS[group], found)  # what follows takes minutes, and may fail
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(SECTIONS)}; all if left out")
    parser.add_argument("--show", action="store_true", help="leave the page as it is")
    parser.add_argument("--minutes", type=float, default=30, help="memory: of chats")
    parser.add_argument("--seeds", type=_numbers, default=[1, 2, 3, 4, 5], help="demo: 1,2,3")
    parser.add_argument("--runs", type=int, default=2, help="loop: how many, side by side")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="loop: a part; others stay as measured"
    )
    return parser


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
