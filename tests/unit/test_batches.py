"""Batches of chat requests, by the SDK against a real HTTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from dropforge.backends.openai_api import OpenAIBackend
from dropforge.backends.openai_api.batches import KEPT_S, Batches, Ended, Pending, Request
from dropforge.errors import BackendError, RetryableError
from dropforge.providers import PRESETS
from tests.support.batch_provider import BatchProvider, running_batch_provider
from tests.support.provider import Fault, answers, drops, garbles, hangs


@pytest.fixture
def provider() -> Iterator[BatchProvider]:
    with running_batch_provider() as provider:
        provider.chat = lambda model, messages: f"{model} heard {messages[-1]['content']}"
        yield provider


@pytest.fixture
def batches(provider: BatchProvider, monkeypatch: pytest.MonkeyPatch) -> Batches:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    return made(provider)


def made(provider: BatchProvider, name: str = "openai") -> Batches:
    found = OpenAIBackend(provider.url, "sk", 0.5, PRESETS[name], settle=0.01).batches()
    assert found is not None
    return found


def limited(provider: BatchProvider, requests: int = 10, size: int = 10_000) -> Batches:
    client = OpenAI(base_url=provider.url, api_key="sk")
    return Batches(client, settle=0.01, most_requests=requests, most_bytes=size)


def request(name: str, text: str = "Why?") -> Request:
    return name, {"model": "small", "messages": [{"role": "user", "content": text}]}


REQUESTS = [request("a", "one"), request("b", "two"), request("c", "three")]


def ended(batches: Batches, batch_id: str) -> Ended:
    for _ in range(5):
        state = batches.poll(batch_id)
        if isinstance(state, Ended):
            return state
    pytest.fail("the batch does not end")


def test_a_batch_is_a_file_of_requests_and_a_create_that_names_it(
    batches: Batches, provider: BatchProvider
) -> None:
    assert batches.submit("judge-1", REQUESTS) == ("batch_1",)
    (created,) = provider.batches
    assert (created["endpoint"], created["completion_window"]) == ("/v1/chat/completions", "24h")
    assert created["metadata"] == {"dropforge_batch": "judge-1.0"}
    assert created["key"] == "judge-1.0"
    assert created["output_expires_after"] == {"anchor": "created_at", "seconds": KEPT_S}
    (file,) = provider.uploads
    assert (file["purpose"], file["filename"]) == ("batch", "dropforge-judge-1.0.jsonl")
    lines = [json.loads(line) for line in provider.contents["file-1"].splitlines()]
    assert [line["custom_id"] for line in lines] == ["a", "b", "c"]
    assert lines[0] == {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "small", "messages": [{"role": "user", "content": "one"}]},
    }


def test_azure_names_another_path(batches: Batches, provider: BatchProvider) -> None:
    made(provider, "azure").submit("judge-1", REQUESTS[:1])
    assert provider.batches[0]["endpoint"] == "/chat/completions"
    assert json.loads(provider.contents["file-1"])["url"] == "/chat/completions"


@pytest.mark.parametrize("name", ["bedrock", "together"])
def test_a_provider_of_another_protocol_has_no_batches(name: str) -> None:
    assert OpenAIBackend("http://127.0.0.1:1", "sk", preset=PRESETS[name]).batches() is None


def test_a_server_without_batches_says_so(batches: Batches, provider: BatchProvider) -> None:
    assert batches.offered()
    provider.has_batches = False
    assert not batches.offered()
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        batches.offered()


def test_answers_come_with_their_tokens_in_any_order(batches: Batches) -> None:
    (batch,) = batches.submit("judge-1", REQUESTS)
    assert batches.poll(batch) == Pending(0, 3)
    found = ended(batches, batch)
    assert found.answers == {
        "a": "small heard one",
        "b": "small heard two",
        "c": "small heard three",
    }
    assert (found.answers["b"].prompt_tokens, found.answers["b"].completion_tokens) == (7, 2)
    assert (found.failed, found.reason) == ({}, "")
    assert ended(batches, batch) == found


def test_a_refused_request_is_told_and_one_held_back_is_an_empty_answer(
    batches: Batches, provider: BatchProvider
) -> None:
    provider.refused = {
        "a": {"message": "The prompt is too long.", "code": "context_length_exceeded"},
        "b": {"message": "Filtered.", "code": "content_filter"},
    }
    found = ended(batches, *batches.submit("judge-1", REQUESTS))
    assert found.answers == {"b": "", "c": "small heard three"}
    assert found.failed == {"a": "The prompt is too long."}


def test_an_expired_batch_gives_what_was_done(batches: Batches, provider: BatchProvider) -> None:
    provider.ends, provider.undone = "expired", 2
    found = ended(batches, *batches.submit("judge-1", REQUESTS))
    assert found == Ended(found.answers, {}, "expired")
    assert list(found.answers) == ["a"]


def test_a_batch_that_failed_says_why(batches: Batches, provider: BatchProvider) -> None:
    provider.ends = "failed"
    assert ended(batches, *batches.submit("judge-1", REQUESTS)) == Ended(reason="failed: too many")


def test_a_batch_that_is_not_there_any_more_has_brought_nothing(
    batches: Batches, provider: BatchProvider
) -> None:
    assert batches.poll("batch_9") == Ended(reason="the provider does not know the batch")
    (batch,) = batches.submit("judge-1", REQUESTS)
    ended(batches, batch)
    provider.contents.clear()
    provider.contents["file-1"] = b"{}"
    provider.batches[0]["status"] = "completed"
    assert batches.poll(batch) == Ended()


BROKEN: list[bytes] = [b"{", b"null", b'{"custom_id": 3}', b'{"custom_id": "a", "response": 1}']


@pytest.mark.parametrize("line", [*BROKEN, b"\xff", b"[" * 100_000])
def test_a_line_that_cannot_be_read_is_no_answer(
    batches: Batches, provider: BatchProvider, line: bytes
) -> None:
    (batch,) = batches.submit("judge-1", REQUESTS)
    ended(batches, batch)
    output = provider.batches[0]["output_file_id"]
    provider.contents[output] = line + b"\n" + provider.contents[output]
    assert set(ended(batches, batch).answers) == {"a", "b", "c"}


def test_too_many_requests_become_several_batches(provider: BatchProvider) -> None:
    split = limited(provider, requests=2)
    assert split.submit("judge-1", REQUESTS) == ("batch_1", "batch_2")
    assert split.submit("judge-1", REQUESTS, again=True) == ("batch_1", "batch_2")
    assert len(provider.batches) == 2
    assert ended(split, "batch_2").answers == {"c": "small heard three"}


def test_requests_of_too_many_bytes_become_several_batches(provider: BatchProvider) -> None:
    assert limited(provider, size=350).submit("judge-1", REQUESTS) == ("batch_1", "batch_2")
    assert [len(provider.contents[f"file-{n}"].splitlines()) for n in (1, 2)] == [2, 1]
    assert all(file["bytes"] <= 350 for file in provider.uploads)
    with pytest.raises(BackendError, match="Request a is too large"):
        limited(provider, size=50).submit("judge-2", REQUESTS)


LOST: list[Fault] = [drops, hangs, garbles, answers(500), answers(503), answers(429), answers(409)]
NAMES = ["reset", "timeout", "half a JSON", "500", "503", "429", "409"]


@pytest.mark.parametrize("fault", LOST, ids=NAMES)
@pytest.mark.parametrize("kept", [True, False], ids=["accepted", "not accepted"])
def test_a_create_that_was_not_answered_makes_one_batch(
    batches: Batches, provider: BatchProvider, fault: Fault, kept: bool
) -> None:
    provider.batch_faults, provider.keeps_batch = [fault], kept
    if kept:
        assert batches.submit("judge-1", REQUESTS) == ("batch_1",)
    else:
        with pytest.raises(RetryableError):
            batches.submit("judge-1", REQUESTS)
    assert batches.submit("judge-1", REQUESTS, again=True) == ("batch_1",)
    assert len(provider.batches) == 1
    assert sum(order == "POST /batches" for order in provider.order) == 2 - kept


def test_a_batch_that_is_listed_late_is_found(batches: Batches, provider: BatchProvider) -> None:
    provider.batch_faults, provider.unlisted = [drops], 2
    assert batches.submit("judge-1", REQUESTS) == ("batch_1",)
    assert len(provider.batches) == 1


def test_a_killed_submit_finds_its_batch_again(batches: Batches, provider: BatchProvider) -> None:
    batches.submit("judge-1", REQUESTS)
    assert batches.submit("judge-1", REQUESTS, again=True) == ("batch_1",)
    assert len(provider.uploads) == 1
    assert batches.submit("judge-2", REQUESTS) == ("batch_2",)


@pytest.mark.parametrize(("status", "again"), [(401, False), (400, False), (500, True)])
def test_a_refusal_is_told(
    batches: Batches, provider: BatchProvider, status: int, again: bool
) -> None:
    provider.batch_faults, provider.keeps_batch = [answers(status)], False
    with pytest.raises(BackendError) as caught:
        batches.submit("judge-1", REQUESTS)
    assert isinstance(caught.value, RetryableError) is again


def test_a_poll_that_is_not_answered_is_repeated(batches: Batches, provider: BatchProvider) -> None:
    (batch,) = batches.submit("judge-1", REQUESTS)
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        batches.poll(batch)


def test_a_cancelled_batch_ends_and_cancelling_again_is_no_error(
    batches: Batches, provider: BatchProvider
) -> None:
    (batch,) = batches.submit("judge-1", REQUESTS)
    batches.cancel(batch)
    assert batches.poll(batch) == Ended(reason="cancelled")
    batches.cancel(batch)
    batches.cancel("batch_9")


def test_a_batch_that_goes_on_though_it_was_cancelled_is_told(
    batches: Batches, provider: BatchProvider
) -> None:
    (batch,) = batches.submit("judge-1", REQUESTS)
    provider.uncancelled = True
    with pytest.raises(BackendError):
        batches.cancel(batch)
    provider.batches[0]["status"] = "cancelling"
    batches.cancel(batch)
    assert isinstance(batches.poll(batch), Pending)


def test_nothing_to_ask_is_no_batch(batches: Batches, provider: BatchProvider) -> None:
    empty: list[tuple[str, dict[str, Any]]] = []
    assert batches.submit("judge-1", empty) == ()
    assert provider.batches == []
