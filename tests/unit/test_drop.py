from __future__ import annotations

from typing import Any

import pytest

from dropforge.drop import Drop, content_identity, parse_event


def event(key: str, version: str | None = "v1", **extra: Any) -> dict[str, Any]:
    about = {"key": key, **({"version-id": version} if version else {}), **extra}
    return {"detail": {"bucket": {"name": "b"}, "object": about}}


def test_export_event_is_a_drop() -> None:
    assert parse_event(event("exports/shop/a.csv")) == Drop(
        "b", "exports/shop/a.csv", "v1", "shop", is_project_file=False
    )


def test_project_file_event_is_a_drop_of_configuration() -> None:
    drop = parse_event(event("projects/shop/project.yaml"))
    assert drop is not None
    assert drop.is_project_file
    assert not drop.is_golden


def test_golden_questions_are_a_drop_of_their_own() -> None:
    drop = parse_event(event("projects/shop/golden.jsonl"))
    assert drop is not None
    assert drop.is_golden
    assert not drop.is_project_file


@pytest.mark.parametrize(
    "key",
    [
        "exports/shop/a.csv.error.txt",
        "projects/shop/project.yaml.error.txt",
        "exports/shop/",
        "exports/shop/2026/",
        "projects/shop/versions/abc.json",
        "projects/shop/notes.txt",
        "projects/shop/golden.jsonl.error.txt",
        "projects/shop/versions/golden.jsonl",
        "clean/shop/h/part.jsonl",
        "exports/a.csv",
    ],
)
def test_other_objects_start_nothing(key: str) -> None:
    assert parse_event(event(key)) is None


@pytest.mark.parametrize("name", ["a b.csv", "a+b.csv", "100%.csv", "a%20b.csv", "ü/ñ.csv"])
def test_key_is_taken_as_it_is(name: str) -> None:
    """EventBridge hands keys on unencoded, unlike S3's own notifications."""
    drop = parse_event(event(f"exports/shop/{name}"))
    assert drop is not None
    assert drop.key == f"exports/shop/{name}"


def test_key_encoded_as_a_whole_is_decoded() -> None:
    drop = parse_event(event("exports%2Fshop%2Fa%20b.csv"))
    assert drop is not None
    assert drop.key == "exports/shop/a b.csv"


def test_event_without_a_version_is_taken() -> None:
    drop = parse_event(event("exports/shop/a.csv", version=None))
    assert drop is not None
    assert drop.version_id == ""


def test_run_id_is_one_for_each_version() -> None:
    drops = [parse_event(event(k, v)) for k in ("exports/s/a", "exports/s/b") for v in ("1", "2")]
    again = parse_event(event("exports/s/a", "1", size=5))
    ids = [drop.run_id for drop in drops if drop]
    assert len(set(ids)) == 4
    assert again is not None
    assert again.run_id == ids[0]
    assert len(ids[0]) <= 80, "Step Functions allows execution names of 80 characters"


@pytest.mark.parametrize("wrong", [{}, {"detail": {}}, {"detail": {"bucket": {"name": "b"}}}])
def test_event_of_another_shape_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        parse_event(wrong)


def test_identity_is_content_size_and_configuration() -> None:
    identities = {
        content_identity("sum", 10, "config"),
        content_identity("mus", 10, "config"),
        content_identity("sum", 11, "config"),
        content_identity("sum", 10, "other"),
    }
    assert len(identities) == 4
