"""The extract function and the command, over moto's AWS and a database in a file."""

from __future__ import annotations

import gzip
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from typer.testing import Result

from dropforge.errors import DatabaseError, DropforgeError
from lambdas.extract.handler import handler
from tests.support.world import World

module = sys.modules["dropforge.cli.app"]  # the package has an `app` of its own
Dropforge = Callable[..., Result]
QUERY = "SELECT id, question, answer FROM tickets WHERE id > :cursor ORDER BY id"
PROJECT = f"""
backend: openai
model: small
extract: {{query: "{QUERY}", url_secret: dropforge/database/NAME, cursor: id, start: 0}}
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "tickets.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE tickets (id INTEGER PRIMARY KEY, question, answer)")
    yield connection
    connection.close()


def add(database: sqlite3.Connection, *ids: int) -> None:
    rows = [(i, f"Where is order {i}?", None if i % 5 == 0 else f"On its way, {i}.") for i in ids]
    database.executemany("INSERT INTO tickets VALUES (?, ?, ?)", rows)


def put_secret(name: str, text: str) -> None:
    secrets = boto3.client("secretsmanager")
    try:
        secrets.create_secret(Name=name, SecretString=text)
    except secrets.exceptions.ResourceExistsException:
        secrets.put_secret_value(SecretId=name, SecretString=text)


@pytest.fixture
def shop(world: World, database: sqlite3.Connection, tmp_path: Path) -> World:
    """The project `shop` extracts from the database, in which there are ten tickets."""
    add(database, *range(1, 11))
    put_secret("dropforge/database/shop", f"sqlite:///{tmp_path / 'tickets.sqlite'}")
    world.put_project(PROJECT.replace("NAME", "shop"))
    return world


def test_extraction_is_dropped_and_starts_a_run(shop: World) -> None:
    ended = handler({"project": "shop"}, None)

    assert ended == {"shop": "8 rows dropped, 2 without an answer left out"}
    (key,) = shop.listed("exports/")
    lines = gzip.decompress(shop.store.read(key)).splitlines()
    assert json.loads(lines[0]) == {
        "id": 1,
        "question": "Where is order 1?",
        "answer": "On its way, 1.",
    }
    head = boto3.client("s3").head_object(Bucket=shop.bucket, Key=key)
    event = {
        "detail": {
            "bucket": {"name": shop.bucket},
            "object": {"key": key, "version-id": head["VersionId"]},
        }
    }
    shop.take(event)
    assert [run["run"]["key"] for run in shop.executions()] == [key]


def test_tick_extracts_from_projects_that_ask_for_it(
    shop: World, database: sqlite3.Connection
) -> None:
    shop.put_project(name="bank")

    assert list(handler({"time": "2026-01-01T03:00:00Z"}, None)) == ["shop"]
    again = handler({"time": "2026-01-02T03:00:00Z"}, None)
    assert again == {"shop": "nothing dropped: nothing new (0 rows)"}
    add(database, 11)
    assert handler({}, None) == {"shop": "1 rows dropped"}
    assert len(shop.listed("exports/")) == 2


def test_project_begun_last_has_its_turn_last(shop: World) -> None:
    """One that takes all of the function's time keeps the others waiting once, not for ever."""
    shop.put_project(PROJECT.replace("NAME", "shop"), "atlas")
    shop.put_project(PROJECT.replace("NAME", "shop"), "zoo")
    handler({"project": "atlas"}, None)
    assert list(handler({}, None)) == ["shop", "zoo", "atlas"]


def test_one_projects_failure_is_told_and_keeps_none_of_the_others(
    shop: World, capsys: pytest.CaptureFixture[str]
) -> None:
    put_secret("dropforge/database/bank", "postgresql://bank:hunter2@127.0.0.1:1/bank")
    shop.put_project(PROJECT.replace("NAME", "bank"), "bank")
    shop.put_project(PROJECT.replace("NAME", "atlas"), "atlas")

    with pytest.raises(DatabaseError, match="atlas, bank") as error:
        handler({}, None)

    assert shop.registry.extraction("shop")["status"] == "succeeded"
    assert "RETRYABLE" in shop.registry.extraction("bank")["error"]
    assert "dropforge/database/atlas cannot be read" in shop.registry.extraction("atlas")["error"]
    printed = capsys.readouterr().out
    assert '"ExtractFailed":[1.0]' in printed.replace(" ", "")
    everything = printed + str(error.value) + str(shop.registry.extraction("bank"))
    assert "hunter2" not in everything


