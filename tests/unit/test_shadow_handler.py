from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chat_front import CANARY, COMPLETION, UPSTREAM, ask, invoked, served, shop, upstream_requests
from http_stub import FakeTable, Respond, Stub, StubHandler, cuts, hangs, replies, resets

from lambdas.shadow import handler as shadow

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SHOP = "project#shop"
COUNTER = "arm#000007#shadow#challenger"
Delivered = Callable[..., list[str]]


@pytest.fixture
def rows() -> FakeTable:
    """The shop of the chat function's tests, where v3 shadows the champion."""
    rows = shop()
    rows.items[SHOP, "champion"]["canary"] = {
        "M": {
            "id": {"N": "7"},
            "version": {"S": "v3"},
            "backend": {"S": "openai"},
            "model_id": {"S": "ft:shop:3"},
            "share": {"N": "0"},
            "shadow": {"BOOL": True},
            "step": {"N": "-1"},
            "slow_seconds": {"N": "10"},
            "sticky": {"S": "user"},
        }
    }
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_SHADOW_QUEUE", f"{server.url}/000000000000/shadow")
        monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", "20")
        yield server
        shadow._shadow.cache_clear()


@pytest.fixture
def deliver(stub: Stub) -> Delivered:
    """Hands a batch to the function; says which messages have to come again."""

    def run(*bodies: str, ids: tuple[str, ...] = ()) -> list[str]:
        names = ids or tuple(f"m{number}" for number in range(len(bodies)))
        records = [record(name, body) for name, body in zip(names, bodies, strict=True)]
        answer = shadow.handler({"Records": records}, None)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return run


def record(message_id: str, body: str) -> dict[str, Any]:
    """As in docs.aws.amazon.com/lambda/latest/dg/with-sqs.html."""
    return {
        "messageId": message_id,
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1795435100250",
            "SenderId": "AROAEXAMPLE:dropforge-chat",
            "ApproximateFirstReceiveTimestamp": "1795435100350",
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:shadow",
        "awsRegion": "us-east-1",
    }


def message(canary: int = 7) -> str:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": CANARY}]
    payload = {"model": "ft:shop:2", "temperature": 0.5, "messages": messages}
    return json.dumps({"project": "shop", "canary": canary, "payload": payload})


def counted(rows: FakeTable) -> dict[str, int]:
    item = rows.items.get((SHOP, COUNTER), {})
    found = {name: int(v["N"]) for name, v in item.items() if v.get("N", "0") != "0"}
    found.pop("milliseconds", None)
    return found


def test_what_the_chat_function_sends_is_asked_of_the_challenger_and_counted(
    deliver: Delivered, stub: Stub, rows: FakeTable
) -> None:
    assert invoked(body=ask(temperature=0.5)).headers["x-dropforge-arm"] == "champion"
    ((_, sent),) = rows.messages
    assert deliver(sent) == []
    champions, challengers = (request.json() for request in upstream_requests(stub))
    assert challengers == {**champions, "model": "ft:shop:3"}
    assert counted(rows) == {"requests": 1, "prompt_tokens": 20, "completion_tokens": 5}


def test_challenger_on_sagemaker_is_told_no_model_name(
    deliver: Delivered, stub: Stub, rows: FakeTable
) -> None:
    canary = rows.items[SHOP, "champion"]["canary"]["M"]
    canary |= {"backend": {"S": "sagemaker"}, "model_id": {"S": "dropforge-shop-3"}}
    path = "/endpoints/dropforge/invocations"
    stub.routes[path] = replies(200, COMPLETION)
    assert deliver(message()) == []
    (request,) = upstream_requests(stub, path)
    assert request.headers["x-amzn-sagemaker-inference-component"] == "dropforge-shop-3"
    assert "model" not in request.json()
    assert counted(rows)["requests"] == 1


def test_message_that_comes_twice_counts_once(
    deliver: Delivered, stub: Stub, rows: FakeTable
) -> None:
    for _ in range(2):
        assert deliver(message(), message(), ids=("a", "b")) == []
    assert counted(rows)["requests"] == 2
    assert len(upstream_requests(stub)) == 2
    assert int(rows.items[SHOP, "shadowed#a"]["expires_at"]["N"]) > 0


def test_of_two_deliveries_at_once_one_counts(
    deliver: Delivered, stub: Stub, rows: FakeTable
) -> None:
    """While the challenger is asked, another delivery of the message is counted."""

    def meanwhile(handler: StubHandler) -> None:
        stub.routes[UPSTREAM] = replies(200, COMPLETION)
        rows.put(SHOP, "shadowed#m0", taken_at={"N": "1"})
        handler.reply(200, COMPLETION)

    stub.routes[UPSTREAM] = meanwhile
    assert deliver(message()) == []
    assert counted(rows) == {}


@pytest.mark.parametrize(
    "failure",
    [replies(500, b""), replies(429, b""), replies(400, b""), cuts, resets, hangs],
)
def test_failure_is_counted_and_does_not_come_again(
    deliver: Delivered,
    stub: Stub,
    rows: FakeTable,
    failure: Respond,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if failure is hangs:
        monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", "1")
    stub.routes[UPSTREAM] = failure
    assert deliver(message()) == []
    assert counted(rows) == {"requests": 1, "errors": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"canary": None},
        {"canary": {"id": {"N": "8"}}},
        {"canary": {"shadow": {"BOOL": False}, "share": {"N": "0.1"}, "step": {"N": "0"}}},
    ],
)
def test_message_that_outlived_its_canary_is_dropped(
    deliver: Delivered, stub: Stub, rows: FakeTable, change: dict[str, Any]
) -> None:
    champion = rows.items[SHOP, "champion"]
    if change["canary"] is None:
        del champion["canary"]
    else:
        champion["canary"]["M"] |= change["canary"]
    assert deliver(message()) == []
    assert upstream_requests(stub) == []
    assert not [sk for _, sk in rows.items if sk.startswith(("arm#", "shadowed#"))]


def test_message_of_a_project_that_is_gone_is_dropped(deliver: Delivered, rows: FakeTable) -> None:
    del rows.items[SHOP, "champion"]
    assert deliver(message()) == []


def test_only_what_could_not_be_counted_comes_again(
    deliver: Delivered, stub: Stub, rows: FakeTable
) -> None:
    assert deliver(message(), "{", message(), ids=("a", "b", "c")) == ["b"]
    assert counted(rows)["requests"] == 2
    stub.routes["/"] = replies(500, b"")
    assert deliver(message(), message(), ids=("d", "e")) == ["d", "e"]
    stub.routes["/"] = rows
    assert deliver(message(), message(), ids=("d", "e")) == []
    assert counted(rows)["requests"] == 4


def test_nothing_a_customer_wrote_is_logged(
    deliver: Delivered, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = logging.StreamHandler(io.StringIO())
    lines.setFormatter(shadow.logger.registered_formatter)
    shadow.logger.addHandler(lines)
    deliver(message(), f'{{"project": "{CANARY}"}}', CANARY, ids=("a", "b", "c"))
    stub.routes[UPSTREAM] = replies(400, {"error": {"message": CANARY}})
    deliver(message(), ids=("d",))
    stub.routes["/"] = replies(500, {"message": CANARY})
    deliver(message())
    shadow.logger._logger.removeHandler(lines)
    written = lines.stream.getvalue()
    assert written.count("chat not counted") == 3
    assert "AwsError" in written
    captured = capsys.readouterr()
    assert "4111" not in written + captured.out + captured.err
