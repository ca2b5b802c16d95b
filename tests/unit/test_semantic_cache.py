from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from cache_table import CACHE_TABLE, CacheTable
from chat_front import (
    COMPLETION,
    SAGEMAKER,
    UPSTREAM,
    Result,
    invoked,
    served,
    shop,
    upstream_requests,
)
from http_stub import Stub, StubHandler, hangs, replies
from test_answer_cache import asked, rated, state
from test_shadow_handler import record

from lambdas.chat import handler as chat
from lambdas.check import handler as check

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

EMBEDDINGS = "/v1/embeddings"
STATE = "v2#0.9#tiny"
QUEUE = "/000000000000/checks"
RETURN, RETURN_SAME = "How do I return a lamp?", "How can I send back a lamp?"
Delivered = Callable[..., list[str]]


def embeds(handler: StubHandler) -> None:
    """A vector by the words: near for near texts, and the same for those of one meaning here."""
    vectors = []
    for place, text in enumerate(handler.request_seen.json()["input"]):
        vector = [1.0, 0.2, 0.0] if "lamp" in text else [0.2, 1.0, 0.0]
        vectors.append({"index": place, "embedding": vector})
    handler.reply(200, {"object": "list", "data": vectors})


@pytest.fixture
def rows() -> CacheTable:
    rows = CacheTable(shop())
    semantic = {"M": {"similarity": {"N": "0.9"}, "check_share": {"N": "1"}}}
    rows.items["project#shop", "config"]["serve"] = {
        "M": {
            "fallback": {"L": []},
            "cache": {"M": {"semantic": semantic}},
            "embeddings": {"M": {"backend": {"S": "openai"}, "model": {"S": "tiny"}}},
        }
    }
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: CacheTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        monkeypatch.setenv("DROPFORGE_CACHE_TABLE", CACHE_TABLE)
        monkeypatch.setenv("DROPFORGE_CHECK_QUEUE", f"{server.url}{QUEUE}")
        server.routes[EMBEDDINGS] = embeds
        yield server
        check._checker.cache_clear()


@pytest.fixture
def deliver(stub: Stub) -> Delivered:
    """Hands a batch to the check function; says which messages have to come again."""

    def run(*bodies: str, ids: tuple[str, ...] = ()) -> list[str]:
        names = ids or tuple(f"m{number}" for number in range(len(bodies)))
        records = [record(name, body) for name, body in zip(names, bodies, strict=True)]
        answer = check.handler({"Records": records}, None)
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return run


def put(question: str, **fields: Any) -> Result:
    messages = [{"role": "user", "content": question}]
    return asked(**{"messages": messages, **fields})


def proven(rows: CacheTable, checks: int = 400, false: int = 0) -> None:
    """A record of that many checked hits."""
    key = "state#shop", STATE
    rows.answers[key] = {
        "pk": {"S": key[0]},
        "sk": {"S": key[1]},
        "checks": {"N": str(checks)},
        "false": {"N": str(false)},
    }


def counts(rows: CacheTable) -> tuple[int, int]:
    item = rows.answers.get(("state#shop", STATE), {})
    return tuple(int(item.get(name, {"N": "0"})["N"]) for name in ("checks", "false"))  # type: ignore[return-value]


def checks(rows: CacheTable) -> list[dict[str, Any]]:
    return [json.loads(body) for url, body in rows.messages if url.endswith(QUEUE)]


def test_without_a_record_a_hit_is_checked_and_not_served(stub: Stub, rows: CacheTable) -> None:
    put(RETURN)

    assert state(put(RETURN_SAME)) == "miss"
    [sent] = checks(rows)
    assert sent["kept"] == sent["fresh"] == "It ships on Monday."


