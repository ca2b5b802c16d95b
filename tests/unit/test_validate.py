from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.chat import ChatExample, encode_lines
from dropforge.errors import TooFewExamplesError
from dropforge.models import Encoding
from dropforge.project import ProjectConfig
from dropforge.validate import (
    FEW,
    MIN_EXAMPLES,
    Dataset,
    LeftOutReason,
    Part,
    build_dataset,
    dataset_hash,
)
from dropforge.validate.split import SPLITS, Split, split_of
from tests.support.tickets import example

MANY = [example(i) for i in range(400)]


def config(**training: Any) -> ProjectConfig:
    return ProjectConfig.model_validate(
        {"backend": "openai", "model": "gpt-4.1-mini", "training": training}
    )


def words(texts: list[str], encoding: Encoding) -> list[int]:
    return [len(text.split()) for text in texts]


def dataset(*parts: Iterable[ChatExample], **training: Any) -> Dataset:
    files = [Part(f"part-{i}", io.BytesIO(encode_lines(rows))) for i, rows in enumerate(parts)]
    return build_dataset(files, config(**training), words)


def ids(found: Dataset, split: Split) -> list[str]:
    return [row.id for row in found.examples(split)]


def reasons(found: Dataset) -> dict[LeftOutReason, list[tuple[str, int]]]:
    grouped: dict[LeftOutReason, list[tuple[str, int]]] = {}
    for row in found.left_out:
        grouped.setdefault(row.reason, []).append((row.part, row.position))
    return grouped


@given(st.lists(st.integers(0, 60), min_size=MIN_EXAMPLES, max_size=200))
def test_no_customer_stands_in_two_splits(customers: list[int]) -> None:
    rows = [example(i, group=f"c{customer}") for i, customer in enumerate(customers)]
    try:
        found = dataset(rows)
    except TooFewExamplesError:
        return
    groups = [{row.group for row in found.examples(split)} for split in SPLITS]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_splits_stay_as_exports_are_added() -> None:
    before, after = dataset(MANY[:200]), dataset(MANY[:200], MANY[200:])
    assert set(ids(before, "train")) < set(ids(after, "train"))
    assert set(ids(before, "test")) < set(ids(after, "test"))


def test_every_row_is_in_a_split_or_left_out_with_a_reason() -> None:
    found = dataset(MANY[:300], MANY[250:], max_rows=50)
    assert found.read == 450 == sum(found.counts.values()) + len(found.left_out)
    assert len(reasons(found)[LeftOutReason.DUPLICATE]) == 50
    assert sum(found.left_out_by_reason.values()) == len(found.left_out)


def test_row_that_another_export_has_is_left_out_of_the_later_one() -> None:
    near = [example(i, answer=f"{MANY[i].reference} Bye") for i in range(30)]
    near = [msgspec.structs.replace(row, id=f"near-{row.id}") for row in near]
    found = dataset(MANY, [*MANY[100:110], *near])
    assert reasons(found)[LeftOutReason.DUPLICATE] == [("part-1", i) for i in range(101, 111)]
    assert reasons(found)[LeftOutReason.NEAR_DUPLICATE] == [("part-1", i) for i in range(1, 31)]
    every = [name for split in SPLITS for name in ids(found, split)]
    assert len(every) == len(set(every))


def test_test_ticket_said_again_in_a_later_export_is_not_trained_on() -> None:
    held_out = ids(dataset(MANY), "test")
    again = [
        msgspec.structs.replace(
            row, id=f"again-{row.id}", group=f"other-{row.group}", messages=row.messages
        )
        for row in MANY
    ]
    found = dataset(MANY, again)
    assert ids(found, "test") == held_out
    assert set(ids(found, "train")) <= {row.id for row in MANY}


