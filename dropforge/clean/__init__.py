"""Clean: conversations -> training examples, without personal data and without repetition.

Reads the rows of one dropped file. What is kept goes to `clean/<project>/<hash>/part.jsonl`, every
other row, with position and reason, to `rejected/<project>/<hash>.jsonl`.

`prepare.py` makes of each row a candidate or a rejection; here the candidates are compared with
each other, counted and given out, a batch at a time: memory grows by some hundred bytes a row.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from dropforge.artifacts import Cluster, Excerpt, collected_key, digest
from dropforge.chat import ChatExample
from dropforge.clean.prepare import Candidate, Dropped, Preparer, Rules, exact_key
from dropforge.deduplicate import Deduplicator
from dropforge.errors import NoDataError, TooManyRejectedError
from dropforge.export import Reason, Rejected, Row
from dropforge.project import ProjectConfig
from dropforge.project.data import Columns, Roles

T = TypeVar("T")

KERNEL = "clean/2"
"""Part of every clean hash: raise it when the same file would come out differently."""

MAX_BROKEN = 0.2
"""Share of rows that may be unreadable before the file is taken for a wrong one."""

BATCH = 2_000
"""Rows cleaned together: enough for array operations to pay, few enough to stay in cache."""

EXCERPTS = 3
CLUSTERS = 5
TOPICS = 200

_UNREADABLE = (Reason.BROKEN_ROW, Reason.ENCODING, Reason.UNKNOWN_SHAPE)


class Batch(msgspec.Struct, frozen=True):
    """What became of some rows: each is kept or rejected."""

    kept: list[ChatExample]
    rejected: list[Rejected]


class Summary(msgspec.Struct, frozen=True):
    """What became of all rows, in numbers: `read == kept + sum(rejected.values())`.

    `redacted_rows` counts the kept rows holding each kind of personal data or secret, `repaired`
    those that each repair changed.
    """

    read: int
    kept: int
    rejected: dict[str, int]
    redacted_rows: dict[str, int]
    repaired: dict[str, int]
    languages: dict[str, int]
    topics: dict[str, int]
    excerpts: dict[str, tuple[Excerpt, ...]]
    clusters: tuple[Cluster, ...]
    cluster_sizes: dict[int, int]


def clean_hash(source_sha256: str, mapping: object, rules: Rules) -> str:
    """The address of what cleaning makes of a file: content, options and kernel decide it."""
    return digest(KERNEL, source_sha256, mapping, rules)


def spark_hash(identity: str, mapping: object, rules: Rules) -> str:
    """The address of what Spark makes of a file that is not hashed: see `Store.identity`."""
    return clean_hash(f"s3:{identity}", mapping, rules)


def names_in(key: str, project: str, config: ProjectConfig) -> tuple[Columns, Roles]:
    """What an export calls things: the project's own names, but the usual ones in our own file."""
    if key == collected_key(project):
        return Columns(), Roles()
    return config.columns, config.roles


