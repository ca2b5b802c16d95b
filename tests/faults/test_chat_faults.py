"""What the chat path does when models and the registry do not: faults 29, 38 and 39."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from chat_front import (
    CHUNKS,
    COMPLETION,
    DONE,
    SAGEMAKER,
    UPSTREAM,
    Result,
    allowances,
    ask,
    by_name,
    invoked,
    load,
    providers,
    served,
    shop,
    sse,
    streams,
    upstream_requests,
    waits_for_its_reader,
)
from http_stub import (
    PATIENCE,
    FakeTable,
    Respond,
    Stub,
    StubHandler,
    cuts,
    hangs,
    replies,
    resets,
    trickles,
)

from dropforge.serve import breaker
from lambdas.chat import chain, upstream
from lambdas.chat import handler as chat
from local.sagemaker.endpoints import Endpoints
from local.sagemaker.server import Server

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SHOP = "project#shop"
HASTE = 3.0
"""The deadline of a request whose model never answers; of any other it is 20 s.

What has to answer in its place has most of it, so that a busy machine is no failure.
"""
GOOD: dict[bool, Respond] = {
    False: replies(200, COMPLETION),
    True: streams(sse(*CHUNKS), DONE),
}
FIRST = sse(CHUNKS[0])
CUT = b'data: {"id": "chatcmpl-upstream-1", "choices": [{"del'


@pytest.fixture
def rows() -> FakeTable:
    return shop()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", "20")
        yield server


@pytest.fixture
def hasten(monkeypatch: pytest.MonkeyPatch, stub: Stub) -> Callable[[], None]:
    """A short deadline, of which the first model has a third."""

    def hastened() -> None:
        monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", str(HASTE))
        monkeypatch.setattr(chain, "FIRST_SHARE", 0.3)

    return hastened


def stands_in(rows: FakeTable, *choices: str, previous: str | None = None) -> None:
    """Who answers in the champion's place."""
    rows.items[SHOP, "config"]["serve"] = {"M": {"fallback": {"L": [{"S": c} for c in choices]}}}
    if previous:
        rows.items[SHOP, "champion"]["previous"] = {"S": previous}


def asked(stub: Stub) -> list[str]:
    return [request.json()["model"] for request in upstream_requests(stub)]


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    return {k: v for k, v in record.items() if k.startswith("Chat") and v == 1}


def timed(**fields: Any) -> tuple[float, Result]:
    began = time.monotonic()
    result = invoked(body=ask(**fields))
    return time.monotonic() - began, result


def ping_forever(handler: StubHandler) -> None:
    """A keep-alive now and then, so that no single read ever times out."""
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b"8\r\n: ping\n\n\r\n")
        handler.wfile.flush()


