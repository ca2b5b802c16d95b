from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from cache_table import CACHE_TABLE, CacheTable
from chat_front import (
    COMPLETION,
    UPSTREAM,
    Result,
    allowances,
    ask,
    invoked,
    load,
    served,
    shop,
    upstream_requests,
)
from http_stub import Stub, chunks, hangs, replies

from lambdas.chat import cache as cache_module
from lambdas.chat import edge

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture
def rows() -> CacheTable:
    return CacheTable(shop())


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: CacheTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_CACHE_TABLE", CACHE_TABLE)
        yield server


def asked(body: Any = None, *, token: str = "", headers: Any = None, **fields: Any) -> Result:
    """A chat completion of the shop; another token's with `token`."""
    context = load("chat_completions")["requestContext"]
    if token:
        context["authorizer"]["token_id"] = token
    changes: dict[str, Any] = {"requestContext": {**context, "requestId": _new_id()}}
    if headers:
        changes["headers"] = headers
    return invoked(body=body or ask(**fields), **changes)


def _new_id() -> str:
    return f"{time.monotonic_ns():032x}"


def state(result: Result) -> str:
    return result.headers["x-dropforge-cache"]


def rated(answer: str, rating: int = -1, token: str = "") -> Result:
    event = load("chat_completions")
    if token:
        event["requestContext"]["authorizer"]["token_id"] = token
    about = {"path": "/v1/feedback", "resource": "/v1/feedback"}
    return invoked(
        body={"id": answer, "rating": rating}, requestContext=event["requestContext"], **about
    )


def test_the_same_request_is_answered_again_without_the_model(stub: Stub) -> None:
    first, again = asked(), asked()

    assert (state(first), state(again)) == ("miss", "hit")
    assert len(upstream_requests(stub)) == 1
    assert again.json()["choices"] == first.json()["choices"]
    assert again.json()["id"] != first.json()["id"]
    assert again.headers["x-dropforge-model"] == "shop/v2"


def test_stream_and_whole_share_an_answer(stub: Stub) -> None:
    asked()
    streamed = asked(stream=True)

    assert state(streamed) == "hit"
    assert "It ships on Monday." in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


def test_order_of_fields_null_and_defaults_make_no_difference(stub: Stub) -> None:
    asked(temperature=0)
    messages = ask()["messages"]
    again = asked({"n": 1, "messages": messages, "temperature": 0.0, "seed": None, "model": "shop"})

    assert state(again) == "hit"


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.5},
        {"user": "ben"},
        {"safety_identifier": "ben"},
        {"metadata": {"user": "ben"}},
        {"max_tokens": 10},
        {"model": "shop/v1"},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "Other."}, *ask()["messages"]]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_another_request_is_asked_of_the_model(stub: Stub, other: dict[str, Any]) -> None:
    asked()

    assert state(asked(**other)) == "miss"


def test_another_token_of_the_project_finds_nothing(stub: Stub) -> None:
    asked()

    assert state(asked(token="another")) == "miss"


