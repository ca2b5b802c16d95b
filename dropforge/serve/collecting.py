"""Which answers may become training data, and how they travel there.

Pure, and imports nothing but msgspec: the chat path reads this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

MAX_MESSAGE_BYTES = 256 * 1024
"""The smallest limit that an SQS queue may have by default; a longer answer is not kept."""

Body = dict[str, Any]

_HARMLESS = frozenset(
    """messages model stream stream_options temperature top_p max_tokens max_completion_tokens n
    seed user metadata safety_identifier prompt_cache_key prompt_cache_retention store
    response_format""".split()
)
"""The fields of a request whose answer is the model's own, in words."""
_INSTRUCTS = ("system", "developer")


class Turn(msgspec.Struct, frozen=True):
    """What one side said; the customer is the user."""

    role: Literal["user", "assistant"]
    content: str


class Answered(msgspec.Struct, frozen=True):
    """A message of the queue: an answer of the champion, and what it answers. Nothing is redacted.

    Attributes:
        id: the answer's, as the caller knows it.
        at: when it was asked for, in seconds since the epoch.
        conversation: stands for the conversation; see `pseudonym`.
        user: stands for who asked; "" where the request did not say.
        turns: what was said before, the customer first and last.
    """

    project: str
    id: str
    at: float
    conversation: str
    user: str
    turns: tuple[Turn, ...]
    answer: str


def pseudonym(subject: str) -> str:
    """What stands for a user or a conversation (32 hex digits), the same each time."""
    return hashlib.sha256(f"collect\0{subject}".encode()).hexdigest()[:32]


def user_pseudonym(project: str, user: str) -> str:
    """What stands for a user of a project's, whatever the token: deletion asks by it."""
    return pseudonym(f"{project}\0user\0{user}")


def is_drawn(conversation: str, share: float) -> bool:
    """Whether a conversation is among the share; all of its answers are, or none."""
    point = hashlib.sha256(f"share\0{conversation}".encode()).digest()[:8]
    return int.from_bytes(point) < share * 2**64


def is_plain(fields: Body, prompt: str | None) -> bool:
    """Whether a request asks for one answer in words, and leaves to the model what it says.

    A caller can make a model say anything: by a system message of its own, and by fields that steer
    the decoding (`logit_bias`, a grammar, and whatever a server may add). So a field that is not
    known to be harmless is one too many, and what the system or a developer says has to be the
    project's own prompt.
    """
    if fields.get("n") not in (None, 1):
        return False
    form = fields.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        return False
    if any(value is not None and name not in _HARMLESS for name, value in fields.items()):
        return False
    return all(
        message.get("role") not in _INSTRUCTS
        or (prompt is not None and _text(message.get("content")) == prompt)
        for message in fields.get("messages") or ()
    )


def said(messages: Sequence[Body]) -> tuple[Turn, ...]:
    """The two sides' turns, from the customer's first to the customer's last.

    What the system or a developer says is left out: a model is trained with its project's prompt.
    None at all where the customer's words are not the last, or something is no text.
    """
    turns: list[Turn] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role in _INSTRUCTS:
            continue
        text = _text(content)
        if role not in ("user", "assistant") or text is None or message.get("tool_calls"):
            return ()
        if turns or role == "user":
            turns.append(Turn(role, text))
    return tuple(turns) if turns and turns[-1].role == "user" else ()


def whole_answer(completion: Body) -> str | None:
    """The text of a completion that its model ended by itself; None for any other."""
    choices = completion.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    if choices[0].get("finish_reason") != "stop" or not isinstance(message, dict):
        return None
    if any(message.get(name) for name in ("tool_calls", "function_call", "refusal", "audio")):
        return None
    text = message.get("content")
    return text if isinstance(text, str) and text.strip() else None


def _text(content: object) -> str | None:
    """A message's words; None where it holds anything else, as a picture."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    parts = [part.get("text") if isinstance(part, dict) else None for part in content]
    kinds = {part.get("type") for part in content if isinstance(part, dict)}
    if kinds != {"text"} or not all(isinstance(part, str) for part in parts):
        return None
    return "\n".join(part for part in parts if part)
