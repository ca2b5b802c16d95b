from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from chat_front import CANARY, SAGEMAKER, invoked, served, shop, upstream_requests
from chat_options import serve
from http_stub import FakeTable, Respond, Stub, StubHandler, cuts, hangs, replies, resets

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

EMBEDDINGS = "/v1/embeddings"
MODEL = {"backend": "openai", "model": "text-embedding-3-small"}
VECTOR = [0.25, -0.5, 1.0]


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embeds(handler: StubHandler) -> None:
    """Answers as OpenAI's API does."""
    asked = handler.request_seen.json()
    given = asked["input"]
    if isinstance(given, str) or isinstance(given[0], int):  # one text, or the ids of one
        given = [given]
    in_base64 = asked.get("encoding_format") == "base64"
    handler.reply(
        200,
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": place,
                    "embedding": packed(VECTOR) if in_base64 else VECTOR,
                }
                for place in range(len(given))
            ],
            "model": asked["model"],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        },
    )


@pytest.fixture
def rows() -> FakeTable:
    rows = shop()
    serve(rows, embeddings=MODEL)
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        server.routes[EMBEDDINGS] = embeds
        yield server


def embed(**fields: Any) -> Any:
    event: dict[str, Any] = {"resource": EMBEDDINGS, "path": EMBEDDINGS, "pathParameters": None}
    return invoked(**event, body={"model": "shop/embeddings", "input": "hi", **fields})


def test_answer_is_the_servers_under_the_projects_name(stub: Stub) -> None:
    result = embed(input=["a", "b"], dimensions=3, user="u", extra=1)
    assert result.status == 200
    assert result.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": VECTOR},
            {"object": "embedding", "index": 1, "embedding": VECTOR},
        ],
        "model": "shop/embeddings",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert result.headers["x-dropforge-model"] == "shop/embeddings"
    (request,) = upstream_requests(stub, EMBEDDINGS)
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert request.json() == {
        "input": ["a", "b"],
        "model": MODEL["model"],
        "dimensions": 3,
        "user": "u",
        "extra": 1,
    }


@pytest.mark.parametrize("given", ["a", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_every_form_of_input_is_passed_on(stub: Stub, given: Any) -> None:
    result = embed(input=given)
    several = isinstance(given, list) and not isinstance(given[0], int)
    assert [one["index"] for one in result.json()["data"]] == list(
        range(len(given) if several else 1)
    )
    assert upstream_requests(stub, EMBEDDINGS)[0].json()["input"] == given


@pytest.mark.parametrize("told", [VECTOR, packed(VECTOR)])
@pytest.mark.parametrize(("asked", "given"), [("float", VECTOR), ("base64", packed(VECTOR))])
def test_encoding_is_the_callers_whatever_the_server_knows(
    stub: Stub, told: Any, asked: str, given: Any
) -> None:
    stub.routes[EMBEDDINGS] = replies(200, {"data": [{"index": 0, "embedding": told}], "model": ""})
    assert embed(encoding_format=asked).json()["data"][0]["embedding"] == given


@pytest.mark.usefixtures("stub")
def test_embeddings_are_listed_among_the_models() -> None:
    cards = {card["id"] for card in invoked("models").json()["data"]}
    assert "shop/embeddings" in cards
    path = "/v1/models/shop/embeddings"
    event = {"resource": "/v1/models/{id+}", "pathParameters": {"id": "shop/embeddings"}}
    card = invoked("models", **event, path=path)
    assert (card.status, card.json()["id"]) == (200, "shop/embeddings")


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("shop", 200),
        (None, 200),
        ("shop/champion", 404),
        ("bank/embeddings", 404),
        ("text-embedding-3-small", 404),
    ],
)
@pytest.mark.usefixtures("stub")
def test_model_names(model: str | None, status: int) -> None:
    result = embed(model=model)
    assert result.status == status
    if status == 404:
        assert result.error["code"] == "model_not_found"
        assert ("shop/embeddings" in result.error["message"]) == str(model).startswith("shop/")


def test_a_project_without_embeddings_is_told_how_to_get_them(stub: Stub, rows: FakeTable) -> None:
    del rows.items["project#shop", "config"]["serve"]
    result = embed()
    assert (result.status, result.error["code"]) == (404, "model_not_found")
    assert "serve.embeddings" in result.error["message"]
    assert "shop/embeddings" not in str(invoked("models").json())
    assert upstream_requests(stub, EMBEDDINGS) == []


