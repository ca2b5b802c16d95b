"""Readers: a customer's file -> conversations.

Reads the bytes of `exports/<project>/<file>`; yields one `Conversation` or one `Rejected` for every
row, so that nothing read is ever lost. The format is told by content, never by the file's name.

CSV           a table with one ticket a row: a question and an answer column
JSONL, JSON   one conversation an object: `messages` (OpenAI chat), `turns`, `conversations`
              (ShareGPT), question/answer or prompt/completion pairs
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, Literal

import msgspec

from dropforge.errors import EncodingError, NoDataError, SchemaError
from dropforge.project import Columns

MAX_LINE = 1 << 20
"""Bytes a row may have; a longer one is rejected."""


class Reason(StrEnum):
    """Why a row was not kept."""

    BROKEN_ROW = "broken row"
    ENCODING = "not valid UTF-8"
    TOO_LONG = "too long"
    UNKNOWN_SHAPE = "unknown shape"
    NO_QUESTION = "no question"
    UNANSWERED = "unanswered"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"


class Turn(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    text: str


class Conversation(msgspec.Struct, frozen=True):
    """A customer's conversation as it was exported; nothing normalised, nothing redacted."""

    position: int
    turns: tuple[Turn, ...]
    id: str = ""
    customer: str = ""
    names: tuple[str, ...] = ()


class Rejected(msgspec.Struct, frozen=True):
    """A row that was not kept: where it stands (from 1), its first byte, and why."""

    position: int
    reason: Reason
    detail: str
    offset: int | None = None


Row = Conversation | Rejected
Format = Literal["csv", "json", "jsonl"]

_ROLES: dict[str, Literal["user", "assistant"]] = {
    **dict.fromkeys(("user", "customer", "human", "client", "requester", "end-user"), "user"),
    **dict.fromkeys(("assistant", "agent", "gpt", "bot", "support", "admin", "staff"), "assistant"),
}
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9 _/-]{0,29}")
_COLUMNS = {
    "question": ("question", "prompt", "description", "customer_message", "instruction", "body"),
    "answer": ("answer", "completion", "response", "reply", "agent_reply", "output", "resolution"),
    "customer": ("customer_email", "requester_email", "customer_id", "requester_id", "customer"),
    "customer_name": ("customer_name", "requester_name", "requester", "name"),
    "id": ("ticket_id", "conversation_id", "id", "ticket"),
}


