"""What the chat function sends away as training data, and what it never does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from chat_front import CANARY, COMPLETION, UPSTREAM, ask, invoked, served, shop
from http_stub import FakeTable, Respond, Stub, StubHandler, cuts, replies
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve import ChatError, UpstreamError
from dropforge.serve.collecting import (
    Answered,
    is_drawn,
    is_plain,
    pseudonym,
    said,
    user_pseudonym,
    whole_answer,
)
from dropforge.serve.options import CollectOptions, ServeOptions
from dropforge.serve.routing import Route
from lambdas.chat.collecting import Collector
from lambdas.chat.edge import CacheState, Call
from lambdas.chat.exchange import Exchange

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

QUEUE = "/000000000000/collect"
PROMPT = "You answer for Lumen."
COLLECTS = {"share": {"N": "1"}, "unrated": {"BOOL": False}}
CHAMPION = Route("shop", "v2", "champion", "openai", "ft:shop:2")
OTHER = Route("shop", "v1", "champion", "openai", "ft:shop:1")


@pytest.fixture
def rows() -> FakeTable:
    """The shop of the chat function's tests, which collects."""
    rows = shop()
    rows.items["project#shop", "config"]["collect"] = {"M": COLLECTS}
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_COLLECT_QUEUE", f"{server.url}{QUEUE}")
        yield server


def kept(rows: FakeTable) -> list[Answered]:
    return [msgspec.json.decode(body, type=Answered) for url, body in rows.messages]


def streams(*events: bytes) -> Respond:
    """The events of a stream, which then ends."""

    def respond(handler: StubHandler) -> None:
        handler.reply(200, b"".join(events), Content_Type="text/event-stream")

    return respond


def streamed(*finish: str) -> list[bytes]:
    parts: list[dict[str, Any]] = [{"content": "It ships "}, {"content": "on Monday."}]
    lines = [
        {"id": "chatcmpl-s", "choices": [{"index": 0, "delta": d, "finish_reason": None}]}
        for d in parts
    ]
    for reason in finish:
        done = {"index": 0, "delta": {}, "finish_reason": reason}
        lines.append({"id": "chatcmpl-s", "choices": [done]})
    return [b"data: " + json.dumps(line).encode() + b"\n\n" for line in lines]


# --- through the function


def test_answer_of_the_champion_is_sent_under_the_callers_id_with_what_is_needed_alone(
    stub: Stub, rows: FakeTable
) -> None:
    messages = [
        {"role": "system", "content": PROMPT},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Which order?"},
        {"role": "user", "content": [{"type": "text", "text": CANARY}]},
    ]
    result = invoked(body=ask(messages=messages, user="ada@example.com", temperature=0.5))
    (answer,) = kept(rows)
    assert answer.id == result.json()["id"] == "chatcmpl-upstream-1.v2.champion"
    assert [(t.role, t.content) for t in answer.turns] == [
        ("user", "Hi"),
        ("assistant", "Which order?"),
        ("user", CANARY),
    ]
    assert answer.answer == "It ships on Monday."
    assert answer.user == user_pseudonym("shop", "ada@example.com")
    (sent,) = rows.messages
    assert set(json.loads(sent[1])) == set(Answered.__struct_fields__)
    assert "ada@example" not in sent[1]
    assert PROMPT not in sent[1]


def test_streamed_answer_is_sent_whole_under_the_id_of_its_chunks(
    stub: Stub, rows: FakeTable
) -> None:
    stub.routes[UPSTREAM] = streams(*streamed("stop"), b"data: [DONE]\n\n")
    result = invoked(body=ask(stream=True))
    (answer,) = kept(rows)
    assert answer.answer == "It ships on Monday."
    assert f'"id":"{answer.id}"' in result.text.replace(" ", "")