def test_end_users_of_v1_chat_are_told_apart(stub: Stub) -> None:
    about = {"path": "/v1/chat", "resource": "/v1/chat"}
    states = [
        state(invoked(body={"message": "Where is my order?", "user": user}, **about))
        for user in ("ann", "ben", "ann")
    ]

    assert states == ["miss", "miss", "hit"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "look"}}]},
        {"n": 2},
        {"functions": [{"name": "look"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_requests_that_may_do_something_are_never_cached(stub: Stub, fields: Any) -> None:
    assert [state(asked(**fields)) for _ in range(2)] == ["off", "off"]


@pytest.mark.parametrize(
    "choice",
    [
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
        {"message": {"role": "assistant", "content": ""}},
        {"message": {"role": "assistant", "content": None, "refusal": "No."}},
        {"message": {"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}},
    ],
    ids=["length", "filter", "empty", "refusal", "tool"],
)
def test_an_answer_that_is_not_whole_is_not_kept(
    stub: Stub, rows: CacheTable, choice: dict[str, Any]
) -> None:
    changed = {**COMPLETION["choices"][0], **choice}  # type: ignore[index]
    stub.routes[UPSTREAM] = replies(200, {**COMPLETION, "choices": [changed]})
    asked()

    assert not rows.answers


def test_a_stream_that_stops_is_not_kept(stub: Stub, rows: CacheTable) -> None:
    part = {"id": "c", "choices": [{"index": 0, "delta": {"content": "It ships"}}]}
    stub.routes[UPSTREAM] = chunks(b"data: " + json.dumps(part).encode() + b"\n\n")
    asked(stream=True)

    assert not rows.answers


def test_cache_control_of_the_caller_is_obeyed(stub: Stub, rows: CacheTable) -> None:
    assert state(asked(headers={"Cache-Control": "no-store"})) == "off"
    assert not rows.answers
    asked()

    assert state(asked(headers={"cache-control": "No-Cache"})) == "miss"
    assert len(upstream_requests(stub)) == 3


def test_promotion_and_rollback_are_other_answers(
    stub: Stub, rows: CacheTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked()
    states = []
    for version in ("v1", "v2"):
        champion = rows.items["project#shop", "champion"]
        champion["version"] = {"S": version}
        champion["model_id"] = {"S": f"ft:shop:{version[1:]}"}
        _forget_champion()
        states.append(state(asked()))

    assert states == ["miss", "hit"]


def _forget_champion() -> None:
    """As after the two seconds for which a container remembers it."""
    from lambdas.chat import handler as chat

    chat._front()._store._known.clear()


def test_an_old_answer_is_not_given_though_it_is_still_there(
    stub: Stub, rows: CacheTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked()
    now = time.time()
    monkeypatch.setattr(edge.time, "time", lambda: now + 24 * 3600 + 1)

    assert rows.of("answer#")
    assert state(asked()) == "miss"


def test_a_project_can_turn_it_off(stub: Stub, rows: CacheTable) -> None:
    off = {"M": {"cache": {"M": {"exact": {"BOOL": False}}}}}
    rows.items["project#shop", "config"]["serve"] = off

    assert [state(asked()) for _ in range(2)] == ["off", "off"]
    assert not rows.calls


def test_without_a_table_nothing_is_cached(
    stub: Stub, rows: CacheTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DROPFORGE_CACHE_TABLE")

    assert [state(asked()) for _ in range(2)] == ["off", "off"]


def test_a_canarys_requests_are_asked_of_the_models(stub: Stub, rows: CacheTable) -> None:
    asked()
    rows.items["project#shop", "champion"]["canary"] = {
        "M": {
            "id": {"N": "7"},
            "version": {"S": "v1"},
            "backend": {"S": "openai"},
            "model_id": {"S": "ft:shop:1"},
            "share": {"N": "0"},
        }
    }
    _forget_champion()

    assert state(asked()) == "miss"
    assert state(asked(model="shop/champion")) == "hit"


@pytest.mark.parametrize("of_the_hit", [True, False])
def test_a_bad_rating_evicts_and_blocks(stub: Stub, rows: CacheTable, of_the_hit: bool) -> None:
    first, again = asked().json()["id"], asked().json()["id"]
    assert rated(again if of_the_hit else first).status == 200

    assert [state(asked()) for _ in range(3)] == ["miss"] * 3
    assert all("body" not in item for item in rows.of("answer#"))


def test_a_bad_rating_by_another_token_evicts_nothing(stub: Stub) -> None:
    asked()
    again = asked().json()["id"]
    rated(again, token="another")

    assert state(asked()) == "hit"


def test_a_good_rating_evicts_nothing(stub: Stub) -> None:
    rated(asked().json()["id"], rating=1)

    assert state(asked()) == "hit"


def test_a_table_that_fails_is_a_miss_and_then_left_alone(
    stub: Stub, rows: CacheTable, capsys: pytest.CaptureFixture[str]
) -> None:
    rows.failing = "ProvisionedThroughputExceededException"

    assert [state(asked()) for _ in range(3)] == ["miss"] * 3
    assert rows.calls.count("GetItem") == 1
    assert '"CacheReadFailed":1' in capsys.readouterr().out


def test_a_table_that_hangs_costs_150_ms_once(
    stub: Stub, rows: CacheTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked()
    answers = rows.__class__.__call__

    def slow(handler: Any) -> None:
        if handler.request_seen.json().get("TableName") == CACHE_TABLE:
            hangs(handler)
        else:
            answers(rows, handler)

    stub.routes["/"] = slow
    told = allowances(monkeypatch)
    result = asked(temperature=1)

    assert state(result) == "miss"
    assert result.status == 200
    reads = [allowed for about, allowed in told if about == "GetItem"]
    writes = [allowed for about, allowed in told if about in ("PutItem", "UpdateItem")]
    assert reads
    assert max(reads) <= cache_module.READ_SECONDS
    assert max(writes, default=0.0) <= cache_module.WRITE_SECONDS


def test_no_entry_holds_the_question_or_its_key(stub: Stub, rows: CacheTable) -> None:
    asked()
    [entry] = rows.of("answer#")

    assert set(entry) == {"pk", "sk", "holder", "at", "expires_at", "body", "code"}
    assert len(entry["pk"]["S"]) == len("answer#") + 32


def test_the_log_tells_the_kind_and_no_text(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    asked()
    asked()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [line["cache"] for line in lines] == ["miss", "hit"]
    assert [line.get("CacheHits", 0) for line in lines] == [0, 1]
    assert "4111" not in json.dumps(lines)
    assert "Monday" not in json.dumps(lines)


def test_an_edited_copied_or_broken_entry_is_a_miss(stub: Stub, rows: CacheTable) -> None:
    asked()
    [entry] = rows.of("answer#")
    key = entry["pk"]["S"], "answer"
    for name, value in (
        ("body", {"B": "e30="}),
        ("code", {"B": "AAAA"}),
        ("expires_at", {"N": "99999999999"}),
        ("at", {"S": "now"}),
        ("body", {"S": "text"}),
    ):
        rows.answers[key] = {**deepcopy(entry), name: value}
        result = asked()
        assert (state(result), result.status) == ("miss", 200), name
