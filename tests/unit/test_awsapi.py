from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError
from http_stub import FakeTable, Stub, replies, resets
from hypothesis import given
from hypothesis import strategies as st

from dropforge.backends.attributes import from_attribute, to_attribute
from dropforge.backends.awsapi import (
    DYNAMODB,
    SAGEMAKER_RUNTIME,
    SECRETS_MANAGER,
    SQS,
    AwsError,
    AwsService,
    AwsThrottledError,
    ConditionFailedError,
    Queue,
    SageMakerRuntime,
    Secrets,
    Service,
    Table,
)
from dropforge.backends.connection import BrokenAnswerError
from dropforge.backends.sigv4 import AwsSettingsError, Credentials, sign

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

AT = 1_795_435_200.0


def botocore_signature(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    service: str,
    token: str | None,
) -> str:
    now = datetime.fromtimestamp(AT, UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    request = AWSRequest(method=method, url=url, data=body, headers=headers)
    credentials = BotoCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    botocore.auth.SigV4Auth(credentials, service, "eu-central-1").add_auth(request)
    signature: str = request.headers["Authorization"]
    return signature


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjE//+=="])
@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "service"),
    [
        (
            "POST",
            "https://dynamodb.eu-central-1.amazonaws.com/",
            {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB.GetItem"},
            b'{"TableName": "t"}',
            "dynamodb",
        ),
        ("GET", "https://example.amazonaws.com/", {}, b"", "service"),
        ("GET", "https://example.amazonaws.com", {}, b"", "service"),
        ("GET", "https://x.amazonaws.com/?b=2&a=1&a=0&c", {}, b"", "service"),
        ("GET", "https://x.amazonaws.com/?q=a%20b%2Fc&%C3%BC=%C3%A9&empty=", {}, b"", "service"),
        ("GET", "https://x.amazonaws.com/a/./b/../c//d/", {}, b"", "service"),
        ("GET", "https://x.amazonaws.com/..", {}, b"", "service"),
        ("POST", "http://127.0.0.1:4566/a%20b/%C3%BC~(x)", {}, b"\x00\xff", "service"),
        ("POST", "https://x.amazonaws.com:443/p", {"X-Spaces": "  a   b  "}, b"1", "service"),
        (
            "POST",
            "https://runtime.sagemaker.eu-central-1.amazonaws.com/endpoints/dropforge/invocations",
            {"X-Amzn-SageMaker-Inference-Component": "dropforge-shop-3"},
            "ünïcode".encode(),
            "sagemaker",
        ),
    ],
)
def test_signature_equals_botocore_for(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    service: str,
    token: str | None,
) -> None:
    expected = botocore_signature(monkeypatch, method, url, headers, body, service, token)
    signed = sign(
        method,
        url,
        headers,
        body,
        service=service,
        region="eu-central-1",
        credentials=Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token),
        at=AT,
    )
    assert signed["Authorization"] == expected
    assert signed.get("X-Amz-Security-Token") == token


@pytest.mark.parametrize(
    ("variables", "service", "expected"),
    [
        ({}, DYNAMODB, "https://dynamodb.eu-west-1.amazonaws.com"),
        ({}, SECRETS_MANAGER, "https://secretsmanager.eu-west-1.amazonaws.com"),
        ({}, SAGEMAKER_RUNTIME, "https://runtime.sagemaker.eu-west-1.amazonaws.com"),
        ({}, SQS, "https://sqs.eu-west-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1/"}, DYNAMODB, "http://127.0.0.1:1"),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://b"},
            SAGEMAKER_RUNTIME,
            "http://b",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://a", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            DYNAMODB,
            "https://dynamodb.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_endpoint_comes_from_the_standard_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], service: Service, expected: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert service.endpoint("eu-west-1") == expected


def test_region_or_credentials_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AwsSettingsError, match="AWS_REGION"):
        AwsService(DYNAMODB)
    with pytest.raises(AwsSettingsError, match="AWS_ACCESS_KEY_ID"):
        Credentials.from_environment()


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.sets(st.text(), min_size=1),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain_values)
def test_attribute_values_survive_the_round_trip(value: Any) -> None:
    assert from_attribute(to_attribute(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), set(), {1}])
def test_attribute_without_a_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no type"):
        to_attribute(value)


def test_numbers_are_int_only_without_fraction() -> None:
    values = {"L": [{"N": "1795435200"}, {"N": "-3"}, {"N": "1.5"}, {"N": "1E+2"}]}
    assert [repr(v) for v in from_attribute(values)] == ["1795435200", "-3", "1.5", "100.0"]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    server = Stub()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield server
    server.stop()


