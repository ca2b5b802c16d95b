"""What every contestant has in common: loading the corpus, and measuring what follows.

Run in the contestant's own process and environment, so nothing but the standard library is needed.
Reads the corpus (a text a line), writes one JSON object to standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def contest(prepare: Callable[[list[str]], object], find: Callable[..., Iterable[int]]) -> None:
    """Measure `find(prepare(texts))`, the rows it names as duplicates; only `find` is measured."""
    corpus = prepare(Path(sys.argv[1]).read_text("utf-8").splitlines())
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory, see proc(5)
    before, began = _status("VmRSS"), _cpu_seconds()
    duplicates = [int(row) for row in find(corpus)]
    seconds, peak = _cpu_seconds() - began, _status("VmHWM") - before
    print(json.dumps({"seconds": seconds, "peak": peak, "duplicates": duplicates}), flush=True)
    os._exit(0)  # Daft 0.7 may crash as the interpreter ends


def _cpu_seconds() -> float:
    """User and system time of this process, all its threads, and its children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
