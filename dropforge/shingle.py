"""Texts as sets of word 3-grams: what near-duplicates are told by.

Everything is arithmetic on arrays over the bytes of many texts at once: where words begin and end,
a 64-bit hash of each word, and of each three words in a row 32 bits of those. Rows of text stay
together as `offsets` into one array.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 18  # characters, or bytes of arrays, worked on at once: they stay in cache
_MARGIN = 24  # zero bytes around a chunk, so that a word may be loaded 8 bytes at a time
_ONE_BY_ONE = 256  # bytes: words longer than this are hashed outside numpy

# Odd constants of splitmix64 and its kin; any would do.
MIX = tuple(np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
HALF = np.uint64(32)
_BIT_5, _ALL = np.uint64(0x2020202020202020), np.uint64(63)

Words = NDArray[np.uint64]
Hashes = NDArray[np.uint32]
Rows = NDArray[np.int64]

# glibc hands arrays above 128 KB back to the kernel, which clears them for the next. Once a larger
# one was freed, it keeps all up to that size (mallopt(3), M_MMAP_THRESHOLD): this halves the time.
np.empty(1 << 24, np.uint8)


class Shingles(NamedTuple):
    """A batch of texts as sets of word 3-grams: row i is `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: Hashes  # sorted and unique within each row, concatenated
    offsets: Rows  # one more than there are rows


def shingles(texts: Sequence[str]) -> Shingles:
    """The texts' 3-grams of consecutive words; a text of one or two words is one shingle of them.

    Words are what `\\w+` finds in the case-folded text, with three differences outside ASCII: the
    marks of Indic and Arabic writing belong to their word; a character of a script without spaces
    between words (Chinese, Japanese, Thai, ...) is a word, and so is an emoji. Unicode is not
    normalised. A text without words has no shingles, and is like every other such text.
    """
    if not texts:
        return Shingles(np.empty(0, np.uint32), np.zeros(1, np.int64))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    cuts = np.flatnonzero(np.diff(np.cumsum(lengths) // CHUNK)) + 1
    edges = [0, *cuts.tolist(), len(texts)]
    parts = [_chunk(texts[a:b], lengths[a:b]) for a, b in pairwise(edges)]
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return Shingles(np.concatenate([part.hashes for part in parts]), offsets_of(counts))


def _chunk(texts: Sequence[str], lengths: Rows) -> Shingles:
    joined = "\n".join(texts)
    if joined.isascii():
        encoded = joined.encode()
    else:
        each = [text.encode() for text in _spelled_out(texts)]
        encoded, lengths = b"\n".join(each), np.fromiter(map(len, each), np.int64, len(each))
    margin = bytes(_MARGIN)
    data = np.frombuffer(b"".join((margin, encoded, margin, bytes(-len(encoded) % 8))), np.uint8)
    starts, ends = _words(data)
    begins = offsets_of(lengths + 1) + _MARGIN
    return _in_rows(_word_hashes(data, starts, ends), np.searchsorted(starts, begins))


def offsets_of(counts: Rows) -> Rows:
    """Where rows of these lengths begin, laid one after another, and where the last ends."""
    offsets = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _spelled_out(texts: Sequence[str]) -> list[str]:
    """Texts of which all that is not ASCII is a case-folded word character, or a space."""
    foreign = [i for i, text in enumerate(texts) if not text.isascii()]
    folded = [texts[i].casefold() for i in foreign]
    points = np.frombuffer("\n".join(folded).encode("utf-32-le", "surrogatepass"), np.uint32)
    kind = _kinds().take(points, mode="clip")
    alone = kind == 2
    places = np.arange(points.size) + 2 * np.cumsum(alone) - alone  # a space on either side
    spaced = np.full(points.size + 2 * np.count_nonzero(alone), ord(" "), np.uint32)
    spaced[places] = np.where(kind > 0, points, np.uint32(ord(" ")))
    ends = np.cumsum(np.fromiter(map(len, folded), np.int64, len(folded)) + 1)[:-1] - 1
    spaced[places[ends]] = ord("\n")
    rows = list(texts)
    for i, row in zip(foreign, spaced.tobytes().decode("utf-32-le").split("\n"), strict=True):
        rows[i] = row
    return rows


@cache
def _kinds() -> NDArray[np.uint8]:
    """For each code point: 0 separates words, 1 is part of a word, 2 is a word."""
    last = 0x323B0  # of the ideographs; what follows is unassigned, private or a variation mark
    kinds = np.zeros(last + 1, np.uint8)
    for point in range(last):
        category = unicodedata.category(chr(point))
        kinds[point] = 2 if category == "So" else category[0] in "LMN"
    for low, high in (
        *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Burmese, Khmer
        *((0x2E80, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF)),  # kana and ideographs
        *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, last - 1)),
    ):
        kinds[low : high + 1] *= 2
    kinds[0xFE00:0xFE10] = 0  # whether an emoji is to be coloured
    kinds[:128] = [chr(point).isalnum() or chr(point) == "_" for point in range(128)]
    return np.minimum(kinds, 2)


def _words(data: NDArray[np.uint8]) -> tuple[Rows, Rows]:
    """Where words begin and end: bytes that are letters, digits, _ or part of a non-ASCII one."""
    shifted = data | np.uint8(0x20)
    shifted -= np.uint8(ord("a"))
    inside = shifted < 26
    np.subtract(data, np.uint8(ord("0")), out=shifted)
    inside |= shifted < 10
    inside |= data == ord("_")
    inside |= data >= 128
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    edges += 1
    return edges[0::2], edges[1::2]


def _word_hashes(data: NDArray[np.uint8], starts: Rows, ends: Rows) -> Words:
    """64 bits of all bytes of each word: its last 8 bytes, and all before them when it is longer.

    Each 8 bytes are added, multiplied and folded (the multiply-xorshift of Steele, Lea and Flood's
    splitmix64, OOPSLA 2014).
    """
    aligned = data.view(np.uint64)
    lengths = ends - starts
    hashes = _load(aligned, ends - 8)
    before = np.minimum(lengths, 8)  # bytes of the 8 that are the word's
    before *= -8
    before += 64
    hashes >>= before.view(np.uint64)
    hashes *= MIX[0]
    hashes ^= hashes >> HALF
    longer = np.flatnonzero(lengths > 8)
    hashes[longer] += lengths[longer].view(np.uint64)
    for at in range(0, _ONE_BY_ONE, 8):
        if not longer.size:
            return hashes
        more = hashes[longer]
        more += _load(aligned, starts[longer] + at)
        more *= MIX[1]
        more ^= more >> HALF
        hashes[longer] = more
        longer = longer[lengths[longer] > at + 16]
    for i in longer.tolist():
        word = data[starts[i] : ends[i]].tobytes()
        letters = word.lower()  # of bytes: ASCII only
        hashes[i] = int.from_bytes(blake2b(letters, digest_size=8).digest(), "little")
    return hashes


def _load(aligned: Words, at: Rows) -> Words:
    """The 8 bytes from each place on, as one little-endian number, ASCII letters in lower case."""
    place = at >> 3
    shift = (at & 7).view(np.uint64)
    shift <<= np.uint64(3)
    value = aligned.take(place, mode="clip")
    value >>= shift
    place += 1
    high = aligned.take(place, mode="clip")
    high <<= np.uint64(1)
    shift ^= _ALL
    high <<= shift
    value |= high
    # Bit 5 makes a letter small and leaves digits alone; bytes with bit 7 are no ASCII.
    np.right_shift(value, np.uint64(2), out=high)
    np.invert(high, out=high)
    high &= _BIT_5
    value |= high
    return value


def _in_rows(hashes: Words, first: Rows) -> Shingles:
    """3-grams of the words `first[i]:first[i + 1]` of each row, as a sorted set."""
    counts = np.diff(first)
    padded = np.concatenate((hashes, np.zeros(2, np.uint64)))
    grams = _three(padded[:-2], padded[1:-1], padded[2:])
    keep = np.ones(padded.size, np.bool_)  # but for those that reach into the next row
    keep[first[1:] - 1] = keep[first[1:] - 2] = False
    short = np.flatnonzero((counts == 1) | (counts == 2))
    if short.size:
        at = first[short]
        keep[at] = True
        second = np.where(counts[short] == 2, padded[at + 1], np.uint64(0))
        grams[at] = _three(padded[at], second, np.zeros_like(second))
    values = grams[keep[:-2]]
    offsets = offsets_of(np.where(counts > 2, counts - 2, np.minimum(counts, 1)))
    sort_rows(values, offsets)
    new = changes(values, offsets)
    repeated = np.flatnonzero(~new)
    rows = np.searchsorted(offsets, repeated, "right") - 1
    return Shingles(
        values[new], offsets - offsets_of(np.bincount(rows, minlength=counts.size).astype(np.int64))
    )


def _three(one: Words, two: Words, three: Words) -> Hashes:
    """32 bits of three words' hashes in their order."""
    gram = one * MIX[0]
    gram += two
    gram *= MIX[1]
    gram += three
    gram ^= gram >> HALF
    gram *= MIX[2]
    gram >>= HALF
    return gram.astype(np.uint32)


def sort_rows(values: Hashes, offsets: Rows) -> None:
    """Sort each row in place: as a matrix where rows are of similar length, else one by one."""
    counts = np.diff(offsets)
    width = counts.max()
    if counts.size * width <= 2 * values.size:
        inside = np.arange(width) < counts[:, None]
        matrix = np.full(inside.shape, np.uint32(0xFFFFFFFF))  # so that it stays behind
        matrix[inside] = values
        matrix.sort(axis=1)
        values[:] = matrix[inside]
    else:
        for begin, end in pairwise(offsets.tolist()):
            values[begin:end].sort()


def changes(values: Hashes, offsets: Rows) -> NDArray[np.bool_]:
    """Which values differ from the one before them in their row."""
    new = np.ones(values.size + 1, np.bool_)  # one more: the offset of an empty last row
    np.not_equal(values[1:], values[:-1], out=new[1:-1])
    new[offsets[:-1]] = True
    return new[:-1]
