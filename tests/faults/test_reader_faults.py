"""Faults 1-20: what a dropped file can hold, named by their numbers."""

from __future__ import annotations

import gzip
import io
import json
import resource
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from dropforge.errors import EncodingError, ExportError, NoDataError, SchemaError, TooLargeError
from dropforge.export import MAX_LINE, Conversation, Reason, Rejected, Row, container, read, table
from tests.support.tickets import tickets_csv, tickets_jsonl

GOOD = '{"question": "Why?", "answer": "So."}\n'


def rows(data: str | bytes) -> list[Row]:
    return list(read(io.BytesIO(data.encode() if isinstance(data, str) else data)))


def line_among_good(line: str | bytes) -> Row:
    """What becomes of a line between two good ones, which have to survive it."""
    raw = line.encode() if isinstance(line, str) else line
    first, odd, last = rows(GOOD.encode() + raw + b"\n" + GOOD.encode())
    assert isinstance(first, Conversation)
    assert isinstance(last, Conversation)
    return odd


def quarantined(line: str | bytes, reason: Reason) -> None:
    odd = line_among_good(line)
    assert isinstance(odd, Rejected)
    assert (odd.reason, odd.position, odd.offset) == (reason, 2, len(GOOD))


def refused(data: bytes, error: type[ExportError] = SchemaError, match: str | None = None) -> None:
    with pytest.raises(error, match=match) as told:
        rows(data)
    assert told.value.hint


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("data", [tickets_csv(3), tickets_jsonl(3), json.dumps([json.loads(GOOD)])])
def test_fault_01_byte_order_mark_is_stripped(data: str) -> None:
    assert rows(b"\xef\xbb\xbf" + data.encode()) == rows(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_fault_02_utf16_file_is_refused(encoding: str) -> None:
    with pytest.raises(EncodingError, match="UTF-8"):
        rows(tickets_csv(20).encode(encoding))


def test_fault_03_invalid_utf8_costs_its_line_alone() -> None:
    quarantined(b'{"question": "caf\xe9", "answer": "x"}', Reason.ENCODING)
    good, _, found = rows(b"question,answer\nWhy?,So.\ncaf\xe9,x\nWhy not?,So.\n")[0:3]
    assert isinstance(good, Conversation)
    assert isinstance(found, Conversation)


def test_fault_03_invalid_utf8_in_the_first_line_of_jsonl_costs_it_alone() -> None:
    odd, good = rows(b'{"question": "caf\xe9", "answer": "x"}\n' + GOOD.encode())
    assert isinstance(odd, Rejected)
    assert isinstance(good, Conversation)


def test_fault_04_lone_surrogate_is_quarantined() -> None:
    quarantined(r'{"question": "\ud800", "answer": "x"}', Reason.BROKEN_ROW)


def test_fault_05_nul_escape_is_accepted() -> None:
    """Cleaning strips it and counts it."""
    (row,) = rows(r'{"question": "Wh\u0000y?", "answer": "S\u0000o."}' + "\n")
    assert isinstance(row, Conversation)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_fault_06_what_is_no_number_is_quarantined(number: str) -> None:
    quarantined(f'{{"question": "q", "answer": "a", "n": {number}}}', Reason.BROKEN_ROW)


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "a", "question": "b", "answer": "c"}',
        '{"question" : "a", "question": "b", "answer": "c"}',
        '{"question" \t : "a", "x": "\\":", "question": "b", "answer": "c"}',
        '{"answer": "c", "question": "b", "n": {"deep": [{"a": 1, "a": 2}]}}',
        '{"messages": [{"role": "user", "content": "a", "content": "b"}]}',
        '{"messages": [{"role" : "user", "role": "assistant", "content": "b"}]}',
        '{"messages": [], "messages": [{"role": "user", "content": "b"}]}',
    ],
)
def test_fault_07_keys_that_contradict_each_other_are_quarantined(line: str) -> None:
    quarantined(line, Reason.BROKEN_ROW)


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "a", "question": "a", "answer": "c"}',
        '{"question": "he said \\"why\\": so", "answer": "c"}',
        '{"messages": [{"role": "user", "content": "a", "content": "a"}]}',
    ],
)
def test_fault_07_keys_twice_with_one_value_are_accepted(line: str) -> None:
    assert isinstance(line_among_good(line), Conversation)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"question":['])
def test_fault_08_deep_nesting_is_quarantined(opening: str) -> None:
    quarantined(opening * (700_000 // len(opening)), Reason.BROKEN_ROW)


def test_fault_08_deep_nesting_that_is_closed_is_quarantined() -> None:
    value = "[" * 100_000 + "]" * 100_000
    quarantined(f'{{"question": {value}, "answer": "a"}}', Reason.BROKEN_ROW)


@pytest.mark.parametrize("place", ['{"question": N, "answer": "a"}', '{"question": "q", "n": [N]}'])
def test_fault_09_huge_integer_is_quarantined_at_once(place: str) -> None:
    """Turned into a number, so many digits would take seconds."""
    line = place.replace("N", "9" * 900_000)
    began = time.process_time()
    quarantined(line, Reason.BROKEN_ROW)
    assert time.process_time() - began < 0.5


def test_fault_10_line_over_a_megabyte_is_quarantined() -> None:
    quarantined(f'{{"question": "{"x" * (1 << 20)}", "answer": "a"}}', Reason.TOO_LONG)


class _Endless(io.RawIOBase):
    """A file of one line, made while it is read."""

    def __init__(self, before: bytes, size: int, after: bytes) -> None:
        self._parts = (before, size, after)
        self._size = len(before) + size + len(after)
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset if whence == io.SEEK_SET else self._size + offset
        return self._at

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        before, middle, after = self._parts
        end = self._size if size < 0 else min(self._size, self._at + size)
        at, self._at = self._at, end
        found = before[at:end]
        if end > len(before):
            inside = min(end, len(before) + middle) - max(at, len(before))
            found += b"x" * max(0, inside)
        edge = len(before) + middle
        return found + after[max(0, at - edge) : max(0, end - edge)]


HUGE = 150_000_000


@pytest.mark.parametrize(
    ("before", "after", "known"),
    [
        (b'{"question": "', b'"}\n' + GOOD.encode(), "jsonl"),
        (GOOD.encode() + b'{"question": "', b'"}\n' + GOOD.encode(), "jsonl"),
        (b'[{"question": "', b'"},' + GOOD.encode() + b"]", "json"),
        (b'{"next": 1, "tickets": [{"question": "', b'"},' + GOOD.encode() + b"]}", "json"),
        (b"question,answer\n", b"\nWhy?,So.\n", "csv"),
    ],
)
def test_fault_10_huge_line_is_quarantined_in_bounded_memory(
    before: bytes, after: bytes, known: str
) -> None:
    tracemalloc.start()
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    export = read(_Endless(before, HUGE, after))  # type: ignore[arg-type]
    found = list(export)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - high
    assert export.format == known
    assert [row.reason for row in found if isinstance(row, Rejected)] == [Reason.TOO_LONG]
    assert isinstance(found[-1], Conversation)
    assert peak < 30_000_000
    assert grown < 100_000  # KiB


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029", "\x0b", "\x1e"])
def test_fault_11_line_separator_inside_a_string_is_one_line(separator: str) -> None:
    line = json.dumps({"question": f"a{separator}b", "answer": "c"}, ensure_ascii=False)
    assert isinstance(line_among_good(line), Conversation)
    (row,) = rows(f"question,answer\na{separator}b,c\n")
    assert isinstance(row, Conversation)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda d: zipped({"a.csv": d})])
def test_fault_12_bomb_is_refused(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(b"question,answer\n" + b"Why?,%s\n" % (b"x" * 9_000) * 3_000)
    assert len(bomb) * 100 < 27_000_000
    refused(bomb, SchemaError, "100 times its size")


def test_fault_12_bomb_of_overlapping_members_is_refused() -> None:
    data = zipped(
        {f"{i}.csv": b"question,answer\n" + b"Why?,%s\n" % (b"x" * 9_000) * 100 for i in range(20)}
    )
    refused(data, SchemaError, "100 times its size")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_fault_12_more_than_the_cap_is_too_large(
    pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "MAX_UNCOMPRESSED", 100_000)
    refused(pack(tickets_csv(2_000).encode()), TooLargeError)


@pytest.mark.parametrize(
    "name", ["../t.csv", "a/../../t.csv", "/etc/t.csv", "C:\\t.csv", "..\\t.csv", ".."]
)
def test_fault_13_odd_paths_are_refused(name: str) -> None:
    refused(zipped({"good.csv": tickets_csv(2).encode(), name: b"x"}), match="outside of itself")


def test_fault_13_link_is_refused() -> None:
    link = zipfile.ZipInfo("t.csv")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(out.getvalue(), match="link")


@pytest.mark.parametrize(
    "inner",
    [zipped({"t.csv": b"a"}), gzip.compress(b"question,answer\n"), zstd.compress(b"abc")],
    ids=["zip", "gz", "zst"],  # a gzip header has the time in it
)
@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda d: zipped({"t": d})])
def test_fault_13_archive_in_an_archive_is_refused(
    inner: bytes, pack: Callable[[bytes], bytes]
) -> None:
    refused(pack(inner), match="another archive")