def in_batches(rows: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """The rows, so many at a time."""
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch


class Cleaning:
    """Cleans one file: `batches` gives out every row, `summary` then tells about all of them."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._prepare = Preparer(rules or Rules())
        self._repeats = Repeats()
        self._tally = Tally()

    def batches(self, rows: Iterable[Row]) -> Iterator[Batch]:
        """Every row, kept or rejected, in their order."""
        for batch in in_batches(rows):
            yield self._batch(self._prepare(batch))

    def _batch(self, prepared: list[Candidate | Dropped]) -> Batch:
        candidates = [row for row in prepared if isinstance(row, Candidate)]
        return settled(prepared, self._repeats.among(candidates), self._tally)

    def summary(self) -> Summary:
        """What became of all rows.

        Raises:
            NoDataError: no row is usable.
            TooManyRejectedError: more than a fifth of the rows cannot be read.
        """
        found = self._tally.summary(self._repeats.clusters(), self._repeats.sizes())
        check(found, self._tally.first_unreadable)
        return found


def settled(
    prepared: Iterable[Candidate | Dropped], repeats: Iterable[Rejected | None], tally: Tally
) -> Batch:
    """The rows kept or rejected, and counted; `repeats` has an entry for each candidate."""
    of_candidates = iter(repeats)
    kept: list[ChatExample] = []
    rejected: list[Rejected] = []
    for row in prepared:
        if isinstance(row, Candidate):
            repeated = next(of_candidates)
            if repeated is None:
                kept.append(row.example)
                tally.keep(row)
                continue
        else:
            repeated = row.rejected
        tally.reject(repeated, row)
        rejected.append(repeated)
    return Batch(kept, rejected)


def repeat(position: int, first: int, earlier: int) -> Rejected:
    """The rejection of a row near to row `earlier`, where `first` is the first with its words."""
    if first != position:
        return Rejected(position, Reason.DUPLICATE, f"same text as row {first}")
    return Rejected(position, Reason.NEAR_DUPLICATE, f"nearly the text of row {earlier}")


def largest(repeats: Mapping[int, int]) -> list[tuple[int, int]]:
    """The (position, repeats) of the largest clusters."""
    return sorted(repeats.items(), key=lambda item: (-item[1], item[0]))[:CLUSTERS]


class Repeats:
    """Tells which candidates repeat an earlier one, exactly or nearly.

    Earlier rows count whether or not they were repeats themselves, so the answer does not depend on
    how the rows are cut into batches.
    """

    def __init__(self) -> None:
        self._near = Deduplicator()
        self._exact: dict[int, int] = {}
        self._positions = array("q")
        self._roots = array("q")
        self.repeats: Counter[int] = Counter()
        self.excerpts: dict[int, str] = {}

    def among(self, candidates: list[Candidate]) -> list[Rejected | None]:
        """A rejection for each candidate that repeats an earlier one, None for the others."""
        texts = [candidate.text for candidate in candidates]
        near = self._near.add(texts).tolist()
        found: list[Rejected | None] = []
        for candidate, text, earlier in zip(candidates, texts, near, strict=True):
            position, index = candidate.example.position, len(self._positions)
            self._positions.append(position)
            self._roots.append(index if earlier < 0 else self._roots[earlier])
            # A 64-bit hash is enough: that the texts are alike has been verified already.
            first = self._exact.setdefault(hash(exact_key(text)), position)
            found.append(None if earlier < 0 else self._repeat(candidate, index, first, earlier))
        return found

    def _repeat(self, candidate: Candidate, index: int, first: int, earlier: int) -> Rejected:
        root = self._positions[self._roots[index]]
        self.repeats[root] += 1
        if root not in self.excerpts:
            self.excerpts[root] = candidate.excerpt.text
        return repeat(candidate.position, first, self._positions[earlier])

    def clusters(self) -> tuple[Cluster, ...]:
        """The largest groups of rows that say the same."""
        return tuple(Cluster(root, n, self.excerpts[root]) for root, n in largest(self.repeats))

    def sizes(self) -> Counter[int]:
        """How many groups have so many repeats."""
        return Counter(self.repeats.values())


class Tally:
    """Counts what became of rows; keeps a few excerpts of each reason.

    Args:
        topics: names counted one by one, the first that come; the others are "other". No limit for
            a tally that is merged into another.
    """

    def __init__(self, topics: float = TOPICS) -> None:
        self._most_topics = topics
        self.kept = 0
        self.first_unreadable: Rejected | None = None
        self._rejected: Counter[str] = Counter()
        self._redacted: Counter[str] = Counter()
        self._repaired: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()
        self._excerpts: dict[str, list[Excerpt]] = {}

    def keep(self, row: Candidate) -> None:
        self.kept += 1
        for kind in row.redacted:
            self._redacted[kind] += 1
        for what in row.repaired:
            self._repaired[what] += 1
        example = row.example
        self._languages[example.language] += 1
        if example.topic:
            self._count_topic(example.topic, 1)

    def _count_topic(self, topic: str, rows: int) -> None:
        known = topic in self._topics or len(self._topics) < self._most_topics
        self._topics[topic if known else "other"] += rows

    def reject(self, row: Rejected, what: Candidate | Dropped) -> None:
        reason = row.reason.value
        self._rejected[reason] += 1
        if row.reason in _UNREADABLE and self.first_unreadable is None:
            self.first_unreadable = row
        shown = self._excerpts.get(reason, [])
        if len(shown) < EXCERPTS and (excerpt := what.excerpt) is not None:
            self._excerpts[reason] = [*shown, excerpt]

    def merge(self, later: Tally) -> None:
        """Count what `later` has counted (with no limit of topics), of rows behind those here."""
        self.kept += later.kept
        self.first_unreadable = self.first_unreadable or later.first_unreadable
        self._rejected.update(later._rejected)
        self._redacted.update(later._redacted)
        self._repaired.update(later._repaired)
        self._languages.update(later._languages)
        for topic, rows in later._topics.items():
            self._count_topic(topic, rows)
        for reason, excerpts in later._excerpts.items():
            self._excerpts[reason] = [*self._excerpts.get(reason, []), *excerpts][:EXCERPTS]

    def summary(self, clusters: tuple[Cluster, ...], sizes: Mapping[int, int]) -> Summary:
        return Summary(
            read=self.kept + self._rejected.total(),
            kept=self.kept,
            rejected=dict(sorted(self._rejected.items())),
            redacted_rows=dict(sorted(self._redacted.items())),
            repaired=dict(sorted(self._repaired.items())),
            languages=dict(self._languages.most_common()),
            topics=dict(self._topics.most_common()),
            excerpts={reason: tuple(shown) for reason, shown in sorted(self._excerpts.items())},
            clusters=clusters,
            cluster_sizes=dict(sorted(sizes.items())),
        )


def check(found: Summary, first_unreadable: Rejected | None) -> None:
    """Whether the rows are worth going on with; raises as `Cleaning.summary` says."""
    if not found.read:
        raise NoDataError("The file has no rows.", hint="Export at least 100 resolved tickets.")
    broken = sum(found.rejected.get(reason.value, 0) for reason in _UNREADABLE)
    if first_unreadable is not None and broken > MAX_BROKEN * found.read:
        raise TooManyRejectedError(
            f"{broken} of {found.read} rows cannot be read; the first is row "
            f"{first_unreadable.position}: {first_unreadable.detail}.",
            hint="Check that this is the right file, or map its columns in project.yaml.",
        )
    if not found.kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in found.rejected.items())
        raise NoDataError(
            f"None of the {found.read} rows is usable: {reasons}.",
            hint="Export resolved tickets, with the agent's answer.",
        )
