"""What callers make up: no request may break the chat function, and no text of theirs is logged."""

from __future__ import annotations

import copy
import json
import os
import random
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from chat_front import (
    CHUNKS,
    COMPLETION,
    SAGEMAKER,
    UPSTREAM,
    Result,
    invoked,
    load,
    served,
    shop,
)
from chat_options import serve
from http_stub import FakeTable, Respond, Stub, StubHandler, cuts, replies, resets

from lambdas.chat import answering
from lambdas.chat import handler as chat
from local.sagemaker.eventstream import CONTENT_TYPE, payload_part

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

EMBEDDINGS = "/v1/embeddings"
SECRET = "Zq7canary"
"""Begins whatever a caller plants; no code, name or number of Dropforge's holds it."""


@pytest.fixture
def rows() -> FakeTable:
    rows = shop()
    model = {"backend": "openai", "model": "embed-1"}
    serve(rows, max_input_tokens=2000, embeddings=model)
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        server.routes[EMBEDDINGS] = embeds
        yield server


def embeds(handler: StubHandler) -> None:
    given = handler.request_seen.json()["input"]
    several = isinstance(given, list) and not isinstance(given[0], int)
    count = len(given) if several else 1
    data = [{"index": place, "embedding": [0.5]} for place in range(count)]
    handler.reply(200, {"data": data, "model": "embed-1"})


def echoes(status: int) -> Respond:
    """Quotes all that was sent wherever a server could: as OpenAI's error, and as SageMaker's."""

    def respond(handler: StubHandler) -> None:
        said = handler.request_seen.body.decode()
        error = {"message": said, "param": said, "code": said, "type": said}
        body = {"error": error, "Message": said, "OriginalMessage": said, "OriginalStatusCode": 400}
        handler.reply(status, body)

    return respond


def breaks_in_the_middle(type_: str) -> Respond:
    """Quotes all that was sent in an error event after the first chunk, as OpenAI's and vLLM's."""

    def respond(handler: StubHandler) -> None:
        said = handler.request_seen.body.decode()
        error = {"error": {"message": said, "param": said, "code": said, "type": type_}}
        text = b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in (CHUNKS[1], error))
        if handler.path.startswith(SAGEMAKER):
            handler.reply(200, payload_part(text), Content_Type=CONTENT_TYPE)
        else:
            handler.reply(200, text, Content_Type="text/event-stream")

    return respond


# --- nothing reaches a log ------------------------------------------------------------------------


def planted(value: Any, path: str = "x") -> Any:
    """The same with a canary in every text, and under a key of its own in every object."""
    if isinstance(value, dict):
        inner = {key: planted(one, key) for key, one in value.items()}
        return {**inner, f"{SECRET}-key-{path}": f"{SECRET}-value-{path}"}
    if isinstance(value, list):
        return [planted(one, path) for one in value]
    kept = ("role", "model", "id", "type", "encoding_format")
    return f"{SECRET}-{path}" if isinstance(value, str) and path not in kept else value


