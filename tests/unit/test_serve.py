from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve import (
    MAX_BODY_BYTES,
    MAX_MESSAGES,
    ChatRequest,
    Feedback,
    InvalidRequestError,
    ModelNotFoundError,
    NoChampionError,
    RequestTooLargeError,
    SimpleChat,
    UpstreamRateLimitError,
    parse,
)
from dropforge.serve.routing import (
    Champion,
    ModelVersion,
    Route,
    ServedProject,
    resolve,
    upstream_payload,
)

FIELDS = ChatRequest.__struct_fields__
HELLO = {"role": "user", "content": "Hello"}


class Shelf:
    """A registry in memory: one project, `shop`."""

    def __init__(
        self,
        champion: Champion | None = None,
        project: ServedProject | None = None,
        versions: tuple[ModelVersion, ...] = (),
    ) -> None:
        self._champion = champion
        self._project = project
        self._versions = {version.version: version for version in versions}

    def champion(self, project: str) -> Champion | None:
        return self._champion if project == "shop" else None

    def project(self, project: str) -> ServedProject | None:
        return self._project if project == "shop" else None

    def version(self, project: str, version: str) -> ModelVersion | None:
        return self._versions.get(version) if project == "shop" else None


FULL = Shelf(
    Champion("v2", "openai", "ft:shop:2"),
    ServedProject("openai", model="smollm2"),
    (
        ModelVersion("v1", "openai", "ft:shop:1"),
        ModelVersion("v2", "openai", "ft:shop:2"),
        ModelVersion("v3", "openai"),
    ),
)


def parse_json(body: Any, kind: type[Any] = ChatRequest) -> Any:
    return parse(json.dumps(body).encode(), kind)[0]


def test_request_keeps_every_field_as_it_was_sent() -> None:
    body = {"messages": [{**HELLO, "name": "Kim"}], "logit_bias": {"1": 2}, "x": [None, 1.5]}
    request, fields = parse(json.dumps(body).encode(), ChatRequest)
    assert fields == body
    assert request.messages[0].role == "user"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [HELLO, {"role": "user", "content": 7}]}, "messages[1].content"),
        ({"messages": [HELLO], "temperature": 3}, "temperature"),
        ({"messages": [HELLO], "max_tokens": 0}, "max_tokens"),
        ({"messages": [HELLO], "stream": "yes"}, "stream"),
        ({"messages": [HELLO], "model": ["shop"]}, "model"),
        ({"messages": [HELLO] * (MAX_MESSAGES + 1)}, "messages"),
    ],
)
def test_wrong_field_is_named(body: Any, param: str | None) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_json(body)
    assert caught.value.param == param
    assert caught.value.body()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 10_000 + b"}",
        b'{"a": 1e400}',
        b"[" * 100_000,
    ],
)
def test_body_that_is_no_json_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse(body, ChatRequest)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner),
)


@given(st.binary() | json_values.map(json.dumps).map(str.encode))
def test_any_bytes_parse_or_are_a_bad_request(body: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        parse(body, ChatRequest)


def test_body_limit_is_in_bytes() -> None:
    def body(size: int) -> bytes:
        empty = json.dumps({"messages": [{**HELLO, "content": ""}]}).encode()
        return empty[:-4] + b"x" * (size - len(empty)) + empty[-4:]

    parse(body(MAX_BODY_BYTES), ChatRequest)
    with pytest.raises(RequestTooLargeError):
        parse(body(MAX_BODY_BYTES + 1), ChatRequest)


def test_simple_chat_is_a_conversation_that_ends_with_the_message() -> None:
    turns = [HELLO, {"role": "assistant", "content": "Hi!"}]
    request = parse_json({"message": "Where is it?", "conversation": turns}, SimpleChat)
    assert request.payload()["messages"] == [*turns, {"role": "user", "content": "Where is it?"}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": ""},
        {"message": "x", "mesage": "typo"},
        {"message": "x", "conversation": [{"role": "system", "content": "obey"}]},
        {"message": "x", "conversation": [HELLO] * (MAX_MESSAGES + 1)},
    ],
)
def test_simple_chat_refuses(body: Any) -> None:
    with pytest.raises(InvalidRequestError):
        parse_json(body, SimpleChat)


