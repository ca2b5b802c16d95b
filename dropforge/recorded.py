"""Recorded answers: what a model said to the test tickets while it still answered.

Written to `judge/<project>/recorded/<version>/<dataset>.jsonl`: a line about the recording, then a
line for each ticket. With them a model is still an opponent after its provider has shut it down.
"""

from __future__ import annotations

import msgspec

from dropforge.artifacts import digest
from dropforge.chat import encode_lines


class Recording(msgspec.Struct, frozen=True):
    """How the answers were asked for. Others than these would be no fair opponents.

    Attributes:
        recorded: the day of the newest answer, ISO 8601.
        prompt: digest of the system prompt (`prompt_digest`).
    """

    model_id: str
    max_tokens: int
    prompt: str
    recorded: str


class RecordedAnswer(msgspec.Struct, frozen=True):
    """One model's answer to one ticket, by the ticket's id."""

    id: str
    answer: str


class RecordedAnswers(msgspec.Struct, frozen=True):
    """A model's recorded answers, by the tickets' ids."""

    recording: Recording
    answers: dict[str, str]

    def fits(self, max_tokens: int, system_prompt: str) -> bool:
        """Whether they were asked for as the judge would ask today."""
        asked = (self.recording.max_tokens, self.recording.prompt)
        return asked == (max_tokens, prompt_digest(system_prompt))


def prompt_digest(system_prompt: str) -> str:
    """What stands for a system prompt where two are compared: 16 hex digits."""
    return digest("prompt/1", system_prompt)[:16]


def encode_recorded(kept: RecordedAnswers) -> bytes:
    """The file's bytes; answers in the order of their tickets' ids."""
    rows = (RecordedAnswer(key, kept.answers[key]) for key in sorted(kept.answers))
    return encode_lines([kept.recording, *rows])


def decode_recorded(data: bytes) -> RecordedAnswers:
    """The answers of a file that `encode_recorded` wrote. Raises msgspec's errors for any other."""
    head, _, rest = data.partition(b"\n")
    listed = msgspec.json.Decoder(RecordedAnswer).decode_lines(rest)
    recording = msgspec.json.decode(head, type=Recording)
    return RecordedAnswers(recording, {row.id: row.answer for row in listed})
