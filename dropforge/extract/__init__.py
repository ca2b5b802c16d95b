"""Extract: the rows of a SQL query -> an export under `exports/<project>/extracted/`.

Reads the rows a database gives; writes one JSON object a line, compressed, which the drop stage
takes like any other file. An extraction that begins at a cursor value always has the same key, so
of any number of them, repeated or at the same time, one export comes to be.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import msgspec

from dropforge.artifacts import digest, export_prefix
from dropforge.errors import ProjectError
from dropforge.export.mapping import USUAL, canonical
from dropforge.extract.cursor import Cursor, cursor_of, reaches
from dropforge.extract.values import plain
from dropforge.project import ProjectConfig
from dropforge.project.data import Columns, Extract

PROGRESS_ROWS = 1000


class Extraction(msgspec.Struct, frozen=True):
    """What was read. `read == rows + unanswered`; `to` is the last row's cursor, if one was kept.

    `more`: the query has rows beyond `max_rows`. `sha256` is the compressed file's.
    """

    columns: tuple[str, ...]
    rows: int
    unanswered: int
    to: Cursor | None
    more: bool
    sha256: str

    @property
    def read(self) -> int:
        return self.rows + self.unanswered


def extracted_key(project: str, extract: Extract, begin: Cursor | None) -> str:
    """The export of the rows after `begin`; with no cursor, of all rows.

    It depends on nothing that the query finds, so the same rows never come to lie in two exports:
    what is extracted a second time from the same place has the key of the first.
    """
    if begin is None:
        return f"{export_prefix(project)}extracted/all.jsonl.gz"
    mark = digest("extract/1", extract.cursor, extract.start, begin)[:12]
    plainly = "" if begin.kind == "text" else begin.text.removesuffix("+00:00")[:40]
    words = [word for word in re.split(r"[^0-9A-Za-z]+", plainly) if word]
    return f"{export_prefix(project)}extracted/{'-'.join(['after', *words, mark])}.jsonl.gz"


def since_key(project: str, value: str) -> str:
    """The export of a person's own choice of rows, beside the extractions that follow the cursor.

    The same choice made again replaces it.
    """
    return f"{export_prefix(project)}extracted/since-{digest('since/1', value)[:12]}.jsonl.gz"


def write_export(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    config: ProjectConfig,
    begin: Cursor | None,
    into: IO[bytes],
    progress: Callable[[int], None] = lambda rows: None,
) -> Extraction:
    """Write the rows as they come, one JSON object a line; the same rows give the same bytes.

    Tickets without an answer are left out and counted. Rows beyond `max_rows` are left for the next
    time, but never a part of those that have the same cursor value. A row is held at a time.

    Args:
        begin: rows have to be newer than this; None where there is no cursor.
        into: the file, compressed with gzip.
        progress: told how many rows were read, every 1000.

    Raises:
        ProjectError: the query gives no such column, or not in the cursor's order.
    """
    extract = config.extract
    if extract is None:
        raise ProjectError("The project has no `extract:`.", hint="See docs/project.md.")
    names = _column_names(columns)
    hashed = _Hashed(into)
    answered = _answered(names, config.columns)
    follow = _Follow(names, extract.cursor, begin)
    kept = unanswered = 0
    more = False
    with gzip.GzipFile("", "wb", 6, fileobj=hashed, mtime=0) as file:
        for row in rows:
            if kept >= extract.max_rows and not follow.ties(row):
                more = True
                break
            follow.take(row)
            if answered(row):
                values = {name: plain(value) for name, value in zip(names, row, strict=True)}
                file.write(msgspec.json.encode(values) + b"\n")
                kept += 1
            else:
                unanswered += 1
            if (kept + unanswered) % PROGRESS_ROWS == 0:
                progress(kept + unanswered)
    progress(kept + unanswered)
    to = follow.last if kept else None
    return Extraction(tuple(names), kept, unanswered, to, more, hashed.sha256)


class _Hashed:
    """A file that is written to, and the SHA-256 of what was."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def _column_names(columns: Sequence[str]) -> list[str]:
    names = list(columns)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ProjectError(
            f"extract.query gives two columns of the same name: {', '.join(twice)}.",
            hint="Name one of them otherwise with AS.",
        )
    return names


def _place(names: Sequence[str], wanted: str) -> int | None:
    """Where a column stands, its name compared as the readers do it."""
    known = [canonical(name) for name in names]
    return known.index(canonical(wanted)) if canonical(wanted) in known else None


def _missing(key: str, wanted: str, names: Sequence[str]) -> ProjectError:
    return ProjectError(
        f"{key}: extract.query gives no column {wanted}; its columns: {', '.join(names)}.",
        hint=f"Add it to the query's SELECT, or name another column under `{key}`.",
    )


def _answered(names: Sequence[str], columns: Columns) -> Callable[[Sequence[Any]], bool]:
    """Whether a row has an answer; each has where a row is no whole ticket."""
    if columns.role or columns.text or columns.turns:
        return lambda row: True
    if columns.answer is None:
        found = (_place(names, name) for name in USUAL["answer"])
        place = next((place for place in found if place is not None), None)
        return lambda row: place is None or not _blank(row[place])
    head, *path = columns.answer.split(".")
    place = _place(names, columns.answer)
    if place is None and path:
        place = _place(names, head)
    else:
        path = []
    if place is None:
        raise _missing("columns.answer", columns.answer, names)
    return lambda row: not _blank(_inside(row[place], path))


def _inside(value: Any, path: Iterable[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _blank(value: Any) -> bool:
    if isinstance(value, bytes | memoryview):
        value = bytes(value).decode(errors="replace")
    return value is None or (isinstance(value, str) and not value.strip())


class _Follow:
    """Sees that rows come in the cursor's order, newer than the beginning; knows the last one."""

    def __init__(self, names: Sequence[str], column: str | None, begin: Cursor | None) -> None:
        self._column = column or ""
        self._begin = begin
        self._place: int | None = None
        self._value: Any = None
        if column is not None and begin is not None:
            self._place = _place(names, column)
            if self._place is None:
                raise _missing("extract.cursor", column, names)

    @property
    def last(self) -> Cursor | None:
        """The last row's cursor; where the extraction began if there was no row."""
        return self._begin if self._value is None else cursor_of(self._value, self._column)

    def ties(self, row: Sequence[Any]) -> bool:
        """Whether the row has the cursor value of the last one taken."""
        return self._place is not None and bool(row[self._place] == self._value)

    def take(self, row: Sequence[Any]) -> None:
        if self._place is None:
            return
        value, before = row[self._place], self._value
        if value is None or before is None:
            self._first(cursor_of(value, self._column))
        elif not isinstance(value, str) and value < before:
            raise ProjectError(
                f"extract.query does not give its rows in the order of {self._column}.",
                hint=f"End it with `ORDER BY {self._column}`.",
            )
        self._value = value

    def _first(self, now: Cursor) -> None:
        if self._begin is not None and reaches(self._begin, now):
            raise ProjectError(
                "extract.query gives rows that are not newer than the last extraction's.",
                hint=f"Write `WHERE {self._column} > :cursor`.",
            )
