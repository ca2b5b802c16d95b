"""Unmodified clients of the deployed API: OpenAI's for Python and for Node, curl, schemathesis."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from dropforge.backends.pointers import promote
from dropforge.backends.tokens import Wish
from tests.e2e.conftest import ROOT, Instance
from tests.support.http import hangs
from tests.support.provider import Provider, garbles

pytestmark = pytest.mark.slow
PROJECT = "clients"
BACKEND = "bedrock"
FIRST, SECOND = "stub-1", "stub-2"
MESSAGES: Any = [{"role": "user", "content": "Where is my parcel?"}]
NODE = ROOT / "tests/e2e/node"
SERVE = {
    "max_output_tokens": 64,
    "embeddings": {"backend": "openai", "model": "minilm-l6-v2"},
    "cache": {"exact": False},
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "track",
            "strict": True,
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}},
        },
    }
]


@pytest.fixture(scope="module")
def upstream(ending: dict[str, Provider]) -> Iterator[Provider]:
    """Who answers for the tuned versions; the base model is the local model server's."""
    provider = ending[BACKEND]
    before = provider.chat
    provider.chat = lambda model, messages: f"{model} says it is on its way"
    yield provider
    provider.chat, provider.pace, provider.chat_faults = before, 0.0, {}


@pytest.fixture(scope="module")
def project(instance: Instance, upstream: Provider) -> str:
    """A project with two versions at the provider, the first of them promoted."""
    registry = instance.registry
    registry.put_config(
        PROJECT, {"backend": "openai", "model": "smollm2-135m-instruct", "serve": SERVE}
    )
    for number, name in enumerate((FIRST, SECOND), 1):
        version = {"version": f"v{number}", "backend": BACKEND, "model_id": name}
        registry.put(PROJECT, f"model#v{number}", {**version, "created_at": time.time()})
    swap(instance, 1)
    return PROJECT


def swap(instance: Instance, number: int) -> None:
    """Make a version the champion."""
    version = {"version": f"v{number}", "backend": BACKEND, "model_id": f"stub-{number}"}
    promote(instance.registry, PROJECT, version, who="test", why="to see it", at=time.time())


@pytest.fixture
def token(instance: Instance, project: str) -> str:
    return instance.token_of(project)


