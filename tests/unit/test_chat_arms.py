"""What a canary does to the chat path: who answers, what is counted, and what it never costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from math import sqrt
from typing import Any

import pytest
from chat_front import (
    CANARY,
    CHUNKS,
    COMPLETION,
    DONE,
    UPSTREAM,
    Invoke,
    allowances,
    ask,
    load,
    served,
    sse,
    streams,
    upstream_requests,
)
from http_stub import FakeTable, Respond, Stub, StubHandler, cuts, hangs, replies, resets
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve.arms import Asker, Challenger, Sticky, Tally, answer_id, feedback_key, rated
from dropforge.serve.streams import Assembly
from lambdas.chat import answering
from lambdas.chat import handler as chat
from lambdas.chat.budget import Budgets

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SHOP = "project#shop"
STEP = "arm#000007#01#"
SHADOWED = "arm#000007#shadow#"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_SHADOW_QUEUE", f"{server.url}/000000000000/shadow")
        yield server


def tries(rows: FakeTable, *, share: str = "0", shadow: bool = False, **more: Any) -> None:
    """A canary of v3 in the champion's item, as the pointer has it."""
    canary = {
        "id": {"N": "7"},
        "version": {"S": "v3"},
        "backend": {"S": "openai"},
        "model_id": {"S": "ft:shop:3"},
        "share": {"N": share},
        "shadow": {"BOOL": shadow},
        "step": {"N": "-1" if shadow else "1"},
        "step_at": {"N": "1795435100.25"},
        "started_at": {"N": "1795435100"},
        "run_id": {"S": "r1"},
        "slow_seconds": {"N": "10"},
        "sticky": {"S": "user"},
        **more,
    }
    rows.items[SHOP, "champion"]["canary"] = {"M": canary}


def by_model(**answers: Respond) -> Respond:
    """Each model answers in its own way: v3 is `ft:shop:3`; others as always."""

    def respond(handler: StubHandler) -> None:
        version = "v" + handler.request_seen.json()["model"].rpartition(":")[2]
        answers.get(version, replies(200, COMPLETION))(handler)

    return respond


def counted(rows: FakeTable, sk: str) -> dict[str, int] | None:
    item = rows.items.get((SHOP, sk))
    return item and {k: int(v["N"]) for k, v in item.items() if "N" in v and v["N"] != "0"}


def counters(rows: FakeTable) -> set[str]:
    return {sk for _, sk in rows.items if sk.startswith("arm#")}


def without_time(numbers: dict[str, int] | None) -> dict[str, int]:
    return {name: n for name, n in (numbers or {}).items() if name != "milliseconds"}


def asked(stub: Stub) -> list[str]:
    return [request.json()["model"] for request in upstream_requests(stub)]


def writes(stub: Stub) -> list[str]:
    targets = (r.headers.get("x-amz-target", "") for r in stub.seen)
    return [t for t in targets if "UpdateItem" in t or "SendMessage" in t]


# Who answers


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("sticky", ["user", "conversation"])
def test_share_of_the_subjects_is_kept(share: float, sticky: Sticky) -> None:
    """Five standard errors of a binomial share: one seeded draw in two million is outside."""
    n = 10_000
    for canary in range(1, 6):
        tried = Challenger(canary, "v3", "openai", "m", share=share)
        hits = 0
        for number in range(n):
            messages = [{"role": "user", "content": f"Where is order {number}?"}]
            fields = {"messages": messages, "user": f"user-{number}"}
            hits += tried.takes(Asker("shop\0web", "r", fields).subject(sticky))
        assert abs(hits / n - share) < 5 * sqrt(share * (1 - share) / n)