@pytest.fixture
def rows(stub: Stub) -> FakeTable:
    rows = FakeTable()
    stub.routes["/"] = rows
    return rows


@pytest.fixture
def table(stub: Stub) -> Iterator[Table]:
    table = Table("registry")
    yield table
    table._service.close()


def soon() -> float:
    return time.monotonic() + 2


def test_get_item_sends_a_signed_request_and_returns_plain_values(
    stub: Stub, rows: FakeTable, table: Table
) -> None:
    rows.put("project#shop", "champion", version={"S": "v2"}, revision={"N": "7"})
    found = table.get("project#shop", "champion", deadline=soon(), consistent=True)
    assert found == {"pk": "project#shop", "sk": "champion", "version": "v2", "revision": 7}
    (request,) = stub.seen
    assert request.json()["TableName"] == "registry"
    assert request.json()["ConsistentRead"] is True
    assert request.headers["x-amz-target"] == "DynamoDB_20120810.GetItem"
    assert "/us-east-1/dynamodb/aws4_request" in request.headers["authorization"]


def test_get_item_returns_none_for_a_missing_item(rows: FakeTable, table: Table) -> None:
    assert table.get("project#shop", "champion", deadline=soon()) is None


def test_query_follows_every_page(rows: FakeTable, table: Table) -> None:
    for version in ("v1", "v2", "v3"):
        rows.put("project#shop", f"model#{version}", version={"S": version})
    rows.put("project#shop", "run#1")
    items = table.query("project#shop", "model#", deadline=soon())
    assert [item["version"] for item in items] == ["v1", "v2", "v3"]


def test_put_item_raises_where_the_condition_fails(rows: FakeTable, table: Table) -> None:
    condition = "attribute_not_exists(pk) OR rating = :rating"
    item = {"pk": "p", "sk": "s", "rating": 1}
    table.put(item, condition=condition, values={":rating": 1}, deadline=soon())
    table.put(item, condition=condition, values={":rating": 1}, deadline=soon())
    item["rating"] = -1
    with pytest.raises(ConditionFailedError):
        table.put(item, condition=condition, values={":rating": -1}, deadline=soon())


def test_added_numbers_begin_at_nothing_and_add_up(
    stub: Stub, rows: FakeTable, table: Table
) -> None:
    for _ in range(2):
        table.add("project#shop", "arm#1", {"requests": 1, "milliseconds": 20}, deadline=soon())
    item = rows.items["project#shop", "arm#1"]
    assert (item["requests"], item["milliseconds"]) == ({"N": "2"}, {"N": "40"})


@pytest.fixture
def queue(stub: Stub) -> Iterator[Queue]:
    queue = Queue("https://sqs.us-east-1.amazonaws.com/1/shadow")
    yield queue
    queue._service.close()


def test_writes_are_what_botocore_would_send(
    stub: Stub, rows: FakeTable, table: Table, queue: Queue
) -> None:
    table.add("p", "s", {"requests": 1, "slow": 0}, deadline=soon())
    queue.send('{"text": "ü"}', deadline=soon())
    once = Config(retries={"total_max_attempts": 1})
    options: dict[str, Any] = {"endpoint_url": stub.url, "region_name": "us-east-1", "config": once}
    boto3.client("dynamodb", **options).update_item(
        TableName="registry",
        Key={"pk": {"S": "p"}, "sk": {"S": "s"}},
        UpdateExpression="ADD #0 :0, #1 :1",
        ExpressionAttributeNames={"#0": "requests", "#1": "slow"},
        ExpressionAttributeValues={":0": {"N": "1"}, ":1": {"N": "0"}},
    )
    stub.routes["/"] = replies(400, {"__type": "Sent", "message": "no checksum is made here"})
    with pytest.raises(ClientError, match="no checksum"):
        boto3.client("sqs", **options).send_message(
            QueueUrl="https://sqs.us-east-1.amazonaws.com/1/shadow", MessageBody='{"text": "ü"}'
        )
    added, sent, boto_added, boto_sent = stub.seen
    for ours, botos in ((added, boto_added), (sent, boto_sent)):
        assert ours.json() == botos.json()
        assert ours.path == botos.path
        for header in ("content-type", "x-amz-target"):
            assert ours.headers[header] == botos.headers[header]
        scopes = [r.headers["authorization"].partition(",")[0] for r in (ours, botos)]
        assert scopes[0] == scopes[1]


