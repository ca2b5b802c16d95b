"""The chat function before a real HTTP server that plays its models, its registry and its queue."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from http_stub import FakeTable, Respond, Stub, StubHandler, replies

from dropforge.backends.connection import Connection
from dropforge.serve.streams import chunks
from lambdas.chat import handler as chat

ROOT = Path(__file__).parents[2]
CANARY = "my card is 4111 1111 1111 1111"
COMPLETION = {
    "id": "chatcmpl-upstream-1",
    "object": "chat.completion",
    "created": 1_795_435_199,
    "model": "ft:shop:2",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "It ships on Monday.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    "system_fingerprint": "fp_1",
}
CHUNKS: tuple[dict[str, Any], ...] = tuple(chunks(COMPLETION))
UPSTREAM = "/v1/chat/completions"
SAGEMAKER = "/endpoints/dropforge/invocations"

Invoke = Callable[..., "Result"]


def load(name: str) -> dict[str, Any]:
    path = ROOT / "tests" / "events" / f"apigateway_{name}.json"
    event: dict[str, Any] = json.loads(path.read_text())
    return event


class Result:
    """A response read to its end, as the caller sees it."""

    def __init__(self, response: chat.Response) -> None:
        self.status: int = response.head["statusCode"]
        self.headers: dict[str, str] = response.head["headers"]
        self.text = b"".join(response.parts()).decode()
        response.finish()

    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        return self.json()["error"]


def shop() -> FakeTable:
    """Project `shop`: champion v2, an older v1, v3 still in training. Nobody stands in for it."""
    rows = FakeTable()
    openai_model = {"backend": {"S": "openai"}}
    rows.put(
        "project#shop",
        "champion",
        version={"S": "v2"},
        model_id={"S": "ft:shop:2"},
        revision={"N": "3"},
        at={"N": "1795435100.25"},
        **openai_model,
    )
    rows.put(
        "project#shop",
        "config",
        hash={"S": "c0ffee"},
        model={"S": "smollm2"},
        system_prompt={"S": "You answer for Lumen."},
        serve={"M": {"fallback": {"L": []}, "max_input_tokens": {"N": "1000000"}}},
        **openai_model,
    )
    for number in (1, 2):
        rows.put(
            "project#shop",
            f"model#v{number}",
            version={"S": f"v{number}"},
            model_id={"S": f"ft:shop:{number}"},
            created_at={"N": f"17954350{number}0.5"},
            **openai_model,
        )
    rows.put("project#shop", "model#v3", version={"S": "v3"}, **openai_model)
    return rows


def providers(url: str) -> str:
    key = "arn:aws:secretsmanager:us-east-1:1:secret:key"
    return json.dumps({"openai": {"base_url": url, "secret_arn": key}})


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    """A server that the chat function's settings lead to; its containers' memory ends with it."""
    server = Stub()
    server.routes = {"/": rows, UPSTREAM: replies(200, COMPLETION)}
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]:
        monkeypatch.delenv(name)  # an end-to-end test's, before this one in the same process
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "DROPFORGE_TABLE": "registry",
        "DROPFORGE_PROVIDERS": providers(f"{server.url}/v1"),
        "DROPFORGE_ENDPOINT_NAME": "dropforge",
        "DROPFORGE_DEADLINE_SECONDS": "1.5",
    }.items():
        monkeypatch.setenv(name, value)
    opened: list[Connection] = []
    original = Connection.__init__

    def remember(self: Connection, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        opened.append(self)

    monkeypatch.setattr(Connection, "__init__", remember)
    yield server
    for connection in opened:
        connection.close()
    chat._front.cache_clear()
    chat._settings.cache_clear()
    server.stop()


def allowances(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What the requests from now on are about, AWS's operation or a path; seconds each may take."""
    told: list[tuple[str, float]] = []

    def noted(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(
            self: Connection, method: str, target: str, body: bytes, headers: Any, **more: Any
        ) -> Any:
            amz = {name.lower(): value for name, value in headers.items()}.get("x-amz-target", "")
            told.append((amz.rpartition(".")[2] or target, more["deadline"] - time.monotonic()))
            return original(self, method, target, body, headers, **more)

        return send

    for name in ("request", "stream"):
        monkeypatch.setattr(Connection, name, noted(getattr(Connection, name)))
    return told


def invoked(name: str = "chat_completions", **changes: Any) -> Result:
    """What the handler answers to an event of tests/events, some of it replaced."""
    event = {**load(name), **changes}
    if isinstance(event["body"], dict):
        event["body"] = json.dumps(event["body"])
    return Result(chat.handler(event, None))


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "shop", "messages": [{"role": "user", "content": CANARY}], **fields}


def upstream_requests(stub: Stub, path: str = UPSTREAM) -> list[Any]:
    return [request for request in stub.seen if request.path == path]


def by_name(**answers: Respond) -> Respond:
    """Each model answers in its own way: `ft:shop:2` is `v2`; `smollm2` is `base`."""

    def respond(handler: StubHandler) -> None:
        model = handler.request_seen.json()["model"]
        answers["base" if model == "smollm2" else "v" + model.rpartition(":")[2]](handler)

    return respond


def sse(*parts: dict[str, Any] | bytes) -> bytes:
    """Chunks as server-sent events; bytes stay as they are."""
    encoded = (
        p if isinstance(p, bytes) else b"data: %s\n\n" % json.dumps(p).encode() for p in parts
    )
    return b"".join(encoded)


DONE = b"data: [DONE]\n\n"


def streams(*parts: bytes, pause: float = 0.0, then: Respond | None = None) -> Respond:
    """A chunked answer, a part every `pause` seconds; it ends, or goes on as `then` does."""

    def respond(handler: StubHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
            time.sleep(pause)
        if then:
            then(handler)
        else:
            handler.wfile.write(b"0\r\n\r\n")

    return respond


def waits_for_its_reader(taken: threading.Semaphore, parts: Sequence[bytes]) -> Respond:
    """A stream whose parts come when the ones before have been `taken`; given up after 10 s."""

    def respond(handler: StubHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            handler.wfile.flush()
            if part is not parts[-1] and not taken.acquire(timeout=10):
                handler.close_connection = True
                return
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE))

    return respond
