"""Questions to a fictional lamp shop in pairs: near ones of another meaning, and paraphrases.

Templates are filled from small lists of things. `held_out` is decided by the template, so that what
a guard was tuned on shares no wording with what it is measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILLS = 5
HELD_OUT = 0.5


class QuestionPair(NamedTuple):
    """Attributes: kind: what tells the two apart, or "paraphrase"."""

    kind: str
    one: str
    other: str
    held_out: bool

    @property
    def same(self) -> bool:
        return self.kind == "paraphrase"


THINGS = ("floor lamp", "desk lamp", "ceiling light", "lamp shade", "LED bulb")
OTHERS = ("wall light", "candle holder", "dimmer", "night light", "extension cord")
NAMES = ("Canada", "Norway", "Berlin", "Oslo", "France")
NAMES_B = ("Mexico", "Sweden", "Munich", "Madrid", "Poland")
BRANDS = ("PayPal", "Klarna", "Visa", "Apple Pay", "Amex")
BRANDS_B = ("Venmo", "Stripe", "Mastercard", "Google Pay", "Maestro")
NUMBERS = ("30", "14", "2", "60", "7")
NUMBERS_B = ("45", "10", "3", "90", "21")
CODES = ("LU-1042", "LU-2210", "OR7741", "4471-B", "INV-88")
CODES_B = ("LU-1043", "LU-2201", "OR7714", "4471-D", "INV-89")
DAYS = ("Monday", "Friday", "January", "July", "tomorrow")
DAYS_B = ("Tuesday", "Saturday", "June", "August", "today")
PEOPLE = ("wife", "brother", "neighbour", "colleague", "mother")
COLOURS = ("white", "black", "brass", "green", "copper")
COLOURS_B = ("grey", "red", "silver", "blue", "gold")

TEMPLATES = Path(__file__).with_suffix(".txt")


def question_pairs() -> Iterator[QuestionPair]:
    """All pairs, always the same and each once."""
    seen = set()
    for line in TEMPLATES.read_text().splitlines():
        if line.startswith("#"):
            continue
        kind, one, other = line.split(" | ")
        point = hashlib.sha256(f"{one}\0{other}".encode()).digest()[0] / 256
        for place in range(FILLS):
            pair = QuestionPair(kind, _filled(one, place), _filled(other, place), point < HELD_OUT)
            if pair not in seen:
                seen.add(pair)
                yield pair


def _filled(template: str, place: int) -> str:
    return template.format(
        thing=THINGS[place],
        other=OTHERS[place],
        name=NAMES[place],
        name_b=NAMES_B[place],
        brand=BRANDS[place],
        brand_b=BRANDS_B[place],
        n=NUMBERS[place],
        m=NUMBERS_B[place],
        code=CODES[place],
        code_b=CODES_B[place],
        day=DAYS[place],
        day_b=DAYS_B[place],
        person=PEOPLE[place],
        colour=COLOURS[place],
        colour_b=COLOURS_B[place],
    )
