"""Streams through the chat function: each part at once, and what becomes of the connection."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from chat_front import (
    CHUNKS,
    COMPLETION,
    DONE,
    SAGEMAKER,
    UPSTREAM,
    ask,
    by_name,
    invoked,
    load,
    sse,
    streams,
    upstream_requests,
    waits_for_its_reader,
)
from http_stub import PATIENCE, FakeTable, Respond, Stub, StubHandler, hangs, replies

from dropforge.backends import connection as http
from dropforge.serve.arms import rated
from dropforge.serve.streams import Assembly
from lambdas.chat import handler as chat
from local.sagemaker.eventstream import CONTENT_TYPE, model_stream_error, payload_part

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

PARTS = [sse(chunk) for chunk in CHUNKS]


def begun(**fields: Any) -> tuple[chat.Response, Iterator[bytes]]:
    event = {**load("chat_completions"), "body": json.dumps(ask(stream=True, **fields))}
    response = chat.handler(event, None)
    return response, response.parts()


def deltas(text: str) -> str:
    blocks = [b for b in text.strip().split("\n\n") if b != "data: [DONE]"]
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def test_parts_come_when_the_model_writes_them(stub: Stub) -> None:
    """The head with the first of them: the model goes on when that has been read."""
    taken = threading.Semaphore(0)
    stub.routes[UPSTREAM] = waits_for_its_reader(taken, PARTS)
    response, parts = begun()
    came = []
    for part in parts:
        came.append(part)
        taken.release()
    response.finish()
    assert len(came) > 2
    assert came[-1].endswith(b"data: [DONE]\n\n")


def test_pieces_of_a_chunk_are_not_given_before_it_is_whole(stub: Stub) -> None:
    text = b"".join([*PARTS, DONE])
    stub.routes[UPSTREAM] = streams(*(text[n : n + 40] for n in range(0, len(text), 40)))
    result = invoked(body=ask(stream=True))
    assert deltas(result.text) == "It ships on Monday."
    assert result.text.endswith("data: [DONE]\n\n")


def test_stream_that_was_read_keeps_the_connection(stub: Stub) -> None:
    stub.routes[UPSTREAM] = streams(*PARTS, DONE)
    for _ in range(3):
        assert invoked(body=ask(stream=True)).text.endswith("[DONE]\n\n")
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    assert invoked().status == 200
    assert stub.connections == 3, "the table's, the secrets', the model's"


def test_server_that_never_ends_its_stream_is_not_waited_for(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", "20")
    stub.routes[UPSTREAM] = streams(*PARTS, DONE, then=hangs)
    began = time.monotonic()
    assert invoked(body=ask(stream=True)).text.endswith("[DONE]\n\n")
    assert time.monotonic() - began < PATIENCE
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    assert invoked().status == 200
    assert stub.connections == 4, "another for the model"


def test_caller_who_hangs_up_hangs_up_on_the_model(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    gone: list[bool] = []

    def write_on(handler: StubHandler) -> None:
        try:
            for _ in range(200):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(PARTS[1]), PARTS[1]))
                time.sleep(0.01)
        except OSError:
            gone.append(True)
        handler.close_connection = True

    stub.routes[UPSTREAM] = streams(PARTS[0], then=write_on)
    response, parts = begun()
    next(parts), next(parts)
    parts.close()  # type: ignore[attr-defined]
    response.finish()
    until = time.monotonic() + 2
    while not gone and time.monotonic() < until:
        time.sleep(0.01)
    assert gone
    record = json.loads(capsys.readouterr().out)
    assert (record["status"], record["ChatErrors"]) == (200, 0)
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    assert invoked().status == 200


@pytest.mark.parametrize("read", [False, True])
def test_stream_whose_first_byte_cannot_be_sent_is_closed(
    stub: Stub, capsys: pytest.CaptureFixture[str], read: bool
) -> None:
    """The connection to the model is not to be found with half of an answer in it."""
    stub.routes[UPSTREAM] = streams(PARTS[0], then=hangs)
    response, parts = begun()
    if read:
        parts.close()  # type: ignore[attr-defined]
    else:  # the runtime could not connect, and asked for no part
        del parts
    (kept,) = chat._front()._answering._chain._upstream._hosted.values()
    assert kept._socket is not None
    response.finish()
    assert kept._socket is None
    line = json.loads(capsys.readouterr().out)
    assert (line["CallerHungUp"], line["ChatErrors"]) == (1, 0)
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    assert invoked().status == 200


def test_crash_under_way_is_told_as_an_event_and_its_place_to_the_log(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Assembly.add

    def crash(self: Assembly, chunk: dict[str, Any]) -> None:
        if chunk == CHUNKS[1]:
            raise KeyError("4111 1111 1111 1111")
        add(self, chunk)

    monkeypatch.setattr(Assembly, "add", crash)
    stub.routes[UPSTREAM] = streams(*PARTS, DONE)
    result = invoked(body=ask(stream=True))
    first, last = result.text.strip().split("\n\n")
    assert json.loads(first[6:])["choices"][0]["delta"]["role"] == "assistant"
    error = json.loads(last[6:])["error"]
    assert (error["code"], error["type"]) == ("internal_error", "server_error")
    line = json.loads(capsys.readouterr().out)
    assert (line["code"], line["ChatErrors"]) == ("internal_error", 1)
    assert line["cause"].startswith("KeyError in ")
    assert "4111" not in result.text + str(line)


def test_stream_without_done_that_lacks_a_choice_is_not_whole(stub: Stub) -> None:
    stub.routes[UPSTREAM] = streams(*PARTS)
    assert invoked(body=ask(stream=True)).text.endswith("[DONE]\n\n")
    result = invoked(body=ask(stream=True, n=2))
    assert json.loads(result.text.split("\n\n")[-2][6:])["error"]["code"] == "upstream_error"
    stub.routes[UPSTREAM] = streams(*PARTS, DONE)
    assert invoked(body=ask(stream=True, n=2)).text.endswith("[DONE]\n\n")


def test_more_than_an_answer_may_have_is_an_error(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER_BYTES", 5_000)
    stub.routes[UPSTREAM] = streams(PARTS[0], *[PARTS[1]] * 100, DONE)
    result = invoked(body=ask(stream=True))
    assert 1_000 < len(result.text) < 6_000
    assert json.loads(result.text.split("\n\n")[-2][6:])["error"]["code"] == "upstream_error"


def test_error_event_of_a_stream_says_nothing_of_what_the_server_said(
    stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"error": {"message": "4111 1111 1111 1111 is no order", "type": "server_error"}}
    stub.routes[UPSTREAM] = streams(PARTS[0], sse(said))
    result = invoked(body=ask(stream=True))
    assert "4111" not in result.text + capsys.readouterr().out


# SageMaker


def framed(*frames: bytes) -> Respond:
    def respond(handler: StubHandler) -> None:
        body = b"".join(frames)
        handler.send_response(200)
        handler.send_header("Content-Type", CONTENT_TYPE)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


@pytest.fixture
def component(rows: FakeTable) -> None:
    rows.items["project#shop", "champion"] |= {
        "backend": {"S": "sagemaker"},
        "model_id": {"S": "dropforge-shop-2"},
    }


@pytest.mark.usefixtures("component")
def test_component_streams_in_frames_cut_anywhere(stub: Stub) -> None:
    text = b"".join([*PARTS, DONE])
    frames = [payload_part(text[n : n + 33]) for n in range(0, len(text), 33)]
    stub.routes[SAGEMAKER + "-response-stream"] = framed(*frames)
    result = invoked(body=ask(stream=True))
    assert deltas(result.text) == "It ships on Monday."
    (request,) = upstream_requests(stub, SAGEMAKER + "-response-stream")
    assert request.headers["x-amzn-sagemaker-inference-component"] == "dropforge-shop-2"
    assert request.json()["stream"] is True
    assert "AWS4-HMAC-SHA256" in request.headers["authorization"]


@pytest.mark.usefixtures("component")
def test_component_that_does_not_stream_answers_all_the_same(stub: Stub) -> None:
    whole = payload_part(json.dumps(COMPLETION).encode())
    stub.routes[SAGEMAKER + "-response-stream"] = framed(whole)
    assert deltas(invoked(body=ask(stream=True)).text) == "It ships on Monday."


@pytest.mark.usefixtures("component")
@pytest.mark.parametrize(
    ("last", "code"),
    [
        (model_stream_error("gone", "StreamBroken"), "upstream_error"),
        (model_stream_error("late", "ModelInvocationTimeExceeded"), "upstream_timeout"),
        (payload_part(PARTS[1])[:-3], "upstream_error"),
        (payload_part(PARTS[1])[:-3] + b"xyz", "upstream_error"),
    ],
)
def test_components_stream_that_breaks_off_is_typed(stub: Stub, last: bytes, code: str) -> None:
    stub.routes[SAGEMAKER + "-response-stream"] = framed(payload_part(PARTS[0]), last)
    result = invoked(body=ask(stream=True))
    assert json.loads(result.text.split("\n\n")[-2][6:])["error"]["code"] == code


@pytest.mark.usefixtures("component")
@pytest.mark.parametrize("stream", [False, True])
def test_containers_refusal_is_the_callers(stub: Stub, stream: bool) -> None:
    error = {"error": {"message": "Too long.", "param": "messages", "code": "context_length"}}
    told = {"OriginalStatusCode": 400, "OriginalMessage": json.dumps(error), "Message": "x"}
    refused = replies(424, told, x_amzn_ErrorType="ModelError")
    stub.routes |= {SAGEMAKER: refused, SAGEMAKER + "-response-stream": refused}
    result = invoked(body=ask(stream=stream))
    assert (result.status, result.error["message"]) == (400, "Too long.")


# A canary's numbers


def in_canary(rows: FakeTable, share: str) -> None:
    rows.items["project#shop", "champion"]["canary"] = {
        "M": {
            "id": {"N": "7"},
            "version": {"S": "v3"},
            "backend": {"S": "openai"},
            "model_id": {"S": "ft:shop:3"},
            "share": {"N": share},
            "step": {"N": "1"},
        }
    }


@pytest.mark.parametrize("stream", [False, True])
def test_fallbacks_answer_counts_for_no_arm_and_its_rating_neither(
    stub: Stub, rows: FakeTable, stream: bool
) -> None:
    in_canary(rows, "0")
    rows.items["project#shop", "config"]["serve"] = {"M": {"fallback": {"L": [{"S": "base"}]}}}
    good = streams(*PARTS, DONE) if stream else replies(200, COMPLETION)
    stub.routes[UPSTREAM] = by_name(v2=replies(500, b""), base=good)
    result = invoked(body=ask(stream=stream))
    answer = "chatcmpl-upstream-1.base.fallback"
    assert answer in result.text
    item = rows.items["project#shop", "arm#000007#01#champion"]
    assert {k: v["N"] for k, v in item.items() if "N" in v and v["N"] != "0"} == {
        "requests": "1",
        "errors": "1",
    }
    assert rated(answer) == ("base", "fallback")
    assert invoked("feedback", body={"id": answer, "rating": 1}).status == 200
    assert rows.items["project#shop", f"feedback#base#{answer}"]["arm"] == {"S": "fallback"}


def test_challenger_that_is_left_alone_is_counted_as_one_that_fails(
    stub: Stub, rows: FakeTable
) -> None:
    in_canary(rows, "1")
    stub.routes[UPSTREAM] = by_name(v3=replies(500, b""), v2=replies(200, COMPLETION))
    for _ in range(8):
        result = invoked()
        assert (result.status, result.headers["x-dropforge-arm"]) == (200, "champion")
    models = [request.json()["model"] for request in upstream_requests(stub)]
    assert models.count("ft:shop:3") == 5
    item = rows.items["project#shop", "arm#000007#01#challenger"]
    assert (item["requests"], item["errors"]) == ({"N": "8"}, {"N": "8"})
    assert ("project#shop", "arm#000007#01#champion") not in rows.items


def test_streams_time_is_the_one_to_its_first_chunk(stub: Stub, rows: FakeTable) -> None:
    """A stream of 0.9 s in all: longer than the half of 1.5 s that an arm has to begin."""
    in_canary(rows, "0")
    stub.routes[UPSTREAM] = streams(*PARTS, DONE, pause=0.18)
    assert invoked(body=ask(stream=True)).text.endswith("[DONE]\n\n")
    item = rows.items["project#shop", "arm#000007#01#champion"]
    assert (item["requests"], item["errors"]) == ({"N": "1"}, {"N": "0"})
