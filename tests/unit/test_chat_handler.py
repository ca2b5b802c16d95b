from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chat_front import (
    CANARY,
    COMPLETION,
    ROOT,
    SAGEMAKER,
    UPSTREAM,
    Invoke,
    Result,
    allowances,
    ask,
    load,
    providers,
    upstream_requests,
)
from http_stub import (
    PATIENCE,
    FakeTable,
    Respond,
    Stub,
    cuts,
    hangs,
    hangs_up_after,
    replies,
    resets,
    trickles,
)

from dropforge.serve import MAX_BODY_BYTES, MAX_MESSAGES
from lambdas.chat import handler as chat
from lambdas.chat import store

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ANSWER = "chatcmpl-upstream-1.v2.champion"


def test_completion_is_the_upstreams_under_the_versions_name(invoke: Invoke, stub: Stub) -> None:
    result = invoke()
    assert result.status == 200
    assert result.json() == {**COMPLETION, "id": ANSWER, "model": "shop/v2"}
    assert result.headers == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "x-request-id": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        "x-dropforge-cache": "off",
        "x-dropforge-model": "shop/v2",
        "x-dropforge-arm": "champion",
    }
    (request,) = upstream_requests(stub)
    assert request.headers["authorization"] == "Bearer sk-upstream"
    assert request.json() == {
        "model": "ft:shop:2",
        "messages": [
            {"role": "system", "content": "You answer for Lumen."},
            {"role": "user", "content": "Where is order LU-4711?"},
        ],
    }


def test_missing_id_and_time_are_filled_in(invoke: Invoke, stub: Stub) -> None:
    stub.routes[UPSTREAM] = replies(200, {"choices": COMPLETION["choices"]})
    body = invoke().json()
    assert body["id"] == "chatcmpl-c6af9ac6-7b61-11e6-9a41-93e8deadbeef.v2.champion"
    assert abs(body["created"] - time.time()) < 10


def test_simple_chat_answers_id_message_and_model(invoke: Invoke) -> None:
    result = invoke("chat")
    assert result.json() == {
        "id": ANSWER,
        "message": "It ships on Monday.",
        "model": "shop/v2",
    }
    assert result.headers["x-dropforge-model"] == "shop/v2"


@pytest.mark.parametrize(
    ("name", "model", "arm", "upstream_model"),
    [
        ("shop/base", "shop/base", "base", "smollm2"),
        ("shop/v1", "shop/v1", "pinned", "ft:shop:1"),
        ("shop/champion", "shop/v2", "champion", "ft:shop:2"),
    ],
)
def test_named_model_answers(
    invoke: Invoke, stub: Stub, name: str, model: str, arm: str, upstream_model: str
) -> None:
    result = invoke(body=ask(model=name))
    assert result.json()["model"] == result.headers["x-dropforge-model"] == model
    assert result.headers["x-dropforge-arm"] == arm
    assert upstream_requests(stub)[0].json()["model"] == upstream_model


@pytest.mark.parametrize("name", ["bank", "bank/v1", "shop/v3", "gpt-4o"])
def test_other_projects_and_unready_models_are_not_found(
    invoke: Invoke, stub: Stub, rows: FakeTable, name: str
) -> None:
    rows.put("project#bank", "champion", version={"S": "v1"}, model_id={"S": "ft:bank:1"})
    result = invoke(body=ask(model=name))
    assert (result.status, result.error["code"]) == (404, "model_not_found")
    assert upstream_requests(stub) == []


