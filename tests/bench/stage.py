"""The clean stage as a whole: `python -m tests.bench.stage [quick]`.

Reads seeded synthetic exports (chats of 100 words a row; long conversations) from a temporary
folder; yields MB of export a CPU-second, by step, with and without redaction, the memory that
cleaning a gigabyte takes, and what the function's cold start is made of.
"""

from __future__ import annotations

import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from tests.bench.figures import ROOT, Figure

MB = 1_000_000
_SPOKEN = (
    "the to i you and it is a my for we of your in that this have not with on be can are was please"
    " will order but if has from what me our when they at so do as there been about would how all"
    " still just get which or any other after today delivery account refund number check sorry hi"
).split()


def vocabulary() -> list[str]:
    """English words by how frequent they are in the longest prose that Python carries: its manual.

    What a speaker says most, and a manual never, comes first.
    """
    manual = Counter(re.findall(r"[a-z]{2,}", " ".join(topics.values()).lower()))
    return list(dict.fromkeys([*_SPOKEN, *(word for word, _ in manual.most_common())]))


class Speech:
    """Makes sentences of Zipf-distributed words."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self._words = vocabulary()
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))

    def words(self, count: int) -> list[str]:
        return self.rng.choices(self._words, cum_weights=self._weights, k=count)

    def say(self, words: list[str]) -> str:
        """Sentences of up to 14 words, capitals and marks included."""
        parts, place = [], 0
        while place < len(words):
            size = self.rng.randint(6, 14)
            sentence = words[place : place + size]
            if len(sentence) > 9:
                sentence[4] += ","
            parts.append(" ".join(sentence).capitalize() + self.rng.choice("...?!"))
            place += size
        return " ".join(parts)

    def personal(self) -> str:
        """A sentence with a telephone number or an e-mail address."""
        rng = self.rng
        if rng.random() < 0.5:
            return f"You can call me at +1 415 555 {rng.randint(1000, 9999)} after lunch."
        return f"Write to {rng.choice(self._words)}{rng.randint(1, 999)}@mail.example please."


def chats(path: Path, rows: int, seed: int = 1) -> None:
    """Rows of about 100 words; 12 % near-duplicates, a fifth with personal data, some numbers."""
    speech = Speech(seed)
    rng, kept = speech.rng, list[list[str]]()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if kept and rng.random() < 0.12:
                words = list(rng.choice(kept))
                words[rng.randrange(len(words))] = "otherwise"
            else:
                words = speech.words(rng.randint(80, 120))
                kept = [*kept[-500:], words]
            cut = rng.randint(25, 50)
            asked, answer = speech.say(words[:cut]), speech.say(words[cut:])
            if rng.random() < 0.2:
                asked = f"{asked} {speech.personal()}"
            elif rng.random() < 0.3:
                asked = f"{asked} The order is {rng.randint(10**6, 10**7)}."
            turns = (("user", asked), ("assistant", answer))
            file.write(_line(f"chat-{number}", turns))


def conversations(path: Path, rows: int, seed: int = 2) -> None:
    """Rows of 8 to 16 turns of about 30 words, one in three with personal data."""
    speech = Speech(seed)
    rng = speech.rng
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            texts = [speech.say(speech.words(rng.randint(8, 50))) for _ in range(rng.randint(4, 8) * 2)]
            if rng.random() < 0.33:
                texts[2] = f"{texts[2]} {speech.personal()}"
            turns = tuple(zip(("user", "assistant") * 8, texts, strict=False))
            file.write(_line(f"conversation-{number}", turns))


def _line(name: str, turns: tuple[tuple[str, str], ...]) -> str:
    messages = [{"role": role, "content": text} for role, text in turns]
    return json.dumps({"id": name, "messages": messages}) + "\n"
