"""Which words of a text call for a rule: a few nanoseconds a character, whatever the text.

The text becomes one byte a character. Where its words begin, and the first eight bytes of each,
are taken for all words at once; a table of the triggers' hashes leaves a handful to look up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ODD = b"\1"
"""What `flattened` makes of invisible signs, and of those that only look like ASCII's."""

_OTHER_LETTER = 255
_SPACE = 32
_LONG = 15
_ASCII = bytes(
    b if chr(b).isdigit() else ord(chr(b).lower()) if chr(b).isalpha() else _SPACE
    for b in range(128)
) + bytes(128)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_SHIFT = np.uint64(48)
_FIRST_BYTES = np.array([2 ** (8 * min(size, 8)) - 1 for size in range(9)], dtype=np.uint64)


_TRUE = np.ones(1, dtype=np.bool_)
_PADDING = b" " * 8
_SHORT = 4000  # characters: where both ways take as long
_SHORT_NUMBER = 5
_APART = 3  # what may stand within a number: " - ", ") ("
_ZEROS = bytes(48 if 48 <= b < 58 else 97 for b in range(256))
Ints = NDArray[np.int64]


class Scanned(NamedTuple):
    """A text as the rules see it."""

    text: str
    flat: bytes
    """One byte for each character: letters in lower case, ASCII's digits, else a space."""
    words: list[tuple[str, int]]
    """Triggers and where they stand."""
    long: list[int]
    """Where words of more than 15 letters and digits begin, and others that may be keys."""
    digits: list[tuple[int, int]]
    """Stretches that hold all numbers of six signs and more, and those right after a letter."""


def flattened(text: str) -> bytes:
    """One byte for each character of the text, see `Scanned.flat`."""
    if text.isascii():
        return text.encode("ascii").translate(_ASCII)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    flat: bytes = _every_letter()[np.minimum(points, 0xFFFF)].tobytes()
    return flat


@cache
def _every_letter() -> NDArray[np.uint8]:
    """The byte for each character of the Basic Multilingual Plane; made on the first need."""
    table = np.full(0x10000, _SPACE, dtype=np.uint8)
    table[:128] = np.frombuffer(_ASCII[:128], dtype=np.uint8)
    for point in range(128, 0x10000):
        char = chr(point)
        if char.isalnum():
            low = char.lower()
            table[point] = ord(low) if len(low) == 1 and ord(low) < _OTHER_LETTER else _OTHER_LETTER
    for point in _odd_points():
        table[point] = ODD[0]
    return table


def _odd_points() -> Iterable[int]:
    yield from (0xA0, 0xAD, 0x34F, 0x61C, 0x180E, 0x2011, 0xFEFF)
    for first, last in ((0x200B, 0x200F), (0x202A, 0x202F), (0x2060, 0x206F), (0xFF01, 0xFF5E)):
        yield from range(first, last + 1)


