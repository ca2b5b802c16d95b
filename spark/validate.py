"""Build a dataset of any size: `dropforge.validate.build_dataset`, its reading cut into tasks.

Reads the parts that the validate function has ordered; writes what that function would have
written under `validate/<project>/<hash>/`.

Decoding, tokens and near-duplicates are the tasks'. Which rows are used is decided by the driver,
with the very object that a Lambda uses: it goes over all rows in the order of their drop, a few
figures each, and remembers about 1 KB a row.

    python -m spark.validate BUCKET PROJECT KEY VERSION_ID CONFIG RUN_ID
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import msgspec
import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from toktok import batch_count

from dropforge.artifacts import (
    CleanManifest,
    DatasetManifest,
    DatasetOrder,
    clean_key,
    dataset_key,
    order_key,
)
from dropforge.backends.store import Store
from dropforge.chat import ChatExample, decode_example
from dropforge.cost import estimates
from dropforge.project import ProjectConfig
from dropforge.validate import (
    BATCH,
    Dataset,
    Entry,
    Part,
    Selection,
    Tokens,
    dataset_hash,
    text_of,
)
from dropforge.validate.files import dataset_manifest, written
from dropforge.validate.split import Split
from spark.job import Job, run, told
from spark.repeats import near, sets
from spark.source import client
from spark.table import batch, records

PART, FILE = 1 << 48, 1 << 32
"""A row's order is part * PART + file * FILE + line."""

_ROWS = "order long, position long, line binary, facts binary, keys array<long>, shingles binary"
_PACKED = "facts binary"
_ORDERS = "orders binary"
_PICKED = "order long, rank long"
_AT_ONCE = 100_000


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What is asked of a row to choose it: its example without the messages, and its tokens."""

    order: int
    length: int
    example: ChatExample
    tokens: tuple[int, int]


_encode = msgspec.msgpack.Encoder().encode
_facts = msgspec.msgpack.Decoder(list[Facts]).decode


def validate(spark: SparkSession, job: Job) -> None:
    """Build the ordered dataset, unless that has been done; an error is left beside it."""
    project, config, store = job.run.project, job.config, job.store
    order = store.load(order_key(project, job.run.run_id), DatasetOrder)
    address = dataset_hash(order.parts, config)
    manifest_key = dataset_key(project, address)
    if store.find_manifest(manifest_key, DatasetManifest) is not None:
        return
    with told(store, manifest_key):
        cleaned = [store.load(clean_key(project, part), CleanManifest) for part in order.parts]
        dataset = _built(spark, store.bucket, cleaned, config)
        made = dataset_manifest(project, address, order.parts, dataset)
        costs = estimates(config, made.train_tokens, order.instance)
        with TemporaryDirectory() as folder:
            for path in written(Path(folder), made, dataset, cleaned, costs):
                store.upload(dataset_key(project, address, path.name), path)
        store.save(manifest_key, made)


def _built(
    spark: SparkSession, bucket: str, cleaned: Sequence[CleanManifest], config: ProjectConfig
) -> Dataset:
    several = len(cleaned) > 1
    files = [
        (part * PART + place * FILE, clean_key(manifest.project, manifest.hash, name))
        for part, manifest in enumerate(cleaned)
        for place, name in enumerate(manifest.files)
    ]
    work = spark.sparkContext.parallelize(files, len(files))
    table = spark.createDataFrame(work, "first long, key string")
    rows = table.mapInArrow(_Read(bucket, config, several=several), _ROWS)
    rows = rows.persist(StorageLevel.DISK_ONLY)
    repeats = _orders(near(rows)) if several else frozenset()
    selection = Selection(config)
    packed = rows.select("facts").mapInArrow(_pack, _PACKED)
    for some in packed.toLocalIterator(prefetchPartitions=True):
        for facts in _facts(some.facts):
            part, offset = divmod(facts.order, PART)
            entry = Entry.of(facts.example, part, offset, facts.length, facts.tokens)
            repeated = facts.order in repeats
            selection.take(cleaned[part].hash, facts.example, entry, repeats=repeated)
    chosen = selection.dataset([Part(manifest.hash, io.BytesIO()) for manifest in cleaned])
    return _Chosen(chosen, spark, rows)


class _Chosen(Dataset):
    """A dataset whose lines are with the tasks."""

    def __init__(self, chosen: Dataset, spark: SparkSession, rows: DataFrame) -> None:
        super().__init__((), chosen.splits, chosen.left_out, chosen.warnings)
        self._spark = spark
        self._rows = rows

    def lines(self, split: Split) -> Iterator[bytes]:
        """The split's rows as JSONL lines, in their order."""
        orders = [entry.part * PART + entry.offset for entry in self.splits[split]]
        blobs = [
            (start, np.array(orders[start : start + _AT_ONCE], np.int64).tobytes())
            for start in range(0, len(orders), _AT_ONCE)
        ]
        if not blobs:
            return
        table = self._spark.createDataFrame(blobs, "start long, orders binary")
        picked = table.mapInArrow(_expand, _PICKED)
        found = self._rows.select("order", "line").join(picked, "order").sort("rank")
        for row in found.select("line").toLocalIterator():
            yield bytes(row.line)


class _Read:
    """Task: files of parts -> their rows (`_ROWS`), to be compared if the parts are `several`."""

    def __init__(self, bucket: str, config: ProjectConfig, *, several: bool) -> None:
        self._bucket = bucket
        self._config = config.model_dump_json()
        self._several = several

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        tokens = Tokens(ProjectConfig.model_validate_json(self._config), batch_count)
        store = Store(self._bucket, client())
        for first, key in records(batches, "first", "key"):
            with TemporaryFile() as file:
                store.fetch(key, None, file)
                file.seek(0)
                order = first
                while lines := list(islice(file, BATCH)):
                    yield self._rows(tokens, order, lines)
                    order += len(lines)

    def _rows(self, tokens: Tokens, first: int, lines: list[bytes]) -> pa.RecordBatch:
        examples = [decode_example(line) for line in lines]
        texts = [text_of(example) for example in examples]
        counts = tokens(examples, texts)
        compared = sets(texts) if self._several else ([None] * len(lines),) * 2
        orders = range(first, first + len(lines))
        facts = [
            _encode(Facts(order, len(line), msgspec.structs.replace(example, messages=()), count))
            for order, line, example, count in zip(orders, lines, examples, counts, strict=True)
        ]
        return batch(_ROWS, list(orders), list(orders), lines, facts, *compared)


def _pack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for table in batches:
        packed = b"".join(table.column("facts").to_pylist())
        # msgpack: an array of so many elements is its length, then the elements.
        yield batch(_PACKED, [b"\xdd" + table.num_rows.to_bytes(4, "big") + packed])


def _orders(found: DataFrame) -> frozenset[int]:
    """The rows that are near an earlier one."""
    blobs = found.select("order").mapInArrow(_blobs, _ORDERS).collect()
    data = b"".join(row.orders for row in blobs)
    return frozenset(np.frombuffer(data, np.int64).tolist())


def _blobs(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for table in batches:
        yield batch(_ORDERS, [np.array(table.column("order"), np.int64).tobytes()])


def _expand(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for start, blob in records(batches, "start", "orders"):
        orders = np.frombuffer(blob, np.int64)
        yield batch(_PICKED, orders, np.arange(start, start + orders.size))


if __name__ == "__main__":
    # As a module, so that what goes to the tasks goes by its name; a script's would go as a whole.
    from spark import validate as entry

    sys.exit(run("validate", sys.argv[1:], entry.validate))