def test_with_a_good_record_it_is_served_under_its_own_id(stub: Stub, rows: CacheTable) -> None:
    proven(rows)
    first, like = put(RETURN), put(RETURN_SAME)

    assert state(like) == "semantic"
    assert like.json()["choices"] == first.json()["choices"]
    assert like.json()["id"] != first.json()["id"]
    assert len(upstream_requests(stub)) == 1
    [sent] = checks(rows)
    assert sent["fresh"] is None
    assert sent["payload"]["messages"][-1]["content"] == RETURN_SAME


@pytest.mark.parametrize(
    "other",
    [
        "How do I not return a lamp?",
        "How do I return 2 lamps?",
        "Can I return a lamp?",
        "How do I return a lamp shade?",
        "How do I return a lamp to Berlin?",
    ],
)
def test_another_number_negation_name_or_kind_of_question_is_never_served(
    stub: Stub, rows: CacheTable, other: str
) -> None:
    """Though the embeddings of all of them are the same here."""
    proven(rows)
    put(RETURN)

    assert state(put(other)) == "miss"


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0.7}, {"user": "ben"}, {"model": "shop/v1"}, {"token": "another"}],
    ids=lambda fields: next(iter(fields)),
)
def test_another_tenant_version_or_parameter_is_never_served(
    stub: Stub, rows: CacheTable, fields: dict[str, Any]
) -> None:
    proven(rows)
    put(RETURN)

    assert state(put(RETURN_SAME, **fields)) == "miss"


def test_later_turns_are_only_found_as_they_are(stub: Stub, rows: CacheTable) -> None:
    proven(rows)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    asked(messages=[*turns, {"role": "user", "content": RETURN}])

    assert not rows.of("near#")
    again = asked(messages=[*turns, {"role": "user", "content": RETURN_SAME}])
    assert state(again) == "miss"


def test_a_far_vector_is_no_hit(stub: Stub, rows: CacheTable) -> None:
    proven(rows)
    put(RETURN)

    def elsewhere(handler: StubHandler) -> None:
        handler.reply(200, {"data": [{"index": 0, "embedding": [0.0, 1.0, 0.0]}]})

    stub.routes[EMBEDDINGS] = elsewhere
    assert state(put(RETURN_SAME)) == "miss"


@pytest.mark.parametrize("trouble", [hangs, replies(500, {}), replies(200, {"data": []})])
def test_without_embeddings_the_model_answers(stub: Stub, rows: CacheTable, trouble: Any) -> None:
    proven(rows)
    put(RETURN)
    stub.routes[EMBEDDINGS] = trouble
    result = put(RETURN_SAME)

    assert (state(result), result.status) == ("miss", 200)


def test_embeddings_that_sleep_cost_no_afterwork(
    stub: Stub, rows: CacheTable, capsys: pytest.CaptureFixture[str]
) -> None:
    served = rows.items["project#shop", "config"]["serve"]["M"]
    served["embeddings"]["M"]["backend"] = {"S": "sagemaker"}
    stub.routes[SAGEMAKER] = replies(400, {}, x_amzn_ErrorType="ValidationError")
    assert put(RETURN).status == 200
    line = json.loads(capsys.readouterr().out)
    assert line["EmbeddingFailed"] == 1
    assert "AfterworkFailed" not in line


def test_nobody_waits_for_an_embedding_with_nothing_to_compare(
    stub: Stub, rows: CacheTable
) -> None:
    """It is made once the caller has the answer."""
    event = put(RETURN)

    assert state(event) == "miss"
    paths = [request.path for request in stub.seen]
    assert paths.index(UPSTREAM) < paths.index(EMBEDDINGS)


def test_a_bad_rating_of_a_semantic_hit_evicts_its_answer(stub: Stub, rows: CacheTable) -> None:
    proven(rows)
    put(RETURN)
    rated(put(RETURN_SAME).json()["id"])

    assert state(put(RETURN_SAME)) == "miss"
    assert state(put(RETURN)) == "miss"


def test_a_record_beyond_the_limit_ends_looking(stub: Stub, rows: CacheTable) -> None:
    proven(rows, checks=100, false=20)
    put(RETURN)
    rows.calls.clear()

    assert state(put(RETURN_SAME)) == "miss"
    assert "Query" not in rows.calls
    assert not checks(rows)


