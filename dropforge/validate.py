"""Validate: clean parts -> a dataset with a leak-free split, and the data report.

Reads the parts `clean/<project>/<hash>/part.jsonl`; writes train, validation and test JSONL with a
manifest and the data report under `validate/<project>/<hash>/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Literal

import msgspec

from dropforge.artifacts import CleanManifest, DatasetManifest, digest
from dropforge.chat import ChatExample
from dropforge.errors import TooFewExamplesError
from dropforge.page import Table, bars, page

KERNEL = "validate/1"
"""Part of every dataset hash: raise it when the same parts would be split differently."""

MIN_TRAIN = 10
"""Examples below which the fine-tuning protocols refuse a file."""

FEW = 100
"""Training examples below which a run carries a warning."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_TRAIN_SHARE, _VALIDATION_SHARE = 0.8, 0.1
MAX_VALIDATION = 24
"""Validation examples used for the loss curve: more of them cost time, not insight."""


class Dataset(msgspec.Struct, frozen=True):
    """The examples of each split, in the order they are written."""

    splits: dict[Split, tuple[ChatExample, ...]]
    repeated: int
    left_out: int
    warnings: tuple[str, ...]


def dataset_hash(parts: Iterable[str], system_prompt: str, max_rows: int | None) -> str:
    """The address of a dataset: its parts and the options that decide which rows are used."""
    return digest(KERNEL, sorted(parts), system_prompt, max_rows)


def split_of(group: str) -> Split:
    """The split of a customer: 80/10/10 by hash, so it never changes as exports are added."""
    place = int.from_bytes(sha256(group.encode()).digest()[:8]) / 2**64
    if place < _TRAIN_SHARE:
        return "train"
    return "validation" if place < _TRAIN_SHARE + _VALIDATION_SHARE else "test"


def build_dataset(parts: Iterable[Iterable[ChatExample]], max_rows: int | None) -> Dataset:
    """Split the examples of all parts by customer; no conversation stands in two splits.

    Args:
        parts: clean examples, a part for each dropped file; one repeated across parts counts once.
        max_rows: training examples to use at most; which ones is decided by their hash.

    Raises:
        TooFewExamplesError: fewer than 10 to train on, or none to judge on.
    """
    examples: dict[str, ChatExample] = {}
    read = 0
    for part in parts:
        for example in part:
            read += 1
            examples.setdefault(example.id, example)
    splits: dict[Split, list[ChatExample]] = {split: [] for split in SPLITS}
    for _, example in sorted(examples.items()):
        splits[split_of(example.group)].append(example)
    available = len(splits["train"])
    splits["train"] = splits["train"][:max_rows]
    splits["validation"] = splits["validation"][:MAX_VALIDATION]
    _check(splits)
    return Dataset(
        splits={split: tuple(rows) for split, rows in splits.items()},
        repeated=read - len(examples),
        left_out=available - len(splits["train"]),
        warnings=tuple(_warnings(splits, available, max_rows)),
    )


def _check(splits: dict[Split, list[ChatExample]]) -> None:
    if len(splits["train"]) < MIN_TRAIN or not splits["test"]:
        found = ", ".join(f"{len(rows)} to {split}" for split, rows in splits.items())
        raise TooFewExamplesError(
            f"There are too few usable conversations ({found}).",
            hint=f"At least {FEW} resolved tickets are needed, and some hundreds are better.",
        )


def _warnings(
    splits: dict[Split, list[ChatExample]], available: int, max_rows: int | None
) -> Iterable[str]:
    if len(splits["train"]) < FEW:
        yield f"only {len(splits['train'])} training examples: expect little from under {FEW}"
    if max_rows and available > max_rows:
        yield f"trained on {max_rows} of {available} training examples (training.max_rows)"


def token_counts(dataset: Dataset, count: Callable[[list[str]], list[int]]) -> dict[str, int]:
    """Tokens of each split's messages; those of a chat template come on top.

    Args:
        count: counts the tokens of many texts at once.
    """
    return {
        split: sum(count([message.content for row in rows for message in row.messages]))
        for split, rows in dataset.splits.items()
    }


def data_report(
    manifest: DatasetManifest, sources: Iterable[CleanManifest], lengths: list[int]
) -> str:
    """The data report: one self-contained HTML page, without any customer's text.

    Args:
        sources: what cleaning made of each dropped file.
        lengths: characters of each training conversation.
    """
    cleaned = list(sources)
    read, kept = sum(c.read for c in cleaned), sum(c.kept for c in cleaned)
    files = Table(
        ("file", "format", "rows", "kept", "rejected"),
        [(c.source.key.split("/")[-1], c.format, c.read, c.kept, c.read - c.kept) for c in cleaned],
    )
    splits = Table(
        ("split", "examples", "tokens (o200k)"),
        [(s, manifest.examples[s], manifest.tokens[s]) for s in SPLITS],
    )
    return page(
        f"Data report: {manifest.project}",
        f"{kept} of {read} rows kept; {manifest.examples['train']} to train on.",
        [
            ("What came in", files),
            ("What was dropped, and why", bars(_sum(c.rejected for c in cleaned))),
            (
                "Personal data and secrets replaced (rows)",
                bars(_sum(c.redacted_rows for c in cleaned)),
            ),
            ("Repairs (rows)", bars(_sum(c.repaired for c in cleaned))),
            ("The split", splits),
            ("Length of training conversations (characters)", bars(_histogram(lengths))),
            ("Warnings", bars({}) if not manifest.warnings else "; ".join(manifest.warnings)),
        ],
        footer=f"dataset {manifest.hash}",
    )


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _histogram(lengths: list[int], columns: int = 10) -> dict[str, int]:
    if not lengths:
        return {}
    width = max(1, -(-max(lengths) // columns))
    counts = [0] * columns
    for length in lengths:
        counts[min(columns - 1, length // width)] += 1
    return {f"{i * width}–{(i + 1) * width}": n for i, n in enumerate(counts)}