def test_sagemaker_component_answers(invoke: Invoke, stub: Stub, rows: FakeTable) -> None:
    rows.items["project#shop", "champion"] |= {
        "backend": {"S": "sagemaker"},
        "model_id": {"S": "dropforge-shop-2"},
    }
    stub.routes[SAGEMAKER] = replies(200, COMPLETION)
    result = invoke()
    assert result.json()["model"] == "shop/v2"
    (request,) = upstream_requests(stub, SAGEMAKER)
    assert request.headers["x-amzn-sagemaker-inference-component"] == "dropforge-shop-2"
    assert request.json()["messages"][0]["role"] == "system"
    assert "model" not in request.json()


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (replies(400, {}, x_amzn_ErrorType="ValidationError"), 503, "unavailable"),
        (replies(429, {}, x_amzn_ErrorType="ThrottlingException"), 429, "rate_limit_exceeded"),
        (replies(424, {"Message": CANARY}, x_amzn_ErrorType="ModelError"), 502, "upstream_error"),
        (replies(200, b"half a {"), 502, "upstream_error"),
        (hangs, 504, "upstream_timeout"),
    ],
)
def test_sagemaker_failure_is_typed(
    invoke: Invoke, stub: Stub, rows: FakeTable, answer: Respond, status: int, code: str
) -> None:
    rows.items["project#shop", "champion"]["backend"] = {"S": "sagemaker"}
    stub.routes[SAGEMAKER] = answer
    result = invoke()
    assert (result.status, result.error["code"]) == (status, code)
    assert CANARY not in result.text
    assert len(upstream_requests(stub, SAGEMAKER)) == 1
    assert ("Retry-After" in result.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("answer", "status", "kind", "code"),
    [
        (hangs, 504, "server_error", "upstream_timeout"),
        (trickles, 504, "server_error", "upstream_timeout"),
        (resets, 502, "server_error", "upstream_error"),
        (cuts, 502, "server_error", "upstream_error"),
        (replies(200, b'{"choices": [{"mess'), 502, "server_error", "upstream_error"),
        (replies(200, {"choices": []}), 502, "server_error", "upstream_error"),
        (replies(200, {"choices": [{"message": None}]}), 502, "server_error", "upstream_error"),
        (replies(200, b"\xff"), 502, "server_error", "upstream_error"),
        (replies(200, b"[" * 100_000), 502, "server_error", "upstream_error"),
        (replies(500, b"<html>oops"), 502, "server_error", "upstream_error"),
        (replies(401, {"error": {"message": CANARY}}), 502, "server_error", "upstream_error"),
        (replies(404, {"error": {"message": CANARY}}), 502, "server_error", "upstream_error"),
        (replies(429, b"", Retry_After="7"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (replies(400, b"oops"), 400, "invalid_request_error", "invalid_request"),
    ],
)
def test_upstream_failure_is_typed_and_asked_once(
    invoke: Invoke, stub: Stub, answer: Respond, status: int, kind: str, code: str
) -> None:
    stub.routes[UPSTREAM] = answer
    started = time.monotonic()
    result = invoke()
    assert time.monotonic() - started < PATIENCE
    assert (result.status, result.error["type"], result.error["code"]) == (status, kind, code)
    assert result.headers["x-dropforge-model"] == "shop/v2"
    assert CANARY not in result.text
    assert len(upstream_requests(stub)) == 1
    assert result.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_upstreams_complaint_about_the_request_is_passed_on(invoke: Invoke, stub: Stub) -> None:
    error = {"message": "Too long.", "param": "messages", "code": "context_length_exceeded"}
    stub.routes[UPSTREAM] = replies(400, {"error": {**error, "type": "invalid_request_error"}})
    result = invoke()
    assert result.status == 400
    assert result.error == {**error, "type": "invalid_request_error"}


def test_upstream_that_is_down_is_a_502(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPFORGE_PROVIDERS", providers("http://127.0.0.1:1/v1"))
    result = invoke()
    assert (result.status, result.error["code"]) == (502, "upstream_error")


def test_upstream_that_hung_up_between_requests_is_reached_again(
    invoke: Invoke, stub: Stub
) -> None:
    stub.routes[UPSTREAM] = hangs_up_after(replies(200, COMPLETION))
    assert invoke().status == 200
    time.sleep(0.05)
    assert invoke().status == 200
    assert len(upstream_requests(stub)) == 2


def test_key_is_read_once_and_again_after_a_401(invoke: Invoke, stub: Stub) -> None:
    def secret_reads() -> int:
        return sum("secretsmanager" in r.headers.get("x-amz-target", "") for r in stub.seen)

    invoke()
    invoke()
    assert secret_reads() == 1
    stub.routes[UPSTREAM] = replies(401, b"")
    invoke()
    invoke()
    assert secret_reads() == 2


def test_deadline_is_never_later_than_the_lambdas_own(
    invoke: Invoke, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> int:
            return 700

    stub.routes[UPSTREAM] = hangs
    told = allowances(monkeypatch)
    assert chat.handler(load("chat_completions"), Context()).head["statusCode"] == 504
    [allowed] = [allowed for about, allowed in told if about == UPSTREAM]
    assert allowed <= 0.2, "half a second is the answer's own"


def test_champion_is_remembered_for_two_seconds(
    invoke: Invoke, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    invoke("health")
    monkeypatch.setattr(chat._front()._store, "_clock", lambda: now[0])
    assert [invoke().json()["model"] for _ in range(3)] == ["shop/v2"] * 3
    assert rows.reads.count("champion") == 1
    rows.items["project#shop", "champion"]["version"] = {"S": "v1"}
    now[0] += store.CHAMPION_SECONDS - 0.1
    assert invoke().json()["model"] == "shop/v2"
    now[0] += 0.2
    assert invoke().json()["model"] == "shop/v1"


def test_known_champion_answers_while_the_registry_does_not(
    invoke: Invoke, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke()
    now = time.monotonic() + 100
    monkeypatch.setattr(chat._front()._store, "_clock", lambda: now)
    stub.routes["/"] = replies(500, b"")
    assert invoke().status == 200


def test_unreadable_registry_is_a_503(invoke: Invoke, stub: Stub) -> None:
    stub.routes["/"] = replies(500, b"")
    for name in ("chat_completions", "models", "feedback"):
        result = invoke(name)
        assert (result.status, result.error["code"]) == (503, "unavailable")
        assert result.headers["Retry-After"] == "2"


def test_invented_versions_are_not_remembered(invoke: Invoke) -> None:
    for number in range(5):
        invoke(body=ask(model=f"shop/x{number}"))
    assert not any("x" in sk for _, sk in chat._front()._store._known)


def events_of(result: Result) -> list[Any]:
    assert result.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    *blocks, done, end = result.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_server_that_does_not_stream_is_told_in_openais_chunks(invoke: Invoke, stub: Stub) -> None:
    chunks = events_of(invoke(body=ask(stream=True)))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": ""},
        {"content": "It ships on Monday."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["model"]) == (ANSWER, "shop/v2")
        assert "usage" not in chunk
    asked = upstream_requests(stub)[0].json()
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})


def test_stream_ends_with_the_usage_if_asked(invoke: Invoke) -> None:
    chunks = events_of(invoke(body=ask(stream=True, stream_options={"include_usage": True})))
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, COMPLETION["usage"]]
    assert chunks[-1]["choices"] == []


def test_streamed_tool_calls_carry_their_index(invoke: Invoke, stub: Stub) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    stub.routes[UPSTREAM] = replies(200, {**COMPLETION, "choices": [choice]})
    chunks = events_of(invoke(body=ask(stream=True)))
    assert chunks[1]["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **calls[0]}]}
    assert chunks[2]["choices"][0]["finish_reason"] == "tool_calls"


def test_models_lists_every_name_that_can_be_asked(invoke: Invoke) -> None:
    body = invoke("models").json()
    assert body["object"] == "list"
    assert {card["id"]: (card["root"], card["created"]) for card in body["data"]} == {
        "shop/champion": ("shop/v2", 1_795_435_020),
        "shop/base": ("shop/base", 0),
        "shop/v1": ("shop/v1", 1_795_435_010),
        "shop/v2": ("shop/v2", 1_795_435_020),
    }
    assert {(card["object"], card["owned_by"]) for card in body["data"]} == {("model", "shop")}


@pytest.mark.parametrize(
    ("name", "card_id", "root"),
    [
        ("shop", "shop/champion", "shop/v2"),
        ("shop/champion", "shop/champion", "shop/v2"),
        ("shop/v1", "shop/v1", "shop/v1"),
        ("shop%2Fv1", "shop/v1", "shop/v1"),
        ("shop/base", "shop/base", "shop/base"),
    ],
)
def test_model_is_found_by_name(invoke: Invoke, name: str, card_id: str, root: str) -> None:
    card = invoke("model", pathParameters={"model": name}).json()
    assert (card["id"], card["root"], card["object"]) == (card_id, root, "model")


@pytest.mark.parametrize("name", ["shop/v9", "bank", "bank/base"])
def test_unknown_model_is_not_found(invoke: Invoke, name: str) -> None:
    result = invoke("model", pathParameters={"model": name})
    assert (result.status, result.error["code"]) == (404, "model_not_found")


def test_feedback_is_stored_once_per_answer(invoke: Invoke, rows: FakeTable) -> None:
    for _ in range(2):
        result = invoke("feedback")
        assert (result.status, result.json()) == (
            200,
            {"id": "chatcmpl-1", "object": "feedback", "rating": 1},
        )
    item = rows.items["project#shop", "feedback#-#chatcmpl-1"]
    assert item["rating"] == {"N": "1"}
    assert item["comment"] == {"S": "Quick and right."}
    assert item["by"] == {"S": "storefront"}
    assert int(item["expires_at"]["N"]) > time.time() + 399 * 86400
    changed = invoke("feedback", body={"id": "chatcmpl-1", "rating": -1})
    assert (changed.status, changed.error["code"]) == (409, "already_rated")


def test_health_needs_no_token_and_no_backend(invoke: Invoke, stub: Stub) -> None:
    result = invoke("health")
    assert (result.status, result.json()) == (200, {"status": "ok"})
    assert stub.seen == []


@pytest.mark.parametrize("name", ["chat", "chat_completions", "models", "model", "feedback"])
def test_route_without_an_authorizer_in_front_is_closed(invoke: Invoke, name: str) -> None:
    context = copy.deepcopy(load(name)["requestContext"])
    del context["authorizer"]
    result = invoke(name, requestContext=context)
    assert (result.status, result.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"body": "{"}, 400, "invalid_json"),
        ({"body": None}, 400, "invalid_json"),
        ({"body": "\ud800"}, 400, "invalid_json"),
        ({"body": "%%%", "isBase64Encoded": True}, 400, "invalid_json"),
        ({"body": "x" * (MAX_BODY_BYTES + 1)}, 413, "request_too_large"),
        (
            {"body": json.dumps(ask(messages=[{"role": "user"}] * (MAX_MESSAGES + 1)))},
            400,
            "invalid_request",
        ),
        ({"resource": "/v1/files"}, 404, "unknown_url"),
        ({"resource": "/v1/models/{id}"}, 405, "method_not_supported"),
        ({"httpMethod": "PUT"}, 405, "method_not_supported"),
    ],
)
def test_bad_request_is_told_as_openai_tells_it(
    invoke: Invoke, stub: Stub, changes: dict[str, Any], status: int, code: str
) -> None:
    result = invoke(**changes)
    assert (result.status, result.error["code"]) == (status, code)
    assert result.error["type"] == "invalid_request_error"
    assert result.headers["x-request-id"]
    assert upstream_requests(stub) == []


def test_method_not_allowed_says_which_are(invoke: Invoke) -> None:
    assert invoke(httpMethod="DELETE").headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("resource", "parameters"),
    [
        ("/{proxy+}", {"proxy": "v1/chat/completions"}),
        ("/v1/{proxy+}", {"proxy": "chat/completions"}),
        ("/v1/chat/completions", None),
    ],
)
def test_path_is_found_however_the_api_is_cut_into_resources(
    invoke: Invoke, resource: str, parameters: dict[str, str] | None
) -> None:
    path = "/base-path-of-a-custom-domain/v1/chat/completions"
    result = invoke(resource=resource, pathParameters=parameters, path=path)
    assert result.status == 200


