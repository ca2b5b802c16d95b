"""Is it enough, is it clean enough, and would a prompt or retrieval do better?

Rules of thumb, each with its figure, so that a person can disagree with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from dropforge.artifacts import DatasetManifest
from dropforge.chat import ChatExample

_FACT = re.compile(r"https?://\S+|\b[A-Z]{1,5}-?\d[\w-]{2,}|\b\d[\d.,-]{2,}\d\b|\b[\w.]+@[\w.]+\b")
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]")
_COMMON = 0.005
"""Share of answers from which on a fact is the company's, not the customer's: it can be learned."""


class Finding(msgspec.Struct, frozen=True):
    """A question, and how the data answers it: good, to be looked at, or bad."""

    question: str
    answer: str
    level: Literal["good", "look", "bad"]


def findings(
    manifest: DatasetManifest,
    read: int,
    kept: int,
    rejected: dict[str, int],
    sample: Sequence[ChatExample],
) -> tuple[Finding, ...]:
    """Whether the dataset is ready to train on, question by question."""
    return tuple(_findings(manifest, read, kept, rejected, sample))


def _findings(
    manifest: DatasetManifest,
    read: int,
    kept: int,
    rejected: dict[str, int],
    sample: Sequence[ChatExample],
) -> Iterator[Finding]:
    spare = (n for why, n in manifest.left_out.items() if why.startswith("over "))
    total = sum(manifest.examples.values()) + sum(spare)
    yield Finding(
        "Enough?",
        f"{total:,} usable conversations; from about 500 on tone and procedure are learned, "
        "facts want thousands.",
        "good" if total >= 1000 else "look" if total >= 500 else "bad",
    )
    share = kept / read if read else 0
    repeats = sum(n for reason, n in rejected.items() if "duplicate" in reason)
    lost = 1 - share - repeats / read if read else 1
    yield Finding(
        "Clean enough?",
        f"{share:.0%} of the rows were kept; {lost:.0%} were of no use, "
        f"{repeats / read if read else 0:.0%} repeated others.",
        "good" if lost < 0.1 else "look" if lost < 0.3 else "bad",
    )
    if not sample:
        return
    yield _looked_up(sample)
    yield _repetitive(sample)
    test = manifest.examples["test"]
    yield Finding(
        "Enough to judge on?",
        f"{test} conversations are held out; with under 60 only a clear winner can be told.",
        "good" if test >= 100 else "look" if test >= 30 else "bad",
    )


def _looked_up(sample: Sequence[ChatExample]) -> Finding:
    """Answers that state what neither the customer said nor other answers repeat."""
    stated = [_facts([example.reference]) for example in sample]
    common = Counter(fact for facts in stated for fact in facts)
    limit = max(2, _COMMON * len(sample))
    single = sum(
        any(common[fact] < limit for fact in facts - _facts(m.content for m in example.prompt))
        for facts, example in zip(stated, sample, strict=True)
    )
    share = single / len(sample)
    return Finding(
        "Retrieval first?",
        f"{share:.0%} of the answers state a number, code or link that the customer had not given "
        "and that hardly another answer has: such facts are looked up, not learned"
        + (": give the model a tool or retrieved text for them." if share >= 0.1 else "."),
        "good" if share < 0.1 else "look" if share < 0.4 else "bad",
    )


def _facts(texts: Iterable[str]) -> set[str]:
    return {fact for text in texts for fact in _FACT.findall(_PLACEHOLDER.sub(" ", text))}


def _repetitive(sample: Sequence[ChatExample]) -> Finding:
    """How much of the answers is the same few sentences."""
    openings = Counter(" ".join(example.reference.lower().split()[:8]) for example in sample)
    share = sum(n for _, n in openings.most_common(10)) / len(sample)
    return Finding(
        "Would a prompt do?",
        f"The ten most usual openings begin {share:.0%} of the answers"
        + (": try a prompt with these answers in it first." if share > 0.6 else "."),
        "good" if share <= 0.6 else "look",
    )
