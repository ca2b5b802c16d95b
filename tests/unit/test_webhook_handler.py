"""Webhooks with real signatures, a table in memory and a Step Functions endpoint on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import boto3
import pytest

from dropforge.backends.registry import Registry
from lambdas import edge
from lambdas.train import wait
from lambdas.webhook import handler as webhook
from lambdas.webhook import task
from tests.support.tables import create_table
from tests.unit.http_stub import Stub, replies

TABLE = "webhooks-table"
SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes or so..").decode()
OTHER = "whsec_" + base64.b64encode(b"the key of somebody else, not ours").decode()
RUN = {
    "run_id": "r1",
    "project": "shop",
    "bucket": "b",
    "key": "exports/shop/a.csv",
    "version_id": "v",
    "config": "c",
}


@pytest.fixture
def states(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Step Functions, which takes every token; its requests are in `seen`."""
    stub = Stub()
    stub.routes["/"] = replies(200, {})
    _deploy()
    arn = boto3.client("secretsmanager").describe_secret(SecretId="openai-webhook")["ARN"]
    monkeypatch.setenv("DROPFORGE_TABLE", TABLE)
    monkeypatch.setenv("DROPFORGE_BUCKET", "b")
    monkeypatch.setenv("DROPFORGE_WEBHOOKS", json.dumps({"openai": arn}))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", stub.url)
    task._states.cache_clear()
    yield stub
    stub.stop()
    for cached in (task._states, edge.registry, edge.store, edge.secret):
        cached.cache_clear()


def _deploy() -> None:
    with suppress(boto3.client("dynamodb").exceptions.ResourceInUseException):
        create_table(TABLE)
        secret = SECRET + "\n"
        boto3.client("secretsmanager").create_secret(Name="openai-webhook", SecretString=secret)


