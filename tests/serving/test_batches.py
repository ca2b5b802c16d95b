"""Batches of chats from end to end, with an unmodified SDK; the model is the tiny one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types import Batch

from dropforge.backends.openai_api import OpenAIBackend
from dropforge.backends.openai_api.batches import Ended, Pending
from dropforge.judge import Outcome
from dropforge.providers import PRESETS
from lambdas.judge import collect
from serving.batch_store import InvalidBatchError, read_requests
from serving.weights import BASE_MODEL
from tests.serving.conftest import ROOT, wait_until_ready
from tests.serving.test_judge import GOOD, VAGUE, prompt
from tests.support.provider import Provider
from tests.support.world import World
from tests.unit.test_judge_cheap import TICKETS, Judging

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
JUDGE = "reference-judge"


class Server:
    """A model server that can be stopped, killed and started again."""

    def __init__(self, state: Path, weights: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.state = state
        self._weights = weights
        self.start()

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--state", str(self.state)]
        command = [sys.executable, "-m", "serving.server", *arguments]
        self._process = subprocess.Popen([*command, "--weights", str(self._weights)], cwd=ROOT)
        wait_until_ready(self.url, self._process)

    def stop(self, sign: int = signal.SIGTERM) -> None:
        self._process.send_signal(sign)
        self._process.wait(timeout=60)


@pytest.fixture(scope="module")
def running(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    weights = tmp_path_factory.mktemp("weights")
    (weights / BASE_MODEL).symlink_to(tiny)
    server = Server(tmp_path_factory.mktemp("state"), weights)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sdk(running: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def lifecycle(running: Server) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes lifecycle.json."""
    file = running.state / "lifecycle.json"
    yield lambda told: (file.write_text(json.dumps(told)), None)[1]
    file.unlink(missing_ok=True)


def body(text: str, model: str = BASE_MODEL, tokens: int = 4) -> dict[str, Any]:
    asked = [{"role": "user", "content": text}]
    return {"model": model, "messages": asked, "max_tokens": tokens}


