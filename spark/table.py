"""Rows in Arrow columns: what travels between the tasks.

`order` is a row's place among all rows, and what "earlier" means; `position` is its number in the
dropped file. They differ in a transcript only, where a conversation comes when it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

ROWS = "order long, conversation boolean, row binary"
"""What a reader gives: a msgpack `Conversation` or `Rejected`."""

PREPARED = (
    "order long, position long, candidate boolean, row binary,"
    " exact long, keys array<long>, shingles binary"
)
"""What the preparer gives: a msgpack `Candidate` or `Dropped`, and how a candidate is compared."""


def batch(schema: str, *columns: Any) -> pa.RecordBatch:
    """A record batch of the columns of a schema."""
    fields = [field.split() for field in schema.split(", ")]
    arrays = [pa.array(c, _TYPES[kind]) for c, (_, kind) in zip(columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[name for name, _ in fields])


_TYPES = {
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "array<long>": pa.list_(pa.int64()),
}


def column(table: pa.RecordBatch, name: str) -> list[Any]:
    """A column's values."""
    values: list[Any] = table.column(name).to_pylist()
    return values


def records(batches: Iterable[pa.RecordBatch], *names: str) -> Iterator[tuple[Any, ...]]:
    """The named columns, row by row."""
    for table in batches:
        yield from zip(*(column(table, name) for name in names), strict=True)


def stable_hash(text: str) -> int:
    """64 bits of a text, the same in every process, as a signed number."""
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def set_bytes(hashes: np.ndarray[Any, Any], offsets: Sequence[int]) -> list[bytes]:
    """Each row's own hashes."""
    return [hashes[a:b].tobytes() for a, b in pairwise(offsets)]
