from __future__ import annotations

import json
from typing import Any

import pytest

from dropforge.chat import encode_lines, training_line
from dropforge.chat_rules import problem, problems
from tests.support.tickets import example

USER, AGENT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}


def line(*messages: Any, **more: Any) -> bytes:
    return json.dumps({"messages": messages, **more}).encode()


@pytest.mark.parametrize(
    "good",
    [
        line(USER, AGENT),
        line({"role": "system", "content": "Be kind."}, USER, AGENT),
        line(USER, AGENT, USER, AGENT),
        line(USER, {**AGENT, "weight": 0}, USER, {**AGENT, "weight": 1}),
        line(
            USER,
            {"role": "assistant", "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "5"},
            AGENT,
        ),
        line(USER, AGENT, parallel_tool_calls=False),
    ],
)
def test_line_that_providers_take_has_no_problem(good: bytes) -> None:
    assert problem(good) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[]", "not a chat"),
        (b"{}", "not a chat"),
        (b'{"messages": "hello"}', "not a chat"),
        (line(), "no messages"),
        (line(USER), "last message is not the assistant's"),
        (line(AGENT), "no message of a user"),
        (line({"role": "customer", "content": "Hi"}, AGENT), "message 1 has an unknown role"),
        (line(USER, {"role": "assistant", "content": ""}), "message 2 is empty"),
        (line({"role": "user", "content": None}, AGENT), "message 1 is empty"),
        (line(USER, {"role": "system", "content": "x"}, AGENT), "message 2 is a system message"),
        (line(USER, {**AGENT, "weight": 2}), "message 2 has a weight"),
        (line({"role": "user", "content": 5}, AGENT), "not a chat"),
    ],
)
def test_line_that_providers_refuse_is_told(bad: bytes, said: str) -> None:
    found = problem(bad)
    assert found is not None
    assert said in found


def test_problems_name_their_lines() -> None:
    assert [number for number, _ in problems([line(USER, AGENT), b"{", line(USER)])] == [2, 3]


def test_what_is_uploaded_for_training_is_in_order() -> None:
    lines = encode_lines(training_line(example(i), "Be kind.") for i in range(20)).splitlines()
    assert problems(lines) == []
