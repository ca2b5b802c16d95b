from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from chat_front import ask, invoked, shop, upstream_requests
from chat_options import serve
from http_stub import FakeTable, Stub

from dropforge.serve import (
    MAX_DEPTH,
    ChatRequest,
    EmbeddingRequest,
    InvalidRequestError,
    parse,
)
from dropforge.serve.limits import (
    check_embedding_limits,
    check_limits,
    estimated_tokens,
    squeezed,
)
from dropforge.serve.options import ServeOptions

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

COUNTED = json.loads((Path(__file__).parent / "token_counts.json").read_text())
"""Texts, and their tokens in OpenAI's encodings, counted with the package bpe-openai 0.1.4."""
TEXTS = {row["kind"]: row["text"] for row in COUNTED}

ERRORS = {  # of the estimate, against o200k_base: the least and the most that is promised
    "english": (-0.02, 0.02),
    "german": (-0.02, 0.02),
    "russian": (-0.02, 0.02),
    "chinese": (-0.3, 0),
    "japanese": (-0.3, 0),
    "korean": (-0.3, 0),
    "arabic": (-0.3, 0),
    "hindi": (-0.3, 0),
    "thai": (-0.32, 0),
    "python": (-0.3, 0),
    "typescript": (-0.3, 0),
    "json schema": (-0.3, 0),
    "emoji": (-0.3, 0),
    "digits": (-0.55, 0),
    "base64": (-0.7, 0),
    "indented": (-0.6, 0.02),
    "spaces": (-0.6, 2),
    "repeated": (-0.6, 0.02),
}


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: row["kind"])
def test_estimate_errs_downwards_and_not_far(row: dict[str, Any]) -> None:
    low, high = ERRORS[row["kind"]]
    plain = ("indented", "spaces", "repeated")
    text = squeezed(row["text"]) if row["kind"] in plain else row["text"]
    assert low <= estimated_tokens(text) / row["o200k"] - 1 <= high
    assert estimated_tokens(text) <= row["cl100k"] * (1 + max(high, 0.02))


def test_estimate_is_fast_and_takes_any_text() -> None:
    text = TEXTS["chinese"] * 1000
    began = time.process_time()
    estimated_tokens(text)
    assert time.process_time() - began < 1
    for odd in ("", "\ud800", "\x00", "\U0010ffff", "é" * 10):
        assert 0 <= estimated_tokens(odd) <= 10
    began = time.process_time()
    for hostile in (" " * 260_000, "ab" * 130_000, "  a" * 80_000, "a" * 7 + "b" * 260_000):
        squeezed(hostile)
    assert time.process_time() - began < 1


def taken(options: ServeOptions | None = None, **fields: Any) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()
    check_limits(parse(body, ChatRequest)[1], options or ServeOptions())


def refused(options: ServeOptions | None = None, **fields: Any) -> dict[str, Any]:
    with pytest.raises(InvalidRequestError) as refusal:
        taken(options, **fields)
    error: dict[str, Any] = refusal.value.body()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def said(content: Any, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **fields}]


SMALL = ServeOptions(max_input_tokens=200, max_output_tokens=50)
LONG = TEXTS["english"]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": said(LONG)},
        {"messages": said([{"type": "text", "text": LONG}])},
        {"messages": said([{"type": "text", "text": "a"}, {"type": "text", "text": LONG}])},
        {"messages": said("a") * 70},
        {"messages": said(None, tool_calls=[{"function": {"name": "f", "arguments": LONG}}])},
        {"messages": said([{"type": "image_url", "image_url": {"url": "data:;base64,A"}}] * 3)},
        {"tools": [{"type": "function", "function": {"name": "f", "description": LONG}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"description": LONG}}},
    ],
)
def test_too_long_input_is_refused_in_openais_words(fields: dict[str, Any]) -> None:
    error = refused(SMALL, **fields)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error["message"].startswith("This model's maximum context length is 200 tokens.")
    taken(ServeOptions(max_input_tokens=400), **fields)


