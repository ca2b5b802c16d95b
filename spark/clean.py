"""Clean a dropped file of any size: `dropforge.clean.Cleaning`, cut into tasks.

Reads the dropped version; writes `clean/<project>/<hash>/part-NNNNN.jsonl` and the rejected rows
under `rejected/<project>/<hash>/`, in the file's order over all parts, then the manifest.

    python -m spark.clean BUCKET PROJECT KEY VERSION_ID CONFIG RUN_ID
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

from dropforge.artifacts import (
    CleanManifest,
    Cluster,
    clean_key,
    part_name,
    rejected_key,
)
from dropforge.artifacts import Source as DroppedFile
from dropforge.backends.store import Store
from dropforge.chat import encode_lines
from dropforge.clean import (
    CLUSTERS,
    Summary,
    Tally,
    check,
    in_batches,
    names_in,
    repeat,
    settled,
    spark_hash,
)
from dropforge.clean.prepare import Candidate, Dropped, Preparer, Rules, exact_key
from dropforge.export.rows import Rejected
from spark.job import Job, run, told
from spark.repeats import clusters, near, sets
from spark.source import RANGE, Source, client, rows, unpacked
from spark.table import PREPARED, batch, records, stable_hash

ROWS_A_PART = 250_000
"""Rows of the dropped file that one part stands for: some hundred megabytes."""

_WRITTEN = "part long, tally binary"
_encode = msgspec.msgpack.Encoder().encode
_candidate = msgspec.msgpack.Decoder(Candidate).decode
_dropped = msgspec.msgpack.Decoder(Dropped).decode


@dataclass(frozen=True)
class Sizes:
    """How the work is cut; nothing of the result depends on it but the number of parts."""

    range: int = RANGE
    rows_a_part: int = ROWS_A_PART


def clean(spark: SparkSession, job: Job, sizes: Sizes = Sizes()) -> None:
    """Clean the run's file, unless that has been done; an error is left beside the manifest."""
    dropped, config, store = job.run, job.config, job.store
    rules = Rules.of(config)
    identity, size = store.identity(dropped.key, dropped.version_id)
    names = names_in(dropped.key, dropped.project, config)
    mapping = [found.model_dump() for found in names]
    address = spark_hash(identity, mapping, rules)
    manifest_key = clean_key(dropped.project, address)
    if store.find_manifest(manifest_key, CleanManifest) is not None:
        return
    file = (dropped.bucket, dropped.key, dropped.version_id)
    with told(store, manifest_key):
        source = Source(*file, size, *names)
        known, prepared = rows(spark, source, _Prepare(rules), PREPARED, sizes.range)
        prepared = prepared.persist(StorageLevel.DISK_ONLY)
        place = _Place(dropped.bucket, dropped.project, address, sizes.rows_a_part)
        summary, parts = cleaned(prepared, place)
        manifest = CleanManifest(
            project=dropped.project,
            hash=address,
            source=DroppedFile(*file, f"s3:{identity}", size),
            format=known,
            files=tuple(map(part_name, parts)),
            **msgspec.structs.asdict(summary),
        )
        store.save(manifest_key, manifest)


def cleaned(prepared: DataFrame, place: _Place) -> tuple[Summary, list[int]]:
    """Write the parts; what became of all rows, and which parts there are.

    Raises:
        ExportError: see `dropforge.clean.check`.
    """
    candidates = prepared.where("candidate")
    found = near(candidates.select("order", "position", "keys", "shingles"))
    same = Window.partitionBy("exact").orderBy("order")
    first = F.first("position").over(same.rowsBetween(Window.unboundedPreceding, 0))
    firsts = candidates.select("order", first.alias("first"))
    repeats = found.join(firsts, "order").persist()
    tally, parts = _written(prepared, repeats, place)
    sizes, top = clusters(repeats, CLUSTERS)
    summary = tally.summary(tuple(_described(candidates, top)), sizes)
    check(summary, tally.first_unreadable)
    return summary, parts


