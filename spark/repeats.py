"""Which rows are near an earlier one: `Deduplicator`'s answer, by joins.

Bands, buckets, threshold and similarity are those of `dropforge/deduplicate.py`: a row is
compared with those before it among the first `BUCKET` rows of each of its buckets, and what counts
is the earliest that is near.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - as everybody calls it

from dropforge.deduplicate import (
    BUCKET,
    THRESHOLD,
    band_keys,
    components,
    jaccard,
    shingles,
)
from spark.table import batch, column, records, set_bytes

NEAR = "order long, earlier long, earlier_position long"
_BLOBS = "pairs binary"


class Sets(NamedTuple):
    """What rows are compared by, a list each: band keys, and the set of shingles as bytes."""

    keys: list[list[int]]
    hashes: list[bytes]


def sets(texts: list[str]) -> Sets:
    """The texts' sets."""
    found = shingles(texts)
    keys = band_keys(found).astype(np.int64).tolist()
    return Sets(keys, set_bytes(found.hashes, found.offsets.tolist()))


def near(rows: DataFrame) -> DataFrame:
    """The rows that are near an earlier one, and the earliest such (`NEAR`).

    Args:
        rows: order, position, keys and shingles; read several times, so better persisted.
    """
    candidates = (
        _candidates(rows)
        .groupBy("order")
        .agg(F.sort_array(F.collect_set("earlier")).alias("earlier"))
    )
    candidates = candidates.persist()
    # Most repeats are of their first candidate: the sets of all others need not travel for them.
    first = _verified(rows, candidates.select("order", F.col("earlier")[0].alias("earlier")))
    first = first.persist()
    more = candidates.where(F.size("earlier") > 1).join(first, "order", "left_anti")
    others = F.explode(F.expr("slice(earlier, 2, size(earlier) - 1)")).alias("earlier")
    found = _verified(rows, more.select("order", others))
    earliest = F.min(F.struct("earlier", "earlier_position")).alias("first")
    second = found.groupBy("order").agg(earliest).select("order", "first.*")
    return first.unionByName(second)


def _candidates(rows: DataFrame) -> DataFrame:
    """(order, earlier) of all that share a bucket in which the earlier is one of the first."""
    bands = rows.select("order", F.posexplode("keys").alias("band", "key"))
    bucket = (
        Window.partitionBy("band", "key")
        .orderBy("order")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    heads = F.array(*(F.nth_value("order", n).over(bucket) for n in range(1, BUCKET + 1)))
    told = bands.select("order", heads.alias("heads"))
    return told.select("order", F.explode("heads").alias("earlier")).where("earlier < order")


def _verified(rows: DataFrame, pairs: DataFrame) -> DataFrame:
    """Those of the pairs that are as similar as the threshold asks, exactly."""
    ours = rows.select("order", "shingles")
    theirs = rows.select(
        F.col("order").alias("earlier"),
        F.col("position").alias("earlier_position"),
        F.col("shingles").alias("others"),
    )
    return pairs.join(ours, "order").join(theirs, "earlier").mapInArrow(_verify, NEAR)


def _verify(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for table in batches:
        pairs = zip(column(table, "shingles"), column(table, "others"), strict=True)
        alike = [jaccard(_set(one), _set(other)) >= THRESHOLD for one, other in pairs]
        names = [field.split()[0] for field in NEAR.split(", ")]
        kept = table.select(names).filter(pa.array(alike, pa.bool_()))
        yield kept


def _set(data: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(data, np.uint32)


class Clusters(NamedTuple):
    """How many clusters have so many repeats; of the largest the root's position, how many repeats
    it has, and the order of the first of them."""

    sizes: dict[int, int]
    top: list[tuple[int, int, int]]


def clusters(found: DataFrame, most: int) -> Clusters:
    """Who repeats whom, followed to the root: `found` has the columns of `NEAR`.

    The driver holds 24 bytes for each row that is a repeat.
    """
    blobs = found.select("order", "earlier", "earlier_position").mapInArrow(_blobs, _BLOBS)
    data = b"".join(row.pairs for row in blobs.collect())
    pairs = np.frombuffer(data, np.int64).reshape(-1, 3)
    if not pairs.size:
        return Clusters({}, [])
    # The links lead to earlier rows only, so a tree's root is its lowest row.
    known, places = np.unique(pairs[:, :2], return_inverse=True)
    places = places.reshape(-1, 2)
    root_of = components(places, known.size)[places[:, 0]]
    roots, index, repeats = np.unique(root_of, return_inverse=True, return_counts=True)
    position = np.zeros(known.size, np.int64)
    position[places[:, 1]] = pairs[:, 2]
    first = np.full(roots.size, np.iinfo(np.int64).max)
    np.minimum.at(first, index, pairs[:, 0])
    largest = np.lexsort((position[roots], -repeats))[:most]
    sizes, groups = np.unique(repeats, return_counts=True)
    top = np.stack((position[roots], repeats, first), 1)[largest].tolist()
    return Clusters(
        dict(zip(sizes.tolist(), groups.tolist(), strict=True)), [(p, n, f) for p, n, f in top]
    )


def _blobs(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for table in batches:
        triples = list(records([table], *table.schema.names))
        yield batch(_BLOBS, [np.array(triples, np.int64).tobytes()])
