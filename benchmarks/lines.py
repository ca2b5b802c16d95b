"""How much there is to read: lines of the product, of its tests, and of the benchmarks."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

from benchmarks.figures import ROOT, Figure

SUFFIXES = (".py", ".mjs", ".js", ".html", ".css")
BEFORE = {"product": 54_040, "tests": 47_528, "benchmarks": 4_628}
"""On 23 November 2026 (e0fa8be), counted alike."""


def figures() -> Iterator[Figure]:
    """Of all that git tracks; code that moved into the benchmarks has not gone."""
    now = counted()
    before, after = sum(BEFORE.values()), sum(now.values())
    each = ", ".join(f"{name} {BEFORE[name]:,} → {now[name]:,}" for name in BEFORE)
    yield Figure(
        "lines of Python, JavaScript, HTML and CSS, 23 November → now",
        f"{before:,} → {after:,} ({after / before - 1:+.1%}): {each}",
        "a tenth less",
        after <= 0.9 * before,
    )


def counted() -> Counter[str]:
    """Lines by what they belong to."""
    listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    found = Counter[str]()
    for name in listed.splitlines():
        folder = name.partition("/")[0]
        if name.endswith(SUFFIXES):
            kind = folder if folder in BEFORE else "product"
            found[kind] += (ROOT / name).read_bytes().count(b"\n")
    return found
