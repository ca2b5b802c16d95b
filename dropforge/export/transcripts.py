"""Turns that come one a row -> conversations, with a bounded window of open ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from dropforge.export.rows import Conversation, Reason, Rejected, Row, Turn
from dropforge.export.shapes import Said, conversation
from dropforge.export.shapes.found import Found, when

WINDOW = 64 << 20
"""Bytes of text in open conversations; beyond it the one untouched the longest is given out."""
_OVERHEAD = 250
"""Bytes that a turn costs in Python beside its text, about."""


_TOO_LATE = "its conversation's other rows lie too far before it: sort the export by conversation"


class _Open:
    """A conversation that may still go on."""

    def __init__(self, key: str, position: int) -> None:
        self.key = key
        self.position = position
        self.turns: list[tuple[Any, Turn]] = []
        self.about = Found(())
        self._learnt: Found | None = None
        self.size = _OVERHEAD

    def add(self, said: Said) -> int:
        """Takes a turn; how many bytes it costs."""
        self._learn(said.about)
        if said.turn is None:
            return 0
        self.turns.append((said.when, said.turn))
        grown = _OVERHEAD + sys.getsizeof(said.turn.text)
        self.size += grown
        return grown

    def _learn(self, new: Found) -> None:
        old = self.about
        if new == self._learnt:
            return
        self._learnt = new
        self.about = Found(
            (),
            id=self.key,
            customer=old.customer or new.customer,
            people=old.people if set(new.people) <= set(old.people) else old.people + new.people,
            subject=old.subject or new.subject,
            language=old.language or new.language,
            topic=old.topic or new.topic,
        )

    def closed(self) -> Conversation:
        """Its turns in the order of their times, if each has one; else as they came."""
        times = [when(time) for time, _ in self.turns]
        order = list(range(len(times)))
        if None not in times:
            order.sort(key=lambda i: times[i] or 0.0)
        turns = tuple(self.turns[i][1] for i in order)
        return conversation(self.about._replace(turns=turns), self.position)


class Transcripts:
    """Collects turns by conversation.

    A conversation stands at the position of its first row. Those still open at the end are given
    out in that order; before, the window gives out the one that was longest without a new turn,
    and a turn that comes for it later is rejected.
    """

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._open: dict[str, _Open] = {}
        self._size = 0
        self._given_out: set[bytes] = set()

    def add(self, said: Said) -> Iterator[Row]:
        """Takes a turn; what has to leave the window for it, or the turn's own rejection."""
        key = said.conversation
        current = self._open.pop(key, None)
        if current is None:
            if self._given_out and _mark(key) in self._given_out:
                yield Rejected(said.position, Reason.LATE_TURN, _TOO_LATE)
                return
            current = _Open(key, said.position)
            self._size += current.size
        self._open[key] = current  # now the last in the dict: the one touched most recently
        self._size += current.add(said)
        while self._size > self._window:
            oldest = self._open.pop(next(iter(self._open)))
            self._size -= oldest.size
            self._given_out.add(_mark(oldest.key))
            yield oldest.closed()

    def close(self) -> Iterator[Row]:
        """The conversations that are still open, in the order of their first rows."""
        for left in sorted(self._open.values(), key=lambda one: one.position):
            yield left.closed()
        self._open.clear()


def _mark(key: str) -> bytes:
    """A conversation's id in few bytes: many millions of them may have to be remembered."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