@pytest.fixture
def client(instance: Instance, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{instance.api_url}/v1", api_key=token, max_retries=0)


def test_python_client_chats_streams_lists_and_embeds(
    client: openai.OpenAI, upstream: Provider
) -> None:
    raw = client.chat.completions.with_raw_response.create(model=PROJECT, messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content == "stub-1 says it is on its way"
    assert answer.model == f"{PROJECT}/v1"
    assert answer._request_id
    assert raw.headers["x-dropforge-arm"] == "champion"
    upstream.pace = 0.15
    began = time.monotonic()
    arrived = [
        (time.monotonic() - began, chunk.choices[0].delta.content or "")
        for chunk in client.chat.completions.create(model=PROJECT, messages=MESSAGES, stream=True)
    ]
    upstream.pace = 0.0
    assert "".join(text for _, text in arrived).strip() == answer.choices[0].message.content
    assert arrived[-1][0] - arrived[0][0] >= 0.15 * 6, "it came bit by bit, as it was written"
    names = [model.id for model in client.models.list()]
    assert {f"{PROJECT}/{name}" for name in ("champion", "base", "v1", "v2")} <= set(names)
    assert client.models.retrieve(f"{PROJECT}/v2").id == f"{PROJECT}/v2"
    found = client.embeddings.create(model=f"{PROJECT}/embeddings", input=["a parcel", "a lamp"])
    assert [len(entry.embedding) for entry in found.data] == [384, 384]


def test_python_client_asks_many_things_at_once(instance: Instance, token: str) -> None:
    async def ask() -> list[str]:
        url = f"{instance.api_url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=token, max_retries=0) as client:

            async def streamed() -> str:
                stream = await client.chat.completions.create(
                    model=PROJECT, messages=MESSAGES, stream=True
                )
                return "".join([c.choices[0].delta.content or "" async for c in stream])

            return list(await asyncio.gather(*(streamed() for _ in range(6))))

    assert {text.strip() for text in asyncio.run(ask())} == {"stub-1 says it is on its way"}


def test_tools_and_json_mode_reach_the_upstream_unchanged(
    client: openai.OpenAI, upstream: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "track", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    monkeypatch.setattr(upstream, "chat", lambda model, messages: {"choices": [choice]})
    schema: Any = {"name": "order", "strict": True, "schema": {"type": "object"}}
    sent: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "track"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "logit_bias": {"50256": -100},
        "seed": 7,
    }
    answer = client.chat.completions.create(model=PROJECT, messages=MESSAGES, **sent)
    [asked] = answer.choices[0].message.tool_calls or []
    assert asked.model_dump() == call
    request = upstream.chats[-1]
    assert {name: request[name] for name in sent} == sent
    assert request["messages"] == MESSAGES
    client.chat.completions.create(
        model=PROJECT, messages=MESSAGES, response_format={"type": "json_object"}
    )
    assert upstream.chats[-1]["response_format"] == {"type": "json_object"}


def test_python_client_raises_its_own_errors(
    client: openai.OpenAI, instance: Instance, upstream: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = client.chat.completions.create
    wrong = openai.OpenAI(base_url=f"{instance.api_url}/v1", api_key="df-no", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        wrong.models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="somebody-else", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        create(model=PROJECT, messages=MESSAGES, temperature=7)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        create(model=PROJECT, messages=MESSAGES, max_tokens=65)
    monkeypatch.setattr(upstream, "chat_faults", {SECOND: throttles})
    with pytest.raises(openai.RateLimitError) as limited:
        create(model=f"{PROJECT}/v2", messages=MESSAGES)
    assert limited.value.response.headers["retry-after"] == "7"
    monkeypatch.setattr(upstream, "chat_faults", {FIRST: garbles})
    with pytest.raises(openai.InternalServerError) as failed:
        create(model=f"{PROJECT}/v1", messages=MESSAGES)
    assert isinstance(failed.value, openai.APIStatusError)
    assert failed.value.type == "server_error"


def throttles(handler: Any) -> None:
    body = b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'
    handler.send_response(429)
    handler.send_header("Retry-After", "7")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def environment(instance: Instance, token: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "DROPFORGE_API_URL": instance.api_url,
        "DROPFORGE_TOKEN": token,
        "DROPFORGE_MODEL": PROJECT,
    }


def node() -> str:
    path = shutil.which("node")
    assert path, "Node 20 or newer is part of what Dropforge needs"
    assert (NODE / "node_modules/openai").is_dir(), "run `make setup`"
    return path


def test_node_client_chats_streams_lists_embeds_and_raises_its_own_errors(
    instance: Instance, token: str
) -> None:
    done = subprocess.run(
        [node(), NODE / "client.mjs", "once"],
        env=environment(instance, token),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    said = "stub-1 says it is on its way"
    assert found["completion"]["choices"][0]["message"]["content"] == said
    assert found["request"]
    assert found["headers"]["x-dropforge-model"] == f"{PROJECT}/v1"
    assert found["streamed"]["text"].strip() == said
    assert found["streamed"]["reason"] == "stop"
    assert f"{PROJECT}/champion" in found["listed"]
    assert found["retrieved"] == f"{PROJECT}/base"
    assert found["dimensions"] == [384, 384]
    assert [(e["name"], e["status"], e["code"]) for e in found["errors"]] == [
        ("AuthenticationError", 401, "invalid_api_key"),
        ("NotFoundError", 404, "model_not_found"),
        ("BadRequestError", 400, found["errors"][2]["code"]),
        ("BadRequestError", 400, "invalid_request"),
    ]


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_curl_asks_and_streams(instance: Instance, token: str) -> None:
    headers = ("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json")
    whole = curl(f"{instance.api_url}/v1/chat", *headers, "-d", '{"message": "Where is it?"}')
    assert json.loads(whole)["message"] == "stub-1 says it is on its way"
    body = json.dumps({"model": PROJECT, "messages": MESSAGES, "stream": True})
    events = curl("-N", "-i", f"{instance.api_url}/v1/chat/completions", *headers, "-d", body)
    head, _, rest = events.replace("\r\n", "\n").partition("\n\n")
    assert "content-type: text/event-stream" in head.lower()
    assert rest.startswith("data: {")
    assert rest.endswith("data: [DONE]\n\n")
    assert json.loads(curl(f"{instance.api_url}/v1/models"))["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("slash", ["", "/"])
def test_page_and_description_are_public(instance: Instance, slash: str) -> None:
    page = curl("-i", instance.api_url + slash)
    assert "200" in page.splitlines()[0]
    assert "<title>Dropforge</title>" in page
    assert "content-security-policy: default-src 'none'" in page.lower()
    described = json.loads(curl(f"{instance.api_url}/openapi.json"))
    assert described == json.loads((ROOT / "dropforge/serve/openapi.json").read_text())


CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,negative_data_rejection,ignored_auth"
)


def test_schemathesis_finds_nothing_that_the_description_does_not_say(
    instance: Instance, token: str, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{instance.api_url}/openapi.json"),
        *("--url", instance.api_url, "--header", f"Authorization: Bearer {token}"),
        *("--checks", CHECKS, "--max-examples", "25", "--seed", "20261123", "--no-color"),
        *("--generation-database", "none", "--workers", "1", "--request-timeout", "30"),
        *("--phases", "examples,coverage,fuzzing", "--rate-limit", "20/s"),
        *("--report", "har", "--report-har-path", tmp_path / "all.har"),
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={
            **environment(instance, token),
            "HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.known_models",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    answered = {
        (entry["request"]["url"].removeprefix(instance.api_url), entry["response"]["status"])
        for entry in json.loads((tmp_path / "all.har").read_text())["log"]["entries"]
    }
    for route in ("chat", "chat/completions", "embeddings", "feedback"):
        assert {200, 400, 401} <= {status for url, status in answered if url == f"/v1/{route}"}
    assert (f"/v1/models/{PROJECT}%2Fbase", 200) in answered


class Stream:
    """A client that asks and reads streams, one after the other, until it is told 401.

    Attributes:
        seen: the model that each answer named, or its error, in their order.
    """

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.over = threading.Event()

    def note(self, found: dict[str, Any]) -> None:
        error = found.get("error")
        if error is None and (found["reason"] != "stop" or not found["text"].strip()):
            error = {"status": "cut off", **found}
        self.seen.append(error or found["model"])
        if error and error["status"] == 401:
            self.over.set()

    def since(self, count: int, model: str) -> bool:
        return model in self.seen[count:]


class PythonStream(Stream):
    def __init__(self, instance: Instance, token: str) -> None:
        super().__init__()
        url = f"{instance.api_url}/v1"
        self._client = openai.OpenAI(base_url=url, api_key=token, max_retries=0)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self.over.is_set():
            try:
                self.note(self._read())
            except openai.APIStatusError as error:
                self.note({"error": {"status": error.status_code, "code": error.code}})
            except openai.APIError as error:
                self.note({"error": {"status": type(error).__name__, "code": error.code}})

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = {"text": "", "model": "", "reason": None}
        create = self._client.chat.completions.create
        for chunk in create(model=PROJECT, messages=MESSAGES, stream=True):
            found["model"] = chunk.model
            for choice in chunk.choices:
                found["text"] += choice.delta.content or ""
                found["reason"] = choice.finish_reason or found["reason"]
        return found


class NodeStream(Stream):
    def __init__(self, instance: Instance, token: str) -> None:
        super().__init__()
        self.process = subprocess.Popen(
            [node(), NODE / "client.mjs", "forever"],
            env=environment(instance, token),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(target=self._run)
        self.reader.start()

    def _run(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.note(json.loads(line))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.reader.join(10)


def until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_clients_stream_on_while_champion_swaps_upstream_hangs_and_until_token_is_revoked(
    instance: Instance, project: str, upstream: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "pace", 0.05)
    wish = Wish(projects=(project,), name="two clients")
    token_id, token = instance.tokens.create(wish, time.time())
    python, nodes = PythonStream(instance, token), NodeStream(instance, token)
    clients = (python, nodes)

    def all_see(model: str, seconds: float) -> None:
        counts = [len(client.seen) for client in clients]
        until(
            f"no answer of {model}: {[client.seen[-3:] for client in clients]}",
            lambda: all(c.since(n, model) for c, n in zip(clients, counts, strict=True)),
            seconds,
        )

    try:
        all_see(f"{project}/v1", 30)
        swap(instance, 2)
        all_see(f"{project}/v2", 30)
        monkeypatch.setattr(upstream, "chat_faults", {SECOND: hangs})
        all_see(f"{project}/v1", 120)  # the champion before it answers in its place
        monkeypatch.setattr(upstream, "chat_faults", {})
        all_see(f"{project}/v2", 90)
        assert {json.dumps(one) for client in clients for one in client.seen} == {
            f'"{project}/v1"',
            f'"{project}/v2"',
        }, "neither swap nor hang was seen as an error"
        instance.dropforge("tokens", "revoke", token_id)
        until("the revoked token still works", lambda: all(c.over.is_set() for c in clients), 20)
        assert [client.seen[-1]["code"] for client in clients] == ["invalid_api_key"] * 2
        errors = [one for client in clients for one in client.seen[:-1] if isinstance(one, dict)]
        assert errors == []
    finally:
        swap(instance, 1)
        python.over.set()
        nodes.stop()
