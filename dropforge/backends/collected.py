"""Collected answers in the registry, and the export that is made of them.

An answer is the item `pk = collected#<project>`, `sk = <answer id>`: written once, never changed,
deleted by DynamoDB when it expires. Ratings are the project's items `feedback#…`, written by the
chat function. The project's item `collected` tells what the last export held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from boto3.dynamodb.conditions import Key
from botocore.exceptions import ClientError

from dropforge.artifacts import collected_key, golden_snapshot_key
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.collect import Kept, chosen, encode_export
from dropforge.golden import decode_golden
from dropforge.serve.collecting import user_pseudonym
from dropforge.serve.options import CollectOptions
from dropforge.text import same_text

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table
    from types_boto3_s3 import S3Client

_MISSING = {"404", "NoSuchKey", "NotFound"}


class Waiting(msgspec.Struct, frozen=True):
    """What a project has collected. `chosen` is how many of its answers the next export holds."""

    answers: int
    good: int
    bad: int
    chosen: int


class Export(msgspec.Struct, frozen=True):
    """The export as it stands in the bucket. `changed`: it was written just now."""

    key: str
    version_id: str
    rows: int
    changed: bool


class Answers:
    """The answers of all projects, one item each."""

    def __init__(self, table: str, resource: Any = None) -> None:
        self._table: Table = (resource or boto3.resource("dynamodb")).Table(table)

    def put(self, project: str, kept: Kept) -> bool:
        """Keep an answer; False where one of its id is kept already, which stays as it is."""
        item = {**msgspec.to_builtins(kept), "at": Decimal(str(kept.at))}
        try:
            self._table.put_item(
                Item={"pk": _pk(project), "sk": kept.id, **item},
                ConditionExpression="attribute_not_exists(pk)",
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def of(self, project: str) -> list[Kept]:
        """A project's answers; those that expired may be among them for some days.

        One that was just deleted is not: what was forgotten must be in no export.
        """
        asked: dict[str, Any] = {
            "KeyConditionExpression": Key("pk").eq(_pk(project)),
            "ConsistentRead": True,
        }
        found: list[Kept] = []
        while True:
            page = self._table.query(**asked)
            found += map(_kept, page["Items"])
            if "LastEvaluatedKey" not in page:
                return found
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def delete(self, project: str, ids: Iterable[str]) -> None:
        self._delete(_pk(project), ids)

    def retire(self, project: str, parts: Iterable[str]) -> None:
        """Take clean parts (`clean#…`) out of the project's next dataset, in this order."""
        self._delete(f"project#{project}", parts)

    def _delete(self, pk: str, sks: Iterable[str]) -> None:
        for sk in sks:
            self._table.delete_item(Key={"pk": pk, "sk": sk})


