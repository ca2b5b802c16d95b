from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.errors import ProjectError
from dropforge.extract import Extraction, extracted_key, since_key, write_export
from dropforge.extract.cursor import Cursor, cursor_of
from dropforge.extract.values import plain
from dropforge.project import ProjectConfig, parse_project
from dropforge.project.data import Extract

NEPAL = timezone(timedelta(hours=5, minutes=45))


def config(columns: dict[str, str] | None = None, **extract: Any) -> ProjectConfig:
    section = {"query": "SELECT 1", "url_secret": "dropforge/database/shop", **extract}
    return ProjectConfig.model_validate(
        {"backend": "openai", "model": "m", "extract": section, "columns": columns or {}}
    )


def written(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    settings: ProjectConfig | None = None,
    begin: Cursor | None = None,
) -> tuple[Extraction, list[dict[str, Any]]]:
    file = io.BytesIO()
    found = write_export(columns, rows, settings or config(), begin, file)
    lines = gzip.decompress(file.getvalue()).split(b"\n")
    return found, [json.loads(line) for line in lines if line]


BY_ID: dict[str, Any] = {"cursor": "id", "start": "0"}
START = Cursor("start", "0")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (10**30, "1" + "0" * 30),
        (1.5, 1.5),
        (float("nan"), None),
        (Decimal("9.90"), "9.90"),
        (Decimal(42), 42),
        (Decimal("42.00"), "42.00"),
        (Decimal("NaN"), None),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),  # noqa: DTZ001
        (datetime(2026, 1, 2, 3, 4, tzinfo=NEPAL), "2026-01-01T21:19:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("grün\u2028\n", "grün\u2028\n"),
        ("grün".encode(), "grün"),
        (memoryview(b"\xff\xfe"), "//4="),
        ({"a": [Decimal(1), None]}, {"a": [1, None]}),
        (timedelta(days=1), "1 day, 0:00:00"),
    ],
)
def test_values_are_written_as_json_has_them(value: object, expected: object) -> None:
    _, rows = written(["x"], [[value]])
    assert rows == [{"x": expected}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(value=json_values)
def test_any_value_is_one_line_of_json(value: object) -> None:
    _, rows = written(["x"], [[value]])
    assert rows == [{"x": plain(value)}]


@pytest.mark.parametrize(
    "value",
    [
        7,
        -(10**20),
        Decimal("1.50"),
        0.1,
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 4, 5, 678901),  # noqa: DTZ001
        date(2026, 1, 2),
        UUID(int=5),
        "a text",
    ],
)
def test_cursor_comes_back_with_its_value_and_type(value: object) -> None:
    back = cursor_of(value, "x").value
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize("value", [None, True, b"x", [1], float("nan"), "x" * 1001, Decimal("NaN")])
def test_what_has_no_order_is_no_cursor(value: object) -> None:
    with pytest.raises(ProjectError, match=r"extract\.cursor") as error:
        cursor_of(value, "x")
    assert "xxx" not in str(error.value)


@pytest.mark.parametrize("name", ["answer", "Agent Reply", "response", "RESOLUTION"])
def test_tickets_without_an_answer_are_left_out_and_counted(name: str) -> None:
    found, rows = written(["q", name], [["a", "x"], ["b", None], ["c", " \n"], ["d", "y"]])
    assert [row["q"] for row in rows] == ["a", "d"]
    assert (found.read, found.rows, found.unanswered) == (4, 2, 2)


def test_answer_column_is_the_projects_own() -> None:
    found, _ = written(["q", "answer", "Said"], [["a", "x", None]], config({"answer": "said"}))
    assert found.unanswered == 1


def test_answer_may_lie_inside_of_a_json_column() -> None:
    rows: list[list[Any]] = [[{"reply": {"text": "x"}}], [{"reply": {}}], [None]]
    found, _ = written(["doc"], rows, config({"answer": "doc.reply.text"}))
    assert (found.rows, found.unanswered) == (1, 2)


@pytest.mark.parametrize("columns", [{"role": "who", "text": "body"}, {"turns": "messages"}])
def test_rows_that_are_no_tickets_are_all_kept(columns: dict[str, str]) -> None:
    found, _ = written(["who", "body", "response"], [["a", "b", None]] * 3, config(columns))
    assert (found.rows, found.unanswered) == (3, 0)


def test_missing_answer_column_is_named_with_those_there_are() -> None:
    with pytest.raises(ProjectError, match="no column said; its columns: id, q"):
        written(["id", "q"], [], config({"answer": "said"}))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ProjectError, match="same name: id"):
        written(["id", "q", "id"], [])


