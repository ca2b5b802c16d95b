"""Server-sent events, held against the rules' own examples and against another parser."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from chat_front import CHUNKS, COMPLETION, DONE, sse
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from dropforge.serve import (
    InvalidRequestError,
    UpstreamError,
    UpstreamRateLimitError,
)
from dropforge.serve.events import Event, EventParser
from dropforge.serve.streams import Assembly, completion
from lambdas.chat.incoming import read_chunks


def events(*parts: bytes) -> list[Event]:
    parser = EventParser()
    return [event for part in parts for event in parser.feed(part)]


@pytest.mark.parametrize(
    ("stream", "data"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n",
         [b"first event", b"second event"]),
        (b"data\n\ndata\ndata\n\ndata:", [b"", b"\n"]),
        (b"data:test\n\ndata: test\n\n", [b"test", b"test"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\n: ping\n\n", []),
        (b"data: half", []),
    ],
)  # fmt: skip
def test_examples_of_the_rules(stream: bytes, data: list[bytes]) -> None:
    assert [event.data for event in events(stream)] == data
    assert [event.data for event in events(*(bytes([b]) for b in stream))] == data


def test_event_comes_with_its_last_byte() -> None:
    parser = EventParser()
    assert parser.feed(b"event: error\ndata: x\n") == []
    assert parser.feed(b"\n") == [Event(b"error", b"x")]
    assert parser.feed(b"data: y\r\n\r") == [Event(b"message", b"y")]
    assert parser.feed(b"\ndata: z\r\n\r\n") == [Event(b"message", b"z")]


LINES = st.lists(
    st.sampled_from([b"data: a", b"data:b", b"data", b": c", b"event: error", b"", b"id: 1", b"x"]),
    max_size=30,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 200), max_size=8))
def test_events_are_openais_clients_however_the_bytes_are_cut(
    lines: list[bytes], end: bytes, cuts: list[int]
) -> None:
    stream = b"".join(line + end for line in lines)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[a:b] for a, b in itertools.pairwise(places)]
    told = list(
        SSEDecoder().iter_bytes(iter([stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")]))
    )
    expected = [((e.event or "message"), e.data) for e in told if e.data or e.event is None]
    found = [(e.kind.decode(), e.data.decode()) for e in events(*parts)]
    assert [e for e in found if e[1]] == [e for e in expected if e[1]]


def assembled(*parts: bytes) -> dict[str, Any]:
    assembly = Assembly()
    for chunk in read_chunks(parts):
        assembly.add(chunk)
    return assembly.completion()


@given(st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_stream_cut_anywhere_is_the_same_answer(cuts: list[int], crlf: bool) -> None:
    stream = b": hello\n\n" + sse(*CHUNKS) + DONE
    if crlf:
        stream = stream.replace(b"\n", b"\r\n")
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    whole = assembled(*(stream[a:b] for a, b in itertools.pairwise(places)))
    assert whole["choices"][0]["message"]["content"] == "It ships on Monday."
    assert whole["usage"] == COMPLETION["usage"]


def test_what_else_a_message_has_is_joined_too() -> None:
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "refusal": None, "reasoning_content": "Let me "},
        {"reasoning_content": "see.", "annotations": []},
        {"content": "Yes", "annotations": [{"type": "url_citation"}]},
        {"content": ".", "refusal": "I may "},
        {"refusal": "not."},
    ]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": d}]} for d in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert assembled(sse(*chunks))["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Yes.",
        "reasoning_content": "Let me see.",
        "annotations": [[{"type": "url_citation"}]],
        "refusal": "I may not.",
    }


def test_what_comes_after_the_end_is_not_waited_for() -> None:
    def parts() -> Any:
        yield sse(*CHUNKS) + DONE
        raise AssertionError("read on")

    assert len(list(read_chunks(parts()))) == len(CHUNKS)


def test_whole_completion_in_place_of_a_stream_is_told_as_chunks() -> None:
    text = json.dumps(COMPLETION).encode()
    assert assembled(b" ", text[:5], text[5:])["choices"][0]["finish_reason"] == "stop"


def test_stream_without_done_is_whole_where_every_choice_is_finished() -> None:
    assert assembled(sse(*CHUNKS))["usage"] == COMPLETION["usage"]
    late = {"choices": [{"index": 0, "delta": {}, "content_filter_results": {}}]}
    assert assembled(sse(*CHUNKS, late))["choices"][0]["finish_reason"] == "stop"


def test_stream_without_done_lacks_a_choice_that_was_asked_for() -> None:
    second = {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}
    with pytest.raises(UpstreamError):
        list(read_chunks([sse(*CHUNKS)], 2))
    assert len(list(read_chunks([sse(*CHUNKS, second)], 2))) == len(CHUNKS) + 1
    assert len(list(read_chunks([sse(*CHUNKS) + DONE], 2))) == len(CHUNKS)


WHOLE = COMPLETION["choices"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(COMPLETION).encode().replace(b"Monday", b"Mo\xffday"),
        json.dumps({**COMPLETION, "choices": [WHOLE, None]}).encode(),
        json.dumps({**COMPLETION, "choices": [WHOLE, {"message": "text"}]}).encode(),
        b'{"choices": [{"message": {"tool_calls": [null]}}]}',
        b'{"choices": [{"message": {"tool_calls": {"a": 1}}}]}',
        b'{"choices": [[]]}', b'{"choices": {"a": 1}}', b'{"choices": "text"}', b'{"choices": []}',
        b'{"choices": ' + b"[" * 100_000, b"\xff", b"null",
    ],
    ids=lambda body: repr(body[:40]),
)  # fmt: skip
def test_what_is_no_completion_is_an_upstream_error(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        completion(body)
    with pytest.raises(UpstreamError):
        list(read_chunks([body]))


@pytest.mark.parametrize(
    "stream",
    [
        b"", b"\n\n", b"<html>", b": ping\n\n", sse(CHUNKS[0]), sse(*CHUNKS[:2]),
        sse(CHUNKS[0]) + b'data: {"choices": [{"de\n\n', sse(CHUNKS[0]) + b'data: {"choi',
        b"data: 7\n\n", b"data: {}\n\n", b'data: {"choices": 7}\n\n', b"\xff\xfe\n\n", b"{", b"{}",
        b"data: " + b"[" * 100_000 + b"\n\n", b"event: error\ndata: {}\n\n",
        b'data: {"choices": [{"delta": {"content": "Mo\xffday"}}]}\n\n',
        b'data: {"choices": [null]}\n\n', b'data: {"choices": [{"index": []}]}\n\n',
        b'data: {"choices": [{"index": {}}]}\n\n', b'data: {"error": "\xff"}\n\n',
        sse(CHUNKS[0], {"error": {"message": "CUDA out of memory", "type": "server_error"}}),
    ],
)  # fmt: skip
def test_stream_that_is_none_or_half_of_one_is_an_upstream_error(stream: bytes) -> None:
    with pytest.raises(UpstreamError):
        list(read_chunks([stream]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "rate_limit_error", "message": "slow down"}, UpstreamRateLimitError),
        ({"code": 429}, UpstreamRateLimitError),
        ({"type": "invalid_request_error", "message": "Too long.", "code": "context_length"},
         InvalidRequestError),
        ({"type": "BadRequestError", "code": 400, "message": "Too long."}, InvalidRequestError),
        ({"code": None, "message": 7}, UpstreamError),
        ("text", UpstreamError),
    ],
)  # fmt: skip
def test_error_in_the_stream_is_typed(error: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        list(read_chunks([sse({"error": error})]))
