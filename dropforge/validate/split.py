"""The leak-free split: what belongs together stands on one side of it, and stays there.

Rows belong together when they are one customer's or one conversation's. (Near-duplicates never get
here: the later one of two is left out before.) Rows are taken in the order of their drop, so a
later export adds rows to the splits and moves none: what was held out to judge on yesterday is
never trained on tomorrow.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

from dropforge.chat import ChatExample

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_TRAIN_SHARE, _VALIDATION_SHARE = 0.8, 0.1


def split_of(group: str) -> Split:
    """The split of a group that nothing is known of yet: 80/10/10 by hash."""
    place = int.from_bytes(sha256(group.encode()).digest()[:8]) / 2**64
    if place < _TRAIN_SHARE:
        return "train"
    return "validation" if place < _TRAIN_SHARE + _VALIDATION_SHARE else "test"


class Splitter:
    """Assigns rows one by one; each customer and each conversation keeps the split it got first."""

    def __init__(self) -> None:
        self._known: dict[str, Split] = {}

    def assign(self, example: ChatExample) -> Split | None:
        """The row's split; None where its customer and its conversation stand in different ones."""
        known = self._known
        ties = (example.group, example.conversation or example.group)
        there = known.get(ties[0]), known.get(ties[1])
        if there[0] and there[1] and there[0] != there[1]:
            return None
        split = there[0] or there[1] or split_of(example.group)
        known[ties[0]] = known[ties[1]] = split
        return split