def says(length: bytes) -> Respond:
    """An answer that announces a body of such a length."""

    def respond(handler: StubHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n")
        handler.wfile.flush()

    return respond


ANSWER = json.dumps(COMPLETION).encode()
TOO_MUCH = replies(429, {"error": {"message": "slow down"}}, Retry_After="3600")
WHOLE: dict[str, tuple[Respond, int, str]] = {
    "429": (TOO_MUCH, 429, "rate_limit_exceeded"),
    "500": (replies(500, b"<html>"), 502, "upstream_error"),
    "502": (replies(502, b""), 502, "upstream_error"),
    "503": (replies(503, {"error": {}}), 502, "upstream_error"),
    "hang": (hangs, 504, "upstream_timeout"),
    "reset": (resets, 502, "upstream_error"),
    "half a body": (cuts, 502, "upstream_error"),
    "half a JSON": (replies(200, b'{"choices": [{"mess'), 502, "upstream_error"),
    "trickle": (trickles, 504, "upstream_timeout"),
    "no UTF-8": (replies(200, ANSWER.replace(b"Monday", b"Mo\xffday")), 502, "upstream_error"),
    "half of the choices": (
        replies(200, ANSWER.replace(b"}]", b"}, null]")),
        502,
        "upstream_error",
    ),
    "no call": (
        replies(200, {"choices": [{"message": {"tool_calls": [None]}}]}),
        502,
        "upstream_error",
    ),
    "endless nesting": (replies(200, b'{"choices": ' + b"[" * 100_000), 502, "upstream_error"),
    "a number of 5000 digits": (says(b"9" * 5000), 502, "upstream_error"),
}
BEFORE_THE_FIRST_CHUNK: dict[str, tuple[Respond, int, str]] = {
    **WHOLE,
    "head only": (streams(then=hangs), 504, "upstream_timeout"),
    "pings only": (streams(then=ping_forever), 504, "upstream_timeout"),
    "half a first chunk": (streams(CUT), 502, "upstream_error"),
    "reset before a chunk": (streams(b": hi\n\n", then=resets), 502, "upstream_error"),
    "error event": (streams(sse({"error": {"code": 429}})), 429, "rate_limit_exceeded"),
    "no events": (streams(DONE), 502, "upstream_error"),
    "event of no UTF-8": (streams(b'data: {"choices": "\xff"}\n\n'), 502, "upstream_error"),
    "odd index": (streams(sse({"choices": [{"index": [], "delta": {}}]})), 502, "upstream_error"),
    "no choice": (streams(sse({"choices": [None]})), 502, "upstream_error"),
}
AFTER_THE_FIRST_CHUNK: dict[str, tuple[Respond, str]] = {
    "stops": (streams(FIRST, then=hangs), "upstream_timeout"),
    "trickles": (streams(FIRST, then=ping_forever), "upstream_timeout"),
    "ends early": (streams(FIRST), "upstream_error"),
    "half a JSON": (streams(FIRST, CUT), "upstream_error"),
    "broken JSON": (streams(FIRST, CUT + b"\n\n"), "upstream_error"),
    "no UTF-8": (streams(FIRST, b'data: {"choices": "\xff"}\n\n'), "upstream_error"),
    "odd index": (streams(FIRST, sse({"choices": [{"index": {}, "delta": {}}]})), "upstream_error"),
    "reset": (streams(FIRST, then=resets), "upstream_error"),
    "error": (streams(FIRST, sse({"error": {"type": "server_error"}})), "upstream_error"),
    "throttled": (streams(FIRST, sse({"error": {"code": 429}})), "rate_limit_exceeded"),
}
BOTH_WAYS = [
    pytest.param(stream, *failure, id=f"{name}-{'stream' if stream else 'whole'}")
    for stream, failures in ((False, WHOLE), (True, BEFORE_THE_FIRST_CHUNK))
    for name, failure in failures.items()
]


# Fault 38: the model fails


@pytest.mark.parametrize(("stream", "failure", "status", "code"), BOTH_WAYS)
def test_fallback_answers_within_the_deadline(
    stub: Stub,
    rows: FakeTable,
    hasten: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    stream: bool,
    failure: Respond,
    status: int,
    code: str,
) -> None:
    if status == 504:
        hasten()
    stands_in(rows, "previous", "base", previous="v1")
    stub.routes[UPSTREAM] = by_name(v2=failure, v1=GOOD[stream], base=GOOD[stream])
    seconds, result = timed(stream=stream)
    assert seconds < PATIENCE
    assert result.status == 200
    assert asked(stub) == ["ft:shop:2", "ft:shop:1"]
    assert result.headers["x-dropforge-model"] == "shop/v1"
    assert result.headers["x-dropforge-arm"] == "fallback"
    assert result.headers["x-dropforge-fallback"] == "champion"
    assert "chatcmpl-upstream-1.v1.fallback" in result.text
    reason = {429: "Throttled", 504: "Slow"}.get(status, "Failed")
    assert metrics(capsys) == {"ChatRequests": 1, "ChatFallbacks": 1, f"Chat{reason}Fallbacks": 1}


@pytest.mark.parametrize(("stream", "failure", "status", "code"), BOTH_WAYS)
def test_without_a_fallback_the_error_is_typed_and_the_model_asked_once(
    stub: Stub,
    hasten: Callable[[], None],
    stream: bool,
    failure: Respond,
    status: int,
    code: str,
) -> None:
    if status == 504:
        hasten()
    stub.routes[UPSTREAM] = by_name(v2=failure)
    seconds, result = timed(stream=stream)
    assert seconds < PATIENCE
    assert (result.status, result.error["code"]) == (status, code)
    assert set(result.error) == {"message", "type", "param", "code"}
    assert result.headers["Content-Type"] == "application/json"
    assert asked(stub) == ["ft:shop:2"]
    assert result.headers.get("Retry-After") == ("3600" if failure is TOO_MUCH else None)


@pytest.mark.parametrize(
    ("failure", "code"), AFTER_THE_FIRST_CHUNK.values(), ids=AFTER_THE_FIRST_CHUNK
)
def test_stream_that_breaks_off_ends_with_a_typed_error_and_without_done(
    stub: Stub,
    rows: FakeTable,
    hasten: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    failure: Respond,
    code: str,
) -> None:
    if code == "upstream_timeout":
        hasten()
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=failure, base=GOOD[True])
    seconds, result = timed(stream=True)
    assert seconds < PATIENCE
    first, last = result.text.strip().split("\n\n")
    assert json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == code
    assert asked(stub) == ["ft:shop:2"], "the caller has half of an answer already"
    record = json.loads(capsys.readouterr().out)
    assert (record["ChatErrors"], record["code"]) == (1, code)


