"""Validate: clean parts -> a dataset with a leak-free split, its cost, and the data report.

Reads the parts `clean/<project>/<hash>/part*.jsonl` in the order of their drop; writes train,
validation and test JSONL, `left-out.jsonl`, a manifest and the data report under
`validate/<project>/<hash>/`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import islice
from typing import BinaryIO, NamedTuple

import msgspec

from dropforge.artifacts import digest
from dropforge.chat import ChatExample, Message, decode_example
from dropforge.chat_rules import template_tokens
from dropforge.deduplicate import Deduplicator
from dropforge.errors import TooFewExamplesError
from dropforge.models import Encoding, known_model
from dropforge.project import ProjectConfig
from dropforge.validate.split import SPLITS, Split, Splitter

KERNEL = "validate/2"
"""Part of every dataset hash: raise it when the same parts would be split differently."""

MIN_EXAMPLES = 100
"""Examples in all below which nothing is trained: there would be ten to judge on."""

MIN_TRAIN = 10
"""Training examples below which the fine-tuning protocols refuse a file."""

FEW = 500
"""Examples in all below which a run carries a warning."""

BATCH = 2_000
ENCODINGS: tuple[Encoding, Encoding] = ("o200k_base", "cl100k_base")

CountTokens = Callable[[list[str], Encoding], list[int]]
"""Counts the tokens of many texts at once."""


class LeftOutReason(StrEnum):
    """Why a clean row stands in no split."""

    DUPLICATE = "duplicate of another export's row"
    NEAR_DUPLICATE = "near-duplicate of another export's row"
    TOO_LONG = "longer than the model takes"
    STRADDLES = "would stand in two splits"
    MAX_ROWS = "over training.max_rows"
    VALIDATION_ROWS = "over training.validation_rows"


class LeftOut(msgspec.Struct, frozen=True):
    """A clean row that stands in no split: its part, its position in the dropped file, and why."""

    part: str
    position: int
    reason: LeftOutReason
    detail: str = ""


class Part(NamedTuple):
    """The clean rows of one dropped file, in an open seekable file; read twice."""

    hash: str
    file: BinaryIO


class Entry(NamedTuple):
    """A row of the dataset: where its line stands, and what is told of it.

    `tokens` are by `ENCODINGS`.
    """

    id: str
    part: int
    offset: int
    length: int
    position: int
    tokens: tuple[int, int]
    language: str
    topic: str

    @classmethod
    def of(
        cls, example: ChatExample, part: int, offset: int, length: int, tokens: tuple[int, int]
    ) -> Entry:
        told = example.position, tokens, example.language, example.topic
        return cls(example.id, part, offset, length, *told)


class Dataset:
    """Which rows stand in which split; their lines are read again from the parts."""

    def __init__(
        self,
        parts: Sequence[Part],
        splits: dict[Split, list[Entry]],
        left_out: list[LeftOut],
        warnings: tuple[str, ...],
    ) -> None:
        self._parts = parts
        self.splits = splits
        self.left_out = left_out
        self.warnings = warnings

    @property
    def counts(self) -> dict[str, int]:
        return {split: len(self.splits[split]) for split in SPLITS}

    @property
    def left_out_by_reason(self) -> dict[str, int]:
        return dict(sorted(Counter(row.reason.value for row in self.left_out).items()))

    @property
    def read(self) -> int:
        return sum(self.counts.values()) + len(self.left_out)

    def tokens(self, split: Split, encoding: Encoding = "o200k_base") -> int:
        """Tokens of a split's examples, chat template and system prompt included."""
        return sum(entry.tokens[ENCODINGS.index(encoding)] for entry in self.splits[split])

    def lines(self, split: Split) -> Iterator[bytes]:
        """The split's rows as JSONL lines, as they stand in the parts."""
        for entry in self.splits[split]:
            file = self._parts[entry.part].file
            file.seek(entry.offset)
            yield file.read(entry.length)

    def examples(self, split: Split) -> Iterator[ChatExample]:
        """The split's rows."""
        return map(decode_example, self.lines(split))


def dataset_hash(parts: Sequence[str], config: ProjectConfig) -> str:
    """The address of a dataset: its parts in order, and the options that decide on its rows."""
    model = known_model(config.model)
    counted = (model.encoding, model.factor) if model else None
    rows = (config.training.max_rows, config.training.validation_rows)
    return digest(KERNEL, list(parts), config.system_prompt, *rows, _context(config), counted)


def _context(config: ProjectConfig) -> int | None:
    """Tokens that an example may have; None for a model never heard of."""
    model = known_model(config.model)
    return config.training.max_length or (model.context if model else None)


def build_dataset(
    parts: Sequence[Part], config: ProjectConfig, count_tokens: CountTokens
) -> Dataset:
    """Split the rows of all parts; nothing of one customer or conversation stands in two splits.

    Of two rows that say the same the one dropped first is kept, so adding an export moves no row.
    Which training rows stay under `training.max_rows` is decided by their hash.

    Raises:
        TooFewExamplesError: too few to train and judge on.
    """
    selection, tokens = Selection(config), Tokens(config, count_tokens)
    near = Deduplicator() if len(parts) > 1 else None
    for index, part in enumerate(parts):
        part.file.seek(0)
        lines, offset = iter(part.file), 0
        while batch := list(islice(lines, BATCH)):
            examples = [decode_example(line) for line in batch]
            texts = [text_of(example) for example in examples]
            earlier = near.add(texts).tolist() if near else [-1] * len(texts)
            counts = tokens(examples, texts)
            for example, line, first, count in zip(examples, batch, earlier, counts, strict=True):
                entry = Entry.of(example, index, offset, len(line), count)
                offset += len(line)
                selection.take(part.hash, example, entry, repeats=first >= 0)
    return selection.dataset(parts)


