"""Parquet, read batch by batch in a process of its own.

The library that decodes it aborts its whole process on some damaged files and prints their bytes
to standard error, so a child process (`parquet_worker.py`) reads it and hands every row over as a
line of JSON. What kills the child is a damaged file, and no more than that.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from dropforge.errors import SchemaError
from dropforge.export.container import Content, allowed
from dropforge.export.json_rows import jsonl_rows
from dropforge.export.mapping import Names, canonical, named
from dropforge.export.objects import Objects
from dropforge.export.rows import Row
from dropforge.export.shapes import Said, told_by

_WORKER = Path(__file__).with_name("parquet_worker.py")


class ParquetFile:
    """A Parquet file whose columns are understood.

    Args:
        content: the file's bytes.
        file: the same as a file, if it is one and not compressed.

    Raises:
        SchemaError: it is damaged, or has no columns that make a conversation.
    """

    def __init__(self, content: Content, file: BinaryIO | None, names: Names) -> None:
        self._names = names
        with contextlib.ExitStack() as closing:
            stored: IO[bytes] = file if file and _has_descriptor(file) else _copied(content)
            if stored is not file:
                closing.enter_context(stored)  # the child has it open as well by then
            size = stored.seek(0, io.SEEK_END)
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", str(_WORKER)],
                stdin=stored,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self._process.stdout  # noqa: S101
        self._output = self._process.stdout
        try:
            self._read = allowed(self._output.read, size)
            self._check_columns(self._output.readline())
        except BaseException:
            self._stop()
            raise

    def rows(self, position: int = 0) -> Iterator[Row | Said]:
        """The file's rows, in their order; `position` is that of the row before.

        Raises:
            SchemaError: the file is damaged.
            TooLargeError: the rows hold more than a reader takes.
        """
        try:
            objects = Objects(self._names, no_key_twice=True)
            yield from jsonl_rows(self._read, objects, None, position)
            if self._process.wait() != 0:
                raise _damaged()
        finally:
            self._stop()

    def _check_columns(self, line: bytes) -> None:
        if not line:
            raise _damaged()
        columns = msgspec.json.decode(line, type=list[str])
        if len(set(columns)) != len(columns):
            raise SchemaError(
                "The Parquet file has two columns of the same name.", hint="Rename one of them."
            )
        if not told_by(map(canonical, columns), self._names):
            raise SchemaError(
                "The Parquet file has no question and answer, turns or transcript columns; its "
                f"columns: {named(name.lower() for name in columns)}.",
                hint="Name them under `columns:` in project.yaml.",
            )

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()


def _has_descriptor(file: BinaryIO) -> bool:
    try:
        file.fileno()
    except (OSError, AttributeError):  # io.UnsupportedOperation is an OSError
        return False
    return True


def _copied(content: Content) -> IO[bytes]:
    stored = tempfile.TemporaryFile()  # noqa: SIM115  (for the caller to close)
    while part := content.read():
        stored.write(part)
    return stored


def _damaged() -> SchemaError:
    return SchemaError(
        "The Parquet file is damaged or cut off.",
        hint="Export it again, and check that the upload was complete.",
    )
