"""The sample exports: reproducible, as faulty as they say, and cleaned to exactly their counts."""

import csv
import importlib
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toktok import batch_count

from dropforge.chat import encode_lines
from dropforge.export import Reason
from dropforge.project import parse_project
from dropforge.validate import MIN_EXAMPLES, LeftOutReason, Part, build_dataset
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


@pytest.fixture(scope="module")
def library() -> dict[str, Any]:
    texts: dict[str, Any] = json.loads((EXAMPLES / "quillmere.json").read_text("utf-8"))
    return texts


@pytest.fixture(scope="module")
def library_expected() -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((EXAMPLES / "quillmere.expected.json").read_text("utf-8"))
    return counts


@pytest.fixture(scope="module")
def library_cleaned() -> Cleaned:
    return clean_file((EXAMPLES / "quillmere.jsonl").read_bytes())


def test_library_generator_run_again_gives_the_same_files(
    monkeypatch: pytest.MonkeyPatch, library_expected: dict[str, Any]
) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    content, counts = importlib.import_module("quillmere").build()
    assert content == (EXAMPLES / "quillmere.jsonl").read_bytes()
    assert counts == library_expected


def test_cleaning_of_the_library_keeps_and_redacts_exactly_what_was_planted(
    library_cleaned: Cleaned, library_expected: dict[str, Any]
) -> None:
    assert library_cleaned.read == library_expected["rows"]
    assert len(library_cleaned.examples) == library_expected["clean"]
    assert library_cleaned.rejected_by_reason == {
        Reason.DUPLICATE: library_expected["duplicates"],
        Reason.UNANSWERED: library_expected["unanswered"],
        Reason.BROKEN_ROW: library_expected["broken"],
    }
    pii = library_expected["pii_rows"]
    assert library_cleaned.redacted_rows == {"EMAIL": pii["email"], "PHONE": pii["phone"]}


def test_rejected_conversations_of_the_library_are_the_planted_ones(
    library_cleaned: Cleaned, library_expected: dict[str, Any]
) -> None:
    lines = (EXAMPLES / "quillmere.jsonl").read_text("utf-8").splitlines()
    rejected = [
        re.findall(r'"id":"(\d+)"', lines[r.position - 1])[0] for r in library_cleaned.rejected
    ]
    planted = [i for ids in library_expected["conversation_ids"].values() for i in ids]
    assert sorted(rejected) == sorted(planted)


def test_every_answer_of_the_library_states_the_facts_of_its_topic(
    library_cleaned: Cleaned, library: dict[str, Any]
) -> None:
    facts = {intent["tag"]: intent["facts"] for intent in library["intents"]}
    missing = [
        (example.topic, fact)
        for example in library_cleaned.examples
        for fact in facts[example.topic]
        if fact not in example.reference
    ]
    assert not missing
    questions = {intent["tag"]: len(intent["questions"]) for intent in library["intents"]}
    assert Counter(example.topic for example in library_cleaned.examples) == questions


def test_no_note_and_no_thanks_of_the_library_is_learned(
    library_cleaned: Cleaned, library: dict[str, Any]
) -> None:
    raw = (EXAMPLES / "quillmere.jsonl").read_text("utf-8")
    learned = {m.content for example in library_cleaned.examples for m in example.messages}
    for text in (*library["notes"], *library["thanks"]):
        assert f"<p>{text}</p>" in raw
        assert not any(text in said for said in learned)


def test_validating_the_library_gives_the_splits_its_project_asks_for(
    library_cleaned: Cleaned,
) -> None:
    project = parse_project("quillmere", (EXAMPLES / "quillmere.yaml").read_bytes())
    part = Part("part", io.BytesIO(encode_lines(library_cleaned.examples)))
    dataset = build_dataset([part], project, batch_count)
    assert dataset.read == len(library_cleaned.examples) >= MIN_EXAMPLES
    assert dataset.counts == {
        "train": project.training.max_rows,
        "validation": project.training.validation_rows,
        "test": project.judge.samples,
    }
    unused = {LeftOutReason.MAX_ROWS, LeftOutReason.VALIDATION_ROWS}
    assert {row.reason for row in dataset.left_out} == unused
    assert [choice.backend for choice in project.choices] == ["sagemaker", "local"]