def test_failure_of_our_own_is_told_without_what_it_says(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a customer's words")

    monkeypatch.setattr("dropforge.backends.extraction.write_export", broken)
    with pytest.raises(DropforgeError):
        handler({}, None)

    said = shop.registry.extraction("shop")["error"]
    assert said.startswith("INTERNAL: ValueError test_extract_handler.py:")
    assert "words" not in said


def test_projects_that_extract_are_marked_in_the_registry(shop: World) -> None:
    shop.put_project(name="bank")
    assert (shop.registry.get("shop", "config") or {})["extract"] is True
    assert (shop.registry.get("bank", "config") or {})["extract"] is False


def test_file_put_by_hand_at_an_extractions_key_is_not_taken_for_one(shop: World) -> None:
    handler({}, None)
    (key,) = shop.listed("exports/")
    shop.store.write(key, b"mine")
    boto3.client("dynamodb").delete_item(
        TableName=shop.table, Key={"pk": {"S": "project#shop"}, "sk": {"S": "extract"}}
    )
    with pytest.raises(DropforgeError):
        handler({}, None)
    assert "by hand" in shop.registry.extraction("shop")["error"]


def test_command_drops_what_is_new_and_tells_where(dropforge: Dropforge, shop: World) -> None:
    done = dropforge("extract", "--no-watch")

    (key,) = shop.listed("exports/")
    assert done.exit_code == 0
    assert done.stdout == (
        f"8 rows dropped, 2 without an answer left out\ndropped s3://{shop.bucket}/{key}\n"
    )
    assert "nothing new" in dropforge("extract", "--no-watch").stdout


def test_command_watches_the_run_of_what_it_dropped(
    dropforge: Dropforge, shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[tuple[str, str]] = []

    def watch(*run: str) -> dict[str, str]:
        watched.append((run[0], run[1]))
        return {"status": "succeeded"}

    monkeypatch.setattr(module, "_watch", watch)

    assert dropforge("extract").exit_code == 0
    assert watched[0][0] == "shop"
    assert len(watched[0][1]) == 32


def test_dry_run_counts_and_names_columns_alone(dropforge: Dropforge, shop: World) -> None:
    said = dropforge("extract", "--dry-run").stdout

    assert "columns: id, question, answer" in said
    assert "dry run (8 rows, 2 without an answer left out)" in said
    assert "exports/shop/extracted/after-0-" in said
    assert "order" not in said
    assert shop.listed("exports/") == []
    assert shop.registry.extraction("shop") == {}


def test_rows_are_taken_again_since_a_value(dropforge: Dropforge, shop: World) -> None:
    dropforge("extract", "--no-watch")
    before = shop.registry.extraction("shop")["cursor"]

    done = dropforge("extract", "--no-watch", "--since", "8")

    assert done.stdout.startswith("1 rows dropped, 1 without an answer left out")
    assert shop.registry.extraction("shop")["cursor"] == before


def test_address_is_taken_from_the_environment(
    dropforge: Dropforge, shop: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_secret("dropforge/database/shop", "postgresql://nobody@127.0.0.1:1/x")
    assert dropforge("extract", "--dry-run").exception is not None
    monkeypatch.setenv("DROPFORGE_DATABASE_URL", f"sqlite:///{tmp_path / 'tickets.sqlite'}")
    assert dropforge("extract", "--dry-run").exit_code == 0


def test_project_without_a_database_says_what_to_do(dropforge: Dropforge, shop: World) -> None:
    shop.put_project(name="bank")
    done = dropforge("extract", "-p", "bank")
    assert "has no `extract:`" in str(done.exception)
    assert "docs/project.md" in str(done.exception)
