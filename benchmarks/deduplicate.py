"""Near-duplicate detection, Dropforge against its peers.

Each contestant gets the same file in a process of its own and names the rows that it takes for
near-duplicates of an earlier one. Only that is measured, in CPU time of all its threads, and the
memory it takes beyond the texts. No contestant has to lower-case or strip the corpus.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import ROOT, Figure, output
from dropforge.deduplicate import THRESHOLD

PEERS = Path(__file__).with_name("peers")
WORDS_A_ROW = 100
SMALL, LARGE = 100_000, 1_000_000
RUNS = 5  # of which the quickest counts: the machine may be busy


@dataclass(frozen=True)
class Measured:
    """One contestant on one corpus."""

    name: str
    rows: int
    rows_per_cpu_second: float
    recall: float  # of the rows with an earlier one of similarity .8 or more, how many were found
    precision: float  # of the rows found, how many have one
    peak_bytes_a_row: float  # beyond the texts

    def figure(self, asked: str = "–", reached: bool | None = None) -> Figure:
        return Figure(
            f"near-duplicates, {self.rows:,} rows of 100 words, 12 % planted: {self.name}",
            f"{self.rows_per_cpu_second:,.0f} rows/CPU-s, recall {self.recall:.4f}, precision "
            f"{self.precision:.4f}, {self.peak_bytes_a_row:,.0f} bytes a row beyond the text",
            asked,
            reached,
        )


@dataclass(frozen=True)
class Corpus:
    """A file of texts, a line each, and which of them are near-duplicates of an earlier one."""

    path: Path
    rows: int
    duplicate: NDArray[np.bool_]


def figures() -> Iterator[Figure]:
    """All contestants on 100,000 rows, and Dropforge on a million."""
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        ours, million, rensa, daft = measurements(Path(folder))
    for one in (ours, million):
        yield one.figure(
            "160,000 rows/CPU-s; .99; .99; 1.2 KB at 1M",
            one.rows_per_cpu_second >= 160_000
            and min(one.recall, one.precision) >= 0.99
            and (one is ours or one.peak_bytes_a_row <= 1200),
        )
    yield from (rensa.figure(), daft.figure())
    for peer, asked in ((rensa, 3.0), (daft, 1.4)):
        ratio = ours.rows_per_cpu_second / peer.rows_per_cpu_second
        yield Figure(
            f"near-duplicates: Dropforge / {peer.name}",
            f"{ratio:.1f}×",
            f"at least {asked:g}×",
            ratio >= asked,
        )


def measurements(folder: Path) -> list[Measured]:
    """Dropforge on both corpora, then rensa and Daft on the small one."""
    small, large = corpus(folder / "small.txt", SMALL), corpus(folder / "large.txt", LARGE)
    check(small)
    peers = str(ROOT / ".venv-peers/bin/python")
    return [
        measured("Dropforge", small, sys.executable, "dropforge_kernel", RUNS),
        measured("Dropforge", large, sys.executable, "dropforge_kernel", 2),
        measured("rensa, as documented", small, peers, "rensa_unique", RUNS),
        measured("Daft, minhash and bands", small, peers, "daft_minhash", RUNS),
    ]


def measured(name: str, on: Corpus, python: str, script: str, runs: int) -> Measured:
    """The quickest of some runs, each in a fresh process with one thread to each library."""
    environment = {f"{one}_NUM_THREADS": "1" for one in ("OMP", "OPENBLAS", "RAYON")}
    environment |= {"DO_NOT_TRACK": "true"}
    command = [python, PEERS / f"{script}.py", on.path]
    printed = [output(command, environment=environment) for _ in range(runs)]
    results = [json.loads(text.splitlines()[-1]) for text in printed]
    best = min(results, key=lambda result: float(result["seconds"]))
    found = np.zeros(on.rows, np.bool_)
    found[best["duplicates"]] = True
    right = np.count_nonzero(found & on.duplicate)
    return Measured(
        name,
        on.rows,
        on.rows / best["seconds"],
        right / max(1, np.count_nonzero(on.duplicate)),
        right / max(1, np.count_nonzero(found)),
        best["peak"] / on.rows,
    )


def corpus(path: Path, rows: int, seed: int = 7) -> Corpus:
    """Rows of 100 words of a Zipf vocabulary; 12 % near another, 3 % only almost.

    A planted row is a copy of an earlier one, each copied at most once, of which a run of words or
    scattered ones are changed; what its similarity then is, is counted.
    """
    rng = np.random.default_rng(seed)
    vocabulary = np.array(_vocabulary(rng, 30_000), object)
    weights = np.cumsum(1 / (np.arange(vocabulary.size) + 2.7))
    duplicate = np.zeros(rows, np.bool_)
    copied, kept = 0, np.empty((0, WORDS_A_ROW), np.uint16)
    with path.open("w", encoding="utf-8") as file:
        for begin in range(0, rows, step := 20_000):
            size = min(step, rows - begin)
            draws = rng.random((size, WORDS_A_ROW)) * weights[-1]
            words = np.searchsorted(weights, draws).astype(np.uint16)
            fresh = rng.random(size) >= 0.15
            sources = np.concatenate((kept, words[fresh]))
            for row in np.flatnonzero(~fresh).tolist():
                # Of this block only rows above, and no source twice.
                available = kept.shape[0] + np.count_nonzero(fresh[:row])
                if copied < available:
                    source = sources[copied]
                    words[row] = _edited(rng, source, vocabulary.size)
                    copied += int(rng.integers(1, 5))
                    duplicate[begin + row] = _similarity(source, words[row]) >= THRESHOLD
            kept, copied = sources[copied:], max(0, copied - sources.shape[0])
            file.writelines(f"{line}\n" for line in map(" ".join, vocabulary[words].tolist()))
    return Corpus(path, rows, duplicate)


def _vocabulary(rng: np.random.Generator, size: int) -> list[str]:
    """Made-up words, frequent ones short: with the weights, about 4.7 letters on average."""
    onsets = [*"bcdfghklmnprstvw", "st", "tr", "ch", "pl"]
    words: dict[str, None] = {}
    while len(words) < size:
        syllables = 1 + (len(words) > 150) * rng.integers(2) + (len(words) > 3000) * rng.integers(3)
        word = "".join(rng.choice(onsets) + rng.choice(list("aeiou")) for _ in range(syllables))
        words[word + str(rng.choice(["", "", "n", "s", "t", "ck"]))] = None
    return list(words)


def _edited(
    rng: np.random.Generator, row: NDArray[np.uint16], vocabulary: int
) -> NDArray[np.uint16]:
    """A copy with 0 to 10 of its 98 shingles changed, so .815 similar or more; or with up to 20."""
    near = rng.random() < 0.8
    changed, row = int(rng.integers(0, 11) if near else rng.integers(12, 21)), row.copy()
    if rng.random() < 0.5:  # one run of words
        start = int(rng.integers(0, WORDS_A_ROW - 20))
        places = np.arange(start, start + max(0, changed - 2))
    else:
        places = rng.choice(WORDS_A_ROW, changed // 3, replace=False)
    row[places] = rng.integers(0, vocabulary, places.size)
    return row


def _similarity(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    """Jaccard similarity of the word 3-grams, from the words and without the code under test."""
    a, b = ({*zip(x, x[1:], x[2:], strict=False)} for x in (one.tolist(), other.tolist()))
    return len(a & b) / len(a | b)


def check(on: Corpus, samples: int = 20) -> None:
    """Rows planted as unlike all others are: some are compared with every row before them."""
    texts = on.path.read_text("utf-8").splitlines()
    sets = [frozenset(zip(w, w[1:], w[2:], strict=False)) for w in map(str.split, texts[:20_000])]
    for row in np.flatnonzero(~on.duplicate[: len(sets)])[-samples:].tolist():
        nearest = max(len(sets[row] & other) / len(sets[row] | other) for other in sets[:row])
        if nearest >= THRESHOLD:
            raise SystemExit(f"row {row} of the corpus has an unplanned near-duplicate")
