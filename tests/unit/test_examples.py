"""The sample export: reproducible, as faulty as it says, and cleaned to exactly its counts."""

import csv
import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dropforge.export import Reason
from dropforge.project import parse_project
from tests.support.cleaned import Cleaned, clean_file

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((EXAMPLES / "tickets.expected.json").read_text("utf-8"))
    return counts


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    text = (EXAMPLES / "tickets.csv").read_text("utf-8", errors="replace")
    return list(csv.DictReader(text.splitlines(keepends=True)))


@pytest.fixture(scope="module")
def cleaned() -> Cleaned:
    return clean_file((EXAMPLES / "tickets.csv").read_bytes())


def test_generator_run_again_gives_the_same_files(
    monkeypatch: pytest.MonkeyPatch, expected: dict[str, Any]
) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    content, counts = importlib.import_module("make_tickets").build()
    assert content == (EXAMPLES / "tickets.csv").read_bytes()
    assert counts == expected


def test_every_answer_states_all_facts_of_its_subject() -> None:
    intents = json.loads((EXAMPLES / "orrinvale.json").read_text("utf-8"))["intents"]
    missing = [
        (intent["tag"], fact)
        for intent in intents
        for fact in intent["facts"]
        if fact not in intent["answer"]
    ]
    assert not missing


def test_every_customer_has_three_tickets_at_most(table: list[dict[str, str]]) -> None:
    assert max(Counter(row["customer_email"] for row in table).values()) <= 3


def test_project_file_is_a_valid_configuration() -> None:
    project = parse_project("orrinvale", (EXAMPLES / "project.yaml").read_bytes())
    assert project.training.max_rows


def test_cleaning_keeps_and_rejects_exactly_what_was_planted(
    cleaned: Cleaned, expected: dict[str, Any]
) -> None:
    broken = expected["broken_by_reason"]
    assert cleaned.read == expected["rows"]
    assert len(cleaned.examples) == expected["clean"]
    assert cleaned.rejected_by_reason == {
        Reason.DUPLICATE: expected["duplicates"],
        Reason.NEAR_DUPLICATE: expected["near_duplicates"],
        Reason.UNANSWERED: expected["unanswered"],
        Reason.BROKEN_ROW: broken["too_few_cells"] + broken["too_many_cells"],
        Reason.NO_QUESTION: broken["empty_question"],
        Reason.ENCODING: broken["invalid_utf8"],
    }


def test_rejected_rows_are_the_planted_ones(
    cleaned: Cleaned, expected: dict[str, Any], table: list[dict[str, str]]
) -> None:
    rejected = {table[row.position - 1]["ticket_id"] for row in cleaned.rejected}
    assert rejected == {ticket for ids in expected["ticket_ids"].values() for ticket in ids}


@pytest.mark.parametrize(
    ("kind", "group", "name"),
    [
        ("EMAIL", "pii_rows", "email"),
        ("PHONE", "pii_rows", "phone"),
        ("CARD", "pii_rows", "card"),
        ("IBAN", "pii_rows", "iban"),
        ("API_KEY", "secret_rows", "api_key"),
        ("AWS_KEY", "secret_rows", "aws_access_key_id"),
        ("PASSWORD", "secret_rows", "password"),
        ("TOKEN", "secret_rows", "token"),
    ],
)
def test_cleaning_redacts_every_row_with(
    cleaned: Cleaned, expected: dict[str, Any], kind: str, group: str, name: str
) -> None:
    assert cleaned.redacted_rows.get(kind) == expected[group][name]
