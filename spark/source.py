"""A dropped file in S3 -> its rows, read by many tasks where its format allows that.

Plain JSONL with a conversation a line is read in byte ranges; a first pass counts each range's
lines, so that every row knows its number. All else is read by one task, through a copy on its disk,
and handed out from there.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import boto3
import msgspec
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from dropforge.backends.store import Store
from dropforge.clean import in_batches
from dropforge.drop import MAX_BYTES
from dropforge.export import Row, container, read, read_lines
from dropforge.export.container import Content
from dropforge.export.json_rows import jsonl_rows
from dropforge.export.mapping import Names
from dropforge.export.objects import Objects
from dropforge.export.rows import Conversation, Rejected
from dropforge.export.shapes import Said
from dropforge.project.data import Columns, Roles
from spark.table import ROWS, batch, records

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

RANGE = 128 << 20
"""Bytes that one task reads."""
BLOCK = 8 << 20
"""Bytes that one request asks for."""
HEAD = 1 << 20

Task = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Source:
    """The dropped version, and how its rows are to be understood."""

    bucket: str
    key: str
    version_id: str
    size: int
    columns: Columns
    roles: Roles

    def open(self) -> BinaryIO:
        """The object as a seekable file, fetched in blocks as it is read."""
        return cast("BinaryIO", io.BufferedReader(_S3File(self), BLOCK))


@cache
def client() -> S3Client:
    """One client a process: making it takes longer than a small task."""
    made: S3Client = boto3.client("s3")
    return made


class _S3File(io.RawIOBase):
    """Reads an object by ranges. A store that ignores a range is read and skipped."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._s3 = client()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        wanted = min(len(buffer), self._source.size - self._at)
        if wanted <= 0:
            return 0
        data = self._fetch(self._at, wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, start: int, size: int) -> bytes:
        source = self._source
        version = {"VersionId": source.version_id} if source.version_id else {}
        found = self._s3.get_object(
            Bucket=source.bucket,
            Key=source.key,
            Range=f"bytes={start}-{start + size - 1}",
            **version,  # type: ignore[arg-type]
        )
        body = found["Body"]
        try:
            left = 0 if "ContentRange" in found else start
            while left and (data := body.read(min(BLOCK, left))):
                left -= len(data)
            return body.read(size)
        finally:
            body.close()


def allow_large_files() -> None:
    """Lift the readers' limit, which is that of one Lambda, in this process."""
    container.MAX_UNCOMPRESSED = MAX_BYTES


def rows(
    spark: SparkSession, source: Source, then: Task, schema: str, step: int = RANGE
) -> tuple[str, DataFrame]:
    """The file's format, and what `then` makes of its rows (`ROWS`): a table of that schema.

    Raises:
        ExportError: see `dropforge.export.read`.
    """
    allow_large_files()
    with source.open() as file:
        known = read(file, source.columns, source.roles).format
    if known == "jsonl" and not _is_transcript(source):
        read_ = _Ranges(source)
        return known, _ranges(spark, source, step).mapInArrow(lambda b: then(read_(b)), schema)
    # One task reads; the others take from what it gives.
    whole = spark.range(0, 1, 1, 1).mapInArrow(_Whole(source), ROWS)
    return known, whole.repartition("order").mapInArrow(then, schema)


def _is_transcript(source: Source) -> bool:
    """Whether the first rows are turns, which become conversations only together."""
    objects = Objects(Names(source.columns, source.roles))
    with source.open() as file:
        found = jsonl_rows(Content(file.read).read, objects, 0, 0, HEAD)
        return any(isinstance(row, Said) for row in found)


def _ranges(spark: SparkSession, source: Source, step: int) -> DataFrame:
    """(start, end, number of the first line) of each range, of `step` bytes or less."""
    context = spark.sparkContext
    step = min(step, max(HEAD, -(-source.size // context.defaultParallelism)))
    starts = range(0, source.size, step)
    ranges = [(start, min(start + step, source.size)) for start in starts]
    counts = context.parallelize(ranges, len(ranges)).map(_Lines(source)).collect()
    first, work = 1, []
    for (start, end), count in zip(ranges, counts, strict=True):
        work.append((start, end, first))
        first += count
    return spark.createDataFrame(
        context.parallelize(work, len(work)), "start long, end long, first long"
    )


class _Lines:
    """Counts the lines that begin in a range."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, extent: tuple[int, int]) -> int:
        start, end = extent
        count = 1 if start == 0 else 0
        with self._source.open() as file:
            # A line begins behind a newline: those from the byte before the range are looked at.
            left = end - 1 - file.seek(max(0, start - 1))
            while left > 0 and (data := file.read(min(BLOCK, left))):
                count += data.count(b"\n")
                left -= len(data)
        return count


class _Ranges:
    """Reads the rows of ranges."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        source = self._source
        for start, end, first in records(batches, "start", "end", "first"):
            with source.open() as file:
                found = read_lines(
                    file, source.columns, source.roles, start=start, end=end, first_position=first
                )
                for some in in_batches(found):
                    yield _packed([row.position for row in some], some)


class _Whole:
    """Reads a file from its beginning to its end."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        allow_large_files()
        source = self._source
        for _ in batches:
            with TemporaryFile() as file:
                Store(source.bucket, client()).fetch(source.key, source.version_id or None, file)
                file.seek(0)
                place = 0
                for some in in_batches(read(file, source.columns, source.roles)):
                    yield _packed(range(place, place + len(some)), some)
                    place += len(some)


_encode = msgspec.msgpack.Encoder().encode
_conversation = msgspec.msgpack.Decoder(Conversation).decode
_rejected = msgspec.msgpack.Decoder(Rejected).decode


def _packed(order: Any, found: list[Row]) -> pa.RecordBatch:
    kinds = [isinstance(row, Conversation) for row in found]
    return batch(ROWS, list(order), kinds, [_encode(row) for row in found])


def unpacked(conversation: bool, row: bytes) -> Row:
    """A row that a reader gave."""
    return _conversation(row) if conversation else _rejected(row)
