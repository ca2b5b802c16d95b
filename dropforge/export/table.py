"""CSV: a table with a conversation, or with a turn, in each row.

The delimiter is told by the header (comma, semicolon, tab or bar). A broken row is quarantined and
reading goes on with the line behind the one where it began, so that it takes no other row along.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from dropforge.errors import EncodingError, SchemaError
from dropforge.export.container import Read
from dropforge.export.lines import blocks
from dropforge.export.mapping import Names, named
from dropforge.export.rows import MAX_LINE, Reason, Rejected, Row, UnknownShapeError
from dropforge.export.shapes import Said
from dropforge.export.table_row import TableRows

_TOO_LONG = "\ud800\n"
"""Stands for a line over MAX_LINE; no text that is read can hold it."""
_MOST_RUNAWAYS = 50
"""Rows that run over MAX_LINE in search of their closing quote, before the file is refused."""


class _Block(NamedTuple):
    """Some lines as text: the number of the first in the file (from 0), and their bytes' place."""

    first: int
    offset: int
    end: int
    lines: list[str]


class _RunawayError(Exception):
    """A row that has gone on for over MAX_LINE."""


class _Lines:
    """The file's lines for csv.reader, from any line of the current row on.

    Undecodable bytes travel as lone surrogates, so that one bad row does not cost the file.
    """

    def __init__(self, read: Read, offset: int) -> None:
        self._blocks = blocks(read, offset)
        self._window: deque[_Block] = deque()
        self._end = 0
        self.row = 0  # the line where the current row begins; what lies before is forgotten
        self.doubtful = False  # whether something in the window is not UTF-8 or too long

    def start(self, line: int) -> Iterator[str]:
        """The lines from this one on, which must not lie before the current row."""
        self.row = line
        held = [islice(block.lines, max(0, line - block.first), None) for block in self._window]
        return chain(*held, chain.from_iterable(self._new_blocks()))

    def _new_blocks(self) -> Iterator[list[str]]:
        for data in self._blocks:
            while self._window and self._next_first() <= self.row:
                self._window.popleft()
            if not self._window:
                self.doubtful = False
            lines = self._decoded(data.data) if data.data else [_TOO_LONG]
            self.doubtful = self.doubtful or not data.data
            self._window.append(_Block(self._end, data.offset, data.offset + data.size, lines))
            self._end += len(lines)
            yield lines
            # Only reached when the row did not end in these lines.
            end = data.offset + data.size
            long = end - self._window[0].offset > MAX_LINE
            if long and end - self.offset_of(self.row) > MAX_LINE:
                raise _RunawayError

    def _next_first(self) -> int:
        return self._window[1].first if len(self._window) > 1 else self._end

    def _decoded(self, data: bytes) -> list[str]:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "surrogateescape")
            self.doubtful = True
        return list(io.StringIO(text, newline="\n"))

    def offset_of(self, line: int) -> int:
        """The first byte of a line that is held."""
        for block in self._window:
            if line < block.first + len(block.lines):
                before = "".join(block.lines[: max(0, line - block.first)])
                return block.offset + len(before.encode("utf-8", "surrogateescape"))
        return self._window[-1].end

    def between(self, line: int, end: int) -> Iterator[str]:
        """The lines from `line` up to `end`, which have to be held."""
        for block in self._window:
            if block.first < end and line < block.first + len(block.lines):
                yield from block.lines[max(0, line - block.first) : end - block.first]


