"""The same conversations come out of every format and compression, and of ranges of a file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import arro3.core
import arro3.io
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dropforge.errors import ExportError, SchemaError
from dropforge.export import MAX_LINE, Conversation, Reason, Rejected, Row, Turn, read, read_lines
from dropforge.export.elements import elements
from dropforge.export.lines import blocks

Pair = tuple[str, str]
Pack = Callable[[bytes], bytes]

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40).map(str.strip)
pairs = st.lists(st.tuples(words.filter(bool), words.filter(bool)), min_size=1, max_size=6)


def as_csv(rows: list[Pair], mark: str = ",") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=mark, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([("question", "answer"), *rows])
    return out.getvalue().encode()


def as_chat(rows: list[Pair]) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in rows
    ]


def as_parquet(columns: dict[str, list[str | None]]) -> bytes:
    out = io.BytesIO()
    text = arro3.core.DataType.string()
    arrays = {name: arro3.core.Array(values, type=text) for name, values in columns.items()}
    arro3.io.write_parquet(arro3.core.RecordBatch.from_pydict(arrays), out, compression="zstd(1)")
    return out.getvalue()


def as_zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/export", data)
        archive.writestr("__MACOSX/._export", b"\0\5\x16\7")
    return out.getvalue()


FORMATS: dict[str, Callable[[list[Pair]], bytes]] = {
    "csv": as_csv,
    "semicolons": lambda rows: as_csv(rows, ";"),
    "jsonl": lambda rows: "".join(json.dumps(r) + "\n" for r in as_chat(rows)).encode(),
    "raw jsonl": lambda rows: "\n".join(
        json.dumps(r, ensure_ascii=False) for r in as_chat(rows)
    ).encode(),
    "array": lambda rows: json.dumps(as_chat(rows), ensure_ascii=False).encode(),
    "pretty": lambda rows: json.dumps(as_chat(rows), indent=2).encode(),
    "wrapped": lambda rows: json.dumps({"next": None, "data": as_chat(rows), "n": [1]}).encode(),
    "one behind the other": lambda rows: "\n".join(
        json.dumps(r, indent=1) for r in as_chat(rows)
    ).encode(),
    "pairs": lambda rows: json.dumps([{"prompt": q, "completion": a} for q, a in rows]).encode(),
}
PACKS: dict[str, Pack] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".zip": as_zip,
}


def rows(data: bytes) -> list[Row]:
    return list(read(io.BytesIO(data)))


def texts(found: list[Row]) -> list[Any]:
    return [
        tuple(turn.text for turn in row.turns) if isinstance(row, Conversation) else row
        for row in found
    ]


@pytest.mark.parametrize("suffix", PACKS)
@pytest.mark.parametrize("kind", FORMATS)
@given(given_rows=pairs)
def test_conversations_come_back_from_every_format(
    kind: str, suffix: str, given_rows: list[Pair]
) -> None:
    export = read(io.BytesIO(PACKS[suffix](FORMATS[kind](given_rows))))
    assert export.format.endswith(suffix)
    assert texts(list(export)) == given_rows


@pytest.mark.parametrize("suffix", PACKS)
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow])
@given(given_rows=pairs)
def test_conversations_come_back_from_parquet(suffix: str, given_rows: list[Pair]) -> None:
    questions, answers = zip(*given_rows, strict=True)
    data = as_parquet({"question": list(questions), "answer": list(answers)})
    export = read(io.BytesIO(PACKS[suffix](data)))
    assert export.format == "parquet" + suffix
    assert texts(list(export)) == given_rows


def test_parquet_of_turns_and_of_nested_lists() -> None:
    turns = as_parquet(
        {
            "conversation_id": ["A", "A", "B"],
            "role": ["user", "agent", "user"],
            "text": ["Why?", "So.", None],
        }
    )
    assert texts(rows(turns)) == [("Why?", "So."), ()]
    lines = FORMATS["jsonl"]([("Why?", "So.")] * 300)
    schema = arro3.io.infer_json_schema(io.BytesIO(lines))
    out = io.BytesIO()
    arro3.io.write_parquet(arro3.io.read_json(io.BytesIO(lines), schema), out)
    assert texts(rows(out.getvalue())) == [("Why?", "So.")] * 300


def test_parquet_without_columns_of_a_conversation_is_refused() -> None:
    with pytest.raises(SchemaError, match="its columns: colour, size"):
        read(io.BytesIO(as_parquet({"colour": ["a"], "size": ["b"]})))


@pytest.mark.parametrize("cut", [4, 100, -4, -60])
def test_damaged_parquet_is_refused_and_the_process_alive(cut: int) -> None:
    whole = as_parquet({"question": ["Why?"] * 900, "answer": ["So."] * 900})
    damaged = bytearray(whole)
    damaged[cut : cut + 40] = b"\xff" * 40
    for data in (whole[:cut], bytes(damaged)):
        with pytest.raises(ExportError):
            rows(data)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_members_and_frames_one_behind_the_other_are_one_file(pack: Pack) -> None:
    data = pack(b"question,answer\na,") + pack(b"b\nc") + pack(b"") + pack(b",d\n")
    assert texts(rows(data)) == [("a", "b"), ("c", "d")]


def test_delimiter_that_excel_names_in_the_first_line_is_taken() -> None:
    assert texts(rows(b"sep=;\r\nquestion,a;answer;question\r\nx;b;a\r\n")) == [("a", "b")]


def test_members_of_a_zip_are_read_one_after_the_other() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", "question,answer\na,b\nc\n")
        archive.writestr("blank", "\n")
        archive.writestr("b/b.jsonl", '{"prompt": "d", "completion": "e"}\n')
    export = read(out)
    assert export.format == "csv.zip"
    found = list(export)
    assert [row.position for row in found] == [1, 2, 3]
    assert isinstance(found[1], Rejected)
    assert texts([found[0], found[2]]) == [("a", "b"), ("d", "e")]


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"prompt": "a", "completion": "b"}',
                b"",
                b"{broken",
                b'{"messages": []}',
                b"\xff",
                '{"prompt": "ä\u2028", "completion": ""}'.encode(),
            ]
        ),
        min_size=1,
        max_size=12,
    ),
    st.lists(st.integers(0, 400), max_size=5),
    st.booleans(),
)
def test_ranges_of_a_file_give_every_row_once(
    lines: list[bytes], cuts: list[int], ends_in_newline: bool
) -> None:
    data = b'{"prompt": "1", "completion": "2"}\n' + b"\n".join(lines) + b"\n" * ends_in_newline
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    found: list[Row] = []
    for start, end in pairwise(edges):
        # Lines that begin before `start`: those whose newline stands before it, and the first.
        before = data[: max(0, start - 1)].count(b"\n") + (start > 0)
        found += read_lines(
            io.BytesIO(data), None, None, start=start, end=end, first_position=before + 1
        )
    assert found == rows(data)


def in_pieces(data: bytes, size: int) -> Callable[[int], bytes]:
    file = io.BytesIO(data)
    return lambda _: file.read(size)


@given(
    st.lists(
        st.recursive(
            st.integers() | st.text('"\\{}[], \n', max_size=6) | st.none(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
            max_leaves=9,
        ),
        max_size=5,
    ),
    st.integers(1, 9),
    st.sampled_from([None, 2]),
)
def test_elements_are_cut_out_of_json_read_in_any_pieces(
    values: list[Any], size: int, indent: int | None
) -> None:
    data = json.dumps(values, indent=indent).encode()
    found = list(elements(in_pieces(data, size), 7))
    assert [json.loads(element.data) for element in found] == values
    for element in found:
        assert data[element.offset - 7 :].startswith(element.data)


@given(st.lists(st.integers(0, 30)), st.integers(1, 40), st.integers(1, 25))
def test_blocks_of_lines_cover_the_file(lengths: list[int], size: int, longest: int) -> None:
    data = b"\n".join(b"x" * length for length in lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dropforge.export.lines.MAX_LINE", longest)
        patch.setattr("dropforge.export.lines.CHUNK", longest)
        found = list(blocks(in_pieces(data, min(size, longest)), 0))
    assert sum(block.size for block in found) == len(data)
    assert [block.offset for block in found] == [
        sum(block.size for block in found[:i]) for i in range(len(found))
    ]
    for block in found:
        line_lengths = [len(line) for line in data[block.offset :][: block.size].splitlines()]
        if block.data:
            assert block.data == data[block.offset :][: block.size]
            assert max(line_lengths) <= longest
        else:
            assert len(line_lengths) == 1
            assert line_lengths[0] > longest


@pytest.mark.parametrize("text", ['[{"a": 1}', '{"tickets": [{"a": 1}', '[{"a": "]', "[1] x", "[}"])
def test_json_with_odd_brackets_is_refused(text: str) -> None:
    with pytest.raises(SchemaError, match="not valid JSON"):
        rows(text.encode())


def test_element_over_the_cap_and_a_broken_one_cost_themselves_alone() -> None:
    good = '{"prompt": "a", "completion": "b"}'
    odd = [f'{{"prompt": "{"x" * MAX_LINE}"}}', '{"prompt": tru}', '{"prompt": "\\ud800"}', "7"]
    found = rows(f"[{good}, {', '.join(odd)}, {good}]".encode())
    assert [row.reason for row in found if isinstance(row, Rejected)] == [
        Reason.TOO_LONG,
        Reason.BROKEN_ROW,
        Reason.BROKEN_ROW,
        Reason.UNKNOWN_SHAPE,
    ]
    assert isinstance(found[0], Conversation)
    assert isinstance(found[5], Conversation)
    assert found[0].turns == (Turn("user", "a"), Turn("assistant", "b"))