@pytest.mark.parametrize(
    ("broken", "status", "code"),
    [
        (replies(429, {}, Retry_After="3"), 429, "rate_limit_exceeded"),
        (replies(400, {"error": {"message": "No such size.", "code": "bad"}}), 400, "bad"),
        (replies(500, {}), 502, "upstream_error"),
        (replies(401, {}), 502, "upstream_error"),
        (replies(200, b"{"), 502, "upstream_error"),
        (replies(200, {"data": [{"index": 0, "embedding": "%%"}], "model": ""}), 502, None),
        (replies(200, {"data": [{"index": 0, "embedding": "AAA="}], "model": ""}), 502, None),
        (replies(200, {"data": [{"index": 0, "embedding": [None]}], "model": ""}), 502, None),
        (replies(200, {"data": [{"index": 0, "embedding": "AADAfw=="}], "model": ""}), 502, None),
        (replies(200, b'{"data": [], "model": "Mo\xffday"}'), 502, None),
        (replies(200, b'{"data": ' + b"[" * 100_000), 502, None),
        (replies(200, {"data": [], "model": ""}), 502, None),
        (replies(200, {"data": [{"index": 1, "embedding": [0.5]}], "model": ""}), 502, None),
        (hangs, 504, "upstream_timeout"),
        (resets, 502, "upstream_error"),
        (cuts, 502, "upstream_error"),
    ],
)
def test_failures_are_told_as_those_of_chats(
    stub: Stub, broken: Respond, status: int, code: str | None
) -> None:
    stub.routes[EMBEDDINGS] = broken
    result = embed(encoding_format="float")
    assert (result.status, result.error["code"]) == (status, code or "upstream_error")
    assert result.headers.get("Retry-After") == ("3" if status == 429 else None)


def test_number_beyond_32_bits_has_no_base64(stub: Stub) -> None:
    data = [{"index": 0, "embedding": [1e300]}]
    stub.routes[EMBEDDINGS] = replies(200, {"data": data, "model": ""})
    assert embed(encoding_format="float").json()["data"][0]["embedding"] == [1e300]
    result = embed(encoding_format="base64")
    assert (result.status, result.error["code"]) == (502, "upstream_error")


@pytest.mark.parametrize("indexes", [[0], [0, 1, 2], [0, 0], [1, 2]])
def test_other_than_one_vector_for_each_input_is_an_error(stub: Stub, indexes: list[int]) -> None:
    data = [{"index": index, "embedding": VECTOR} for index in indexes]
    stub.routes[EMBEDDINGS] = replies(200, {"data": data, "model": ""})
    assert embed(input=["a", "b"]).status == 502


def test_vectors_come_in_the_order_of_the_inputs(stub: Stub) -> None:
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.0]}]
    stub.routes[EMBEDDINGS] = replies(200, {"data": data, "model": ""})
    found = embed(input=["a", "b"]).json()["data"]
    assert [one["embedding"] for one in found] == [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("broken", "status", "retry_after"),
    [
        (replies(400, {}, x_amzn_ErrorType="ValidationError"), 503, "30"),
        (replies(400, {}, x_amzn_ErrorType="ThrottlingException"), 429, "1"),
        (replies(500, {}, x_amzn_ErrorType="InternalFailure"), 502, None),
        (replies(424, b'{"OriginalStatusCode": 400, "OriginalMessage": "\xff"}',
                 x_amzn_ErrorType="ModelError"), 502, None),
        (replies(424, {"OriginalStatusCode": 400, "OriginalMessage": "{}"},
                 x_amzn_ErrorType="ModelError"), 400, None),
        (replies(400, b'{"__type": 7}'), 502, None),
        (replies(400, b'{"__type": "\xff"}'), 502, None),
    ],
)  # fmt: skip
def test_failures_of_sagemaker_are_told_as_those_of_its_chats(
    stub: Stub, rows: FakeTable, broken: Respond, status: int, retry_after: str | None
) -> None:
    serve(rows, embeddings={"backend": "sagemaker", "model": "embedder"})
    stub.routes[SAGEMAKER] = broken
    result = embed()
    assert (result.status, result.headers.get("Retry-After")) == (status, retry_after)


def test_wrong_input_never_reaches_the_server(stub: Stub) -> None:
    for given in ([], "", ["a", 1], 5, None, ["a"] * 257, ["word " * 99_000], {"a": 1}, [True]):
        result = embed(input=given)
        assert result.status in (400, 413), given
    for fields in ({"encoding_format": "int8"}, {"dimensions": 0}, {"dimensions": "3"}):
        assert embed(**fields).status == 400
    assert upstream_requests(stub, EMBEDDINGS) == []


def test_log_line_holds_no_input(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    embed(input=CANARY)
    line = json.loads(capsys.readouterr().out)
    assert (line["route"], line["model"]) == (EMBEDDINGS, "shop/embeddings")
    assert "4111" not in str(line)
    assert "4111" in str(upstream_requests(stub, EMBEDDINGS)[0].json())
