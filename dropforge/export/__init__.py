"""Readers: a customer's file -> conversations.

Reads `exports/<project>/<file>` in bounded memory, whatever its size; yields one `Conversation` or
one `Rejected` for every row, so that nothing read is ever lost. Formats and compression are told
by content, never by the file's name; docs/exports.md lists what is understood.

container   .gz, .zst, .zip or plain -> contents    sniff       content -> CSV, JSON, JSONL, Parquet
lines, elements, table, parquet      -> rows        objects     a JSON text -> an object
mapping     what exports call things                shapes/     an object -> a conversation
transcripts turns that come one a row -> conversations
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, NamedTuple

from dropforge.errors import NoDataError
from dropforge.export.container import MAX_UNCOMPRESSED, Content, open_contents
from dropforge.export.json_rows import json_rows, jsonl_rows
from dropforge.export.mapping import Names
from dropforge.export.objects import Objects
from dropforge.export.parquet import ParquetFile
from dropforge.export.rows import MAX_LINE, Conversation, Reason, Rejected, Row, Turn
from dropforge.export.shapes import Said
from dropforge.export.sniff import sniff
from dropforge.export.table import Table
from dropforge.export.transcripts import Transcripts
from dropforge.project.data import Columns, Roles

__all__ = [
    "MAX_LINE",
    "MAX_UNCOMPRESSED",
    "Conversation",
    "Export",
    "Reason",
    "Rejected",
    "Row",
    "Turn",
    "read",
    "read_lines",
]


class Export:
    """The rows of one file, to be iterated once, in the file's order.

    The conversations of a transcript (a turn in each row) come when they leave its window or at
    the end; their position is that of their first row.

    `format` is "csv", "jsonl", "json" or "parquet", with ".gz", ".zst" or ".zip" behind it where
    the file is compressed; of several members of a .zip it is that of the first.

    Raises, while iterating:
        SchemaError: compressed data or JSON that ends in the middle, a quote that is never closed,
            a compression bomb, another member of a .zip that cannot be read.
        TooLargeError: more than MAX_UNCOMPRESSED bytes.
    """

    def __init__(self, known: str, rows: Iterator[Row]) -> None:
        self.format = known
        self._rows = rows

    def __iter__(self) -> Iterator[Row]:
        return self._rows


def read(file: BinaryIO, columns: Columns | None = None, roles: Roles | None = None) -> Export:
    """The file's rows, each as a conversation or as a rejection.

    Args:
        file: seekable, opened in binary mode; has to stay open while the rows are read.
        columns: what the export calls things where that is not usual.
        roles: what it calls the two sides of a conversation, beside the usual words.

    Raises:
        ExportError: the file as a whole cannot be used: NoDataError, EncodingError, TooLargeError,
            or SchemaError for a format that is not known, an archive that is damaged, encrypted or
            odd, a table without the columns of a conversation or with one of them twice.
    """
    names = Names(columns, roles)
    suffix, contents = open_contents(file)
    parts = _parts(contents, None if suffix else file, names)
    first = next(parts)
    return Export(first.format + suffix, _grouped(_rows(chain([first], parts))))


def read_lines(
    file: BinaryIO,
    columns: Columns | None,
    roles: Roles | None,
    *,
    start: int,
    end: int,
    first_position: int,
) -> Iterator[Row]:
    """The rows of a plain JSONL file's lines that begin in the bytes [start, end).

    So ranges that follow one another give every row once. Offsets are those in the whole file.
    Turns that come one a row are only grouped within the range.

    Args:
        file: seekable, opened in binary mode.
        first_position: the number of the first line that begins in the range.
    """
    objects = Objects(Names(columns, roles))
    file.seek(max(0, start - 1))
    content, offset = Content(file.read), max(0, start - 1)
    if start:
        while part := content.peek(1):
            cut = part.find(b"\n") + 1
            offset += len(content.read(cut or len(part)))
            if cut:
                break
    elif content.peek(3).startswith(b"\xef\xbb\xbf"):
        offset += len(content.read(3))
    yield from _grouped(jsonl_rows(content.read, objects, offset, first_position - 1, end))


class _Part(NamedTuple):
    """One content, ready to be read: a file, or a member of an archive."""

    format: str
    rows: Callable[[int], Iterator[Row | Said]]


def _parts(contents: Iterator[Content], file: BinaryIO | None, names: Names) -> Iterator[_Part]:
    """The contents that are not blank.

    Raises:
        NoDataError: all of them are.
    """
    blank: NoDataError | None = None
    found = False
    for content in contents:
        try:
            part = _part(content, file, names)
        except NoDataError as error:
            blank = error
            continue
        found = True
        yield part
    if blank and not found:
        raise blank


def _part(content: Content, file: BinaryIO | None, names: Names) -> _Part:
    known, skipped, blank_lines = sniff(content)
    if known == "csv":
        return _Part(known, Table(content.read, skipped, names).rows)
    if known == "parquet":
        return _Part(known, ParquetFile(content, file, names).rows)
    objects = Objects(names)
    if known == "json":
        return _Part(known, lambda last: json_rows(content.read, objects, skipped, last))
    return _Part(known, lambda last: jsonl_rows(content.read, objects, skipped, last + blank_lines))


def _rows(parts: Iterator[_Part]) -> Iterator[Row | Said]:
    position = 0
    for part in parts:
        last: Row | Said | None = None
        for last in part.rows(position):
            yield last
        position = last.position if last else position


def _grouped(rows: Iterator[Row | Said]) -> Iterator[Row]:
    transcripts = Transcripts()
    for row in rows:
        if isinstance(row, Said):
            yield from transcripts.add(row)
        else:
            yield row
    yield from transcripts.close()
