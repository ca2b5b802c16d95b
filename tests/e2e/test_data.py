"""What reaches the pipeline: databases, other systems' exports, files too large for a Lambda."""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from dropforge.artifacts import CleanManifest, DatasetManifest, clean_key, dataset_key
from dropforge.backends.registry import Item
from tests.e2e.conftest import PATIENCE_SECONDS, ROOT, SPARK_FROM, Instance
from tests.support.postgres import running_postgres
from tests.support.tickets import ticket

pytestmark = pytest.mark.slow
# A price and a budget below it: these runs end after validation, before anything is spent.
NO_TRAINING = "backend: openai\nmodel: gpt-4.1\nbudget: {training_usd: 0.001}\n"
SPARK = ROOT / ".venv-spark/.ready"


def configured(path: Path, more: str = "") -> Path:
    path.write_text(NO_TRAINING + more)
    return path


def last_run(instance: Instance, project: str, ended: int = 1) -> Item:
    """The newest run, once so many have ended."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        runs = [r for r in instance.registry.items(project, "run#") if r["status"] != "running"]
        if len(runs) >= ended:
            return max(runs, key=lambda run: run["started_at"])
        time.sleep(0.3)
    raise AssertionError(f"no {ended} runs of {project} ended within {PATIENCE_SECONDS} s")


def zendesk(number: int) -> dict[str, Any]:
    question, answer = ticket(number)
    return {
        "id": number,
        "requester_id": 1000 + number,
        "subject": "Spare part",
        "description": question,
        "tags": ["parts"],
        "status": "solved",
        "comments": [
            {"author_id": 1000 + number, "public": True, "plain_body": question},
            {"author_id": 7, "public": False, "plain_body": "internal: check the stock first"},
            {"author_id": 7, "public": True, "plain_body": answer},
        ],
    }


def test_compressed_export_of_a_help_desk_becomes_a_dataset_with_a_report(
    instance: Instance, tmp_path: Path
) -> None:
    export = tmp_path / "desk.json.gz"
    export.write_bytes(gzip.compress(json.dumps({"tickets": [*map(zendesk, range(200))]}).encode()))
    config = configured(tmp_path / "project.yaml")
    printed = instance.dropforge("drop", export, "-p", "desk", "-c", config, fails=True)
    assert "200 of 200 rows kept" in printed
    assert "OVER_BUDGET: Training on" in printed
    run = last_run(instance, "desk")
    manifest = instance.store.load(clean_key("desk", run["clean"]["hash"]), CleanManifest)
    assert (manifest.format, manifest.topics) == ("json.gz", {"parts": 200})
    part = instance.store.read(clean_key("desk", manifest.hash, "part.jsonl"))
    assert b"internal" not in part
    page = tmp_path / "report.html"
    instance.dropforge("report", "-p", "desk", "--data", "--out", page)
    assert "200 of 200 rows kept" in page.read_text()
    assert "$" in page.read_text()


def test_new_rows_of_a_database_are_extracted_once(instance: Instance, tmp_path: Path) -> None:
    with running_postgres() as database:
        database.execute("CREATE TABLE tickets (id int PRIMARY KEY, question text, answer text)")

        def add(first: int, last: int) -> None:
            rows = (
                "({}, '{}', '{}')".format(i, *(text.replace("'", "''") for text in ticket(i)))
                for i in range(first, last)
            )
            database.execute(f"INSERT INTO tickets VALUES {', '.join(rows)}")  # noqa: S608

        secret = boto3.client("secretsmanager")
        secret.create_secret(Name="dropforge/database/shop", SecretString=database.url)
        query = "SELECT * FROM tickets WHERE id > :cursor ORDER BY id"
        config = configured(
            tmp_path / "project.yaml",
            f'extract: {{query: "{query}", url_secret: dropforge/database/shop, '
            'cursor: id, start: "-1"}\n',
        )
        instance.store.write("projects/base/project.yaml", config.read_text())
        until = time.monotonic() + PATIENCE_SECONDS
        while instance.registry.get("base", "config") is None and time.monotonic() < until:
            time.sleep(0.2)
        add(0, 150)
        printed = instance.dropforge("extract", "-p", "base", fails=True)  # over its budget
        assert "150" in printed
        assert last_run(instance, "base")["clean"]["kept"] == 150
        assert "nothing new" in instance.dropforge("extract", "-p", "base").lower()
        add(150, 190)
        invoked = boto3.client("lambda").invoke(
            FunctionName="dropforge-extract", Payload=json.dumps({"project": "base"}).encode()
        )
        assert "FunctionError" not in invoked, invoked["Payload"].read()
        run = last_run(instance, "base", ended=2)
        assert run["clean"]["kept"] == 40
        dataset = instance.store.load(dataset_key("base", run["validate"]["hash"]), DatasetManifest)
        assert dataset.read == 190


@pytest.mark.skipif(not SPARK.exists(), reason="no .venv-spark: `make .venv-spark/.ready`, Java 17")
def test_export_too_large_for_a_lambda_is_cleaned_and_validated_by_spark(
    instance: Instance, tmp_path: Path
) -> None:
    words = random.Random(3)
    things = [f"{a}{b}" for a in ("lamp", "pump", "tray", "bulb", "cable") for b in "bdfgklmnprst"]
    lines = [
        json.dumps({"question": f"{q} {' '.join(words.choices(things, k=20))}?", "answer": a})
        for q, a in map(ticket, range(5000))
    ]
    export = tmp_path / "large.jsonl"
    export.write_text("\n".join(lines) + "\n")
    assert export.stat().st_size > SPARK_FROM
    config = configured(tmp_path / "project.yaml")
    instance.dropforge("drop", export, "-p", "large", "-c", config, fails=True)
    run = last_run(instance, "large")
    assert "OVER_BUDGET" in run["error"]
    manifest = instance.store.load(clean_key("large", run["clean"]["hash"]), CleanManifest)
    assert manifest.files[0] == "part-00000.jsonl"
    assert manifest.read == 5000 == manifest.kept + sum(manifest.rejected.values())
    dataset = instance.store.load(dataset_key("large", run["validate"]["hash"]), DatasetManifest)
    assert dataset.read == manifest.kept
