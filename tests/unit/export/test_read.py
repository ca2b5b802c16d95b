from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.errors import EncodingError, ExportError, NoDataError, SchemaError
from dropforge.export import MAX_LINE, Conversation, Reason, Rejected, Row, Turn, read
from dropforge.project.data import Columns

HEAD = "question,answer\n"


def rows(text: str | bytes, **columns: str) -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return list(read(io.BytesIO(data), Columns(**columns)))


def conversations(text: str | bytes, **columns: str) -> list[Conversation]:
    return [row for row in rows(text, **columns) if isinstance(row, Conversation)]


def rejections(text: str | bytes) -> list[Rejected]:
    return [row for row in rows(text) if isinstance(row, Rejected)]


def pair(question: str, answer: str) -> tuple[Turn, ...]:
    return (Turn("user", question), Turn("assistant", answer))


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (b"question,answer\n", "csv"),
        (b'  {"question": 1}\n{"question": 2}', "jsonl"),
        (b'{"question":\n 1}', "json"),
        (b'[{"question": 1}]', "json"),
        (b'{"question": \n{"question": 2}\n', "jsonl"),
        (b'{"question": "\xff"}\n{"question": 2}\n', "jsonl"),
        (b'\xef\xbb\xbf{"question": 1}', "json"),
        (b'{"tickets": [{"question": 1}, {"question": 2}]}\n', "json"),
    ],
)
def test_format_is_told_by_content(data: bytes, known: str) -> None:
    assert read(io.BytesIO(data)).format == known


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NoDataError),
        (b" \n\t\n", NoDataError),
        (b"\xef\xbb\xbf\n", NoDataError),
        ("a,b".encode("utf-16"), EncodingError),
        ("a,b".encode("utf-32"), EncodingError),
        ("question,answer\na,b\n".encode("utf-16-le"), EncodingError),
        ("question,answer\na,b\n".encode("utf-16-be"), EncodingError),
        (b"\x1f\x8b\x08rest", SchemaError),
        (b"PK\x03\x04rest", SchemaError),
        (b"PAR1rest", SchemaError),
        (b"\x28\xb5\x2f\xfdrest", SchemaError),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR and more of it", SchemaError),
        (b'[{"question": 1}', SchemaError),
        (b"a,b\n1,2\n", SchemaError),
        (b"question,answer,Question\n", SchemaError),
        (b'question,answer\n"a,b\n', SchemaError),
        ("fr\u00e5ga,question,answer\n".encode("latin-1"), EncodingError),
    ],
)
def test_file_that_cannot_be_read_is_refused_as_a_whole(
    data: bytes, error: type[ExportError]
) -> None:
    with pytest.raises(error) as refused:
        list(read(io.BytesIO(data)))
    assert refused.value.hint


def test_table_row_becomes_a_conversation_with_its_customer() -> None:
    text = (
        "ticket_id,customer_email,customer_name,question,answer\n"
        'T-1,j@x.example,Jo Doe,"Where, is\nit?",Here\n'
    )
    assert rows(text) == [
        Conversation(1, pair("Where, is\nit?", "Here"), "T-1", "j@x.example", ("Jo Doe",))
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_table_is_read_with_any_usual_delimiter(mark: str) -> None:
    text = f"id{mark}question{mark}answer\n1{mark}Why?{mark}So.\n"
    assert conversations(text)[0].turns == pair("Why?", "So.")


def test_table_columns_are_found_by_their_configured_names() -> None:
    text = "id,What they said,What we said,answer\n1,Why?,So.,no\n"
    found = conversations(text, question="what they said", answer="What We Said ")
    assert found[0].turns == pair("Why?", "So.")


def test_table_without_the_configured_column_is_refused() -> None:
    with pytest.raises(SchemaError, match="no answer column; its columns: question, answer"):
        rows(HEAD, answer="reply")


def test_blank_lines_around_a_table_are_no_rows() -> None:
    assert len(rows("\n\r\n" + HEAD + "\nWhy?,So.\n\n")) == 1


def test_first_ticket_in_place_of_a_header_is_not_told() -> None:
    with pytest.raises(SchemaError) as refused:
        rows("T-1,canary@mail.example,My order never came,Sorry\n")
    assert "canary" not in str(refused.value)


def test_row_with_cells_missing_or_too_many_is_broken() -> None:
    found = rejections(HEAD + "Why?\nWhy?,So.,more\n")
    assert [(row.position, row.reason, row.offset) for row in found] == [
        (1, Reason.BROKEN_ROW, len(HEAD)),
        (2, Reason.BROKEN_ROW, len(HEAD) + 5),
    ]


def test_row_with_a_stray_quote_takes_no_other_row_along() -> None:
    good = [f"Question {i}?,Answer {i}.\n" for i in range(5)]
    text = HEAD + good[0] + 'Why?,"So.\n' + "".join(good[1:]) + '"Last, one?",So.\n'
    found = rows(text)
    assert [type(row) for row in found] == [Conversation, Rejected, *[Conversation] * 5]
    assert found[-1].turns == pair("Last, one?", "So.")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [
        {
            "messages": [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "So."},
            ]
        },
        {"turns": [{"role": "Customer", "text": "Why?"}, {"role": "AGENT", "text": "So."}]},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"Question": " Why? ", "Answer": "So."},
        {"prompt": "Why?", "completion": "So."},
    ],
)
@pytest.mark.parametrize("layout", ["jsonl", "json", "wrapped"])
def test_every_json_shape_is_read(value: dict[str, Any], layout: str) -> None:
    texts = {"jsonl": value, "json": [value], "wrapped": {"tickets": [value], "next": None}}
    assert conversations(json.dumps(texts[layout]))[0].turns == pair("Why?", "So.")