@pytest.mark.parametrize("stream", [False, True])
def test_slow_stream_is_no_failure(
    stub: Stub, rows: FakeTable, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """The parts take more than the champion's second to begin; the first comes at once."""
    monkeypatch.setattr(chain, "FIRST_SHARE", 0.05)
    stands_in(rows, "base")
    parts = [sse(chunk) for chunk in CHUNKS]
    stub.routes[UPSTREAM] = by_name(v2=streams(*parts, DONE, pause=0.4) if stream else GOOD[False])
    _, result = timed(stream=stream)
    assert (result.status, result.headers["x-dropforge-arm"]) == (200, "champion")
    assert not stream or result.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_the_caller_did_wrong_is_asked_of_nobody_else(
    stub: Stub, rows: FakeTable, stream: bool, status: int
) -> None:
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=replies(status, {"error": {"message": "Too long."}}))
    for _ in range(breaker.FAILURES + 2):
        _, result = timed(stream=stream)
        assert (result.status, result.error["message"]) == (400, "Too long.")
    assert set(asked(stub)) == {"ft:shop:2"}
    assert len(asked(stub)) == breaker.FAILURES + 2, "and it is no sign of a model that is down"


@pytest.mark.parametrize("name", ["shop/v1", "shop/base", "shop/champion"])
def test_model_that_was_named_is_never_replaced(stub: Stub, rows: FakeTable, name: str) -> None:
    stands_in(rows, "previous", "base", previous="v1")
    stub.routes[UPSTREAM] = replies(500, b"")
    _, result = timed(model=name)
    assert result.status == 502
    assert len(asked(stub)) == 1