@pytest.mark.parametrize("name", ["entry", "sealed", "code", "vector", "expires_at"])
def test_an_edited_note_of_a_question_is_left_alone(
    stub: Stub, rows: CacheTable, name: str
) -> None:
    put("How can I return a lamp, please?")
    put(RETURN)
    proven(rows)
    similar = chat._front()._answering._cache._similar
    assert similar is not None
    similar._records.clear()  # as after the ten seconds for which a container remembers it
    near, other = rows.of("near#")
    for item, donor in ((near, other), (other, near)):
        changed = {"N": "1"} if name == "expires_at" else {"B": "f38A"}
        value = donor[name] if name not in ("expires_at", "vector") else changed
        rows.answers[item["pk"]["S"], item["sk"]["S"]] = {**deepcopy(item), name: value}
    result = put(RETURN_SAME)

    assert (state(result), result.status) == ("miss", 200)


def test_a_right_hit_is_counted_once_however_often_it_comes(
    stub: Stub, rows: CacheTable, deliver: Delivered
) -> None:
    put(RETURN)
    put(RETURN_SAME)
    [(_, body)] = [found for found in rows.messages if found[0].endswith(QUEUE)]

    assert deliver(body, body, ids=("m1", "m1")) == []
    assert counts(rows) == (1, 0)


def test_a_hit_of_another_meaning_counts_as_false_and_tells(
    stub: Stub,
    rows: CacheTable,
    deliver: Delivered,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Shop")
    proven(rows, checks=180)
    put(RETURN)
    put(RETURN_SAME)
    changed = {**COMPLETION["choices"][0], "message": {"content": "It ships in 3 days."}}  # type: ignore[index]
    stub.routes[UPSTREAM] = replies(200, {**COMPLETION, "choices": [changed]})
    [(_, body)] = [found for found in rows.messages if found[0].endswith(QUEUE)]

    assert deliver(body) == []
    assert counts(rows) == (181, 1)
    told = [line for line in capsys.readouterr().out.splitlines() if "SemanticOff" in line]
    [numbers] = map(json.loads, told)
    assert (numbers["SemanticFalse"], numbers["SemanticOff"]) == (1, 1)
    assert numbers["SemanticBound"] > 0.02
    assert [d["Namespace"] for d in numbers["_aws"]["CloudWatchMetrics"]] == ["Shop"]
    assert "ships" not in told[0]


def test_a_model_that_does_not_answer_says_nothing_of_the_hit(
    stub: Stub, rows: CacheTable, deliver: Delivered
) -> None:
    proven(rows)
    put(RETURN)
    put(RETURN_SAME)
    stub.routes[UPSTREAM] = replies(500, {})
    [(_, body)] = [found for found in rows.messages if found[0].endswith(QUEUE)]

    assert deliver(body) == []
    assert counts(rows) == (400, 0)


def test_what_cannot_be_counted_comes_again_and_leaves_no_text_in_the_log(
    stub: Stub,
    rows: CacheTable,
    deliver: Delivered,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(RETURN)
    put(RETURN_SAME)
    [(_, body)] = [found for found in rows.messages if found[0].endswith(QUEUE)]
    rows.failing = "ThrottlingException"
    capsys.readouterr()

    assert deliver(body, "{}") == ["m0", "m1"]
    out, err = capsys.readouterr()
    assert "return" not in out + err + caplog.text
    rows.failing = ""
    assert deliver(body) == []
    assert counts(rows) == (1, 0)


def test_invoked_through_v1_chat_too(stub: Stub, rows: CacheTable) -> None:
    proven(rows)
    about = {"path": "/v1/chat", "resource": "/v1/chat"}
    invoked(body={"message": RETURN}, **about)

    assert state(invoked(body={"message": RETURN_SAME}, **about)) == "semantic"
