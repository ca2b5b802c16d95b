"""The OpenAPI document says what is served, no more and no less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest
from chat_front import Result, invoked
from http_stub import Stub

from dropforge import serve
from dropforge.serve import limits
from dropforge.serve.arms import Arm
from lambdas.chat import handler as chat
from lambdas.chat import static
from lambdas.chat.edge import CacheState

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
DOCUMENT: dict[str, Any] = json.loads(static.DESCRIPTION.read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
REQUESTS = (serve.ChatRequest, serve.SimpleChat, serve.Feedback, serve.EmbeddingRequest)
OPERATIONS = {
    (path, verb.upper()): operation
    for path, verbs in DOCUMENT["paths"].items()
    for verb, operation in verbs.items()
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
OPEN = {"/", "/health", "/openapi.json"}


def compared(schema: Any) -> Any:
    """A schema without words, and without the lengths of lists, which stand elsewhere."""
    if isinstance(schema, list):
        return [compared(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    words = ("title", "description", "default", "maxItems")
    kept = {key: compared(value) for key, value in schema.items() if key not in words}
    if "properties" in schema:  # a field may be called as a word is
        kept["properties"] = {k: compared(v) for k, v in schema["properties"].items()}
    if "enum" in kept:
        kept["enum"] = sorted(kept["enum"])
    if "pattern" in kept:
        kept["pattern"] = re.sub(r"\\A(.*)\\Z", r"^\1$", kept["pattern"])
    return (
        kept if kept.get("required") != [] else {k: v for k, v in kept.items() if k != "required"}
    )


def test_document_describes_exactly_the_routes() -> None:
    served_routes = {(path, verb) for path, verbs in chat.ROUTES.items() for verb in verbs}
    assert set(OPERATIONS) == served_routes


def test_requests_have_the_fields_that_are_checked() -> None:
    _, ours = msgspec.json.schema_components(REQUESTS, ref_template="#/components/schemas/{name}")
    for name, schema in ours.items():
        assert compared(SCHEMAS[name]) == compared(schema), name


def test_embeddings_have_the_fields_that_are_answered() -> None:
    _, ours = msgspec.json.schema_components(
        [serve.EmbeddingList], ref_template="#/components/schemas/{name}"
    )
    for name, schema in ours.items():
        always = {"required": list(schema["properties"])} if schema["required"] else {}
        assert compared(SCHEMAS[name]) == compared({**schema, **always}), name


def test_lists_have_the_lengths_that_are_checked() -> None:
    fields = SCHEMAS["ChatRequest"]["properties"]
    assert fields["messages"]["maxItems"] == serve.MAX_MESSAGES
    assert SCHEMAS["SimpleChat"]["properties"]["conversation"]["maxItems"] == serve.MAX_MESSAGES
    assert fields["stop"]["anyOf"][1]["maxItems"] == limits.MAX_STOPS
    assert fields["tools"]["anyOf"][0]["maxItems"] == limits.MAX_TOOLS
    said = DOCUMENT["components"]["responses"]["TooLarge"]["description"]
    assert str(serve.MAX_BODY_BYTES) in said


def test_headers_have_the_values_that_are_sent() -> None:
    headers = DOCUMENT["components"]["headers"]
    assert set(headers["Arm"]["schema"]["enum"]) == set(get_args(Arm))
    assert set(headers["CacheState"]["schema"]["enum"]) == set(get_args(CacheState))


def test_every_error_that_can_be_told_is_documented() -> None:
    told = {error.status for error in errors(serve.ChatError)} - {404, 405, 409}
    asking = [OPERATIONS[path, "POST"] for path in ("/v1/chat", "/v1/chat/completions")]
    for operation in asking:
        assert {str(status) for status in told} <= set(operation["responses"])
    assert "409" in OPERATIONS["/v1/feedback", "POST"]["responses"]


def errors(root: type[serve.ChatError]) -> Iterator[type[serve.ChatError]]:
    yield root
    for below in root.__subclasses__():
        yield from errors(below)


def test_token_is_asked_for_wherever_there_is_something_to_keep() -> None:
    assert {path for (path, _), found in OPERATIONS.items() if found.get("security") == []} == OPEN
    assert DOCUMENT["security"] == [{"token": []}]


def test_every_reference_leads_somewhere_and_everything_is_used() -> None:
    text = json.dumps(DOCUMENT)
    named = set(re.findall(r'"\$ref": "#/components/(\w+)/(\w+)"', text))
    kept = {
        (kind, name)
        for kind, entries in DOCUMENT["components"].items()
        for name in entries
        if kind != "securitySchemes"
    }
    assert named == kept


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid(name: str) -> None:
    jsonschema_rs.meta.validate({"$schema": DIALECT, **SCHEMAS[name]})


def answer_schema(path: str, verb: str) -> Any:
    content = OPERATIONS[path, verb]["responses"]["200"]["content"]
    return {**content["application/json"]["schema"], "components": DOCUMENT["components"]}


@pytest.mark.parametrize(
    ("event", "path", "verb"),
    [
        ("chat", "/v1/chat", "POST"),
        ("chat_completions", "/v1/chat/completions", "POST"),
        ("models", "/v1/models", "GET"),
        ("model", "/v1/models/{id}", "GET"),
        ("feedback", "/v1/feedback", "POST"),
        ("health", "/health", "GET"),
    ],
)
def test_answers_and_headers_are_as_described(stub: Stub, event: str, path: str, verb: str) -> None:
    result = invoked(event)
    assert result.status == 200
    jsonschema_rs.validate(answer_schema(path, verb), result.json())
    described = OPERATIONS[path, verb]["responses"]["200"]["headers"]
    sent = {name for name in result.headers if name.startswith("x-")}
    assert sent - {"x-dropforge-cache"} <= set(described)
    assert set(described) - {"x-dropforge-fallback"} <= sent


def test_errors_are_as_described(stub: Stub) -> None:
    schema = {**SCHEMAS["Error"], "components": DOCUMENT["components"]}
    for changes in ({"body": "{"}, {"resource": "/nowhere"}, {"body": {"messages": []}}):
        result: Result = invoked(**changes)
        assert result.status in (400, 404)
        jsonschema_rs.validate(schema, result.json())


def test_document_is_served_without_a_token_as_it_is(stub: Stub) -> None:
    result = invoked("health", resource="/openapi.json", path="/openapi.json")
    assert (result.status, result.json()) == (200, DOCUMENT)
    assert result.headers["Content-Type"] == "application/json"
    assert "max-age" in result.headers["Cache-Control"]


def test_page_is_served_under_a_policy_that_runs_its_own_script_only(stub: Stub) -> None:
    result = invoked("health", resource="/", path="/")
    assert result.headers["Content-Type"] == "text/html; charset=utf-8"
    assert result.text == static.PAGE.read_text()
    policy = result.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for evil in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert evil not in result.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", result.text)
