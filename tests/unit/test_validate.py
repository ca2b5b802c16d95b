from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import CleanManifest, DatasetManifest, Source
from dropforge.chat import ChatExample
from dropforge.errors import TooFewExamplesError
from dropforge.validate import (
    FEW,
    MAX_VALIDATION,
    SPLITS,
    build_dataset,
    data_report,
    dataset_hash,
    split_of,
    token_counts,
)
from tests.support.tickets import example

MANY = [example(i) for i in range(300)]


def test_split_is_about_eighty_ten_ten() -> None:
    counts = Counter(split_of(f"customer-{i}") for i in range(5000))
    assert counts["train"] == pytest.approx(4000, rel=0.05)
    assert counts["validation"] == pytest.approx(500, rel=0.2)
    assert counts["test"] == pytest.approx(500, rel=0.2)


@given(st.lists(st.integers(0, 60), min_size=80, max_size=200))
def test_no_customer_stands_in_two_splits(customers: list[int]) -> None:
    rows = [example(i, group=f"c{customer}") for i, customer in enumerate(customers)]
    try:
        dataset = build_dataset([rows], None)
    except TooFewExamplesError:
        return
    groups = [{row.group for row in dataset.splits[split]} for split in SPLITS]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_splits_stay_as_exports_are_added() -> None:
    before = build_dataset([MANY[:200]], None)
    after = build_dataset([MANY[:200], MANY[200:]], None)
    assert set(before.splits["train"]) < set(after.splits["train"])
    assert set(before.splits["test"]) < set(after.splits["test"])


def test_dataset_does_not_depend_on_the_order_of_parts_or_rows() -> None:
    one = build_dataset([MANY[:100], MANY[100:]], 50)
    assert one == build_dataset([MANY[100:][::-1], MANY[:100]], 50)


def test_conversation_of_two_exports_counts_once() -> None:
    dataset = build_dataset([MANY, MANY[:30]], None)
    assert dataset.repeated == 30
    ids = [row.id for split in SPLITS for row in dataset.splits[split]]
    assert len(ids) == len(set(ids))


def test_row_limit_cuts_training_alone_and_says_so() -> None:
    whole, cut = build_dataset([MANY], None), build_dataset([MANY], 120)
    assert len(cut.splits["train"]) == 120
    assert cut.splits["test"] == whole.splits["test"]
    assert cut.left_out == len(whole.splits["train"]) - 120
    assert any("120 of" in warning for warning in cut.warnings)
    assert whole.warnings == ()


def test_validation_is_capped() -> None:
    dataset = build_dataset([[example(i) for i in range(1000)]], None)
    assert len(dataset.splits["validation"]) == MAX_VALIDATION


def test_few_examples_carry_a_warning() -> None:
    dataset = build_dataset([MANY[:90]], None)
    assert any(f"under {FEW}" in warning for warning in dataset.warnings)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        MANY[:5],
        [row for row in MANY if split_of(row.group) == "train"],
        [row for row in MANY if split_of(row.group) != "train"],
    ],
)
def test_too_few_to_train_or_to_judge_on_stops(rows: list[ChatExample]) -> None:
    with pytest.raises(TooFewExamplesError):
        build_dataset([rows], None)


def test_dataset_hash_depends_on_all_that_decides_the_rows() -> None:
    usual = dataset_hash(["a", "b"], "prompt", None)
    assert usual == dataset_hash(["b", "a"], "prompt", None)
    others = [
        dataset_hash(["a"], "prompt", None),
        dataset_hash(["a", "b"], "", None),
        dataset_hash(["a", "b"], "prompt", 10),
    ]
    assert len({usual, *others}) == 4


def test_tokens_are_counted_for_each_split() -> None:
    dataset = build_dataset([MANY], None)
    counts = token_counts(dataset, lambda texts: [1] * len(texts))
    assert counts == {split: 2 * len(dataset.splits[split]) for split in SPLITS}


def report(**changes: object) -> str:
    manifest = DatasetManifest(
        project="shop",
        hash="d" * 64,
        parts=("p",),
        examples={"train": 80, "validation": 10, "test": 10},
        tokens={"train": 8000, "validation": 1000, "test": 1000},
        repeated_across_parts=0,
        left_out=0,
        warnings=("only <80> examples",),
    )
    source = Source("bucket", "exports/shop/<b>.csv", "v", "s", 10)
    rejected = {"duplicate": 3, "broken row": 17}
    cleaned = CleanManifest("shop", "p", source, "csv", 120, 100, rejected, {"EMAIL": 4}, {})
    return data_report(msgspec.structs.replace(manifest, **changes), [cleaned], [10, 20, 995])


def test_data_report_tells_what_was_kept_and_dropped() -> None:
    page = report()
    assert "100 of 120 rows kept; 80 to train on." in page
    for word in ("duplicate", "broken row", "EMAIL", "8,000", "d" * 64):
        assert word in page


def test_data_report_escapes_names_and_warnings() -> None:
    page = report()
    assert "&lt;b&gt;.csv" in page
    assert "only &lt;80&gt; examples" in page


def test_data_report_counts_every_length_once() -> None:
    page = report(warnings=())
    histogram = page.split("Length of training conversations")[1]
    assert histogram.count('class="bar"') == 10
    assert ">2</text>" in histogram
    assert ">1</text>" in histogram
