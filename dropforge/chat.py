"""One line of training JSONL: the chat format that the fine-tuning protocols share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant"]


class Message(msgspec.Struct, frozen=True, gc=False):
    """One turn of a chat."""

    role: Role
    content: str


class ChatExample(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A resolved conversation, ready to train or judge on; its last message is the agent's.

    `id` is the hash of the messages; `group` stands for the customer and `conversation` for the
    ticket (never in clear; "" where the export has none); `position` is the place in the dropped
    file, a line or row number counted from 1. `language` is an ISO 639 code, `topic` what the
    export says the ticket is about.
    """

    id: str
    group: str
    position: int
    messages: tuple[Message, ...]
    conversation: str = ""
    language: str = ""
    topic: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All that is known before the agent's last answer."""
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        """The agent's last answer."""
        return self.messages[-1].content

    @property
    def question(self) -> str:
        """What the customer wrote last before that answer."""
        return next((m.content for m in reversed(self.prompt) if m.role == "user"), "")


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ChatExample)


def encode_lines(rows: Iterable[object]) -> bytes:
    """JSONL of any msgspec-encodable rows, ending in a newline; b"" for no rows."""
    return _encoder.encode_lines(rows)


def decode_example(line: bytes) -> ChatExample:
    """The example of one line that `encode_lines` wrote."""
    return _decoder.decode(line)


def decode_examples(data: bytes) -> Iterator[ChatExample]:
    """The examples of a JSONL file that `encode_lines` wrote."""
    return (_decoder.decode(line) for line in data.split(b"\n") if line)


def training_line(example: ChatExample, system_prompt: str) -> dict[str, list[dict[str, str]]]:
    """The example as a fine-tuning API takes it, opened by the project's system prompt."""
    return {"messages": chat_messages(example.messages, system_prompt)}


def chat_messages(messages: Iterable[Message], system_prompt: str) -> list[dict[str, str]]:
    """Messages as plain dictionaries behind a system prompt (left out when empty)."""
    head = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return head + [{"role": m.role, "content": m.content} for m in messages]
