"""Bedrock's Converse, every request and answer held against botocore's model of the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from botocore.stub import Stubber

from dropforge.backends.converse import ConverseBackend
from dropforge.errors import BackendError, RetryableError
from tests.unit.http_stub import Stub, hangs, replies

MODEL = "us.amazon.nova-lite-v1:0"
ASKED = [
    {"role": "system", "content": "You compare two answers."},
    {"role": "user", "content": "A or B?"},
]


@pytest.fixture
def bedrock() -> Iterator[Stubber]:
    with Stubber(boto3.client("bedrock-runtime")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def answer(*blocks: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": stop,
        "usage": {"inputTokens": 12, "outputTokens": 3, "totalTokens": 15},
        "metrics": {"latencyMs": 80},
    }


def request(
    messages: list[dict[str, Any]], system: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    limits = {"maxTokens": 50, "temperature": 0.0}
    wanted = {"modelId": MODEL, "messages": messages, "inferenceConfig": limits}
    return wanted | ({"system": system} if system else {})


def test_a_question_is_asked_at_temperature_0_with_the_system_message_apart(
    bedrock: Stubber,
) -> None:
    wanted = request(
        [{"role": "user", "content": [{"text": "A or B?"}]}],
        [{"text": "You compare two answers."}],
    )
    bedrock.add_response("converse", answer({"text": "A"}), wanted)
    said = ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50)
    assert (said, said.prompt_tokens, said.completion_tokens) == ("A", 12, 3)


def test_turns_alternate_and_blank_ones_are_left_out(bedrock: Stubber) -> None:
    wanted = request(
        [
            {"role": "user", "content": [{"text": "Hello"}, {"text": "Are you there?"}]},
            {"role": "assistant", "content": [{"text": "Yes"}]},
            {"role": "user", "content": [{"text": "Good"}]},
        ]
    )
    bedrock.add_response("converse", answer({"text": "Bye"}), wanted)
    turns = [("user", "Hello"), ("user", "Are you there?"), ("assistant", "Yes"), ("user", " \n")]
    messages = [{"role": role, "content": text} for role, text in [*turns, ("user", "Good")]]
    assert ConverseBackend(bedrock.client).complete(MODEL, messages, 50) == "Bye"


def test_what_a_model_thought_is_not_its_answer(bedrock: Stubber) -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "B is longer."}}}
    bedrock.add_response("converse", answer(thought, {"text": "A"}, {"text": "!"}))
    assert ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50) == "A!"


@pytest.mark.parametrize("stop", ["guardrail_intervened", "content_filtered"])
def test_an_answer_held_back_is_empty_though_its_tokens_count(bedrock: Stubber, stop: str) -> None:
    bedrock.add_response("converse", answer({"text": "I cannot say that."}, stop=stop))
    said = ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50)
    assert (said, said.completion_tokens) == ("", 3)


def test_an_answer_cut_off_keeps_its_text(bedrock: Stubber) -> None:
    bedrock.add_response("converse", answer({"text": '{"winner": "A'}, stop="max_tokens"))
    assert ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50) == '{"winner": "A'


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 429),
        ("ModelNotReadyException", 429),
        ("ModelTimeoutException", 408),
        ("ModelErrorException", 424),
        ("InternalServerException", 500),
        ("ServiceUnavailableException", 503),
        ("SomethingNew", 502),
    ],
)
def test_what_may_pass_is_asked_again(bedrock: Stubber, code: str, status: int) -> None:
    bedrock.add_client_error("converse", code, "busy", http_status_code=status)
    with pytest.raises(RetryableError, match=code):
        ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDeniedException", 403),
        ("ValidationException", 400),
        ("ResourceNotFoundException", 404),
    ],
)
def test_a_model_without_access_names_what_to_do(bedrock: Stubber, code: str, status: int) -> None:
    bedrock.add_client_error("converse", code, "no access", http_status_code=status)
    with pytest.raises(BackendError, match="no access") as caught:
        ConverseBackend(bedrock.client).complete(MODEL, ASKED, 50)
    assert not isinstance(caught.value, RetryableError)
    assert "bedrock_judges" in (caught.value.hint or "")


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    yield server
    server.stop()


def at(stub: Stub) -> ConverseBackend:
    limits = Config(read_timeout=0.2, retries={"total_max_attempts": 1})
    return ConverseBackend(boto3.client("bedrock-runtime", endpoint_url=stub.url, config=limits))


def test_an_answer_over_http_is_read(stub: Stub) -> None:
    stub.routes["/model/us.amazon.nova-lite-v1%3A0/converse"] = replies(200, answer({"text": "A"}))
    assert at(stub).complete(MODEL, ASKED, 50) == "A"
    assert stub.seen[0].json()["system"] == [{"text": "You compare two answers."}]


def test_no_answer_in_time_is_asked_again(stub: Stub) -> None:
    stub.routes["/model/us.amazon.nova-lite-v1%3A0/converse"] = hangs
    with pytest.raises(RetryableError) as caught:
        at(stub).complete(MODEL, ASKED, 50)
    assert isinstance(caught.value.__cause__, ReadTimeoutError)


def test_a_request_that_is_none_is_not_asked_again(stub: Stub) -> None:
    with pytest.raises(BackendError, match="none that Bedrock takes") as caught:
        at(stub).complete(MODEL, ASKED, 0)
    assert not isinstance(caught.value, RetryableError)
    assert stub.seen == []