def line(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": asked}


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def created(sdk: openai.OpenAI, content: bytes, **more: Any) -> Batch:
    file = sdk.files.create(file=("asked.jsonl", content), purpose="batch")
    return sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", **more)


def finished(sdk: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        batch = sdk.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.05)
    pytest.fail(f"the batch is still {batch.status}")


def lines(sdk: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file by custom id; there is none, and so no line, without an id."""
    found = sdk.files.content(file_id).text.splitlines() if file_id else []
    return {row["custom_id"]: row for row in map(json.loads, found)}


@pytest.mark.slow
def test_a_batch_gives_the_answers_that_the_chat_gives(sdk: openai.OpenAI) -> None:
    asked = {"a": body("One?"), "b": body("Two?", tokens=7)}
    batch = created(sdk, jsonl(*(line(n, b) for n, b in asked.items())), metadata={"run": "1"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    assert (batch.expires_at or 0) - batch.created_at == 24 * 3600
    done = finished(sdk, batch)
    assert (done.status, done.metadata, done.error_file_id) == ("completed", {"run": "1"}, None)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 2, "completed": 2, "failed": 0}
    assert batch.created_at <= (done.in_progress_at or 0) <= (done.completed_at or 0)
    found = lines(sdk, done.output_file_id)
    assert set(found) == {"a", "b"}
    for name, one in asked.items():
        direct = sdk.chat.completions.create(**one).to_dict()
        response = found[name]["response"]
        assert (response["status_code"], found[name]["error"]) == (200, None)
        for field in ("choices", "usage", "model", "object"):
            assert response["body"][field] == direct[field]
    file = sdk.files.retrieve(done.output_file_id or "")
    assert file.purpose == "batch_output"


@pytest.mark.slow
def test_requests_that_fail_stand_in_the_error_file(sdk: openai.OpenAI) -> None:
    judged = body(prompt(GOOD, VAGUE), JUDGE)
    batch = created(sdk, jsonl(line("good", judged), line("bad", body("no fences", JUDGE))))
    done = finished(sdk, batch)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
    (right,) = lines(sdk, done.output_file_id).values()
    assert (
        json.loads(right["response"]["body"]["choices"][0]["message"]["content"])["winner"] == "A"
    )
    (wrong,) = lines(sdk, done.error_file_id).values()
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("bad", 400)
    assert wrong["response"]["body"]["error"]["code"] == "invalid_prompt"


@pytest.mark.slow
def test_an_unknown_model_fails_every_request(sdk: openai.OpenAI) -> None:
    done = finished(sdk, created(sdk, jsonl(line("a", body("One?", "gpt-nine")))))
    assert (done.status, done.output_file_id) == ("completed", None)
    assert lines(sdk, done.error_file_id)["a"]["response"]["status_code"] == 404


@pytest.mark.slow
def test_a_file_that_is_wrong_fails_the_batch_with_its_line(sdk: openai.OpenAI) -> None:
    done = finished(sdk, created(sdk, jsonl(line("a", body("One?"))) + b"{\n"))
    assert (done.status, done.output_file_id) == ("failed", None)
    assert done.errors is not None
    (error,) = done.errors.data or []
    assert (error.code, error.line) == ("invalid_json_line", 2)


@pytest.mark.slow
def test_a_batch_of_no_file_or_no_chat_is_refused(sdk: openai.OpenAI) -> None:
    file = sdk.files.create(file=("asked.jsonl", b"{}"), purpose="user_data")
    for name in (file.id, "file-none"):
        with pytest.raises(openai.BadRequestError, match=name):
            sdk.batches.create(input_file_id=name, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.BadRequestError, match="is not one of"):
        sdk.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
    for call in (sdk.batches.retrieve, sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call("batch_none")


@pytest.mark.slow
def test_a_cancelled_batch_keeps_what_was_done(sdk: openai.OpenAI) -> None:
    many = jsonl(*(line(f"r{n}", body(f"Tell me {n}", tokens=200)) for n in range(200)))
    batch = created(sdk, many)
    while not (counts := sdk.batches.retrieve(batch.id).request_counts) or not counts.completed:
        time.sleep(0.02)
    assert sdk.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = finished(sdk, batch)
    assert (done.status, done.error_file_id) == ("cancelled", None)
    assert done.request_counts is not None
    assert 0 < done.request_counts.completed < 200
    assert len(lines(sdk, done.output_file_id)) == done.request_counts.completed
    with pytest.raises(openai.ConflictError, match="cancelled"):
        sdk.batches.cancel(batch.id)


@pytest.mark.slow
def test_an_expired_batch_says_which_requests_were_not_done(
    sdk: openai.OpenAI, lifecycle: Callable[[dict[str, Any]], None]
) -> None:
    lifecycle({"batch_seconds": 0})
    done = finished(sdk, created(sdk, jsonl(line("a", body("One?")), line("b", body("Two?")))))
    assert (done.status, done.output_file_id) == ("expired", None)
    undone = lines(sdk, done.error_file_id)
    assert set(undone) == {"a", "b"}
    assert {row["error"]["code"] for row in undone.values()} == {"batch_expired"}


@pytest.mark.slow
def test_batches_are_listed_the_newest_first_and_by_pages(sdk: openai.OpenAI) -> None:
    ids = [created(sdk, jsonl(line("a", body("One?")))).id for _ in range(3)]
    listed = [batch.id for batch in sdk.batches.list(limit=2)]
    assert listed[:3] == ids[::-1]
    assert len(listed) == len(set(listed))


@pytest.mark.slow
def test_a_repeated_create_is_the_same_batch(sdk: openai.OpenAI) -> None:
    header = {"Idempotency-Key": "one"}
    first = created(sdk, jsonl(line("a", body("One?"))), extra_headers=header)
    second = created(sdk, jsonl(line("a", body("One?"))), extra_headers=header)
    assert first.id == second.id


@pytest.mark.slow
@pytest.mark.parametrize(("name", "path"), [("local", "/v1"), ("azure", "/openai/v1")])
def test_our_client_and_the_server_understand_each_other(
    running: Server, name: str, path: str
) -> None:
    batches = OpenAIBackend(running.url + path, "any", 30, PRESETS[name], settle=0.05).batches()
    assert batches is not None
    assert batches.offered()
    requests = [("a", body("One?")), ("b", body("Two?"))]
    (batch,) = batches.submit(f"judge-{name}", requests)
    assert batches.submit(f"judge-{name}", requests, again=True) == (batch,)
    deadline = time.monotonic() + 60
    while isinstance(state := batches.poll(batch), Pending) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert isinstance(state, Ended)
    assert set(state.answers) == {"a", "b"}
    assert state.answers["a"].completion_tokens is not None
    assert (state.failed, state.reason) == ({}, "")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_batch_goes_on_after_a_restart(
    running: Server, sdk: openai.OpenAI, sign: signal.Signals
) -> None:
    count = 60
    many = jsonl(*(line(f"r{n}", body(f"Tell me {n}", tokens=200)) for n in range(count)))
    batch = created(sdk, many)
    while not (counts := sdk.batches.retrieve(batch.id).request_counts) or not counts.completed:
        time.sleep(0.02)
    running.stop(sign)
    results = running.state / "batches" / batch.id / "results.jsonl"
    before = results.read_bytes()
    results.write_bytes(before + b'{"custom_id": "r5')
    running.start()
    done = finished(sdk, batch)
    assert done.status == "completed"
    assert set(lines(sdk, done.output_file_id)) == {f"r{n}" for n in range(count)}
    assert sdk.files.content(done.output_file_id or "").read().startswith(before)
    assert 0 < before.count(b"\n") < count
    assert httpx.get(f"{running.url}/health").status_code == 200


GOOD_LINE = line("a", body("One?"))


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        (b"\n \n", "empty_file", None),
        (b'{"custom_id": "a"}', "missing_required_parameter", 1),
        (b"[]", "missing_required_parameter", 1),
        (b"\n[", "invalid_json_line", 2),
        (b"[" * 100_000, "invalid_json_line", 1),
        (b"\xff", "invalid_json_line", 1),
        (jsonl(GOOD_LINE, GOOD_LINE), "duplicate_custom_id", 2),
        (jsonl(GOOD_LINE | {"url": "/v1/embeddings"}), "invalid_url", 1),
        (jsonl(GOOD_LINE | {"method": "GET"}), "invalid_url", 1),
        (jsonl(GOOD_LINE, line("b", body("Two?", "other"))), "mismatched_model", None),
        (b"{}\n" * 50_001, "request_limit_exceeded", None),
    ],
)
def test_an_input_file_is_checked(content: bytes, code: str, number: int | None) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        read_requests(content, CHAT)
    assert (caught.value.code, caught.value.line) == (code, number)


@pytest.mark.slow
def test_a_look_is_judged_cheaply_by_the_reference_judge(
    running: Server, world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DROPFORGE_JUDGE_BASE_URL", f"{running.url}/v1")
    known = {ticket.prompt[0].content: ticket.reference for ticket in TICKETS}
    provider.chat = lambda model, messages: (
        known[messages[-1]["content"]] if model == "ft:tuned" else "I do not know."
    )
    look = Judging(world, f"speed: cheap, model: {JUDGE}, samples: 6, batch: 3")
    look.answer()
    look.submit()
    deadline = time.monotonic() + 60
    while not collect.handler(look.state, None)["done"] and time.monotonic() < deadline:
        time.sleep(0.2)
    found = look.samples()
    assert [sample.judged["base"].outcome for sample in found] == [Outcome.WIN] * 6
    assert all(sample.usage["judge"].prompt_tokens for sample in found)
    newest = httpx.get(f"{running.url}/v1/batches").json()["data"][0]
    assert newest["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