def sent(
    job_id: str,
    kind: str = "fine_tuning.job.succeeded",
    *,
    key: str = SECRET,
    age: int = 0,
    body: str | None = None,
) -> dict[str, Any]:
    """The event of API Gateway about a webhook that is signed as OpenAI signs."""
    if body is None:
        about = {"id": "evt_1", "object": "event", "type": kind, "created_at": 1719168000}
        body = json.dumps({**about, "data": {"id": job_id}})
    at = str(int(time.time()) - age)
    signed = f"wh_1.{at}.{body}".encode()
    mac = hmac.new(base64.b64decode(key.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    return {
        "resource": "/webhooks/{provider}",
        "httpMethod": "POST",
        "path": "/webhooks/openai",
        "pathParameters": {"provider": "openai"},
        "headers": {
            "Webhook-Id": "wh_1",
            "Webhook-Timestamp": at,
            "Webhook-Signature": f"v1,{base64.b64encode(mac).decode()}",
        },
        "body": body,
        "isBase64Encoded": False,
    }


def post(event: dict[str, Any]) -> int:
    answer = webhook.handler(event, None)
    assert answer["body"] == "{}", "nothing is told"
    return int(answer["statusCode"])


def waits(job_id: str, token: str) -> bool:
    event = {"run": RUN, "job": {"job_id": job_id}, "token": token}
    return bool(wait.handler(event, None)["arrived"])


def tokens(states: Stub) -> list[str]:
    return [request.json()["taskToken"] for request in states.seen]


def item(job_id: str) -> dict[str, Any]:
    key = {"pk": {"S": f"webhook#{job_id}"}, "sk": {"S": "wait"}}
    found = boto3.client("dynamodb").get_item(TableName=TABLE, Key=key)
    return dict(found.get("Item", {}))


@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled"])
def test_webhook_after_the_wait_began_ends_it(states: Stub, how: str) -> None:
    assert waits(f"job-{how}", "t1") is False
    assert not states.seen
    assert post(sent(f"job-{how}", f"fine_tuning.job.{how}")) == 200
    assert tokens(states) == ["t1"]
    assert states.seen[0].headers["x-amz-target"] == "AWSStepFunctions.SendTaskSuccess"


def test_webhook_before_the_wait_ends_it_at_once_and_once_only(states: Stub) -> None:
    assert post(sent("job-early")) == 200
    assert not states.seen
    assert waits("job-early", "t1") is True
    assert tokens(states) == ["t1"]
    assert waits("job-early", "t2") is False, "else a job that is still running is asked for ever"
    assert tokens(states) == ["t1"]


def test_webhook_in_base64_is_the_same(states: Stub) -> None:
    waits("job-64", "t1")
    event = sent("job-64")
    event.update(body=base64.b64encode(event["body"].encode()).decode(), isBase64Encoded=True)
    assert post(event) == 200
    assert tokens(states) == ["t1"]


def test_replay_is_harmless(states: Stub) -> None:
    waits("job-replay", "t1")
    event = sent("job-replay")
    assert post(event) == 200
    states.routes["/"] = replies(
        400, {"__type": "com.amazonaws.swf.base.model#TaskDoesNotExist", "message": "gone"}
    )
    assert post(event) == 200
    assert tokens(states) == ["t1", "t1"]


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_token_that_is_gone_is_no_error_on_either_side(states: Stub, code: str) -> None:
    states.routes["/"] = replies(400, {"__type": code, "message": "gone"})
    waits(f"job-{code}", "t1")
    assert post(sent(f"job-{code}")) == 200
    assert waits(f"job-{code}", "t2") is True


def refused(states: Stub, event: dict[str, Any], job_id: str) -> None:
    assert post(event) == 401
    assert not states.seen
    assert "arrived" not in item(job_id)


def test_tampered_body_is_refused(states: Stub) -> None:
    waits("job-tampered", "t1")
    event = sent("job-innocent")
    event["body"] = event["body"].replace("job-innocent", "job-tampered")
    refused(states, event, "job-tampered")


@pytest.mark.parametrize("age", [301, 86400, -301])
def test_timestamp_out_of_tolerance_is_refused(states: Stub, age: int) -> None:
    waits(f"job-age{age}", "t1")
    refused(states, sent(f"job-age{age}", age=age), f"job-age{age}")


def test_timestamp_within_tolerance_is_taken(states: Stub) -> None:
    waits("job-slow", "t1")
    assert post(sent("job-slow", age=290)) == 200
    assert tokens(states) == ["t1"]


def test_signature_with_another_secret_is_refused(states: Stub) -> None:
    waits("job-other", "t1")
    refused(states, sent("job-other", key=OTHER), "job-other")


@pytest.mark.parametrize(
    "change",
    [
        {"headers": None},
        {"headers": {}},
        {"headers": {"Webhook-Id": "wh_1", "Webhook-Timestamp": "now", "Webhook-Signature": "v1,"}},
        {"body": None},
        {"body": "%%%", "isBase64Encoded": True},
        {"pathParameters": {"provider": "azure"}},
        {"pathParameters": None},
    ],
)
def test_request_that_is_no_webhook_is_refused(states: Stub, change: dict[str, Any]) -> None:
    refused(states, {**sent("job-odd"), **change}, "job-odd")


@pytest.mark.parametrize("signature", ["v1,é", "", "v2,abc", "v1,"])
def test_signature_of_another_kind_is_refused(states: Stub, signature: str) -> None:
    event = sent("job-kind")
    event["headers"]["Webhook-Signature"] = signature
    refused(states, event, "job-kind")


@pytest.mark.parametrize(
    "body",
    [
        '{"type": "response.completed", "data": {"id": "job-x"}}',
        '{"type": "fine_tuning.job.succeeded", "data": {}}',
        '{"type": "fine_tuning.job.succeeded", "data": 3}',
        '{"type": "fine_tuning.job.paused", "data": {"id": "job-x"}}',
        "no JSON",
        "[]",
    ],
)
def test_event_that_is_none_of_ours_is_taken_and_ignored(states: Stub, body: str) -> None:
    waits("job-x", "t1")
    assert post(sent("", body=body)) == 200
    assert not states.seen
    assert "arrived" not in item("job-x")


def test_webhook_is_neither_kept_nor_logged_beyond_the_job_id(
    states: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    waits("job-quiet", "the-token")
    event = sent(
        "", body='{"type": "fine_tuning.job.failed", "data": {"id": "job-quiet", "m": "canary"}}'
    )
    assert post(event) == 200
    told = str([vars(record) for record in caplog.records])
    assert "job-quiet" in told
    for hidden in ("canary", "the-token", SECRET, event["headers"]["Webhook-Signature"][3:]):
        assert hidden not in told
    kept = item("job-quiet")
    assert set(kept) == {"pk", "sk", "token", "arrived", "expires_at"}
    assert int(kept["expires_at"]["N"]) > time.time() + 6 * 86400


def test_registry_tells_whoever_comes_second(states: Stub) -> None:
    registry = Registry(TABLE)
    assert registry.webhook_arrived("j", 1) is None
    assert registry.expect_webhook("j", "a", 1) is True
    assert registry.expect_webhook("j", "b", 1) is False
    assert registry.webhook_arrived("j", 1) == "b"
    assert registry.webhook_arrived("j", 1) == "b"