@pytest.mark.parametrize(
    ("champion", "other", "status", "retry_after", "model"),
    [
        (replies(500, b""), replies(503, b""), 502, None, "shop/v2"),
        (replies(500, b""), hangs, 502, None, "shop/v2"),
        (hangs, replies(500, b""), 504, None, "shop/v2"),
        (replies(500, b""), replies(400, {"error": {"message": "no tools"}}), 502, None, "shop/v2"),
        (replies(500, b""), replies(429, b"", Retry_After="7"), 429, "7", "shop/base"),
        (TOO_MUCH, replies(500, b""), 429, "3600", "shop/v2"),
        (TOO_MUCH, replies(429, b"", Retry_After="7"), 429, "7", "shop/base"),
        (replies(429, b"", Retry_After="7"), TOO_MUCH, 429, "7", "shop/v2"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_where_neither_answers_the_more_useful_error_is_told(
    stub: Stub,
    rows: FakeTable,
    hasten: Callable[[], None],
    stream: bool,
    champion: Respond,
    other: Respond,
    status: int,
    retry_after: str | None,
    model: str,
) -> None:
    if hangs in (champion, other):
        hasten()
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=champion, base=other)
    seconds, result = timed(stream=stream)
    assert seconds < PATIENCE
    assert result.status == status
    assert result.headers.get("Retry-After") == retry_after
    assert result.headers["x-dropforge-model"] == model
    assert asked(stub) == ["ft:shop:2", "smollm2"]


def test_second_of_the_others_is_asked_where_the_first_is_the_same_model(
    stub: Stub, rows: FakeTable
) -> None:
    stands_in(rows, "previous", "base", previous="v1")
    rows.items[SHOP, "model#v1"]["model_id"] = {"S": "ft:shop:2"}
    stub.routes[UPSTREAM] = by_name(v2=replies(500, b""), base=GOOD[False])
    assert timed()[1].headers["x-dropforge-model"] == "shop/base"


def test_model_named_in_the_settings_answers_as_fallback(stub: Stub, rows: FakeTable) -> None:
    other = {"M": {"backend": {"S": "openai"}, "model": {"S": "smollm2"}}}
    rows.items[SHOP, "config"]["serve"] = {"M": {"fallback": {"L": [other]}}}
    stub.routes[UPSTREAM] = by_name(v2=resets, base=GOOD[False])
    _, result = timed()
    assert result.json()["model"] == "shop/fallback"
    assert result.json()["id"] == "chatcmpl-upstream-1.fallback.fallback"


# A model that keeps failing is left alone


@pytest.mark.parametrize("stream", [False, True])
def test_model_that_keeps_failing_is_not_asked_and_the_other_answers(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=replies(500, b""), base=GOOD[stream])
    for _ in range(30):
        _, result = timed(stream=stream)
        assert (result.status, result.headers["x-dropforge-arm"]) == (200, "fallback")
        assert metrics(capsys)["ChatFallbacks"] == 1
    assert asked(stub).count("ft:shop:2") == breaker.FAILURES
    assert asked(stub).count("smollm2") == 30


def test_stream_that_breaks_off_again_and_again_opens_the_breaker_too(
    stub: Stub, rows: FakeTable
) -> None:
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=streams(FIRST), base=GOOD[True])
    arms = [timed(stream=True)[1].headers["x-dropforge-arm"] for _ in range(breaker.FAILURES + 3)]
    assert arms == ["champion"] * breaker.FAILURES + ["fallback"] * 3


def test_retry_after_is_kept_for_a_minute_at_most_and_told_to_who_has_no_fallback(
    stub: Stub, rows: FakeTable
) -> None:
    stub.routes[UPSTREAM] = by_name(v2=TOO_MUCH)
    told = [timed()[1].headers["Retry-After"] for _ in range(3)]
    assert told[0] == "3600"
    assert all(55 <= int(seconds) <= 60 for seconds in told[1:])
    assert len(asked(stub)) == 1


@pytest.mark.parametrize(
    "told",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 99 Jan 2024 99:99:99 GMT",
        "nan",
        "soon",
    ],
)
def test_retry_after_that_says_no_time_is_none(stub: Stub, rows: FakeTable, told: str) -> None:
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=replies(429, b"", Retry_After=told), base=GOOD[False])
    assert timed()[1].headers["x-dropforge-arm"] == "fallback"


