"""From token ids to the text of an answer, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

UNFINISHED = "\ufffd"
"""What a tokenizer writes for the first bytes of a character whose last ones are still to come."""


@dataclass
class Piece:
    """A piece of an answer: new text, the tokens so far, and why it ended, on the last one."""

    text: str
    tokens: int
    finish: str | None = None


class TextStream:
    """Turns token ids into text as they come, up to a stop sequence.

    Text that may be the beginning of a stop sequence or of a character is held back until it is
    clear.
    """

    def __init__(self, tokenizer: Any, stops: list[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._sent = 0
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that a token makes certain."""
        self._ids.append(token)
        text = self._decode()
        found = [at for at in (text.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            return self._send(text, min(found))
        end = len(text) - self._held(text)
        return "" if text.endswith(UNFINISHED) else self._send(text, end)

    def finish(self) -> str:
        """The text held back, now that no more comes."""
        text = self._decode()
        return "" if self.stopped else self._send(text, len(text))

    def _decode(self) -> str:
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        return text

    def _send(self, text: str, end: int) -> str:
        start, self._sent = self._sent, max(self._sent, end)
        return text[start:end]

    def _held(self, text: str) -> int:
        sizes = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(sizes, default=0)