def test_fault_13_encrypted_zip_is_refused() -> None:
    data = bytearray(zipped({"t.csv": tickets_csv(2).encode()}))
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, 1)
    refused(bytes(data), match="encrypted")


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda d: zipped({"a.csv": d})])
@pytest.mark.parametrize("left", [0.3, 0.9, 0.999])
def test_fault_14_truncated_archive_is_refused(pack: Callable[[bytes], bytes], left: float) -> None:
    whole = pack(tickets_csv(3_000).encode())
    refused(whole[: int(len(whole) * left)], SchemaError, "damaged or cut off")


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress, lambda d: zipped({"a.csv": d})])
def test_fault_14_corrupted_archive_is_refused(pack: Callable[[bytes], bytes]) -> None:
    whole = bytearray(pack(tickets_csv(3_000).encode()))
    middle = len(whole) // 2
    whole[middle : middle + 40] = b"\xa5" * 40
    with pytest.raises(ExportError):
        rows(bytes(whole))


def test_fault_14_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_bytes(gzip.compress(tickets_jsonl(3).encode()))
    with path.open("rb") as file:
        export = read(file)
        assert (export.format, len(list(export))) == ("jsonl.gz", 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}), "Excel workbook"),
        (zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}), "office document"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "Excel"),
        (b"BZh91AY&SY" + b"\x01\xff" * 40, "bzip2"),
        (b"<?xml version='1.0'?>\n<tickets/>\n", "XML"),
        (b"SQLite format 3\0" + b"\0" * 90, "database"),
    ],
)
def test_fault_14_what_is_no_export_is_refused_by_its_name(data: bytes, said: str) -> None:
    refused(data, SchemaError, said)