def test_what_must_not_count_twice_is_never_sent_twice(
    stub: Stub, table: Table, queue: Queue
) -> None:
    calls: tuple[Callable[[], None], ...] = (
        lambda: table.add("p", "s", {"requests": 1}, deadline=soon()),
        lambda: queue.send("x", deadline=soon()),
    )
    for call in calls:
        stub.routes["/"] = replies(200, {})
        call()
        for failure in (resets, replies(500, b"")):
            stub.seen.clear()
            stub.routes["/"] = failure
            with pytest.raises((BrokenAnswerError, AwsError)):
                call()
            assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "name"),
    [
        (
            400,
            {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"},
            AwsThrottledError,
            "ProvisionedThroughputExceededException",
        ),
        (400, {"__type": "ResourceNotFoundException"}, AwsError, "ResourceNotFoundException"),
        (500, b"<html>", AwsError, "UnknownError"),
        (200, b"<html>", AwsError, "MalformedAnswer"),
        (400, b'{"__type": "\xff"}', AwsError, "UnknownError"),
        (400, b'{"__type": ' + b"[" * 100_000, AwsError, "UnknownError"),
        (400, {"__type": ["ModelError"]}, AwsError, "UnknownError"),
        (200, b'{"Item": "\xff"}', AwsError, "MalformedAnswer"),
    ],
)
def test_error_answers_are_typed(
    stub: Stub, table: Table, status: int, body: Any, kind: type[AwsError], name: str
) -> None:
    stub.routes["/"] = replies(status, body)
    with pytest.raises(kind) as caught:
        table.get("p", "s", deadline=soon())
    assert (caught.value.name, caught.value.status) == (name, status)


def test_read_is_tried_again_once_after_a_server_error(stub: Stub, table: Table) -> None:
    answers = iter([replies(500, b""), replies(200, {})])
    stub.routes["/"] = lambda handler: next(answers)(handler)
    assert table.get("p", "s", deadline=soon()) is None
    assert len(stub.seen) == 2


def test_secret_text_is_read(stub: Stub, rows: FakeTable) -> None:
    assert Secrets().get("arn:aws:secretsmanager:x", deadline=soon()) == "sk-upstream\n"
    assert stub.seen[0].headers["x-amz-target"] == "secretsmanager.GetSecretValue"


def test_secret_bytes_are_decoded(stub: Stub) -> None:
    stub.routes["/"] = replies(200, {"SecretBinary": "c2stYnl0ZXM="})
    assert Secrets().get("arn", deadline=soon()) == "sk-bytes"


@pytest.fixture
def runtime(stub: Stub) -> Iterator[SageMakerRuntime]:
    runtime = SageMakerRuntime("dropforge")
    yield runtime
    runtime._service.close()


def test_invoke_endpoint_names_the_inference_component(
    stub: Stub, runtime: SageMakerRuntime
) -> None:
    stub.routes["/endpoints/dropforge/invocations"] = replies(200, {"choices": []})
    assert runtime.invoke("adapter-3", b"{}", deadline=soon()) == b'{"choices": []}'
    headers = stub.seen[0].headers
    assert headers["x-amzn-sagemaker-inference-component"] == "adapter-3"
    assert "x-amzn-sagemaker-inference-component" in headers["authorization"]
    assert "/sagemaker/aws4_request" in headers["authorization"]


def test_invoke_endpoint_error_is_named_by_its_header(
    stub: Stub, runtime: SageMakerRuntime
) -> None:
    answer = replies(424, {"Message": "…"}, x_amzn_ErrorType="ModelError:http://example.com/")
    stub.routes["/endpoints/dropforge/invocations"] = answer
    with pytest.raises(AwsError) as caught:
        runtime.invoke("adapter-3", b"{}", deadline=soon())
    assert (caught.value.name, caught.value.status) == ("ModelError", 424)


def test_invoke_endpoint_is_never_sent_twice(stub: Stub, runtime: SageMakerRuntime) -> None:
    path = "/endpoints/dropforge/invocations"
    stub.routes[path] = replies(200, {})
    runtime.invoke("adapter-3", b"{}", deadline=soon())
    for failure in (resets, replies(503, b"")):
        stub.seen.clear()
        stub.routes[path] = failure
        with pytest.raises((BrokenAnswerError, AwsError)):
            runtime.invoke("adapter-3", b"{}", deadline=soon())
        assert len(stub.seen) == 1
