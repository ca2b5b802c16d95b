"""Parquet on standard input -> JSON lines on standard output: the column names, then every row.

Runs as a process of its own (see `parquet.py`): the Parquet library aborts the process, or prints
what it has read, when a file is damaged. Imports nothing of Dropforge.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import msgspec
from arro3.io import read_parquet

BATCH = 128
"""Rows decoded at a time."""
MEMORY = 3 << 30
"""Bytes of address space the process may have; a file that makes it want more is damaged."""


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows, or less allowed
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    encode = msgspec.json.Encoder(enc_hook=str).encode
    write = sys.stdout.buffer.write
    with open(0, "rb") as file:
        file.seek(0)
        reader = read_parquet(file, batch_size=BATCH)
        names = reader.schema.names
        write(encode(names) + b"\n")
        for batch in reader:
            columns = [_texts(list(column.to_pylist())) for column in batch.columns]
            rows = zip(*columns, strict=True)
            write(b"".join([encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows]))
    sys.stdout.buffer.flush()


def _texts(values: list[Any]) -> list[Any]:
    """Bytes as text: many writers do not mark their text columns as such."""
    if any(isinstance(value, bytes) for value in values):
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
    return values


if __name__ == "__main__":
    main()