@pytest.mark.parametrize("ends", [streamed(), streamed("length")])
def test_stream_that_was_cut_off_is_not_sent(
    stub: Stub, rows: FakeTable, ends: list[bytes]
) -> None:
    stub.routes[UPSTREAM] = streams(*ends)
    invoked(body=ask(stream=True))
    assert rows.messages == []


def test_simple_chat_tells_its_user_to_deletion_and_to_nobody_else(
    stub: Stub, rows: FakeTable
) -> None:
    invoked("chat", body={"message": "Hi", "model": "shop", "user": "ada"})
    assert [answer.user for answer in kept(rows)] == [user_pseudonym("shop", "ada")]


def test_project_that_does_not_collect_sends_nothing(stub: Stub, rows: FakeTable) -> None:
    del rows.items["project#shop", "config"]["collect"]
    assert invoked(body=ask()).status == 200
    assert rows.messages == []


@pytest.mark.parametrize("model", ["shop/base", "shop/v1", "shop/v2"])
def test_what_was_asked_of_another_model_than_the_champion_is_not_sent(
    stub: Stub, rows: FakeTable, model: str
) -> None:
    rows.items["project#shop", "config"]["base_model_id"] = {"S": "small"}
    assert invoked(body=ask(model=model)).status == 200
    assert rows.messages == []


@pytest.mark.parametrize("answers_itself", [True, False])
def test_neither_the_challenger_nor_who_answers_for_it_is_learned_from(
    stub: Stub, rows: FakeTable, answers_itself: bool
) -> None:
    canary = {
        "id": {"N": "7"},
        "version": {"S": "v3"},
        "backend": {"S": "openai"},
        "model_id": {"S": "ft:shop:3"},
        "share": {"N": "1"},
    }
    rows.items["project#shop", "champion"]["canary"] = {"M": canary}
    if not answers_itself:

        def respond(handler: Any) -> None:
            failed = handler.request_seen.json()["model"] == "ft:shop:3"
            handler.reply(500 if failed else 200, b"" if failed else COMPLETION)

        stub.routes[UPSTREAM] = respond
    result = invoked(body=ask())
    assert result.headers["x-dropforge-arm"] == ("challenger" if answers_itself else "champion")
    assert rows.messages == []


@pytest.mark.parametrize("failure", [replies(500, b""), replies(400, {"error": {}}), cuts])
def test_error_is_not_sent(stub: Stub, rows: FakeTable, failure: Any) -> None:
    stub.routes[UPSTREAM] = failure
    assert invoked(body=ask()).status >= 400
    assert rows.messages == []


def test_rating_goes_to_the_registry_and_not_to_the_queue(stub: Stub, rows: FakeTable) -> None:
    answer = invoked(body=ask()).json()["id"]
    rows.messages.clear()
    assert invoked("feedback", body={"id": answer, "rating": 1}).status == 200
    assert rows.messages == []
    assert rows.items["project#shop", f"feedback#v2#{answer}"]["rating"] == {"N": "1"}


def test_queue_that_fails_costs_the_caller_nothing_and_is_counted(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    def throttled(request: dict[str, Any]) -> tuple[int, Any]:
        return 400, {"__type": "ThrottlingException", "message": CANARY}

    rows.send_message = throttled  # type: ignore[method-assign]
    assert invoked(body=ask()).status == 200
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["CollectFailed"] == 1
    assert "4111" not in line


# --- one exchange


class Sent:
    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send(self, body: str, *, deadline: float) -> None:
        self.bodies.append(body)


def exchange(**changes: Any) -> Exchange:
    event = {"httpMethod": "POST", "path": "/v1/chat/completions", "requestContext": {}}
    call = Call.from_event(event, None, 5)
    call.project = "shop"
    values: dict[str, Any] = {
        "call": call,
        "fields": {"messages": [{"role": "user", "content": "Where is it?"}]},
        "asked": CHAMPION,
        "options": ServeOptions(),
        "collect": CollectOptions(),
        "prompt": None,
        "stream": False,
        "route": CHAMPION,
        "completion": COMPLETION,
        **changes,
    }
    return Exchange(**values)


def sent(monkeypatch: pytest.MonkeyPatch, given: Exchange) -> list[str]:
    collector, queue = Collector("http://queue"), Sent()
    monkeypatch.setattr(collector, "_queue", queue)
    collector.keep(given)
    return queue.bodies


@pytest.mark.parametrize("cache", ["off", "miss", "hit", "semantic"])
def test_answer_from_the_cache_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, cache: CacheState
) -> None:
    assert len(sent(monkeypatch, exchange(cache=cache))) == (cache in ("off", "miss"))


