"""The chat-format rules that the fine-tuning protocols share, checked before anything is uploaded.

From OpenAI's "Fine-tuning: data preparation" and the checks its API makes of a file: every line an
object with `messages`; roles system, user, assistant (developer, tool and function pass through);
texts not empty; the last word the assistant's; nothing that a loss could not be computed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dropforge.chat import Message

MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""Tokens a chat template adds to each message and to each reply (OpenAI cookbook, "How to count
tokens"; ChatML and Llama 3 templates add as many or one more)."""


class _Line(msgspec.Struct):
    messages: list[_Said]


class _Said(msgspec.Struct):
    role: str
    content: str | None = None
    tool_calls: list[Any] | None = None
    weight: int | None = None


_decoder = msgspec.json.Decoder(_Line)
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_FIRST = frozenset({"system", "developer"})


def problem(line: bytes) -> str | None:
    """What is wrong with a line of training JSONL; None where a provider will take it."""
    try:
        messages = _decoder.decode(line).messages
    except msgspec.ValidationError as error:
        return f"not a chat: {error}"
    except (ValueError, RecursionError):
        return "not valid JSON"
    if not messages:
        return "no messages"
    if messages[-1].role != "assistant":
        return "the last message is not the assistant's"
    asked = False
    for place, message in enumerate(messages):
        role = message.role
        if role not in _ROLES:
            return f"message {place + 1} has an unknown role"
        if not message.content and not message.tool_calls:
            return f"message {place + 1} is empty"
        if role in _FIRST and place:
            return f"message {place + 1} is a system message after the first"
        if message.weight is not None and message.weight not in (0, 1):
            return f"message {place + 1} has a weight that is neither 0 nor 1"
        asked = asked or role == "user"
    return None if asked else "no message of a user"


def problems(lines: Iterable[bytes]) -> list[tuple[int, str]]:
    """(line number from 1, what is wrong) of every line that is not in order."""
    found = ((number, problem(line)) for number, line in enumerate(lines, start=1))
    return [(number, said) for number, said in found if said is not None]


def template_tokens(messages: Sequence[Message]) -> int:
    """Tokens a chat template adds to the messages' own."""
    return MESSAGE_TOKENS * len(messages) + REPLY_TOKENS