def test_base64_body_is_decoded(invoke: Invoke, stub: Stub) -> None:
    import base64

    body = base64.b64encode(json.dumps(ask()).encode()).decode()
    assert invoke(body=body, isBase64Encoded=True).status == 200


def test_bug_is_a_500_without_details(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr("lambdas.chat.chain.upstream_payload", explode)
    result = invoke()
    assert (result.status, result.error["type"]) == (500, "server_error")
    log = capsys.readouterr().out
    assert CANARY not in result.text + log
    assert "KeyError in test_bug_is_a_500_without_details.<locals>.explode:" in log


def test_one_log_line_carries_the_metrics(
    invoke: Invoke, stub: Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    invoke()
    record = json.loads(capsys.readouterr().out)
    assert record["_aws"]["CloudWatchMetrics"] == [
        {
            "Namespace": "Dropforge",
            "Dimensions": [["project"]],
            "Metrics": [
                {"Name": "ChatRequests", "Unit": "Count"},
                {"Name": "ChatErrors", "Unit": "Count"},
                {"Name": "ChatLatency", "Unit": "Milliseconds"},
                {"Name": "ChatFallbacks", "Unit": "Count"},
            ],
        },
        {
            "Namespace": "Dropforge",
            "Dimensions": [["project"], []],
            "Metrics": [{"Name": "ChatFirstByte", "Unit": "Milliseconds"}],
        },
    ]
    assert abs(record["_aws"]["Timestamp"] / 1000 - time.time()) < 10
    assert (record["project"], record["ChatRequests"], record["ChatErrors"]) == ("shop", 1, 0)
    assert 0 < record["ChatLatency"] < 1500
    assert (record["model"], record["arm"], record["status"]) == ("shop/v2", "champion", 200)
    stub.routes[UPSTREAM] = cuts
    invoke()
    record = json.loads(capsys.readouterr().out)
    assert (record["level"], record["ChatErrors"], record["code"]) == ("ERROR", 1, "upstream_error")
    assert "MalformedAnswerError" in record["cause"]


@pytest.mark.parametrize("name", ["models", "health", "feedback"])
def test_other_routes_are_logged_without_metrics(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    invoke(name)
    record = json.loads(capsys.readouterr().out)
    assert "_aws" not in record
    assert record["status"] == 200


@pytest.mark.parametrize(
    "answer",
    [
        replies(200, {**COMPLETION, "id": CANARY}),
        replies(400, {"error": {"message": CANARY, "code": CANARY}}),
        replies(500, {"error": {"message": CANARY}}),
        replies(200, json.dumps({"choices": CANARY}).encode()),
    ],
)
def test_no_text_of_the_caller_or_the_model_is_logged(
    invoke: Invoke, stub: Stub, capsys: pytest.CaptureFixture[str], answer: Respond
) -> None:
    stub.routes[UPSTREAM] = answer
    invoke(body=ask())
    invoke(body=ask(model=CANARY))
    invoke(body=ask(messages=[{"role": CANARY}]))
    invoke("model", pathParameters={"model": CANARY})
    invoke(resource=f"/{CANARY}")
    invoke("feedback", body={"id": "a1", "rating": 1, "comment": CANARY})
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 6
    assert CANARY not in captured.out + captured.err
    assert "4111" not in captured.out + captured.err


@pytest.fixture(scope="module")
def cold_imports(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What both Lambdas of the chat asset import, with that asset's packages and no others."""
    packages = tmp_path_factory.mktemp("asset")
    (packages / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(packages)!r}]\n"
        "import lambdas.chat.handler, lambdas.authorize.handler\n"
        "print(*sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return set(out.split())


def test_cold_path_imports_only_the_standard_library_and_msgspec(cold_imports: set[str]) -> None:
    top = {name.partition(".")[0] for name in cold_imports}
    own = {"__main__", "dropforge", "lambdas", "msgspec"}
    assert top - set(sys.stdlib_module_names) == own


@pytest.mark.parametrize(
    "module",
    ["asyncio", "concurrent", "dataclasses", "inspect", "json", "logging"],
)
def test_cold_path_leaves_out(cold_imports: set[str], module: str) -> None:
    assert module not in cold_imports


def test_cold_path_leaves_out_the_pipelines_modules(cold_imports: set[str]) -> None:
    own = {name for name in cold_imports if name.startswith("dropforge.")}
    assert {name for name in own if not name.startswith("dropforge.serve")} <= {
        "dropforge.backends",
        "dropforge.backends.attributes",
        "dropforge.backends.awsapi",
        "dropforge.backends.connection",
        "dropforge.backends.http1",
        "dropforge.backends.sigv4",
        "dropforge.errors",
        "dropforge.providers",
        "dropforge.untrusted",
    }


@pytest.mark.parametrize(
    "module",
    ["dropforge.backends.eventstream", "dropforge.serve.events", "lambdas.chat.incoming"],
)
def test_only_a_stream_reads_the_code_for_streams(cold_imports: set[str], module: str) -> None:
    assert module not in cold_imports