@pytest.mark.parametrize(
    ("asked", "route"),
    [
        (CHAMPION, OTHER),  # its predecessor
        (CHAMPION, msgspec.structs.replace(CHAMPION, replaces="challenger")),
        (CHAMPION, msgspec.structs.replace(CHAMPION, arm="base")),
        (msgspec.structs.replace(CHAMPION, arm="challenger"), CHAMPION),
        (msgspec.structs.replace(CHAMPION, arm="pinned"), CHAMPION),
    ],
)
def test_only_the_champion_in_its_own_place_is_sent(
    monkeypatch: pytest.MonkeyPatch, asked: Route, route: Route
) -> None:
    assert sent(monkeypatch, exchange(asked=asked, route=route)) == []


@pytest.mark.parametrize(
    ("arm", "version", "count"),
    [("ensemble", "v2", 1), ("ensemble", "v1", 0), ("ensemble", "base", 0), ("champion", "v2", 0)],
)
def test_of_an_ensemble_only_the_champions_own_answer_is_sent(
    monkeypatch: pytest.MonkeyPatch, arm: Any, version: str, count: int
) -> None:
    """The last: no model of the ensemble answered, and somebody else did."""
    given = exchange(route=msgspec.structs.replace(CHAMPION, arm=arm, version=version))
    given.call.metrics["EnsembleAsked"] = 3
    assert len(sent(monkeypatch, given)) == count


def choice(**changes: Any) -> dict[str, Any]:
    return {"choices": [{**COMPLETION["choices"][0], **changes}]}  # type: ignore[index]


def message(**changes: Any) -> dict[str, Any]:
    return choice(message={"role": "assistant", "content": "It ships.", **changes})


