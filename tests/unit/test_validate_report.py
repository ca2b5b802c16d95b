from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import CleanManifest, Cluster, DatasetManifest, Estimate, Excerpt, Source
from dropforge.chat import ChatExample
from dropforge.validate.report import DataReport, describe, histogram, topics_of
from dropforge.validate.report_page import render
from tests.support.tickets import example

SAMPLE = [example(i) for i in range(50)]


def report(sample: list[ChatExample] = SAMPLE, **changes: object) -> DataReport:
    manifest = DatasetManifest(
        project="shop",
        hash="d" * 64,
        parts=("p",),
        examples={"train": 80, "validation": 10, "test": 10},
        tokens={"train": 8000, "validation": 1000, "test": 1000},
        read=100,
        left_out={},
        warnings=("only <80> examples",),
        train_tokens={"o200k_base": 8000, "cl100k_base": 8100},
    )
    cleaned = CleanManifest(
        project="shop",
        hash="p",
        source=Source("bucket", "exports/shop/<b>.csv", "v", "s", 10),
        format="csv",
        read=120,
        kept=100,
        rejected={"duplicate": 3, "broken row": 17},
        redacted_rows={"EMAIL": 4},
        repaired={"turns merged": 6},
        languages={"en": 90, "de": 10},
        topics={},
        excerpts={"duplicate": (Excerpt(7, "Where is <my> parcel?"),)},
        clusters=(Cluster(3, 2, "the cluster"),),
        cluster_sizes={1: 1, 2: 1},
    )
    estimates = (Estimate("OpenAI", "gpt-4.1-mini", 24_000, 0.12), Estimate("x", "y", 1, None))
    manifest = msgspec.structs.replace(manifest, **changes)
    return describe(manifest, [cleaned], sample, [10, 20, 995], estimates)


def test_page_tells_what_was_kept_and_dropped() -> None:
    page = render(report())
    assert "100 of 120 rows kept, 20 dropped; 80 to train on, 10 held out" in page
    for word in ("duplicate", "broken row", "EMAIL", "8,000", "d" * 64, "$0.12", "price unknown"):
        assert word in page
    for word in ("the cluster", "English", "German", "Enough?", "Retrieval first?", "turns merged"):
        assert word in page


def test_page_escapes_whatever_came_from_outside() -> None:
    page = render(report())
    assert "&lt;b&gt;.csv" in page
    assert "only &lt;80&gt; examples" in page
    assert "Where is &lt;my&gt; parcel?" in page


def test_page_loads_nothing() -> None:
    page = render(report())
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_report_is_data_too() -> None:
    data = json.loads(msgspec.json.encode(report()))
    assert data["read"] == data["kept"] + sum(data["rejected"].values())
    assert data["estimates"][0]["usd"] == 0.12
    assert msgspec.convert(data, DataReport, strict=False) == report()


def test_empty_sample_makes_a_page_too() -> None:
    assert "Enough?" in render(report(sample=[]))


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_histogram_counts_every_value_once(values: list[int]) -> None:
    found = histogram(values)
    assert sum(found.counts) == len(values)
    assert len(found.counts) <= 24
    assert found.longest == max(values)


def test_topics_are_guessed_from_the_customers_words() -> None:
    things = topics_of([example(i) for i in range(200)])
    assert {"lamp", "pump", "shelf"} & set(things) or {"kitchen", "garage"} & set(things)
    assert sum(things.values()) == 200


@pytest.mark.parametrize(
    ("answers", "level"),
    [(lambda i: "Please restart it.", "good"), (lambda i: f"Your code is XK-{i}77{i}.", "bad")],
)
def test_answers_that_were_looked_up_call_for_retrieval(answers: object, level: str) -> None:
    sample = [example(i, answer=answers(i)) for i in range(100)]  # type: ignore[operator]
    found = {f.question: f.level for f in report(sample).readiness}
    assert found["Retrieval first?"] == level


def test_answers_that_are_all_alike_call_for_a_prompt() -> None:
    same = [example(i, answer="Please restart it and try again in a minute.") for i in range(100)]
    assert {f.question: f.level for f in report(same).readiness}["Would a prompt do?"] == "look"
