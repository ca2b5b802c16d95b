"""A bucket and a table in memory with the project `shop`: what an extraction needs."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import boto3

from dropforge.artifacts import project_snapshot_key
from dropforge.backends.extraction import Extractor
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.project import ProjectConfig
from tests.support.postgres import Postgres
from tests.support.tables import create_table

_names = (f"dropforge-extract-{number}" for number in count())
BY_TIME: dict[str, Any] = {
    "query": "SELECT id, question, answer, updated_at FROM tickets "
    "WHERE updated_at > :cursor ORDER BY updated_at, id",
    "cursor": "updated_at",
    "start": "2025-01-01",
}
BY_ID: dict[str, Any] = {
    "query": "SELECT * FROM tickets WHERE id > :cursor ORDER BY id",
    "cursor": "id",
    "start": "0",
}


class Deployment:
    def __init__(self, postgres: Postgres) -> None:
        self.name = next(_names)
        self.postgres = postgres
        boto3.client("s3").create_bucket(Bucket=self.name)
        boto3.client("s3").put_bucket_versioning(
            Bucket=self.name, VersioningConfiguration={"Status": "Enabled"}
        )
        create_table(self.name)
        self.store = Store(self.name, boto3.client("s3"))
        self.registry = Registry(self.name, boto3.resource("dynamodb"))

    def configure(self, extract: dict[str, Any], **more: Any) -> None:
        section = {"url_secret": "dropforge/database/shop", **extract}
        config = ProjectConfig.model_validate(
            {"backend": "openai", "model": "small", "extract": section, **more}
        )
        self.store.write(project_snapshot_key("shop", config.hash), config.model_dump_json())
        self.registry.put_config("shop", {"hash": config.hash, "extract": True})

    def extractor(self, progress: Callable[[int], None] = lambda rows: None) -> Extractor:
        return Extractor(self.store, self.registry, clock=time.time, progress=progress)

    def run(self) -> Any:
        return self.extractor().run("shop", self.postgres.url)

    @property
    def cursor(self) -> Any:
        return self.registry.extraction("shop").get("cursor")

    def keys(self) -> list[str]:
        found = boto3.client("s3").list_objects_v2(Bucket=self.name, Prefix="exports/")
        return [entry["Key"] for entry in found.get("Contents", [])]

    def versions(self) -> list[str]:
        found = boto3.client("s3").list_object_versions(Bucket=self.name, Prefix="exports/")
        return [entry["Key"] for entry in found.get("Versions", [])]

    def rows(self, key: str) -> list[dict[str, Any]]:
        data = gzip.decompress(self.store.read(key))
        return [json.loads(line) for line in data.split(b"\n") if line]

    def all_ids(self) -> list[int]:
        return sorted(row["id"] for key in self.keys() for row in self.rows(key))