CHAT = {
    "model": "shop",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}], "name": "n"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"a": "b"}}]},
        {"role": "user", "content": "u"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d"}}],
    "metadata": {"conversation_id": "c", "user": "u"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "p",
    "stop": ["s"],
}
FEEDBACK = {"id": "chatcmpl-1.v2.champion", "rating": 1, "comment": "c", "model": "shop"}
BODIES: list[tuple[str, str, Any]] = [
    ("POST", UPSTREAM, CHAT),
    ("POST", UPSTREAM, {**CHAT, "stream": True}),
    ("POST", UPSTREAM, {**CHAT, "model": f"shop/{SECRET}"}),
    ("POST", UPSTREAM, {**CHAT, "model": f"{SECRET}/v1"}),
    ("POST", UPSTREAM, {**CHAT, "model": {SECRET: SECRET}}),
    ("POST", UPSTREAM, {**CHAT, "temperature": SECRET}),
    ("POST", UPSTREAM, {**CHAT, "messages": SECRET}),
    ("POST", UPSTREAM, {**CHAT, "messages": [{"role": SECRET}]}),
    ("POST", UPSTREAM, {**CHAT, "messages": [{"role": "user", "content": f"{SECRET} " * 9000}]}),
    ("POST", "/v1/chat", {"message": "m", "user": "u", "conversation": []}),
    (
        "POST",
        "/v1/chat",
        {"message": SECRET, "conversation": [{"role": "user", "content": SECRET}]},
    ),
    ("POST", "/v1/feedback", FEEDBACK),
    ("POST", "/v1/feedback", {**FEEDBACK, "id": f"chatcmpl-{SECRET}.v2.champion"}),
    ("POST", "/v1/feedback", {"id": "a.v2.champion", "rating": 1, "comment": SECRET}),
    ("POST", "/v1/feedback", {**FEEDBACK, "id": f"{SECRET}!"}),
    ("POST", EMBEDDINGS, {"model": "shop/embeddings", "input": "i", "user": "u"}),
    ("POST", EMBEDDINGS, {"model": SECRET, "input": ["i"]}),
    ("POST", EMBEDDINGS, {"model": f"shop/{SECRET}", "input": [1, SECRET]}),
    ("GET", "/v1/models", None),
    ("GET", f"/v1/models/{SECRET}", None),
    ("GET", f"/v1/models/shop/{SECRET}", None),
    ("GET", f"/{SECRET}", None),
    ("POST", f"/v1/chat/{SECRET}", CHAT),
    ("POST", "/v1/models", CHAT),
    ("GET", "/health", None),
]


def sent(method: str, path: str, body: str | None) -> Result:
    """A request with canaries in its headers and its query, too."""
    event = load("chat_completions")
    text = {f"X-{SECRET}": SECRET, "User-Agent": SECRET, "Authorization": f"Bearer sk-{SECRET}"}
    event["headers"] = {**event["headers"], **text, "Cookie": SECRET, "x-forwarded-for": SECRET}
    event["queryStringParameters"] = {SECRET: SECRET}
    event.update(httpMethod=method, path=path, resource=path, pathParameters=None, body=body)
    return Result(chat.handler(event, None))


UPSTREAMS: dict[str, Respond] = {
    "answers": replies(200, COMPLETION),
    "echoes it in a 400": echoes(400),
    "echoes it in a 500": echoes(500),
    "echoes it in a 429": echoes(429),
    "echoes it as an answer": echoes(200),
    "echoes it in the middle, as a 400": breaks_in_the_middle("invalid_request_error"),
    "echoes it in the middle, as a 500": breaks_in_the_middle("server_error"),
    "breaks off": cuts,
    "resets": resets,
}


@pytest.mark.parametrize("backend", ["openai", "sagemaker"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_no_text_of_a_caller_is_printed(
    stub: Stub,
    rows: FakeTable,
    upstream: str,
    backend: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stub.routes[UPSTREAM] = stub.routes[EMBEDDINGS] = UPSTREAMS[upstream]
    stub.routes[SAGEMAKER] = stub.routes[f"{SAGEMAKER}-response-stream"] = UPSTREAMS[upstream]
    rows.items["project#shop", "champion"]["backend"] = {"S": backend}
    statuses = set()
    for method, path, body in BODIES:
        for given in (body, planted(body)):
            text = None if given is None else json.dumps(given)
            statuses.add(sent(method, path, text).status)
    for text in (f'{{"{SECRET}', f'"{SECRET}"', f'{{"model": "{SECRET}", "messages": 5}}'):
        statuses.add(sent("POST", UPSTREAM, text).status)
    printed = "".join(capfd.readouterr())
    assert len(printed.splitlines()) == 2 * len(BODIES) + 3
    assert SECRET.lower() not in printed.lower()
    assert {200, 400, 404, 405} <= statuses


def test_no_text_of_a_caller_is_printed_where_the_registry_fails(
    stub: Stub, capfd: pytest.CaptureFixture[str]
) -> None:
    stub.routes["/"] = echoes(400)
    for method, path, body in BODIES:
        sent(method, path, json.dumps(body))
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("stub")
def test_no_text_of_a_caller_is_printed_by_a_crash(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def crash(fields: dict[str, Any], options: Any) -> None:
        raise KeyError(json.dumps(fields))

    monkeypatch.setattr(answering, "check_limits", crash)
    result = sent("POST", UPSTREAM, json.dumps(planted(CHAT)))
    assert result.status == 500
    assert SECRET not in result.text
    printed = "".join(capfd.readouterr())
    assert SECRET not in printed
    assert "KeyError in" in printed


# --- nothing breaks it ----------------------------------------------------------------------------

MUTATIONS = int(os.environ.get("FUZZ_CASES", "5000"))
SEEDS: list[tuple[str, dict[str, Any]]] = [
    (UPSTREAM, CHAT),
    (UPSTREAM, {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    (UPSTREAM, {"messages": [{"role": "user", "content": "hi"}], "n": 2, "seed": 7}),
    ("/v1/chat", {"message": "hi", "conversation": [{"role": "user", "content": "a"}]}),
    ("/v1/feedback", FEEDBACK),
    (EMBEDDINGS, {"model": "shop/embeddings", "input": ["a", "b"], "encoding_format": "base64"}),
]
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64,
    -(2**70),
    10**300,
    1e308,
    -0.0,
    0.1,
    "",
    " ",
    "\x00",
    "\u202e\u200b\ufeff",
    "😀" * 50,
    "é" * 3000,
    "A" * 20_000,
    "shop/",
    "shop/../bank",
    "shop/v1",
    "shop/champion/x",
    "//",
    "system",
    "user",
    "function",
    [],
    [[]],
    [None],
    [{}],
    {},
    {"": None},
    {"role": "user"},
    {"type": "text", "text": 5},
    {"function": None},
    [1, 2],
    ["a"] * 300,
    [{"role": "user", "content": "x"}] * 201,
]
NAMES = [
    *("model", "messages", "content", "role", "n", "stop", "tools", "stream", "seed", "user"),
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "response_format", "metadata"),
    *("stream_options", "functions", "tool_calls", "function_call", "name", "input", "dimensions"),
    *("encoding_format", "conversation", "message", "rating", "comment", "id", "unknown", ""),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value where another one can be put."""
    found: list[tuple[Any, Any]] = []
    keys = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(keys):
        found.append((value, key))
        if isinstance(inner, dict | list):
            found += places(inner)
    return found


def mutated(rng: random.Random) -> tuple[str, str]:
    """A request that was one: some values replaced, added or taken out, or its bytes damaged."""
    path, seed = rng.choice(SEEDS)
    body = copy.deepcopy(seed)
    for _ in range(rng.choice((1, 1, 2, 4))):
        spots = places(body)
        if not spots or rng.random() < 0.3:
            body[rng.choice(NAMES)] = copy.deepcopy(rng.choice(ODD))
            continue
        holder, key = rng.choice(spots)
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(ODD))
    text = json.dumps(body)
    if rng.random() < 0.15:
        at = rng.randrange(len(text) + 1)
        noise = rng.choice(("", "\\ud800", "NaN", "1e999", '"', "[" * 2000, "{", "\x00", "\\x"))
        text = text[:at] + noise + text[at + rng.randrange(5) :]
    return path, text


def test_no_mutated_request_breaks_the_function(
    stub: Stub, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(MUTATIONS)
    known = load("chat_completions")
    refused = answered = 0
    for number in range(MUTATIONS):
        path, text = mutated(rng)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            event = {**known, "path": path, "resource": path, "body": text}
            result = Result(chat.handler(event, None))
        assert result.status < 500, (number, path, text[:2000], result.text)
        if result.status == 200:
            answered += 1
        else:
            refused += 1
            assert set(result.error) == {"message", "type", "param", "code"}, text[:2000]
            assert result.error["type"] == "invalid_request_error"
        if number % 1000 == 0:
            stub.seen.clear()
            assert "AfterworkFailed" not in capfd.readouterr().out
    assert min(refused, answered) > MUTATIONS / 10


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "5",
        '"',
        "{",
        "{}",
        '{"messages": ' + "[" * 100_000,
        '{"messages": [{"role": "user", "content": "a"}], "x": ' + '{"a":' * 900 + "1" + "}" * 901,
        '{"messages": [{"role": "user", "content": "a"}], "seed": ' + "9" * 4000 + "}",
        '{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1e300}',
        "\ud800",
        "\x00",
        "a" * 300_000,
    ],
    ids=lambda body: repr(body[:40]),
)
@pytest.mark.parametrize("path", [UPSTREAM, "/v1/chat", "/v1/feedback", EMBEDDINGS])
@pytest.mark.usefixtures("stub")
def test_bombs_are_refused(path: str, body: str) -> None:
    result = invoked(path=path, resource=path, body=body)
    assert 400 <= result.status < 500
    assert result.error["message"]
