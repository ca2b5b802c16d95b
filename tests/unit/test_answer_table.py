"""The table's requests, judged by moto's DynamoDB: reserved words, conditions, transactions."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from http_stub import Stub, StubHandler

from dropforge.backends.answers import AnswerTable
from dropforge.backends.awsapi import AwsError, ConditionFailedError
from dropforge.serve.cache import CacheKey, Entry
from dropforge.serve.near import Near, Record
from tests.support.tables import create_table

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

KEY, PARTITION = CacheKey.of("question"), CacheKey.of("partition")
ENTRY = Entry.seal(KEY, "h", {"id": "a"}, 1000, 1)


@pytest.fixture
def table(moto: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnswerTable]:
    server = Stub()
    client: Any = boto3.client("dynamodb")
    create_table("answers")

    def forward(handler: StubHandler) -> None:
        operation = handler.request_seen.headers["x-amz-target"].partition(".")[2]
        try:
            request = _wire(handler.request_seen.json(), base64.b64decode)
            answer = client._make_api_call(operation, request)
        except ClientError as error:
            handler.reply(400, {"__type": error.response["Error"]["Code"]})
        else:
            answer.pop("ResponseMetadata", None)
            handler.reply(200, _wire(answer, lambda raw: base64.b64encode(raw).decode()))

    server.routes["/"] = forward
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found = AnswerTable("answers")
    yield found
    found._table._service.close()
    server.stop()
    client.delete_table(TableName="answers")


def _wire(value: Any, convert: Any) -> Any:
    """A request or an answer with its binary attributes converted."""
    if isinstance(value, dict):
        return {k: convert(v) if k == "B" else _wire(v, convert) for k, v in value.items()}
    return [_wire(entry, convert) for entry in value] if isinstance(value, list) else value


def soon() -> float:
    return time.monotonic() + 10


def test_an_entry_comes_back_as_it_was(table: AnswerTable) -> None:
    assert table.entry(KEY.name, deadline=soon()) is None
    for _ in range(2):  # a request that arrives twice
        table.keep(KEY.name, ENTRY, deadline=soon())

    assert table.entry(KEY.name, deadline=soon()) == ENTRY


def test_a_block_is_the_holders_and_lasts_until_the_entry_expires(table: AnswerTable) -> None:
    table.keep(KEY.name, ENTRY, deadline=soon())
    table.block(KEY.name, "another", deadline=soon())
    assert table.entry(KEY.name, deadline=soon()) == ENTRY

    table.block(KEY.name, "h", deadline=soon())
    blocked = table.entry(KEY.name, deadline=soon())
    assert blocked is not None
    assert (blocked.blocked, blocked.body, blocked.code) == (True, b"", b"")
    with pytest.raises(ConditionFailedError):
        table.keep(KEY.name, Entry.seal(KEY, "h", {}, 1000 + 3599, 1), deadline=soon())

    later = Entry.seal(KEY, "h", {}, 1000 + 3601, 1)
    table.keep(KEY.name, later, deadline=soon())
    assert table.entry(KEY.name, deadline=soon()) == later


def test_blocking_what_is_not_there_does_nothing(table: AnswerTable) -> None:
    table.block("nothing", "h", deadline=soon())

    assert table.entry("nothing", deadline=soon()) is None


def test_the_first_note_of_a_given_answer_stays(table: AnswerTable) -> None:
    for name in ("one", "one", "other"):
        table.note_given("g", name, 2000, deadline=soon())

    assert table.given("g", deadline=soon()) == "one"
    assert table.given("h", deadline=soon()) is None


def test_questions_are_those_of_the_partition(table: AnswerTable) -> None:
    kept = [Near.of(PARTITION, CacheKey.of(n), b"\x01\xff", 1000 + n, 2000) for n in range(3)]
    for near in kept:
        table.keep_near(PARTITION.name, near, deadline=soon())
    table.keep_near("other", kept[0], deadline=soon())

    assert table.near(PARTITION.name, deadline=soon()) == kept[::-1]
    assert table.near("empty", deadline=soon()) == []


def test_a_check_counts_once(table: AnswerTable) -> None:
    assert table.record("shop", "v1", deadline=soon()) == Record()
    counted = [
        table.count("shop", "v1", message, false=false, deadline=soon())
        for message, false in (("m1", True), ("m1", True), ("m2", False))
    ]

    assert counted == [True, False, True]
    assert table.record("shop", "v1", deadline=soon(), consistent=True) == Record(2, 1)
    assert table.checked("m1", deadline=soon())


def test_a_table_that_is_not_there_is_an_error(table: AnswerTable) -> None:
    missing = AnswerTable("missing")
    with pytest.raises(AwsError, match="ResourceNotFound"):
        missing.entry(KEY.name, deadline=soon())
    missing._table._service.close()