def text_of(example: ChatExample) -> str:
    """What is compared with other rows, and counted."""
    return "\n".join(message.content for message in example.messages)


class Tokens:
    """Counts the tokens of examples by `ENCODINGS`, chat template and system prompt included."""

    def __init__(self, config: ProjectConfig, count_tokens: CountTokens) -> None:
        self._count = count_tokens
        prompt = [config.system_prompt]
        self._prompt = [count_tokens(prompt, encoding)[0] for encoding in ENCODINGS]
        self._system = (Message("system", ""),) if config.system_prompt else ()

    def __call__(
        self, examples: Sequence[ChatExample], texts: list[str]
    ) -> Iterator[tuple[int, int]]:
        o200k, cl100k = (self._count(texts, encoding) for encoding in ENCODINGS)
        for place, example in enumerate(examples):
            template = template_tokens((*self._system, *example.messages))
            yield (
                o200k[place] + template + self._prompt[0],
                cl100k[place] + template + self._prompt[1],
            )


class Selection:
    """Which rows are used, and where: `take` gets each of them in the order of their drop."""

    def __init__(self, config: ProjectConfig) -> None:
        self._config = config
        self._ids: set[str] = set()
        self._splitter = Splitter()
        self._splits: dict[Split, list[Entry]] = {split: [] for split in SPLITS}
        self._left_out: list[LeftOut] = []
        self._model = known_model(config.model)
        self._context = _context(config)

    def take(self, part: str, example: ChatExample, entry: Entry, *, repeats: bool) -> None:
        """A row of a part; `repeats` if it is near an earlier one.

        Its messages are not looked at.
        """

        def leave(reason: LeftOutReason, detail: str = "") -> None:
            self._left_out.append(LeftOut(part, entry.position, reason, detail))

        if example.id in self._ids:
            return leave(LeftOutReason.DUPLICATE)
        if repeats:
            return leave(LeftOutReason.NEAR_DUPLICATE)
        tokens = self._tokens(entry)
        if self._context and tokens > self._context:
            return leave(LeftOutReason.TOO_LONG, f"about {tokens} tokens of {self._context}")
        split = self._splitter.assign(example)
        if split is None:
            return leave(LeftOutReason.STRADDLES)
        self._ids.add(example.id)
        return self._splits[split].append(entry)

    def _tokens(self, entry: Entry) -> int:
        if self._model is None:
            return entry.tokens[0]
        place = ENCODINGS.index(self._model.encoding)
        return round(entry.tokens[place] * self._model.factor)

    def dataset(self, parts: Sequence[Part]) -> Dataset:
        limits: dict[Split, tuple[int | None, LeftOutReason]] = {
            "train": (self._config.training.max_rows, LeftOutReason.MAX_ROWS),
            "validation": (self._config.training.validation_rows, LeftOutReason.VALIDATION_ROWS),
        }
        usable = sum(map(len, self._splits.values()))
        available = len(self._splits["train"])
        for split, (limit, reason) in limits.items():
            rows = sorted(self._splits[split])
            self._splits[split] = rows[:limit]
            over = rows[len(self._splits[split]) :]
            self._left_out += (LeftOut(parts[e.part].hash, e.position, reason) for e in over)
        self._splits["test"].sort()
        self._check(usable)
        warnings = tuple(self._warnings(usable, available))
        return Dataset(parts, self._splits, self._left_out, warnings)

    def _check(self, usable: int) -> None:
        splits = self._splits
        found = ", ".join(f"{len(rows)} to {split}" for split, rows in splits.items())
        if usable < MIN_EXAMPLES:
            long = sum(row.reason == LeftOutReason.TOO_LONG for row in self._left_out)
            longer = f"; {long} are longer than the model takes" if long else ""
            raise TooFewExamplesError(
                f"There are {usable} usable conversations, and {MIN_EXAMPLES} are needed{longer}.",
                hint=f"Export more resolved tickets; {FEW} and more are better.",
            )
        if len(splits["train"]) < MIN_TRAIN or not splits["test"]:
            raise TooFewExamplesError(
                f"The {usable} usable conversations do not divide ({found}): a customer's "
                "conversations stay together, and these are of too few customers.",
                hint="Export tickets of more customers, or check the column that names them.",
            )

    def _warnings(self, usable: int, available: int) -> Iterator[str]:
        if usable < FEW:
            yield f"only {usable} usable conversations: expect little from under {FEW}"
        used = len(self._splits["train"])
        if used < available:
            yield f"trained on {used} of {available} training examples (training.max_rows)"
        long = sum(row.reason == LeftOutReason.TOO_LONG for row in self._left_out)
        if long:
            yield f"{long} conversations are longer than the {self._context} tokens trained on"


def left_out_lines(rows: Iterable[LeftOut]) -> Iterator[bytes]:
    """`left-out.jsonl`, line by line."""
    return (msgspec.json.encode(row) + b"\n" for row in rows)