def test_runs_of_one_character_are_not_refused() -> None:
    taken(SMALL, messages=said("a" + " " * 2000 + "b" + "-" * 300 + "\n" * 500))
    assert refused(SMALL, messages=said("a" * 4000))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_too_many_tokens_asked_for(name: str) -> None:
    asked: dict[str, Any] = {name: 50}
    taken(SMALL, **asked)
    error = refused(SMALL, **{**asked, name: 51})
    assert (error["param"], error["code"]) == (name, "invalid_value")
    assert "at most 50 completion tokens" in error["message"]
    assert refused(SMALL, **{**asked, name: 10**200})["param"] == name


@pytest.mark.parametrize(
    ("name", "most", "entry"),
    [("stop", 4, "x"), ("tools", 128, {"type": "function"}), ("functions", 128, {"name": "f"})],
)
def test_long_lists_are_refused(name: str, most: int, entry: Any) -> None:
    taken(ServeOptions(), **{name: [entry] * most})
    error = refused(ServeOptions(), **{name: [entry] * (most + 1)})
    assert (error["param"], error["code"]) == (name, "array_above_max_length")
    assert f"maximum length {most}, but got an array with length {most + 1}" in error["message"]


def test_metadata_has_at_most_16_properties() -> None:
    taken(metadata={str(n): "v" for n in range(16)})
    assert refused(metadata={str(n): "v" for n in range(17)})["param"] == "metadata"


@pytest.mark.parametrize("n", [0, 9])
def test_number_of_choices(n: int) -> None:
    assert refused(n=n)["param"] == "n"


def test_depth_is_limited_and_many_brackets_are_not() -> None:
    def nested(depth: int) -> bytes:
        deep = "[" * depth + "]" * depth
        return b'{"messages":[{"role":"user","content":"[[[["}],"x":' + deep.encode() + b"}"

    parse(nested(MAX_DEPTH - 1), ChatRequest)
    for depth in (MAX_DEPTH, 500, 100_000):
        with pytest.raises(InvalidRequestError):
            parse(nested(depth), ChatRequest)
    parse(json.dumps({"messages": said("[" * 5000), "x": [[]] * 500}).encode(), ChatRequest)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([], True),
        ("", True),
        (["a", ""], True),
        ([[]], True),
        (["a", 1], True),
        ([1, [2]], True),
        (["a"] * 257, True),
        ([[1]] * 257, True),
        ([LONG] * 3, True),
        ([5] * 201, True),
        ([[5] * 101] * 2, True),
        ("a", False),
        (["a"] * 256, False),
        ([0, 5, 7], False),
        ([5] * 200, False),
        ([[5] * 100] * 2, False),
    ],
)
def test_embedding_inputs(given: Any, wrong: bool) -> None:
    request = parse(json.dumps({"input": given}).encode(), EmbeddingRequest)[0]
    if not wrong:
        check_embedding_limits(request, SMALL)
        return
    with pytest.raises(InvalidRequestError) as refusal:
        check_embedding_limits(request, SMALL)
    assert refusal.value.param == "input"


# --- through the handler ------------------------------------------------------------------------


@pytest.fixture
def rows() -> FakeTable:
    rows = shop()
    serve(rows, max_input_tokens=200, max_output_tokens=50)
    return rows


def test_a_projects_limits_hold_before_any_model_is_asked(stub: Stub) -> None:
    for fields in ({"messages": said(LONG)}, {"max_tokens": 51}, {"stop": list("abcde")}):
        result = invoked(body=ask(**fields))
        assert result.status == 400
        assert set(result.error) == {"message", "type", "param", "code"}
    assert invoked("chat", body={"message": LONG}).error["code"] == "context_length_exceeded"
    assert upstream_requests(stub) == []
    assert invoked(body=ask(max_tokens=50, stop=list("abcd"))).status == 200