class Table:
    """A CSV file whose header is read and understood.

    Raises:
        EncodingError: the header is not UTF-8.
        SchemaError: no header, two columns of one name, or no columns that make a conversation.
    """

    def __init__(self, read: Read, offset: int, names: Names) -> None:
        csv.field_size_limit(MAX_LINE)
        self._lines = _Lines(read, offset)
        self._first = 0
        first = next(self._lines.start(0), "")
        chosen = re.fullmatch(r"sep=([,;\t|])\s*", first)  # Excel's way to name it
        self._delimiter = chosen[1] if chosen else max(",;\t|", key=first.count)
        self._resume(1 if chosen else 0)
        self._header = self._read_header()
        self._rows = TableRows(self._header, names)
        self._runaways = 0

    def _read_header(self) -> list[str]:
        hint = "Give the table a first row of column names, with lines ending in a newline."
        try:
            cells = next(cells for cells in self._reader if cells)
        except (StopIteration, csv.Error, _RunawayError) as error:
            raise SchemaError("The file has no readable header row.", hint=hint) from error
        if any("\ud800" in cell for cell in cells):
            raise SchemaError("The header row is longer than a megabyte.", hint=hint)
        if any(_has_surrogate(cell) for cell in cells):
            raise EncodingError("The header row is not UTF-8.", hint="Export the table as UTF-8.")
        header = [cell.strip().lower() for cell in cells]
        if len(set(header)) != len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise SchemaError(
                f"The table has two columns of the same name: {named(twice)}.",
                hint="Rename one of them.",
            )
        return [cell.strip() for cell in cells]

    def rows(self, position: int = 0) -> Iterator[Row | Said]:
        """The table's rows, in their order; `position` is that of the row before.

        Raises:
            SchemaError: a quote is never closed, or so many are not that the table is no table.
        """
        lines, width, read = self._lines, len(self._header), self._rows.read
        while True:
            start = lines.row = self._first + self._reader.line_num
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except (csv.Error, _RunawayError) as error:
                position += 1
                yield self._broken(error, position, start)
                continue
            if not cells:
                continue
            position += 1
            if lines.doubtful and (reason := _doubt(cells)):
                yield self._rejected(position, reason, _DETAILS[reason], start)
            elif len(cells) != width:
                detail = f"{len(cells)} cells where the header has {width}"
                yield self._rejected(position, Reason.BROKEN_ROW, detail, start)
            elif self._reader.line_num - (start - self._first) > 2 and self._swallows(start):
                detail = "a quoted cell holds whole rows: its quote is probably never closed"
                yield self._rejected(position, Reason.BROKEN_ROW, detail, start)
                self._resume(start + 1)
            else:
                try:
                    yield read(cells, position)
                except UnknownShapeError as error:
                    yield self._rejected(position, Reason.UNKNOWN_SHAPE, str(error), start)

    def _broken(self, error: Exception, position: int, start: int) -> Rejected:
        if "unexpected end" in str(error):
            raise SchemaError(
                f"A quoted cell that opens after row {position - 1} is never closed.",
                hint="Export the table again, or close the quote.",
            ) from error
        over = isinstance(error, _RunawayError) or "field limit" in str(error)
        one_line = self._first + self._reader.line_num <= start + 1
        if over and not one_line:
            self._runaways += 1
            if self._runaways > _MOST_RUNAWAYS:
                raise SchemaError(
                    f"Quoted cells are not closed in many places, the last in row {position}.",
                    hint="Export the table again, with quotes in cells doubled.",
                ) from error
        reason = Reason.TOO_LONG if over else Reason.BROKEN_ROW
        detail = "over 1 MiB" if over else str(error)
        rejected = self._rejected(position, reason, detail, start)
        self._resume(start + 1)
        return rejected

    def _resume(self, line: int) -> None:
        lines = self._lines.start(line)
        self._reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        self._first = line

    def _swallows(self, start: int) -> bool:
        """Whether the lines inside a row's cells look like rows of this table themselves."""
        marks = len(self._header) - 1
        if marks < 3:
            return False
        end = self._first + self._reader.line_num
        inner = list(self._lines.between(start + 1, end - 1))
        like_rows = sum(line.count(self._delimiter) == marks for line in inner)
        return like_rows >= 2 and like_rows * 2 > len(inner)

    def _rejected(self, position: int, reason: Reason, detail: str, start: int) -> Rejected:
        return Rejected(position, reason, detail, self._lines.offset_of(start))


_DETAILS = {Reason.ENCODING: "bytes that are not UTF-8", Reason.TOO_LONG: "over 1 MiB"}


def _doubt(cells: list[str]) -> Reason | None:
    text = "".join(cells)
    if "\ud800" in text:
        return Reason.TOO_LONG
    return Reason.ENCODING if _has_surrogate(text) else None


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
