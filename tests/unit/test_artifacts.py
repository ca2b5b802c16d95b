from __future__ import annotations

import pytest

from dropforge.artifacts import (
    Comparison,
    FineTuneSpec,
    Interval,
    batch_name,
    clean_key,
    dataset_key,
    digest,
    error_key,
    evaluation_key,
    export_prefix,
    project_key,
    project_snapshot_key,
    rejected_key,
    split_key,
    to_builtins,
    train_key,
)


def spec(**changes: object) -> FineTuneSpec:
    usual = {
        "project": "shop",
        "dataset": "d",
        "backend": "openai",
        "model": "m",
        "hyperparameters": {"epochs": 3, "seed": 7},
    }
    return FineTuneSpec(**{**usual, **changes})  # type: ignore[arg-type]


def test_digest_ignores_the_order_of_a_dictionary_alone() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest("ab", "c") != digest("a", "bc")


def test_digest_is_the_same_in_every_release() -> None:
    """Every stored artifact's key depends on it."""
    assert digest("clean/1", {"a": [1, None, "ü"]}) == (
        "2dce3e2e929d5491fda6de8d2c0472216bdf4eac6d1d2389508b4305d939aa6a"
    )


def test_keys_are_spelled_as_the_contract_says() -> None:
    assert export_prefix("shop") == "exports/shop/"
    assert project_key("shop") == "projects/shop/project.yaml"
    assert project_snapshot_key("shop", "c") == "projects/shop/versions/c.json"
    assert clean_key("shop", "h") == "clean/shop/h/manifest.json"
    assert rejected_key("shop", "h") == "rejected/shop/h.jsonl"
    assert dataset_key("shop", "h", "test.jsonl") == "validate/shop/h/test.jsonl"
    assert train_key("shop", "h", "") == "train/shop/h/"
    assert evaluation_key("shop", "h", batch_name(7)) == "judge/shop/h/batch-007.jsonl"
    assert error_key("exports/shop/a.csv") == "exports/shop/a.csv.error.txt"
    long = "exports/shop/" + "é" * 505
    assert len(error_key(long).encode()) < 1024
    assert error_key(long).startswith("exports/shop/")
    assert error_key(long) != error_key(long[:-1] + "e")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("exports/shop/a.csv", ("exports", "shop", "a.csv")),
        ("exports/shop/2026/05/a.csv", ("exports", "shop", "2026/05/a.csv")),
        ("projects/shop/project.yaml", ("projects", "shop", "project.yaml")),
        ("clean/shop/h/part.jsonl", None),
        ("exports/shop/", None),
        ("exports/a.csv", None),
        ("exports//a.csv", None),
        ("", None),
    ],
)
def test_key_is_split_only_where_people_drop_files(
    key: str, place: tuple[str, str, str] | None
) -> None:
    assert split_key(key) == place


def test_spec_with_hyperparameters_in_another_order_makes_the_same_version() -> None:
    assert spec().version == spec(hyperparameters={"seed": 7, "epochs": 3}).version


@pytest.mark.parametrize(
    "change",
    [
        {"project": "other"},
        {"dataset": "e"},
        {"backend": "sagemaker"},
        {"model": "n"},
        {"hyperparameters": {"epochs": 4, "seed": 7}},
    ],
)
def test_spec_that_trains_something_else_makes_another_version(change: dict[str, object]) -> None:
    assert spec(**change).version != spec().version


def test_scored_leaves_out_the_unscored() -> None:
    comparison = Comparison("base", 5, 3, 2, 1, 4, Interval(0.6, 0.3, 0.8), 0.9)
    assert comparison.scored == 10


def test_manifest_becomes_plain_values() -> None:
    assert to_builtins(Interval(0.5, 0.0, 1.0)) == {"point": 0.5, "low": 0.0, "high": 1.0}