def sniff(data: bytes) -> Format:
    """The file's format, told by its content.

    Raises:
        NoDataError: it is empty or blank.
        EncodingError: it is UTF-16 or UTF-32.
        SchemaError: it is compressed, binary, or no format known here.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        raise EncodingError("The file is UTF-16 or UTF-32.", hint="Export it again as UTF-8.")
    if data.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"PAR1")):
        raise SchemaError(
            "The file is compressed or Parquet.", hint="Drop it as plain .csv, .json or .jsonl."
        )
    head = _without_bom(data[: MAX_LINE * 2]).lstrip()
    if not head:
        raise NoDataError("The file is empty.", hint="Export at least 100 resolved tickets.")
    if b"\0" in head[:4096]:
        if _looks_like_utf16(head[:4096]):
            raise EncodingError("The file is UTF-16.", hint="Export it again as UTF-8.")
        raise SchemaError("The file is binary.", hint="Drop it as .csv, .json or .jsonl.")
    if head[:1] == b"[":
        return "json"
    if head[:1] == b"{":
        first_line = head.split(b"\n", 1)[0]
        only_line = b"\n" not in data.strip()
        if only_line or not _is_json(first_line):
            return "json" if _is_json(data) else "jsonl"
        return "jsonl"
    return "csv"


def read(data: bytes, columns: Columns | None = None) -> Iterator[Row]:
    """Every row of the file, in its order, as a conversation or as a rejection.

    Args:
        data: the whole file.
        columns: a table's column names where they are not the usual ones.

    Raises:
        ExportError: the file as a whole cannot be read (see `sniff`; SchemaError for a table
            without a question and an answer column, with repeated headers, or an unclosed quote).
    """
    known = sniff(data)
    body = _without_bom(data)
    if known == "csv":
        return _read_csv(body, columns or Columns())
    if known == "json":
        return _read_json(body, columns or Columns())
    return _read_jsonl(body, columns or Columns())


def _without_bom(data: bytes) -> bytes:
    return data.removeprefix(b"\xef\xbb\xbf")


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(_without_bom(data))
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return False
    return True


def _looks_like_utf16(head: bytes) -> bool:
    """Without a byte order mark: text of the western scripts has a zero in every other byte."""
    return max(head[::2].count(0), head[1::2].count(0)) > len(head) // 4


def _read_csv(data: bytes, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    offsets = _LineOffsets(data)
    reader = csv.reader(offsets, delimiter=_delimiter(data), strict=True)
    header = _header(reader)
    place = _place_columns(header, columns)
    position = 0
    while True:
        offsets.mark()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if offsets.exhausted and "unexpected end" in str(error):
                raise SchemaError(
                    f"A quoted cell that opens after row {position} is never closed.",
                    hint="Export the table again, or close the quote.",
                ) from error
            position += 1
            yield Rejected(position, Reason.BROKEN_ROW, str(error), offsets.marked)
            offsets.resume()
            continue
        if not cells:
            continue
        position += 1
        yield _table_row(cells, header, place, position, offsets.marked)


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        cells = next(cells for cells in reader if cells)
    except (StopIteration, csv.Error) as error:
        hint = "Give the table a first row of column names, with lines ending in a newline."
        raise SchemaError("The file has no readable header row.", hint=hint) from error
    if any(_has_surrogate(cell) for cell in cells):
        raise EncodingError("The header row is not UTF-8.", hint="Export the table as UTF-8.")
    return [cell.strip().lower() for cell in cells]


class _LineOffsets:
    """The lines of a file for csv.reader, remembering the byte where the current row begins.

    Undecodable bytes travel as lone surrogates, so that one bad row does not cost the file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._next = 0
        self.marked = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.exhausted:
            raise StopIteration
        end = self._data.find(b"\n", self._next) + 1 or len(self._data)
        line = self._data[self._next : end]
        self._next = end
        return line.decode("utf-8", "surrogateescape")

    def mark(self) -> None:
        self.marked = self._next

    def resume(self) -> None:
        """Go on with the line after the one where the row began, so a broken row takes no other."""
        self._next = self._data.find(b"\n", self.marked) + 1 or len(self._data)

    @property
    def exhausted(self) -> bool:
        return self._next >= len(self._data)


def _delimiter(data: bytes) -> str:
    header = data.lstrip().split(b"\n", 1)[0]
    return max(",;\t|", key=lambda mark: header.count(mark.encode()))


def _place_columns(header: list[str], columns: Columns) -> dict[str, int]:
    if len(set(header)) != len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise SchemaError(
            f"The table has two columns of the same name: {_named(twice)}.",
            hint="Rename one of them.",
        )
    place = {}
    for field, usual in _COLUMNS.items():
        chosen = getattr(columns, field)
        for name in (chosen.strip().lower(),) if chosen else usual:
            if name in header:
                place[field] = header.index(name)
                break
    missing = [field for field in ("question", "answer") if field not in place]
    if missing:
        raise SchemaError(
            f"The table has no {' and no '.join(missing)} column; its columns: {_named(header)}.",
            hint="Name them under `columns:` in project.yaml.",
        )
    return place


def _named(names: Iterable[str]) -> str:
    """Column names for a message: none where one of them may be a customer's words instead."""
    listed = list(names)
    if not all(_COLUMN_NAME.fullmatch(name) for name in listed if name):
        return "not told, since the first row does not look like column names"
    return ", ".join(listed[:12]) or "none"


def _table_row(
    cells: list[str], header: list[str], place: dict[str, int], position: int, offset: int
) -> Row:
    if len(cells) != len(header):
        detail = f"{len(cells)} cells where the header has {len(header)}"
        return Rejected(position, Reason.BROKEN_ROW, detail, offset)
    if any(_has_surrogate(cell) for cell in cells):
        return Rejected(position, Reason.ENCODING, "bytes that are not UTF-8", offset)
    cell = {field: cells[index].strip() for field, index in place.items()}
    return Conversation(
        position=position,
        turns=_pair(cell["question"], cell["answer"]),
        id=cell.get("id", ""),
        customer=cell.get("customer", ""),
        names=tuple(filter(None, [cell.get("customer_name", "")])),
    )