@pytest.mark.parametrize("rating", [0, 2, "1", None, True])
def test_feedback_takes_only_up_or_down(rating: Any) -> None:
    with pytest.raises(InvalidRequestError):
        parse_json({"id": "chatcmpl-1", "rating": rating}, Feedback)


@pytest.mark.parametrize("answer", ["", "a b", "x" * 129, "ä", "a#b", "x\n"])
def test_feedback_refuses_an_odd_answer_id(answer: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_json({"id": answer, "rating": 1}, Feedback)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, Route("shop", "v2", "champion", "openai", "ft:shop:2")),
        ("shop", Route("shop", "v2", "champion", "openai", "ft:shop:2")),
        ("shop/champion", Route("shop", "v2", "champion", "openai", "ft:shop:2", named=True)),
        ("shop/base", Route("shop", "base", "base", "openai", "smollm2")),
        ("shop/v1", Route("shop", "v1", "pinned", "openai", "ft:shop:1")),
        ("shop/v2", Route("shop", "v2", "pinned", "openai", "ft:shop:2")),
    ],
)
def test_model_name_leads_to_a_route(name: str | None, expected: Route) -> None:
    assert resolve(name, "shop", FULL) == expected
    assert expected.model == f"shop/{expected.version}"


@pytest.mark.parametrize(
    "name", ["gpt-4o", "bank", "bank/base", "bank/v1", "shop/v3", "shop/v9", "shop/" + "v" * 300]
)
def test_name_beyond_the_tokens_project_or_versions_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(name, "shop", FULL)
    error = caught.value.body()["error"]
    assert (caught.value.status, error["code"]) == (404, "model_not_found")
    assert error["message"].startswith(f"The model `{name}` does not exist or you do not have")


def test_project_without_champion_says_what_to_do() -> None:
    shelf = Shelf(project=ServedProject("openai", model="smollm2"))
    with pytest.raises(NoChampionError) as caught:
        resolve("shop", "shop", shelf)
    error = caught.value.body()["error"]
    assert (caught.value.status, error["code"]) == (404, "no_champion")
    assert "exports/shop/" in error["message"]
    assert "`shop/base`" in error["message"]
    assert resolve("shop/base", "shop", shelf).arm == "base"


@pytest.mark.parametrize(
    ("shelf", "model_id"),
    [
        (Shelf(project=ServedProject("sagemaker", "smollm2", base_model_id="base")), "base"),
        (Shelf(project=ServedProject("sagemaker", "smollm2")), None),
        (
            Shelf(
                Champion("v1", "sagemaker", "adapter-1"),
                ServedProject("sagemaker", "smollm2"),
                (ModelVersion("v1", "sagemaker", "adapter-1", base_model_id="base"),),
            ),
            "base",
        ),
        (Shelf(), None),
    ],
)
def test_base_model_is_the_configured_or_the_champions(shelf: Shelf, model_id: str | None) -> None:
    if model_id is None:
        with pytest.raises(ModelNotFoundError):
            resolve("shop/base", "shop", shelf)
    else:
        assert resolve("shop/base", "shop", shelf).model_id == model_id


def test_system_prompt_is_added_where_the_caller_brings_none() -> None:
    route = resolve("shop", "shop", FULL)
    fields = {"messages": [HELLO], "model": "shop", "stream": True, "stream_options": {}, "x": 1}
    payload = upstream_payload(fields, route, "Be brief.")
    assert payload == {
        "messages": [{"role": "system", "content": "Be brief."}, HELLO],
        "model": "ft:shop:2",
        "x": 1,
    }
    assert fields["messages"] == [HELLO]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_callers_own_system_prompt_stays_alone(role: str) -> None:
    messages = [{"role": role, "content": "Mine."}, HELLO]
    payload = upstream_payload({"messages": messages}, resolve(None, "shop", FULL), "Be brief.")
    assert payload["messages"] == messages


def test_sagemaker_is_told_no_model_name() -> None:
    route = Route("shop", "v1", "champion", "sagemaker", "adapter-1")
    assert "model" not in upstream_payload({"messages": [HELLO], "model": "shop"}, route, None)


def test_error_body_is_openais() -> None:
    error = UpstreamRateLimitError("Too much.", hint="Wait.", retry_after="3")
    assert error.body() == {
        "error": {
            "message": "Too much. Wait.",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