@pytest.mark.parametrize(
    "completion",
    [
        None,
        {},
        {"choices": []},
        {"choices": [choice()["choices"][0]] * 2},
        choice(finish_reason="length"),
        choice(finish_reason="content_filter"),
        choice(finish_reason="tool_calls"),
        choice(finish_reason=None),
        message(content=None),
        message(content=" "),
        message(content=["It ships."]),
        message(tool_calls=[{"id": "1"}]),
        message(function_call={"name": "f"}),
        message(refusal="No."),
        choice(message="It ships."),
    ],
)
def test_what_is_no_whole_answer_in_words_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, completion: dict[str, Any] | None
) -> None:
    assert sent(monkeypatch, exchange(completion=completion)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function"}]},
        {"functions": [{"name": "f"}]},
        {"n": 2},
        {"stop": ["\n"]},
        {"response_format": {"type": "json_object"}},
        {"response_format": "text"},
        {"guided_regex": "Refunds do not exist\\."},
        {"structured_outputs": {"regex": "x"}},
        {"logit_bias": {"100": 100}},
        {"prediction": {"type": "content", "content": "No."}},
        {"frequency_penalty": 2},
        {"a_field_of_tomorrow": False},
    ],
)
def test_request_for_something_else_than_the_models_own_words_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    given = exchange()
    given.fields |= fields
    assert not is_plain(given.fields, None)
    assert sent(monkeypatch, given) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"temperature": 0.7, "top_p": 0.9, "seed": 7, "n": 1, "max_completion_tokens": 99},
        {"metadata": {"conversation_id": "c"}, "safety_identifier": "s", "store": False},
        {"prompt_cache_key": "p", "response_format": {"type": "text"}, "tools": None},
    ],
)
def test_fields_that_leave_the_words_to_the_model_keep_no_answer_out(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    given = exchange()
    given.fields |= fields
    assert len(sent(monkeypatch, given)) == 1


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize(
    ("content", "prompt", "count"),
    [
        (PROMPT, PROMPT, 1),
        ([{"type": "text", "text": PROMPT}], PROMPT, 1),
        ("Say that refunds do not exist.", PROMPT, 0),
        ("Say that refunds do not exist.", None, 0),
        (f"{PROMPT} Say that refunds do not exist.", PROMPT, 0),
        ([{"type": "text", "text": PROMPT}, {"type": "image_url"}], PROMPT, 0),
        (None, PROMPT, 0),
        ([{"type": "text", "text": "Say no."}, {"type": "image_url"}], None, 0),
    ],
)
def test_what_a_caller_told_the_model_to_say_is_not_learned(
    monkeypatch: pytest.MonkeyPatch, role: str, content: Any, prompt: str | None, count: int
) -> None:
    asked = {"role": "user", "content": "Can I get a refund?"}
    messages = [{"role": role, "content": content}, asked]
    given = exchange(fields={"messages": messages}, prompt=prompt)
    assert len(sent(monkeypatch, given)) == count
    late = exchange(fields={"messages": [asked, *messages]}, prompt=prompt)
    assert len(sent(monkeypatch, late)) == count


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "42"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}],
        [{"role": "assistant", "content": "Hi"}],
        [{"role": "system", "content": "Hi"}],
    ],
)
def test_chat_that_is_not_in_words_or_does_not_end_with_the_customer_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, messages: list[dict[str, Any]]
) -> None:
    assert said(messages) == ()
    assert sent(monkeypatch, exchange(fields={"messages": messages})) == []


def test_interrupted_answer_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    error: ChatError = UpstreamError("It stopped.")
    assert sent(monkeypatch, exchange(error=error)) == []


def test_answer_that_no_message_holds_is_counted_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = exchange(completion=message(content="ab " * 100_000))
    assert sent(monkeypatch, given) == []
    assert given.call.metrics == {"CollectTooLong": 1}


# --- the share


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_share_of_the_conversations_is_drawn(share: float) -> None:
    """Within five standard errors; none of 0, all of 1."""
    n = 10_000
    drawn = sum(is_drawn(pseudonym(str(number)), share) for number in range(n))
    assert abs(drawn / n - share) <= 5 * (share * (1 - share) / n) ** 0.5


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_is_drawn_stays_drawn_while_the_share_grows(text: str, one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert is_drawn(text, low) <= is_drawn(text, high)


def test_conversation_is_drawn_as_a_whole(stub: Stub, rows: FakeTable) -> None:
    collects = {**COLLECTS, "share": {"N": "0.5"}}
    rows.items["project#shop", "config"]["collect"] = {"M": collects}
    drawn = 0
    for number in range(40):
        rows.messages.clear()
        first = {"role": "user", "content": f"Where is order {number}?"}
        more = [{"role": "assistant", "content": "Soon."}, {"role": "user", "content": "When?"}]
        invoked(body=ask(messages=[first]))
        invoked(body=ask(messages=[first, *more]))
        assert len(rows.messages) in (0, 2)
        assert len({answer.conversation for answer in kept(rows)}) <= 1
        drawn += bool(rows.messages)
    assert 5 < drawn < 35


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "finish_reason", "tool_calls"]), v
            )
        ),
    )
)
def test_nothing_that_a_server_says_breaks_the_look_at_it(value: Any) -> None:
    whole_answer({"choices": value})
    whole_answer({"choices": [value]})
    whole_answer({"choices": [{"finish_reason": "stop", "message": value}]})
    whole_answer({"choices": [{"finish_reason": "stop", "message": {"content": value}}]})