def test_fault_15_cell_over_128_kilobytes_is_accepted() -> None:
    (row,) = rows(f"question,answer\n{'x' * 200_000},a\n")
    assert isinstance(row, Conversation)


def test_fault_15_cell_over_the_cap_is_quarantined() -> None:
    odd, good = rows(f"question,answer\n{'x' * (MAX_LINE + 1)},a\nWhy?,So.\n")
    assert isinstance(odd, Rejected)
    assert odd.reason is Reason.TOO_LONG
    assert isinstance(good, Conversation)


@pytest.mark.parametrize("header", ["question,answer,answer", "Question,answer,QUESTION "])
def test_fault_16_repeated_headers_are_refused(header: str) -> None:
    with pytest.raises(SchemaError, match=r"two columns of the same name: (answer|question)"):
        rows(f"{header}\na,b,c\n")


@pytest.mark.parametrize("row", ['a,"b\n', '"a\n', 'a,"b""\nc,d\ne,f\n'])
def test_fault_17_unclosed_quote_is_refused(row: str) -> None:
    with pytest.raises(SchemaError, match="after row 2 is never closed"):
        rows(f"question,answer\na,b\nc,d\n{row}")


def test_fault_17_unclosed_quote_in_the_middle_swallows_no_row() -> None:
    good = "".join(f"{i},a,Question {i}?,Answer {i}.\n" for i in range(9))
    odd, *found = rows(f'id,tag,question,answer\n1,a,"Why?,So.\n{good}2,a,Why?,"So"\n')
    assert isinstance(odd, Rejected)
    assert [type(row) for row in found] == [Conversation] * 10


def test_fault_17_quotes_that_are_never_closed_all_over_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "_MOST_RUNAWAYS", 1)
    good = "".join(f"{i},{'x' * 300}\n" for i in range(4_000))
    once = f'question,answer\n"Why?,So.\n{good}'
    assert len(rows(once)) == 4_001
    refused(f'{once}"Why?,So.\n{good}'.encode(), SchemaError, "closed in many places")


@pytest.mark.parametrize("text", ["=1+1", "+49", "-1", "@SUM(A1)"])
def test_fault_18_formulas_are_kept(text: str) -> None:
    (row,) = rows(f"question,answer\n{text},{text}\n")
    assert isinstance(row, Conversation)
    assert [turn.text for turn in row.turns] == [text, text]


def test_fault_19_mixed_shapes_are_read_line_by_line() -> None:
    lines = [
        '{"question": "q", "answer": "a"}',
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}',
        '{"what": "else"}',
        "plain text",
        '"a string"',
    ]
    found = rows("\n".join(lines))
    assert [row.turns[0].text for row in found[:3] if isinstance(row, Conversation)] == ["q"] * 3
    assert [row.reason for row in found[3:] if isinstance(row, Rejected)] == [
        Reason.UNKNOWN_SHAPE,
        Reason.BROKEN_ROW,
        Reason.UNKNOWN_SHAPE,
    ]


@pytest.mark.parametrize(
    "data",
    [b"", b"\n \n\t\n", b"\xef\xbb\xbf\n", b" " * 200_000, gzip.compress(b"\n\n")],
    ids=["empty", "blank lines", "a mark", "spaces", "blank lines in a gz"],
)
def test_fault_20_nothing_at_all_is_no_data(data: bytes) -> None:
    refused(data, NoDataError)


def test_fault_20_zip_of_nothing_is_no_data() -> None:
    refused(zipped({}), NoDataError)
    refused(zipped({"__MACOSX/._t.csv": b"\0\5", ".DS_Store": b"\0", "a/": b""}), NoDataError)
    refused(zipped({"a.csv": b"", "b.csv": b"\n"}), NoDataError)