class Collection:
    """Makes exports of collected answers, and forgets answers.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        answers: Answers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._registry, self._answers = store, registry, answers
        self._clock = clock
        self._s3: S3Client = boto3.client("s3")

    def waiting(self, project: str) -> Waiting:
        """What there is, without writing anything."""
        kept, ratings = self._answers.of(project), self._ratings(project)
        alive = [answer for answer in kept if answer.expires_at > self._clock()]
        told = [ratings.get(answer.id, 0) for answer in alive]
        return Waiting(len(alive), told.count(1), told.count(-1), len(self._chosen(project)))

    def export(self, project: str) -> Export | None:
        """Bring the project's export up to date; None where it has no row, or never had one.

        A project that collects no more, or all of whose answers were forgotten, gets an empty
        export, and what was cleaned of the former ones goes out of its next dataset. Safe to repeat
        and to cut off anywhere.
        """
        return self._export(project)

    def _export(self, project: str, without: frozenset[str] = frozenset()) -> Export | None:
        key, answers = collected_key(project), self._chosen(project, without)
        data = encode_export(answers)
        rows, checksum = data.count(b"\n"), sha256(data).hexdigest()
        known = self._head(key)
        if not data:
            self._retire(project)
            if known and known["ContentLength"]:
                self._put(key, data, checksum)
            return None
        if known and known["Metadata"].get("sha256") == checksum:
            return Export(key, known["VersionId"], rows, changed=False)
        version = self._put(key, data, checksum)
        self._registry.put(project, "collected", {"rows": rows, "at": self._clock()})
        return Export(key, version, rows, changed=True)

    def forget(self, project: str, *, answer: str | None = None, user: str | None = None) -> int:
        """Delete one answer, or all of a user's; how many there were.

        An export that held one of them is written anew, its older versions are deleted for good,
        and what was cleaned of them is in no later dataset. A user's answers are those of requests
        that named the user; answers that go on from a forgotten one are forgotten with it. Safe to
        repeat and to cut off anywhere: the items, by which the rest is found, go last.
        """
        kept = self._answers.of(project)
        whose = user_pseudonym(project, user) if user is not None else None
        gone = [a for a in kept if a.id == answer or (whose and a.user == whose)]
        gone += _later(gone, kept)
        if not gone:
            return 0
        ids = frozenset(a.id for a in gone)
        self._retire(project)
        self._export(project, without=ids)
        self._delete_older(collected_key(project))
        self._answers.delete(project, sorted(ids))
        return len(ids)

    def _retire(self, project: str) -> None:
        """Take what was cleaned of the project's export out of its next dataset.

        The oldest part first: a dataset has the newest of those that there are, so that one which
        was replaced is never the newest.
        """
        parts = self._registry.items(project, "clean#", only=("sk", "key", "at"))
        ours = [part for part in parts if part["key"] == collected_key(project)]
        self._answers.retire(project, [str(p["sk"]) for p in sorted(ours, key=lambda p: p["at"])])

    def _chosen(self, project: str, without: frozenset[str] = frozenset()) -> list[Kept]:
        config = self._registry.get(project, "config") or {}
        if not config.get("collect"):
            return []
        options = msgspec.convert(config["collect"], CollectOptions)
        return chosen(
            [answer for answer in self._answers.of(project) if answer.id not in without],
            self._ratings(project),
            unrated=options.unrated,
            now=self._clock(),
            golden=self._golden(project),
        )

    def _ratings(self, project: str) -> dict[str, int]:
        items = self._registry.items(project, "feedback#", only=("id", "rating"))
        return {str(item["id"]): int(item["rating"]) for item in items}

    def _golden(self, project: str) -> frozenset[str]:
        known = self._registry.get(project, "golden")
        if known is None or not known.get("questions"):
            return frozenset()
        data = self._store.read(golden_snapshot_key(project, str(known["hash"])))
        return frozenset(same_text(question.question) for question in decode_golden(data))

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            head: Any = self._s3.head_object(Bucket=self._store.bucket, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            raise
        return dict(head)

    def _put(self, key: str, data: bytes, checksum: str) -> str:
        done = self._s3.put_object(
            Bucket=self._store.bucket,
            Key=key,
            Body=data,
            ContentType="application/x-ndjson",
            ChecksumAlgorithm="CRC32",
            Metadata={"sha256": checksum},
        )
        return done["VersionId"]

    def _delete_older(self, key: str) -> None:
        """Delete every version of the key but the newest, and not by hiding them."""
        bucket = self._store.bucket
        for page in self._s3.get_paginator("list_object_versions").paginate(
            Bucket=bucket, Prefix=key
        ):
            for version in page.get("Versions", ()):
                if version["Key"] == key and not version["IsLatest"]:
                    self._s3.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])


def _pk(project: str) -> str:
    return f"collected#{project}"


def _kept(item: dict[str, Any]) -> Kept:
    numbers = {"at": float(item["at"]), "expires_at": int(item["expires_at"])}
    return msgspec.convert({**item, **numbers}, Kept)


def _later(gone: list[Kept], kept: list[Kept]) -> list[Kept]:
    """Answers whose conversation went through one of those: they quote it."""
    said = {(a.conversation, a.said) for a in gone}
    ids = {a.id for a in gone}
    return [
        a
        for a in kept
        if a.id not in ids and any((a.conversation, wrote) in said for wrote in a.wrote)
    ]