def test_conversation_that_ties_two_splits_is_left_out() -> None:
    train = next(row for row in MANY if split_of(row.group) == "train")
    test = next(row for row in MANY if split_of(row.group) == "test")
    first = msgspec.structs.replace(train, conversation="ticket-1")
    tie = msgspec.structs.replace(
        test, conversation="ticket-1", id="tie", messages=MANY[399].messages
    )
    rows = [row for row in MANY[:399] if row not in (train, test)]
    found = dataset([first, test, *rows], [tie])
    assert reasons(found)[LeftOutReason.STRADDLES] == [("part-1", tie.position)]


def test_conversation_exported_twice_stays_in_its_split() -> None:
    train = next(row for row in MANY if split_of(row.group) == "train")
    stranger = next(f"g{i}" for i in range(99) if split_of(f"g{i}") == "test")
    first = msgspec.structs.replace(train, conversation="ticket-1")
    grown = msgspec.structs.replace(
        example(399), id="grown", group=stranger, conversation="ticket-1"
    )
    found = dataset([first, *(row for row in MANY[:399] if row is not train)], [grown])
    assert "grown" in ids(found, "train")


def test_row_limit_cuts_training_alone_and_says_so() -> None:
    whole, cut = dataset(MANY), dataset(MANY, max_rows=120)
    assert ids(cut, "train") == ids(whole, "train")[:120]
    assert ids(cut, "test") == ids(whole, "test")
    assert len(reasons(cut)[LeftOutReason.MAX_ROWS]) == whole.counts["train"] - 120
    assert any("120 of" in warning for warning in cut.warnings)


def test_validation_is_capped() -> None:
    found = dataset([example(i) for i in range(1000)], validation_rows=24)
    assert found.counts["validation"] == 24
    assert LeftOutReason.VALIDATION_ROWS in reasons(found)
    assert found.warnings == ()


def test_conversation_longer_than_the_model_takes_is_left_out_and_told() -> None:
    long = example(7, answer="word " * 200)
    found = dataset([*MANY[:7], long, *MANY[8:]], max_length=128)
    assert reasons(found)[LeftOutReason.TOO_LONG] == [("part-0", 8)]
    assert any("longer than the 128 tokens" in warning for warning in found.warnings)


def test_few_examples_carry_a_warning() -> None:
    assert any(f"under {FEW}" in warning for warning in dataset(MANY).warnings)


LONG = example(91, answer="word " * 70_000)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "0 usable"),
        (MANY[: MIN_EXAMPLES - 1], "99 usable"),
        ([example(i, group="the same") for i in range(200)], "too few customers"),
        ([row for row in MANY if split_of(row.group) == "train"], "0 to test"),
        ([*MANY[:90], *[LONG] * 30], "longer than the model takes"),
    ],
)
def test_too_few_to_train_or_to_judge_on_stops(rows: list[ChatExample], said: str) -> None:
    with pytest.raises(TooFewExamplesError, match=said):
        dataset(rows)


def test_lines_are_those_of_the_parts() -> None:
    found = dataset(MANY[:200], MANY[200:])
    lines = {line for split in SPLITS for line in found.lines(split)}
    assert lines | {encode_lines([row]) for row in MANY if split_of(row.group) == "validation"} == {
        encode_lines([row]) for row in MANY
    }


def test_tokens_count_the_chat_template_and_the_system_prompt() -> None:
    found = dataset(MANY)
    contents = sum(len(m.content.split()) for row in found.examples("train") for m in row.messages)
    prompt = len(config().system_prompt.split())
    assert found.tokens("train") == contents + found.counts["train"] * (prompt + 3 * 4 + 3)


def test_dataset_hash_depends_on_all_that_decides_the_rows() -> None:
    usual = dataset_hash(["a", "b"], config())
    assert usual == dataset_hash(["a", "b"], config(epochs=9, seed=1))
    others = [
        dataset_hash(["a"], config()),
        dataset_hash(["b", "a"], config()),
        dataset_hash(["a", "b"], config(max_rows=10)),
        dataset_hash(["a", "b"], config(max_length=100)),
        dataset_hash(["a", "b"], config().model_copy(update={"system_prompt": ""})),
        dataset_hash(["a", "b"], config().model_copy(update={"model": "llama-3-8b-instruct"})),
    ]
    assert len({usual, *others}) == 7