@given(st.text(), st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
def test_who_is_in_stays_in_while_the_share_grows(
    subject: str, one: float, other: float, canary: int
) -> None:
    low, high = sorted((one, other))
    small = Challenger(canary, "v3", "openai", "m", share=low, step=0)
    large = Challenger(canary, "v3", "openai", "m", share=high, step=1)
    assert small.takes(subject) <= large.takes(subject)
    assert not Challenger(canary, "v3", "openai", "m", share=0).takes(subject)
    assert Challenger(canary, "v3", "openai", "m", share=1).takes(subject)
    assert not Challenger(canary, "v3", "openai", "m", share=1, shadow=True).takes(subject)


def test_canaries_and_tenants_draw_independently() -> None:
    """Who is in one half of one draw is in either half of the other as often."""
    n = 10_000
    half = Challenger(1, "v3", "openai", "m", share=0.5)
    again = Challenger(2, "v4", "openai", "m", share=0.5)
    other_tenant = other_canary = 0
    for number in range(n):
        here, there = (
            Asker(salt, "r", {"messages": [], "user": f"u{number}"}).subject("user")
            for salt in ("shop\0web", "bank\0web")
        )
        other_tenant += half.takes(here) == half.takes(there)
        other_canary += half.takes(here) == again.takes(here)
    for same in (other_tenant, other_canary):
        assert abs(same / n - 0.5) < 5 * 0.5 / sqrt(n)


HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("sticky", "one", "other", "same"),
    [
        ("user", {"user": "kim"}, {"user": "kim", "messages": [{**HI, "content": "Bye"}]}, True),
        ("user", {"user": "kim"}, {"user": "lee"}, False),
        ("user", {"user": "kim"}, {"safety_identifier": "kim"}, True),
        ("user", {"user": "kim"}, {"metadata": {"user": "kim"}}, True),
        ("user", {"user": "kim"}, {"user": "kim", "metadata": {"user": "lee"}}, True),
        ("user", {"user": ""}, {"user": None, "metadata": 7}, True),
        ("user", {"user": "Hi"}, {}, False),
        ("user", {}, {}, True),
        ("user", {}, {"messages": [HI, {"role": "assistant", "content": "Yes?"}, HI]}, True),
        ("user", {}, {"messages": [{"role": "user", "content": "Where?"}]}, False),
        ("conversation", {"user": "kim"}, {"user": "lee"}, True),
        ("conversation", {"metadata": {"conversation_id": "1"}}, {}, False),
        (
            "conversation",
            {"metadata": {"conversation_id": "1"}},
            {"metadata": {"conversation_id": "1"}, "messages": [{**HI, "content": "Bye"}]},
            True,
        ),
        ("conversation", {"prompt_cache_key": "1"}, {"prompt_cache_key": "2"}, False),
        (
            "conversation",
            {"prompt_cache_key": "1"},
            {"prompt_cache_key": "1", "messages": [{**HI, "content": "Bye"}]},
            False,
        ),
        ("conversation", {"messages": [{"role": "system", "content": "x"}]}, {}, False),
    ],
)
def test_subject_is_the_user_or_the_conversation(
    sticky: Sticky, one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    subjects = [
        Asker("shop\0web", "r", {"messages": [HI], **fields}).subject(sticky)
        for fields in (one, other)
    ]
    assert (subjects[0] == subjects[1]) is same


def test_request_that_tells_nothing_keeps_no_arm() -> None:
    fields = {"messages": [{"role": "system", "content": "x"}]}
    assert Asker("s", "r1", fields).subject("user") != Asker("s", "r2", fields).subject("user")


def test_user_keeps_the_arm_over_requests_and_both_routes(
    invoke: Invoke, rows: FakeTable, stub: Stub
) -> None:
    tries(rows, share="0.5")
    arms = set()
    for number in range(40):
        user = f"u{number}"
        first = invoke(body=ask(user=user)).headers["x-dropforge-arm"]
        again = {"message": "And then?", "user": user}
        assert invoke("chat", body=again).headers["x-dropforge-arm"] == first
        arms.add(first)
    assert arms == {"champion", "challenger"}
    simple = [r.json() for r in upstream_requests(stub)[1::2]]
    assert not any("user" in body for body in simple), "/v1/chat tells the model's server no user"


# What an answer says of itself


def test_challengers_answer_names_it_everywhere(invoke: Invoke, rows: FakeTable) -> None:
    tries(rows, share="1")
    result = invoke()
    body = result.json()
    assert body["id"] == "chatcmpl-upstream-1.v3.challenger"
    assert body["model"] == result.headers["x-dropforge-model"] == "shop/v3"
    assert result.headers["x-dropforge-arm"] == "challenger"
    assert "x-dropforge-fallback" not in result.headers


@pytest.mark.parametrize(
    ("name", "model", "arm", "upstream_model"),
    [
        ("shop/champion", "shop/v2", "pinned", "ft:shop:2"),
        ("shop/challenger", "shop/v3", "pinned", "ft:shop:3"),
        ("shop/v1", "shop/v1", "pinned", "ft:shop:1"),
        ("shop/base", "shop/base", "base", "smollm2"),
    ],
)
def test_named_model_is_no_part_of_the_canary(
    invoke: Invoke,
    stub: Stub,
    rows: FakeTable,
    name: str,
    model: str,
    arm: str,
    upstream_model: str,
) -> None:
    tries(rows, share="0.5")
    result = invoke(body=ask(model=name))
    assert (result.headers["x-dropforge-model"], result.headers["x-dropforge-arm"]) == (model, arm)
    assert result.json()["id"].endswith(f".{model.partition('/')[2]}.{arm}")
    assert asked(stub) == [upstream_model]
    assert writes(stub) == []


def test_challenger_that_does_not_run_is_not_found(invoke: Invoke) -> None:
    result = invoke(body=ask(model="shop/challenger"))
    assert (result.status, result.error["code"]) == (404, "model_not_found")
    assert "no canary is running" in result.error["message"]


def test_base_model_answers_beside_a_first_challenger(
    invoke: Invoke, rows: FakeTable, stub: Stub
) -> None:
    rows.items[SHOP, "champion"] |= {"version": {"S": "base"}, "model_id": {"S": "smollm2"}}
    tries(rows, share="0")
    result = invoke()
    assert result.headers["x-dropforge-model"] == "shop/base"
    assert result.json()["id"].endswith(".base.champion")
    assert asked(stub) == ["smollm2"]
    assert counted(rows, STEP + "champion")


def test_models_list_the_challenger_while_it_runs(invoke: Invoke, rows: FakeTable) -> None:
    tries(rows, share="0.1")
    cards = {card["id"]: card["root"] for card in invoke("models").json()["data"]}
    assert cards["shop/challenger"] == "shop/v3"
    one = invoke("model", pathParameters={"model": "shop/challenger"}).json()
    assert (one["id"], one["root"]) == ("shop/challenger", "shop/v3")
    champion = invoke("model", pathParameters={"model": "shop"}).json()
    assert (champion["id"], champion["root"]) == ("shop/champion", "shop/v2")


@given(
    st.text(st.sampled_from("abz019._:-"), max_size=140) | st.none() | st.integers(),
    st.sampled_from(["champion", "challenger", "base", "pinned"]),
)
def test_every_answer_can_be_rated_by_its_id(upstream_id: object, arm: Any) -> None:
    named = answer_id(upstream_id, "c6af9ac6-7b61-11e6-9a41-93e8deadbeef", "1ef300e46bd5", arm)
    assert len(named) <= 128
    assert rated(named) == ("1ef300e46bd5", arm)
    assert feedback_key(named) == f"feedback#1ef300e46bd5#{named}"


@pytest.mark.parametrize("answer", ["chatcmpl-1", "a.b", "a.v2.winner", "a..champion", ".", "a."])
def test_id_that_names_no_arm_is_rated_under_no_version(answer: str) -> None:
    assert rated(answer) == ("-", None)
    assert feedback_key(answer) == f"feedback#-#{answer}"


@pytest.mark.parametrize("odd", ["x" * 120, CANARY, "a#b", "", 7, None])
def test_upstreams_id_that_could_not_be_rated_is_not_used(
    invoke: Invoke, stub: Stub, rows: FakeTable, odd: object
) -> None:
    stub.routes[UPSTREAM] = replies(200, {**COMPLETION, "id": odd})
    answer = invoke().json()["id"]
    assert answer == "chatcmpl-c6af9ac6-7b61-11e6-9a41-93e8deadbeef.v2.champion"
    assert invoke("feedback", body={"id": answer, "rating": -1}).status == 200
    item = rows.items[SHOP, f"feedback#v2#{answer}"]
    assert (item["arm"], item["rating"]) == ({"S": "champion"}, {"N": "-1"})


def test_challengers_answer_is_rated_once(invoke: Invoke, rows: FakeTable) -> None:
    tries(rows, share="1")
    answer = invoke().json()["id"]
    for rating, status in ((1, 200), (1, 200), (-1, 409)):
        assert invoke("feedback", body={"id": answer, "rating": rating}).status == status
    item = rows.items[SHOP, f"feedback#v3#{answer}"]
    assert (item["arm"], item["rating"], item["by"]) == (
        {"S": "challenger"},
        {"N": "1"},
        {"S": "storefront"},
    )
    assert abs(float(item["at"]["N"]) - time.time()) < 10


# What is counted


@pytest.mark.parametrize(("share", "arm"), [("0", "champion"), ("1", "challenger")])
@pytest.mark.parametrize("stream", [False, True])
def test_each_answer_of_an_arm_is_counted_once(
    invoke: Invoke, stub: Stub, rows: FakeTable, share: str, arm: str, stream: bool
) -> None:
    tries(rows, share=share)
    for _ in range(3):
        assert invoke(body=ask(stream=stream)).status == 200
    assert counters(rows) == {STEP + arm}
    numbers = without_time(counted(rows, STEP + arm))
    assert numbers == {"requests": 3, "prompt_tokens": 60, "completion_tokens": 15}
    assert len(writes(stub)) == 3


def test_project_without_a_canary_is_asked_and_told_no_more_than_before(
    invoke: Invoke, stub: Stub, rows: FakeTable
) -> None:
    for _ in range(3):
        invoke()
    assert writes(stub) == []
    assert sorted(rows.reads) == ["champion", "config"]
    assert len(stub.seen) == 6, "champion, config, key, and three chats"


@pytest.mark.parametrize("usage", [None, [], {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1}])
def test_tokens_that_nobody_tells_are_none(usage: object) -> None:
    assert Tally.of({"usage": usage}, 1.5, 10) == Tally(1, 0, 0, 1500, 0, 0)


def test_answer_that_took_longer_than_the_plan_allows_is_slow(
    invoke: Invoke, rows: FakeTable
) -> None:
    tries(rows, share="1", slow_seconds={"N": "0.000001"})
    invoke()
    assert (counted(rows, STEP + "challenger") or {})["slow"] == 1


@pytest.mark.parametrize(
    ("answer", "status", "errors"),
    [
        (cuts, 502, 1),
        (hangs, 504, 1),
        (replies(500, b""), 502, 1),
        (replies(429, b""), 429, 1),
        (replies(400, b"oops"), 400, 0),
    ],
)
def test_champions_failures_are_counted_and_callers_mistakes_are_not(
    invoke: Invoke, stub: Stub, rows: FakeTable, answer: Respond, status: int, errors: int
) -> None:
    tries(rows, share="0")
    stub.routes[UPSTREAM] = answer
    assert invoke().status == status
    expected = {"requests": 1, "errors": 1} if errors else None
    assert counted(rows, STEP + "champion") == expected


@pytest.mark.parametrize("body", ["{", json.dumps({"messages": []})])
def test_request_that_no_model_saw_is_not_counted(
    invoke: Invoke, rows: FakeTable, body: str
) -> None:
    tries(rows, share="1")
    assert invoke(body=body).status == 400
    assert counters(rows) == set()


def after(seconds: float) -> Respond:
    """The usual answer, so much later."""

    def respond(handler: StubHandler) -> None:
        time.sleep(seconds)
        replies(200, COMPLETION)(handler)

    return respond


@pytest.mark.parametrize(
    ("share", "arm", "status", "answered_by"),
    [("0", "champion", 200, "v2"), ("1", "challenger", 200, "v2")],
)
def test_both_arms_are_late_after_the_same_time(
    invoke: Invoke, stub: Stub, rows: FakeTable, share: str, arm: str, status: int, answered_by: str
) -> None:
    """0.9 s of 1.5: longer than a challenger has, and in time for a champion's answer."""
    tries(rows, share=share)
    stub.routes[UPSTREAM] = by_model(v2=after(0.9 if arm == "champion" else 0), v3=after(0.9))
    result = invoke()
    assert (result.status, result.json()["model"]) == (status, f"shop/{answered_by}")
    assert counters(rows) == {STEP + arm}
    assert counted(rows, STEP + arm) == {"requests": 1, "errors": 1}


def test_champion_beside_a_shadow_has_the_whole_time_as_the_shadow_has(
    invoke: Invoke, stub: Stub, rows: FakeTable
) -> None:
    tries(rows, shadow=True)
    stub.routes[UPSTREAM] = after(0.9)
    assert invoke().status == 200
    numbers = without_time(counted(rows, SHADOWED + "champion"))
    assert numbers == {"requests": 1, "prompt_tokens": 20, "completion_tokens": 5}


# What a canary never costs


@pytest.mark.parametrize(
    "failure",
    [
        replies(500, b""),
        replies(404, {"error": {"message": CANARY}}),
        replies(429, b"", Retry_After="7"),
        replies(400, {"error": {"message": CANARY}}),
        replies(200, b"half a {"),
        resets,
        cuts,
        hangs,
    ],
)
def test_what_the_challenger_does_not_answer_the_champion_does(
    invoke: Invoke,
    stub: Stub,
    rows: FakeTable,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failure: Respond,
) -> None:
    tries(rows, share="1")
    stub.routes[UPSTREAM] = by_model(v3=failure)
    told = allowances(monkeypatch)
    result = invoke()
    challenged = next(allowed for about, allowed in told if about == UPSTREAM)
    assert challenged <= 0.75, "half of the 1.5 s"
    assert result.status == 200
    assert result.json()["id"] == "chatcmpl-upstream-1.v2.champion"
    assert result.headers["x-dropforge-model"] == "shop/v2"
    assert result.headers["x-dropforge-arm"] == "champion"
    assert result.headers["x-dropforge-fallback"] == "challenger"
    assert asked(stub) == ["ft:shop:3", "ft:shop:2"]
    assert counters(rows) == {STEP + "challenger"}
    assert counted(rows, STEP + "challenger") == {"requests": 1, "errors": 1}
    log = capsys.readouterr().out
    assert json.loads(log)["ChatFallbacks"] == 1
    assert CANARY not in log + result.text


@pytest.mark.parametrize(
    ("challenger", "champion", "status", "errors"),
    [
        (replies(400, b""), replies(400, b""), 400, None),
        (replies(500, b""), replies(503, b""), 502, 1),
        (hangs, hangs, 504, 1),
        (replies(500, b""), replies(400, b""), 400, 1),
        (replies(400, b""), replies(500, b""), 502, None),
    ],
)
def test_where_neither_answers_the_champions_error_is_told(
    invoke: Invoke,
    stub: Stub,
    rows: FakeTable,
    challenger: Respond,
    champion: Respond,
    status: int,
    errors: int | None,
) -> None:
    tries(rows, share="1")
    stub.routes[UPSTREAM] = by_model(v3=challenger, v2=champion)
    result = invoke()
    assert result.status == status
    assert result.headers["x-dropforge-model"] == "shop/v2"
    assert result.headers["x-dropforge-fallback"] == "challenger"
    assert (counted(rows, STEP + "challenger") or {}).get("errors") == errors
    assert counted(rows, STEP + "champion") is None


def only_reads(rows: FakeTable, otherwise: Respond) -> Respond:
    def respond(handler: StubHandler) -> None:
        target = handler.request_seen.headers["x-amz-target"]
        (otherwise if "UpdateItem" in target or "SendMessage" in target else rows)(handler)

    return respond


@pytest.mark.parametrize("trouble", [hangs, resets, cuts, replies(500, b""), replies(400, {})])
@pytest.mark.parametrize("shadow", [False, True])
def test_answer_is_neither_lost_nor_late_where_it_cannot_be_counted(
    invoke: Invoke,
    stub: Stub,
    rows: FakeTable,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    trouble: Respond,
    shadow: bool,
) -> None:
    """Fault 29: DynamoDB throttles or is silent, and SQS with it."""
    tries(rows, shadow=shadow)
    stub.routes["/"] = only_reads(rows, trouble)
    invoke("models")
    capsys.readouterr()
    told = allowances(monkeypatch)
    result = invoke()
    counted_in = [allowed for about, allowed in told if about in ("UpdateItem", "SendMessage")]
    assert len(counted_in) > shadow
    assert max(counted_in) <= 0.1
    assert (result.status, result.json()["model"]) == (200, "shop/v2")
    record = json.loads(capsys.readouterr().out)
    lost = {"ArmCountFailed": 1, **({"ShadowSendFailed": 1} if shadow else {})}
    assert {name: record.get(name) for name in lost} == lost
    metrics = [m["Name"] for m in record["_aws"]["CloudWatchMetrics"][-1]["Metrics"]]
    assert metrics == list(lost)
    assert len(writes(stub)) == len(lost), "what may have arrived is not sent again"


def test_log_line_carries_metrics_by_arm_while_a_canary_runs(
    invoke: Invoke, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    tries(rows, share="1")
    invoke()
    record = json.loads(capsys.readouterr().out)
    directive = record["_aws"]["CloudWatchMetrics"][0]
    assert directive["Dimensions"] == [["project"], ["project", "arm"]]
    assert (record["project"], record["arm"], record["ChatRequests"]) == ("shop", "challenger", 1)


# The shadow


def test_shadowing_challenger_answers_nobody_and_is_sent_what_the_champion_was_asked(
    invoke: Invoke, stub: Stub, rows: FakeTable
) -> None:
    tries(rows, shadow=True, share="1")
    result = invoke(body=ask(stream=True, temperature=0.5))
    assert result.headers["x-dropforge-arm"] == "champion"
    assert asked(stub) == ["ft:shop:2"]
    ((url, message),) = rows.messages
    assert url.endswith("/000000000000/shadow")
    told = json.loads(message)
    assert (told["project"], told["canary"]) == ("shop", 7)
    sent = upstream_requests(stub)[0].json()
    assert (sent.pop("stream"), sent.pop("stream_options")) == (True, {"include_usage": True})
    assert told["payload"] == sent, "a shadow's answer is wanted whole"
    assert counters(rows) == {SHADOWED + "champion"}


def test_nothing_is_sent_for_a_failure_or_for_a_pinned_model(
    invoke: Invoke, stub: Stub, rows: FakeTable
) -> None:
    tries(rows, shadow=True)
    invoke(body=ask(model="shop/champion"))
    stub.routes[UPSTREAM] = replies(500, b"")
    invoke()
    assert rows.messages == []
    assert counted(rows, SHADOWED + "champion") == {"requests": 1, "errors": 1}


def test_nothing_is_sent_where_no_queue_is_set_or_the_message_is_too_long(
    invoke: Invoke, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries(rows, shadow=True)
    for characters in (200_000, 262_000):  # with the system prompt, the second is over 256 KiB
        messages = [{"role": "user", "content": "x" * characters}]
        assert invoke(body=ask(messages=messages)).status == 200
    assert [len(message) // 1000 for _, message in rows.messages] == [200]
    chat._front.cache_clear()
    chat._settings.cache_clear()
    monkeypatch.delenv("DROPFORGE_SHADOW_QUEUE")
    assert invoke().status == 200
    assert len(rows.messages) == 1


def test_what_customers_wrote_is_in_no_log(
    invoke: Invoke, stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    tries(rows, shadow=True)
    invoke(body=ask(user=CANARY))
    tries(rows, share="1")
    stub.routes[UPSTREAM] = by_model(v3=replies(500, {"error": {"message": CANARY}}))
    invoke(body=ask(user=CANARY, metadata={"conversation_id": CANARY}))
    assert CANARY in rows.messages[0][1]
    captured = capsys.readouterr()
    assert "4111" not in captured.out + captured.err


def test_event_of_the_gateway_names_the_token(rows: FakeTable) -> None:
    """The subject's salt: without it two tenants with the same user ids would draw alike."""
    authorizer = load("chat_completions")["requestContext"]["authorizer"]
    told = (authorizer["projects"], authorizer["token_id"], authorizer["token_name"])
    assert told == ("shop", "tok-1", "storefront")


# What nobody foresaw


def test_crash_is_no_success_of_its_arm(
    invoke: Invoke, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*arguments: object, **options: object) -> None:
        raise KeyError("nobody foresaw it")

    tries(rows)
    monkeypatch.setattr(answering, "has_fallbacks", crash)
    assert invoke().status == 500
    assert counted(rows, STEP + "champion") == {"requests": 1, "errors": 1}


def test_crash_in_the_middle_of_a_stream_is_no_success_of_its_arm(
    invoke: Invoke, rows: FakeTable, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries(rows)
    stub.routes[UPSTREAM] = streams(sse(*CHUNKS), DONE)
    add = Assembly.add

    def crash(self: Assembly, chunk: dict[str, Any]) -> None:
        if chunk == CHUNKS[1]:
            raise KeyError("nobody foresaw it")
        add(self, chunk)

    monkeypatch.setattr(Assembly, "add", crash)
    assert invoke(body=ask(stream=True)).status == 200
    assert counted(rows, STEP + "champion") == {"requests": 1, "errors": 1}


def test_crash_after_an_answer_leaves_the_others_their_turn(
    invoke: Invoke,
    rows: FakeTable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def crash(self: Budgets, exchange: object) -> None:
        raise KeyError(CANARY)

    tries(rows)
    monkeypatch.setattr(Budgets, "settle", crash)
    assert invoke().status == 200
    assert without_time(counted(rows, STEP + "champion"))["requests"] == 1
    line = json.loads(capsys.readouterr().out)
    assert (line["AfterworkFailed"], line["cause"]) == (1, "KeyError")
    assert CANARY not in str(line)