@pytest.mark.parametrize("text", [b"caf\xe9", b"[" * 100_000, b'"\xff'])
def test_refusal_that_cannot_be_read_is_a_refusal_all_the_same(
    stub: Stub, rows: FakeTable, text: bytes
) -> None:
    stub.routes[UPSTREAM] = replies(400, b'{"error": {"message": "' + text + b'"}}')
    _, result = timed()
    assert (result.status, result.error["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("key", ["sk-a\nsk-b", "sk-\u20ac", "sk-a\0b", "sk-a\r\nHost: b"])
def test_key_that_fits_into_no_header_is_told_without_its_text(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    rows.secret = key
    for stream in (False, True):
        _, result = timed(stream=stream)
        assert (result.status, result.error["code"]) == (503, "unavailable")
        assert "sk-" not in result.text + capsys.readouterr().out
    assert asked(stub) == []


def test_three_timeouts_in_a_row_open_the_breaker(
    stub: Stub, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "FIRST_SHARE", 0.02)
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=hangs, base=GOOD[False])
    for _ in range(5):
        assert timed()[1].headers["x-dropforge-arm"] == "fallback"
    assert asked(stub).count("ft:shop:2") == 3


def probed(stub: Stub) -> None:
    """Makes the champion's breaker half open: the next request is the probe."""
    stub.routes[UPSTREAM] = replies(500, b"")
    for _ in range(breaker.FAILURES):
        assert timed()[1].status == 502
    assert timed()[1].status == 502
    assert len(asked(stub)) == breaker.FAILURES
    (found,) = chat._front()._answering._chain._breakers.values()
    found._open_until = time.monotonic()


def test_probe_whose_caller_hangs_up_has_found_the_model_well(stub: Stub) -> None:
    probed(stub)
    stub.routes[UPSTREAM] = GOOD[True]
    event = {**load("chat_completions"), "body": json.dumps(ask(stream=True))}
    response = chat.handler(event, None)
    parts = response.parts()
    assert next(iter(parts)).startswith(b"data: ")
    parts.close()  # type: ignore[union-attr]
    response.finish()
    stub.routes[UPSTREAM] = GOOD[False]
    assert [timed()[1].status for _ in range(3)] == [200] * 3


def test_probe_that_crashes_is_a_failure(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(body: bytes) -> Any:
        raise KeyError("nobody foresaw it")

    probed(stub)
    stub.routes[UPSTREAM] = GOOD[False]
    with monkeypatch.context() as patch:
        patch.setattr(upstream, "completion", crash)
        _, result = timed()
    assert (result.status, result.error["code"]) == (502, "upstream_error")
    assert float(timed()[1].headers["Retry-After"]) <= 2 * breaker.OPEN_SECONDS
    assert len(asked(stub)) == breaker.FAILURES + 1


def test_crash_over_an_answer_is_the_fallbacks_to_answer(
    stub: Stub,
    rows: FakeTable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever a server wrote that nobody foresaw; the log says where it was met."""
    whole = upstream.completion

    def crash_once(body: bytes) -> Any:
        monkeypatch.setattr(upstream, "completion", whole)
        raise KeyError("4111")

    monkeypatch.setattr(upstream, "completion", crash_once)
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = GOOD[False]
    assert timed()[1].headers["x-dropforge-arm"] == "fallback"
    stands_in(rows)
    chat._front.cache_clear()
    monkeypatch.setattr(upstream, "completion", crash_once)
    capsys.readouterr()
    assert timed()[1].status == 502
    record = json.loads(capsys.readouterr().out)
    assert record["cause"].startswith("KeyError in ")
    assert "4111" not in str(record)


def test_model_that_came_back_answers_again(
    stub: Stub, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 600.0)
    stands_in(rows, "base")
    stub.routes[UPSTREAM] = by_name(v2=resets, base=GOOD[False])
    for _ in range(breaker.FAILURES + 1):
        assert timed()[1].status == 200
    stub.routes[UPSTREAM] = GOOD[False]
    assert timed()[1].headers["x-dropforge-arm"] == "fallback"
    breakers = chat._front()._answering._chain._breakers
    breakers["openai", "ft:shop:2"]._open_until = time.monotonic()
    assert timed()[1].headers["x-dropforge-arm"] == "champion"


def test_spent_budget_tells_failures_at_once(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every third request fails: too few for the breaker, more than may be asked twice."""
    stands_in(rows, "base")
    results = []
    for number in range(90):
        failing = number % 3 == 0
        v2 = replies(500, b"") if failing else GOOD[False]
        stub.routes[UPSTREAM] = by_name(v2=v2, base=GOOD[False])
        results.append((failing, timed()[1].status))
        spent = "ChatRetriesSpent" in metrics(capsys)
        assert spent == (results[-1][1] == 502)
    statuses = [status for failing, status in results if failing]
    assert statuses[:10] == [200] * 10
    assert 502 in statuses
    assert len(asked(stub)) <= 90 * (1 + breaker.RETRY_SHARE) + breaker.MOST_RETRIES + 1


def test_soak_with_a_model_that_fails_at_random(
    stub: Stub,
    rows: FakeTable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(breaker, "OPEN_SECONDS", 0.001)  # of the time of a request or two
    monkeypatch.setattr(breaker, "LONGEST_SECONDS", 0.004)
    stands_in(rows, "previous", "base", previous="v1")
    dice = random.Random(20261123)
    full = replies(429, b"", Retry_After="0.002")
    broken = [replies(500, b""), full, resets, cuts, replies(200, b"half a {"), streams(CUT)]
    shares = {"ft:shop:2": 0.4, "ft:shop:1": 0.3, "smollm2": 0.2}

    def answer(handler: StubHandler) -> None:
        request = handler.request_seen.json()
        failing = dice.random() < shares[request["model"]]
        (dice.choice(broken) if failing else GOOD[bool(request.get("stream"))])(handler)

    stub.routes[UPSTREAM] = answer
    n, began = 600, time.monotonic()
    statuses = [timed(stream=number % 2 == 0)[1].status for number in range(n)]
    spent = time.monotonic() - began
    budget = breaker.MOST_RETRIES + breaker.RETRY_SHARE * n + breaker.RETRIES_PER_SECOND * spent
    assert len(asked(stub)) <= n + budget
    assert set(statuses) <= {200, 429, 502}
    assert statuses.count(200) > 0.6 * n, "more than the champion alone"
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bugs = [line for line in logged if line["status"] == 500 or "AfterworkFailed" in line]
    assert not bugs
    stub.routes[UPSTREAM] = lambda h: GOOD[bool(h.request_seen.json().get("stream"))](h)
    time.sleep(0.25)
    healed = [timed()[1].headers["x-dropforge-arm"] for _ in range(3)]
    assert healed == ["champion"] * 3


# Fault 29: the registry is throttled or silent

SLOW = [
    pytest.param(hangs, id="hangs"),
    pytest.param(replies(500, b""), id="500"),
    pytest.param(
        replies(400, {"__type": "x#ProvisionedThroughputExceededException"}), id="throttled"
    ),
    pytest.param(resets, id="resets"),
]


def forget(store: Any) -> None:
    """Every item that the store remembers has to be read again."""
    store._known = {key: (0.0, value) for key, (_, value) in store._known.items()}


@pytest.mark.parametrize("trouble", SLOW)
def test_warm_container_answers_from_memory_after_150_ms(
    stub: Stub, rows: FakeTable, monkeypatch: pytest.MonkeyPatch, trouble: Respond
) -> None:
    """One read is tried, for so long; what follows is answered from what was known."""
    assert timed()[1].status == 200
    told = allowances(monkeypatch)
    for _ in range(2):
        forget(chat._front()._store)
        chat._front()._store._trouble_until = 0.0
        stub.routes["/"] = trouble
        told.clear()
        seconds, result = timed()
        assert result.status == 200
        assert 1 <= sum(about == "GetItem" for about, _ in told) <= 2, "sent again at the most"
        assert all(allowed <= 0.15 for about, allowed in told if about == "GetItem")
        assert seconds < PATIENCE


def test_who_knows_nothing_yet_is_told_to_come_again(stub: Stub) -> None:
    stub.routes["/"] = hangs
    result = invoked(body=ask())
    assert (result.status, result.error["code"]) == (503, "unavailable")
    assert result.headers["Retry-After"] == "2"


def test_fallback_whose_version_cannot_be_read_is_left_out(stub: Stub, rows: FakeTable) -> None:
    """`previous` has to be looked up; `base` stands in the settings, which are known."""
    stands_in(rows, "previous", "base", previous="v1")
    stub.routes[UPSTREAM] = by_name(v2=GOOD[False])
    assert timed()[1].status == 200
    forget(chat._front()._store)
    stub.routes["/"] = hangs
    stub.routes[UPSTREAM] = by_name(v2=replies(500, b""), base=GOOD[False])
    seconds, result = timed()
    assert result.headers["x-dropforge-model"] == "shop/base"
    assert seconds < PATIENCE


# Fault 39: the endpoint has no copy


def on_sagemaker(rows: FakeTable) -> None:
    rows.items[SHOP, "champion"] |= {"backend": {"S": "sagemaker"}, "model_id": {"S": "base"}}
    stands_in(rows, "previous", "base")


NO_CAPACITY = replies(400, {"Message": "no capacity"}, x_amzn_ErrorType="ValidationError")


@pytest.mark.parametrize("stream", [False, True])
def test_sleeping_endpoint_is_woken_once_while_the_fallback_answers(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str], stream: bool
) -> None:
    on_sagemaker(rows)
    path = SAGEMAKER + ("-response-stream" if stream else "")
    stub.routes |= {path: NO_CAPACITY, UPSTREAM: by_name(base=GOOD[stream])}
    for _ in range(20):
        _, result = timed(stream=stream)
        assert (result.status, result.headers["x-dropforge-model"]) == (200, "shop/base")
        assert metrics(capsys) == {"ChatRequests": 1, "ChatColdFallbacks": 1}
    assert len(upstream_requests(stub, path)) == 1
    assert len(asked(stub)) == 20


def test_components_of_the_endpoint_sleep_together(stub: Stub, rows: FakeTable) -> None:
    on_sagemaker(rows)
    stands_in(rows, "previous", "base", previous="v1")
    rows.items[SHOP, "model#v1"] |= {"backend": {"S": "sagemaker"}, "model_id": {"S": "df-1"}}
    stub.routes |= {SAGEMAKER: NO_CAPACITY, UPSTREAM: by_name(base=GOOD[False])}
    assert timed()[1].headers["x-dropforge-model"] == "shop/base"
    assert len(upstream_requests(stub, SAGEMAKER)) == 1


def test_without_a_fallback_a_sleeping_endpoint_is_a_503_that_says_when(
    stub: Stub, rows: FakeTable
) -> None:
    on_sagemaker(rows)
    stands_in(rows)
    stub.routes[SAGEMAKER] = NO_CAPACITY
    for _ in range(5):
        _, result = timed()
        assert (result.status, result.error["code"]) == (503, "unavailable")
        assert 0 < int(result.headers["Retry-After"]) <= 30
    assert len(upstream_requests(stub, SAGEMAKER)) == 1


@pytest.fixture
def stand_in(stub: Stub, tmp_path: Path) -> Iterator[tuple[str, Endpoints]]:
    """The SageMaker stand-in itself, in front of the stub as its model server."""
    nothing: Any = None
    endpoints = Endpoints(tmp_path, nothing, stub.url, "smollm2")
    endpoints.copies._wake_seconds = 0.5
    endpoints.create_endpoint({"EndpointName": "dropforge", "EndpointConfigName": "any"})
    endpoints.create_component(
        {
            "InferenceComponentName": "base",
            "EndpointName": "dropforge",
            "RuntimeConfig": {"CopyCount": 0},
        }
    )

    class NoTraining:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

    training: Any = NoTraining()
    config = uvicorn.Config(Server(training, endpoints, training).app(), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", endpoints
    server.should_exit = True
    thread.join(5)


@pytest.mark.parametrize("stream", [False, True])
def test_endpoint_of_the_stand_in_wakes_and_answers(
    stub: Stub,
    rows: FakeTable,
    stand_in: tuple[str, Endpoints],
    monkeypatch: pytest.MonkeyPatch,
    stream: bool,
) -> None:
    monkeypatch.setattr("lambdas.chat.chain.COLD_SECONDS", 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", stand_in[0])
    monkeypatch.setenv("DROPFORGE_PROVIDERS", providers(f"{stub.url}/other"))
    on_sagemaker(rows)
    stub.routes |= {UPSTREAM: GOOD[stream], "/other/chat/completions": GOOD[stream]}
    arms = []
    until = time.monotonic() + 60
    while "champion" not in arms and time.monotonic() < until:
        _, result = timed(stream=stream)
        assert result.status == 200
        assert "ships on Monday" in result.text
        arms.append(result.headers["x-dropforge-arm"])
        time.sleep(0.05)
    assert arms[0] == "fallback"
    assert arms[-1] == "champion"
    record = stand_in[1].describe_component({"InferenceComponentName": "base"})
    assert record["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}


def test_chunks_of_the_stand_in_come_when_the_model_writes_them(
    stub: Stub, rows: FakeTable, stand_in: tuple[str, Endpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", stand_in[0])
    on_sagemaker(rows)
    wake(stand_in[1])
    taken = threading.Semaphore(0)
    stub.routes[UPSTREAM] = waits_for_its_reader(taken, [sse(chunk) for chunk in CHUNKS])
    event = {"body": json.dumps(ask(stream=True))}
    response = chat.handler({**load("chat_completions"), **event}, None)
    came = []
    for part in response.parts():
        came.append(part)
        taken.release()
    response.finish()
    assert came[-1].endswith(b"data: [DONE]\n\n"), "gathered on the way"


def wake(endpoints: Endpoints) -> None:
    """Gives the base component a copy, and waits for it."""
    update = {"InferenceComponentName": "base", "DesiredRuntimeConfig": {"CopyCount": 1}}
    endpoints.copies.update(update)
    record = endpoints.describe_component
    while not record({"InferenceComponentName": "base"})["RuntimeConfig"]["CurrentCopyCount"]:
        time.sleep(0.01)


def test_stand_in_tells_a_model_server_that_breaks_off(
    stub: Stub, rows: FakeTable, stand_in: tuple[str, Endpoints], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", stand_in[0])
    on_sagemaker(rows)
    wake(stand_in[1])
    stub.routes[UPSTREAM] = streams(FIRST, then=resets)
    _, result = timed(stream=True)
    assert json.loads(result.text.split("\n\n")[-2].removeprefix("data: "))["error"]["code"] == (
        "upstream_error"
    )