def _pair(question: str, answer: str) -> tuple[Turn, ...]:
    turns = (Turn("user", question), Turn("assistant", answer))
    return tuple(turn for turn in turns if turn.text)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def _read_jsonl(data: bytes, columns: Columns) -> Iterator[Row]:
    start, number = 0, 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start:end].strip()
        number += 1
        if line:
            yield _json_line(line, number, start, columns)
        start = end


def _json_line(line: bytes, number: int, offset: int, columns: Columns) -> Row:
    if len(line) > MAX_LINE:
        return Rejected(number, Reason.TOO_LONG, f"{len(line)} bytes", offset)
    try:
        line.decode("utf-8")
        value = msgspec.json.decode(line)
    except UnicodeDecodeError:
        return Rejected(number, Reason.ENCODING, "bytes that are not UTF-8", offset)
    except (ValueError, RecursionError) as error:
        return Rejected(number, Reason.BROKEN_ROW, f"not valid JSON: {error}", offset)
    return _object(value, number, offset, columns)


def _read_json(data: bytes, columns: Columns) -> Iterator[Row]:
    hint = "Drop one object a line (.jsonl), or repair the file."
    try:
        data.decode("utf-8")
        value = msgspec.json.decode(data)
    except UnicodeDecodeError as error:
        raise EncodingError("The file is not UTF-8.", hint="Export it again as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"The file is not valid JSON: {error}.", hint=hint) from error
    rows = value if isinstance(value, list) else _only_list(value)
    return (_object(row, i, None, columns) for i, row in enumerate(rows, start=1))


def _only_list(value: dict[str, Any]) -> list[Any]:
    for name in ("tickets", "conversations", "data", "items", "rows", "results"):
        if isinstance(value.get(name), list) and not _is_conversation(value):
            found: list[Any] = value[name]
            return found
    return [value]


def _is_conversation(value: dict[str, Any]) -> bool:
    turns = value.get("conversations")
    return isinstance(turns, list) and any(isinstance(t, dict) and "from" in t for t in turns[:1])


def _object(value: Any, position: int, offset: int | None, columns: Columns) -> Row:
    if not isinstance(value, dict):
        return Rejected(position, Reason.UNKNOWN_SHAPE, "not an object", offset)
    fields = {str(k).strip().lower(): v for k, v in value.items()}
    try:
        turns = _object_turns(fields, columns)
    except _UnknownShapeError as error:
        return Rejected(position, Reason.UNKNOWN_SHAPE, str(error), offset)
    return Conversation(
        position=position,
        turns=turns,
        id=_text(fields, _names("id", columns)),
        customer=_text(fields, _names("customer", columns)),
        names=tuple(filter(None, [_text(fields, _names("customer_name", columns))])),
    )


class _UnknownShapeError(Exception):
    """A JSON object that is no conversation; says what was found instead."""


def _object_turns(fields: dict[str, Any], columns: Columns) -> tuple[Turn, ...]:
    for name in ("messages", "turns", "conversations"):
        if isinstance(fields.get(name), list):
            return tuple(_turns(fields[name]))
    question = _text(fields, _names("question", columns))
    answer_names = _names("answer", columns)
    if not question and not any(name in fields for name in answer_names):
        known = _named(sorted(fields)[:8])
        raise _UnknownShapeError(f"no messages, turns or question and answer, but: {known}")
    return _pair(question, _text(fields, answer_names))


def _turns(values: Iterable[Any]) -> Iterator[Turn]:
    for value in values:
        if not isinstance(value, dict):
            raise _UnknownShapeError("a turn that is not an object")
        role = str(value.get("role", value.get("from", ""))).strip().lower()
        text = value.get("content", value.get("value", value.get("text")))
        if role in ("system", "developer", "tool"):
            continue
        if role not in _ROLES:
            raise _UnknownShapeError("a turn of neither the customer nor the agent")
        if not isinstance(text, str):
            raise _UnknownShapeError("a turn without text")
        yield Turn(_ROLES[role], text)


def _names(field: str, columns: Columns) -> tuple[str, ...]:
    chosen: str | None = getattr(columns, field)
    return (chosen.strip().lower(),) if chosen else _COLUMNS[field]


def _text(fields: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value).strip()
    return ""