def test_single_sharegpt_object_is_one_conversation_not_a_list() -> None:
    value = {"conversations": [{"from": "human", "value": "Why?"}]}
    assert conversations(json.dumps(value, indent=1))[0].turns == (Turn("user", "Why?"),)


def test_system_and_tool_turns_are_left_out() -> None:
    roles = ("system", "user", "tool", "assistant", "developer")
    value = {"messages": [{"role": role, "content": role} for role in roles]}
    assert conversations(json.dumps(value))[0].turns == pair("user", "assistant")


def test_json_object_names_customer_and_id() -> None:
    value = {"question": "q", "answer": "a", "id": 7, "requester_email": "x@y.example"}
    found = conversations(json.dumps({**value, "requester_name": "Jo"}))[0]
    assert (found.id, found.customer, found.names) == ("7", "x@y.example", ("Jo",))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", Reason.UNKNOWN_SHAPE),
        ("7", Reason.UNKNOWN_SHAPE),
        ('{"subject": "x"}', Reason.UNKNOWN_SHAPE),
        ('{"messages": ["x"]}', Reason.UNKNOWN_SHAPE),
        ('{"messages": [{"role": "Maria Canary", "content": "x"}]}', Reason.UNKNOWN_SHAPE),
        ('{"messages": [{"role": "user", "content": null}]}', Reason.UNKNOWN_SHAPE),
        ("{broken", Reason.BROKEN_ROW),
        ('{"question": "' + "x" * MAX_LINE + '"}', Reason.TOO_LONG),
    ],
)
def test_unreadable_line_is_rejected_with_its_place_and_reason(line: str, reason: Reason) -> None:
    good = '{"question": "q", "answer": "a"}\n'
    found = rows(good + "\n" + line + "\n" + good)
    assert isinstance(found[1], Rejected)
    assert (found[1].position, found[1].offset, found[1].reason) == (3, len(good) + 1, reason)
    assert "Canary" not in found[1].detail
    assert [type(row) for row in found] == [Conversation, Rejected, Conversation]


@given(st.binary(max_size=400))
def test_any_bytes_are_rows_or_an_export_error(data: bytes) -> None:
    try:
        found = rows(data)
    except ExportError:
        return
    positions = [row.position for row in found]
    assert positions == sorted(set(positions))


cells = st.text(st.sampled_from('ab ,;"\n\r\u2028\x85é\x00'), max_size=12)


@given(st.lists(st.tuples(cells, cells), max_size=8), st.binary(max_size=12))
def test_every_line_of_a_broken_table_is_accounted_for(
    pairs: list[tuple[str, str]], garbage: bytes
) -> None:
    """However the cells are quoted, no physical line vanishes into a neighbour unseen."""
    body = "".join(f"{question},{answer}\n" for question, answer in pairs).encode()
    try:
        found = rows(HEAD.encode() + body + garbage)
    except ExportError:
        return
    offsets = [row.offset for row in found if isinstance(row, Rejected)]
    assert all(offset is not None and len(HEAD) <= offset for offset in offsets)
    assert offsets == sorted(set(offsets))


@given(st.lists(st.one_of(st.binary(max_size=60), st.just(b'{"question":"q","answer":"a"}'))))
def test_every_line_of_jsonl_is_a_row(lines: list[bytes]) -> None:
    first = b'{"question":"q","answer":"a"}'
    clean = [line.replace(b"\n", b" ").replace(b"\0", b" ") for line in lines]
    found = rows(b"\n".join([first, *clean]))
    assert len(found) == 1 + sum(bool(line.strip()) for line in clean)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "messages",
                        "turns",
                        "role",
                        "from",
                        "content",
                        "question",
                        "answer",
                        "tickets",
                        "conversations",
                        "id",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_rows_or_an_export_error(value: Any) -> None:
    try:
        found = rows(json.dumps([value]))
    except ExportError:
        return
    assert len(found) == 1


def test_unclosed_quote_in_a_large_table_costs_one_row() -> None:
    good = "".join(f"What is {i} in {'x' * 60}?,It is {i}.\n" for i in range(20_000))
    found = rows(HEAD + 'Why?,"So.\n' + good)
    assert len(found) == 20_001
    assert [row.position for row in found if isinstance(row, Rejected)] == [1]