class Scanner:
    """Finds the triggers among a text's words, and the digits that may be more than a price.

    Args:
        triggers: words in lower case, of letters and digits.
        followed: triggers that count only where one of these words comes next.
        before: ends of words that make even a short number after them count, four characters
            each, as in `Scanned.flat`.
        keys: how short words begin that count as long ones.
    """

    def __init__(
        self,
        triggers: Iterable[str],
        followed: Mapping[str, Sequence[str]],
        before: Iterable[str],
        keys: Sequence[str],
    ) -> None:
        self._triggers = {word.encode("latin-1"): word for word in triggers}
        self._words = frozenset(self._triggers)
        self._known = _table(self._triggers)
        self._often = _table(word.encode("latin-1") for word in followed)
        self._next = _table(word.encode() for after in followed.values() for word in after)
        ends = b"".join(end.encode("latin-1") for end in before)
        self._keys = [
            (np.uint64(2 ** (8 * len(key)) - 1), np.uint64(int.from_bytes(key.encode(), "little")))
            for key in keys
        ]
        self._starts = [key.encode() for key in keys]
        also = b"|".join(self._starts)
        self._long = re.compile(rb"[^\x01 ]{%d,}|(?<![^\x01 ])(?:%s)" % (_LONG + 1, also))
        self._before = np.unique(np.frombuffer(ends, dtype="<u4"))

    def __call__(self, texts: Sequence[str]) -> list[Scanned]:
        """What each text holds: one look at all texts at once."""
        if len(texts) == 1 and len(texts[0]) < _SHORT:
            return [self._one(texts[0])]
        scanned = [Scanned(text, flattened(text), [], [], []) for text in texts]
        padded = b"".join((b" ", b" ".join([each.flat for each in scanned]), _PADDING))
        begins = np.cumsum([0, *(len(each.flat) + 1 for each in scanned)])
        signs = np.frombuffer(padded, dtype=np.uint8)
        starts, ends = _runs(signs > _SPACE)
        sizes = ends - starts
        eights = _every(padded, "<u8")[1:]
        first = eights[starts]
        hashes = _hashed(first & _FIRST_BYTES[np.minimum(sizes, 8)])
        hits = self._known[hashes].nonzero()[0]
        often = self._often[hashes[hits]]
        hits = hits[~often | self._next[hashes[np.minimum(hits + 1, len(hashes) - 1)]]]
        for text, place, size in _by_text(begins, starts[hits], sizes[hits]):
            trigger = self._triggers.get(scanned[text].flat[place : place + size])
            if trigger is not None:
                scanned[text].words.append((trigger, place))
        long = sizes > _LONG
        for mask, key in self._keys:
            long |= first & mask == key
        for text, place, _ in _by_text(begins, starts[long], sizes[long]):
            scanned[text].long.append(place)
        for text, place, size in _by_text(begins, *self._numbers(padded, signs)):
            scanned[text].digits.append((place, place + size))
        return scanned

    def _numbers(self, padded: bytes, signs: NDArray[np.uint8]) -> tuple[Ints, Ints]:
        """Starts and sizes of the stretches of digits to be looked at, see `Scanned.digits`."""
        starts, ends = _runs(signs - 48 < 10)  # what is less than "0" wraps round
        if not len(starts):
            return starts, ends
        first = np.concatenate((_TRUE, starts[1:] - ends[:-1] > _APART)).nonzero()[0]
        last = np.concatenate((first[1:], [len(starts)])) - 1
        before = _every(padded, "<u4")[np.maximum(starts - 3, 0)]
        cued = (signs[starts] > ord("9")) | np.isin(before, self._before)
        begins, sizes = starts[first], ends[last] - starts[first]
        wanted = (sizes > _SHORT_NUMBER) | np.logical_or.reduceat(cued, first)
        return begins[wanted], sizes[wanted]

    def _one(self, text: str) -> Scanned:
        """The same for a text so short that preparing a look at many would take longer."""
        flat = flattened(text)
        plain = b" %s " % flat.replace(ODD, b" ")
        words = plain.split()
        found = []
        for word in self._words.intersection(words):
            alone = b" %s " % word
            place = plain.find(alone)
            while place >= 0:
                found.append((place, self._triggers[word]))
                place = plain.find(alone, place + len(word) + 1)
        long = []
        if max(map(len, words), default=0) > _LONG or any(key in flat for key in self._starts):
            long = [match.start() for match in self._long.finditer(flat)]
        digit = flat.translate(_ZEROS).find(b"0")
        digits = [(digit, len(text))] if digit >= 0 else []
        return Scanned(text, flat, [(word, at) for at, word in sorted(found)], long, digits)


def _runs(inside: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Where the runs of true values begin and end; the first and the last value are false."""
    edges = (inside[1:] != inside[:-1]).nonzero()[0]
    return edges[::2], edges[1::2]


def _every(padded: bytes, sort: str) -> NDArray[Any]:
    """The integer at every place, aligned or not."""
    count = len(padded) - np.dtype(sort).itemsize + 1
    return np.ndarray((count,), dtype=sort, buffer=padded, strides=(1,))


def _by_text(begins: Ints, places: Ints, sizes: Ints) -> Iterator[tuple[int, int, int]]:
    """For each place in all texts: which text, the place in it, and the size."""
    texts = np.searchsorted(begins, places, side="right") - 1
    inside = places - begins[texts]
    return zip(texts.tolist(), inside.tolist(), sizes.tolist(), strict=True)


def _table(words: Iterable[bytes]) -> NDArray[np.bool_]:
    """True for the hash of each word, and for few others'."""
    table = np.zeros(1 << 16, dtype=np.bool_)
    for word in words:
        table[_hashed(np.frombuffer(word[:8].ljust(8, b"\0"), dtype="<u8"))] = True
    return table


def _hashed(eights: NDArray[np.uint64]) -> Ints:
    """16 bits of each. Knuth's multiplicative hashing."""
    return ((eights * _MIX) >> _SHIFT).view(np.int64)
