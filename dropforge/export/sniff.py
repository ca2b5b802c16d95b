"""The format of uncompressed content, told by its first megabyte at most."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from dropforge.errors import EncodingError, NoDataError, SchemaError
from dropforge.export.container import CHUNK, Content
from dropforge.export.rows import MAX_LINE

Format = Literal["csv", "json", "jsonl", "parquet"]
WRAPPERS = frozenset(
    (
        *("tickets", "conversations", "data", "items", "rows", "results", "records", "threads"),
        *("chats", "cases", "issues", "entries", "dialogs", "dialogues", "sessions", "examples"),
        "value",
    )
)
"""Keys under which an object may wrap all of a file's rows in one list."""

_HEAD = 1 << 16
_BOM = b"\xef\xbb\xbf"
_WRAPPED = re.compile(
    rb'\s*\{(?:\s*"[^"\\]{0,60}"\s*:\s*(?:"[^"\\]{0,300}"|[\w.+-]{1,40})\s*,){0,20}'
    rb'\s*"([^"\\]{1,40})"\s*:\s*\[\s*\{'
)
_BINARY = (
    (b"%PDF", "a PDF document", "Export the tickets as CSV or JSON."),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook or Word document", "Save it as CSV (UTF-8)."),
    (b"BZh", "compressed with bzip2", "Use .gz, .zst or .zip."),
    (b"\xfd7zXZ", "compressed with xz", "Use .gz, .zst or .zip."),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Use .gz, .zst or .zip."),
    (b"Rar!", "a RAR archive", "Use .gz, .zst or .zip."),
    (b"SQLite format 3", "a database", "Export a table of it as CSV."),
    (b"ORC", "an ORC file", "Use Parquet, CSV or JSON."),
    (b"Obj\x01", "an Avro file", "Use Parquet, CSV or JSON."),
)
_MARKUP = re.compile(rb"<(\?xml|!doctype|html|tickets|\w+>)", re.IGNORECASE)


class Sniffed(NamedTuple):
    """A format, and how much blank (and byte order mark) before the first row was skipped."""

    format: Format
    skipped: int = 0
    blank_lines: int = 0


def sniff(content: Content) -> Sniffed:
    """The format of the content, whose byte order mark and leading blank are then taken off.

    Raises:
        NoDataError: it is empty or blank.
        EncodingError: it is UTF-16 or UTF-32.
        SchemaError: it is binary, markup, or no format known here.
    """
    head = content.peek(_HEAD)
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        raise EncodingError("The file is UTF-16 or UTF-32.", hint="Export it again as UTF-8.")
    if head.startswith(b"PAR1"):
        return Sniffed("parquet")
    for magic, what, hint in _BINARY:
        if head.startswith(magic) and not (magic.isalnum() and _is_text(head)):
            raise SchemaError(f"The file is {what}.", hint=hint)
    skipped, blank_lines = _skip_blank(content)
    head = content.peek(_HEAD)
    if not head:
        raise NoDataError("The file is empty.", hint="Export at least 100 resolved tickets.")
    _refuse_binary(head[:4096])
    if _MARKUP.match(head):
        raise SchemaError("The file is XML or HTML.", hint="Export the tickets as CSV or JSON.")
    return Sniffed(_text_format(content), skipped, blank_lines)


def _is_text(head: bytes) -> bool:
    return b"\n" in head and not re.search(rb"[\0-\x08]", head[:4096])


def _skip_blank(content: Content) -> tuple[int, int]:
    skipped = len(content.read(3)) if content.peek(3).startswith(_BOM) else 0
    blank_lines = 0
    while head := content.peek(_HEAD):
        blank = len(head) - len(head.lstrip())
        taken = content.read(blank) if blank else b""
        skipped += len(taken)
        blank_lines += taken.count(b"\n")
        if blank < len(head):
            break
    return skipped, blank_lines


def _refuse_binary(head: bytes) -> None:
    if b"\0" not in head:
        return
    # Without a byte order mark: text of the western scripts has a zero in every other byte.
    if max(head[::2].count(0), head[1::2].count(0)) > len(head) // 4:
        raise EncodingError("The file is UTF-16.", hint="Export it again as UTF-8.")
    raise SchemaError("The file is binary.", hint="Drop it as CSV, JSON, JSONL or Parquet.")


def _text_format(content: Content) -> Format:
    head = content.peek(_HEAD)
    if head[:1] == b"[":
        return "json"
    if head[:1] != b"{":
        return "csv"
    if b"\n" not in head:
        head = content.peek(MAX_LINE + 2)
    first, newline, rest = head.partition(b"\n")
    if not newline or not rest.strip():
        return _one_line(head, whole=len(head) <= MAX_LINE + 1)
    if _is_json(first):
        return "jsonl"
    if _WRAPPED.match(head) and first.rstrip().endswith(b"["):
        return "json"
    if len(head) < CHUNK and _is_json(head):
        return "json"
    unindented = (line for line in rest.split(b"\n")[:200] if line[:1] == b"{")
    return "jsonl" if any(map(_is_json, unindented)) else _pretty(first)


def _one_line(head: bytes, *, whole: bool) -> Format:
    """A single line: one object (perhaps around a list), or a line too long to be one."""
    wrapped = _WRAPPED.match(head)
    if wrapped and wrapped[1].decode("ascii", "replace").lower() in WRAPPERS:
        return "json"
    return "json" if whole and not _broken(head) else "jsonl"


def _broken(head: bytes) -> bool:
    """Whether it is no JSON, and not several objects one behind the other either."""
    return not _is_json(head) and not re.search(rb"\}\s*\{", head)


def _pretty(first: bytes) -> Format:
    """Objects over several lines open with a brace or the beginning of a member."""
    return "json" if re.fullmatch(rb'\{\s*("[^"]*"\s*:.*|"[^"]*")?\s*', first) else "jsonl"


def _is_json(text: bytes) -> bool:
    text = text.strip()
    if text[:1] not in (b"{", b"["):
        return False
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
        return False
    return True