def test_export_ends_after_the_tie_at_max_rows() -> None:
    rows: list[list[Any]] = [[1, "a"], [2, "b"], [2, "c"], [2, None], [2, "d"], [3, "e"]]
    found, kept = written(["id", "answer"], rows, config(**BY_ID, max_rows=2), START)
    assert [row["answer"] for row in kept] == ["a", "b", "c", "d"]
    assert (found.to, found.more) == (Cursor("integer", "2"), True)


def test_export_of_exactly_max_rows_has_no_more() -> None:
    found, _ = written(["id", "answer"], [[1, "a"], [2, "b"]], config(**BY_ID, max_rows=2), START)
    assert not found.more


def test_unanswered_tickets_do_not_count_for_max_rows() -> None:
    """Else an export could be empty, and the cursor never move past them."""
    rows: list[list[Any]] = [[i, None] for i in range(1, 6)]
    rows += [[6, "a"], [7, "b"]]
    found, _ = written(["id", "answer"], rows, config(**BY_ID, max_rows=1), START)
    assert (found.rows, found.unanswered, found.to) == (1, 5, Cursor("integer", "6"))


def test_cursor_passes_unanswered_tickets_only_with_answered_ones() -> None:
    settings = config(**BY_ID)
    found, _ = written(["id", "answer"], [[1, "a"], [2, None]], settings, START)
    assert found.to == Cursor("integer", "2")
    found, _ = written(["id", "answer"], [[3, None]], settings, Cursor("integer", "2"))
    assert found.to is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[5, "a"]], "not newer"),
        ([[4, "a"]], "not newer"),
        ([[7, "a"], [6, "b"]], "in the order of id"),
        ([[6, "a"], [None, "b"]], "NULL"),
        ([[None, "b"]], "NULL"),
    ],
)
def test_rows_have_to_follow_the_cursor(rows: list[list[Any]], said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        written(["id", "answer"], rows, config(**BY_ID), Cursor("integer", "5"))


def test_texts_are_left_to_the_databases_order() -> None:
    """Its collation may have "b" before "C", and "é" after "e"."""
    rows = [["a", "x"], ["b", "y"], ["C", "z"]]
    found, _ = written(["id", "answer"], rows, config(**BY_ID), START)
    assert found.to == Cursor("text", "C")


def test_cursor_column_that_the_query_lacks_is_named() -> None:
    with pytest.raises(ProjectError, match="no column id; its columns: answer"):
        written(["answer"], [], config(**BY_ID), START)


def test_same_rows_are_the_same_bytes() -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_export(["id"], [[1], [2]], config(), None, file)
    assert files[0].getvalue() == files[1].getvalue()


def test_progress_is_told_every_thousand_rows() -> None:
    told: list[int] = []
    write_export(["id"], ([i] for i in range(2500)), config(), None, io.BytesIO(), told.append)
    assert told == [1000, 2000, 2500]


def section(settings: ProjectConfig) -> Extract:
    assert settings.extract is not None
    return settings.extract


def test_key_depends_on_where_an_extraction_begins_alone() -> None:
    one, other = section(config(**BY_ID)), section(config(**BY_ID, query="SELECT 2", max_rows=5))
    at = Cursor("timestamp", "2026-01-01T00:00:00+00:00")
    assert extracted_key("shop", one, at) == extracted_key("shop", other, at)
    assert extracted_key("shop", one, at).startswith(
        "exports/shop/extracted/after-2026-01-01T00-00-00-"
    )
    keys = {
        extracted_key("shop", one, at),
        extracted_key("shop", one, START),
        extracted_key("shop", section(config(cursor="other", start="0")), START),
        extracted_key("shop", section(config(cursor="id", start="1")), START),
        extracted_key("shop", one, None),
        since_key("shop", "0"),
    }
    assert len(keys) == 6


def test_key_tells_nothing_of_a_text() -> None:
    key = extracted_key("shop", section(config(**BY_ID)), Cursor("text", "ann@example.com"))
    assert "ann" not in key


@pytest.mark.parametrize(
    ("start", "text"),
    [("2026-01-01", "2026-01-01"), ("0", "0"), ("2026-01-01 10:00:00", "2026-01-01 10:00:00")],
)
def test_start_is_taken_as_it_is_written(start: str, text: str) -> None:
    yaml = (
        "backend: openai\nmodel: m\nextract:\n  query: SELECT 1\n"
        f"  url_secret: dropforge/database/shop\n  cursor: id\n  start: {start}\n"
    )
    assert section(parse_project("shop", yaml)).start == text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cursor": "id"}, "go together"),
        ({"start": "0"}, "go together"),
        ({"cursor": "id", "start": True}, "string"),
        ({"url_secret": "other/db"}, "pattern"),
        ({"min_rows": 5, "max_rows": 4}, "above"),
        ({"url": "postgresql://"}, "Extra"),
    ],
)
def test_wrong_section_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**wrong)