def _written(prepared: DataFrame, repeats: DataFrame, place: _Place) -> tuple[Tally, list[int]]:
    """Write every row's line to its part. Of a row, who it repeats comes before the row itself."""
    lines = prepared.select(
        "order",
        "candidate",
        "row",
        F.lit(None).cast("long").alias("first"),
        F.lit(None).cast("long").alias("earlier_position"),
    )
    marks = repeats.select(
        "order",
        F.lit(None).cast("boolean").alias("candidate"),
        F.lit(None).cast("binary").alias("row"),
        "first",
        "earlier_position",
    )
    part = F.floor(F.col("order") / place.rows_a_part).cast("long").alias("part")
    written = (
        lines.unionByName(marks)
        .select(part, "*")
        .repartition("part")
        .sortWithinPartitions("part", "order", F.col("row").isNotNull())
        .mapInArrow(_Write(place), _WRITTEN)
    )
    tally, parts = Tally(), []
    for row in sorted(written.collect(), key=lambda row: row.part):
        tally.merge(pickle.loads(row.tally))  # noqa: S301 - from our own task
        parts.append(row.part)
    return tally, parts


def _described(candidates: DataFrame, top: list[tuple[int, int, int]]) -> Iterator[Cluster]:
    """The largest clusters, each with the beginning of its first repeat."""
    wanted = [first for _, _, first in top]
    found = candidates.where(F.col("order").isin(wanted)).select("order", "row").collect()
    rows_ = {row.order: _candidate(row.row) for row in found}
    for position, n, first in top:
        yield Cluster(position, n, rows_[first].excerpt.text)


class _Prepare:
    """Task: rows -> what `Preparer` makes of them, and how that is compared."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        prepare = Preparer(self._rules)
        for some in in_batches(records(batches, "order", "conversation", "row")):
            prepared = prepare([unpacked(kind, row) for _, kind, row in some])
            yield _prepared([order for order, _, _ in some], prepared)


def _prepared(order: list[int], prepared: list[Candidate | Dropped]) -> pa.RecordBatch:
    texts = [row.text for row in prepared if isinstance(row, Candidate)]
    compared = sets(texts)
    keys, hashes = iter(compared.keys), iter(compared.hashes)
    exact = (stable_hash(exact_key(text)) for text in texts)
    columns: tuple[list[Any], ...] = ([], [], [], [], [], [])
    for row in prepared:
        values: tuple[Any, ...]
        if isinstance(row, Candidate):
            values = (row.position, True, _encode(row), next(exact), next(keys), next(hashes))
        else:
            values = (row.rejected.position, False, _encode(row), None, None, None)
        for one, value in zip(columns, values, strict=True):
            one.append(value)
    return batch(PREPARED, order, *columns)


@dataclass(frozen=True)
class _Place:
    """Where the parts go."""

    bucket: str
    project: str
    address: str
    rows_a_part: int


class _Write:
    """Task: rows of whole parts, in order -> the parts' files in the store, and their tallies."""

    def __init__(self, place: _Place) -> None:
        self._place = place

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        store = Store(self._place.bucket, client())
        names = ("part", "order", "candidate", "row", "first", "earlier_position")
        for part, found in groupby(records(batches, *names), itemgetter(0)):
            tally = self._part(store, part, found)
            yield batch(_WRITTEN, [part], [pickle.dumps(tally)])

    def _part(self, store: Store, part: int, found: Iterator[tuple[Any, ...]]) -> Tally:
        place, name, tally = self._place, part_name(part), Tally(topics=float("inf"))
        with TemporaryDirectory() as folder:
            kept, rejected = Path(folder) / "kept.jsonl", Path(folder) / "rejected.jsonl"
            with kept.open("wb") as kept_file, rejected.open("wb") as rejected_file:
                for some in in_batches(_marked(found)):
                    repeats = [mark for row, mark in some if isinstance(row, Candidate)]
                    became = settled([row for row, _ in some], repeats, tally)
                    kept_file.write(encode_lines(became.kept))
                    rejected_file.write(encode_lines(became.rejected))
            store.upload(clean_key(place.project, place.address, name), kept)
            store.upload(rejected_key(place.project, place.address, name), rejected)
        return tally


def _marked(
    found: Iterator[tuple[Any, ...]],
) -> Iterator[tuple[Candidate | Dropped, Rejected | None]]:
    """Each row with its rejection, if it repeats another."""
    mark: tuple[int, int] | None = None
    for _, _, candidate, row, first, earlier in found:
        if row is None:
            mark = first, earlier
        elif not candidate:
            yield _dropped(row), None
        else:
            known = _candidate(row)
            yield known, repeat(known.position, *mark) if mark else None
            mark = None


if __name__ == "__main__":
    # As a module, so that what goes to the tasks goes by its name; a script's would go as a whole.
    from spark import clean as entry

    sys.exit(run("clean", sys.argv[1:], entry.clean))
