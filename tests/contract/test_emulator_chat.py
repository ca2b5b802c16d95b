"""The chat path's own AWS calls, before a service that was not written for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dropforge.backends.awsapi import ConditionFailedError, Queue, Table
from dropforge.serve.arms import FAILED, Tally

TABLE = "chat-path"


@pytest.fixture
def table(
    emulator: str, aws: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Table]:
    """Makes clients of one empty table: each thread needs its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    keys = ("pk", "HASH"), ("sk", "RANGE")
    aws("dynamodb").create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in keys],
    )
    return lambda: Table(TABLE)


def soon() -> float:
    return time.monotonic() + 60


def test_counters_of_many_containers_add_up_and_a_claim_is_won_once(
    table: Callable[[], Table],
) -> None:
    tally = Tally(1, 0, 1, 20, 30, 4)

    def count(number: int) -> bool:
        mine = table()
        for seen in (tally, FAILED):
            numbers = {name: getattr(seen, name) for name in seen.__struct_fields__}
            mine.add("project#shop", "arm#000007#00#challenger", numbers, deadline=soon())
        claim = {"pk": "project#shop", "sk": "shadowed#m1", "taken_at": number}
        condition = "attribute_not_exists(pk) OR taken_at = :now"
        try:
            mine.put(claim, condition=condition, values={":now": number}, deadline=soon())
        except ConditionFailedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(count, range(24)))

    found = table().get("project#shop", "arm#000007#00#challenger", deadline=soon()) or {}
    numbers = {name: found[name] for name in Tally.__struct_fields__}
    assert numbers == {
        "requests": 48,
        "errors": 24,
        "slow": 24,
        "milliseconds": 480,
        "prompt_tokens": 720,
        "completion_tokens": 96,
    }
    assert won.count(True) == 1


def test_sent_message_is_received_as_it_was(
    emulator: str, aws: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    url = aws("sqs").create_queue(QueueName="shadows")["QueueUrl"]
    text = '{"content": "Où? \\u0007 <&> 😀"}'

    Queue(url).send(text, deadline=soon())

    (message,) = aws("sqs").receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert message["Body"] == text
