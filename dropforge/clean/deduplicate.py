"""Near-duplicates by word-3-gram Jaccard similarity, exactly verified.

Candidates come from one-permutation hashing (Li, Owen, Zhang, NeurIPS 2012) of the shingles into 32
bins, banded 8 x 4 (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3.4): a pair of
similarity .8 is found with probability 1 - (1 - .8**4)**8 = .985, and every candidate is verified,
so nothing less similar is ever taken for a duplicate.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from zlib import crc32

THRESHOLD = 0.8
_BINS, _ROWS = 32, 4
_EMPTY = 1 << 32
_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[int]:
    """32-bit hashes of the text's word 3-grams, case folded; of all its words when fewer than 3."""
    words = _WORD.findall(text.casefold())
    if len(words) < 3:
        return frozenset([crc32(" ".join(words).encode())])
    grams = (f"{a} {b} {c}" for a, b, c in zip(words, words[1:], words[2:], strict=False))
    return frozenset(crc32(gram.encode("utf-8", "surrogatepass")) for gram in grams)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """|one & other| / |one | other|, between 0 and 1."""
    common = len(one & other)
    return common / (len(one) + len(other) - common)


class Deduplicator:
    """Tells, text by text in order, whether one so near was seen before."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._seen: list[tuple[int, array[int]]] = []
        self._bands: list[defaultdict[tuple[int, ...], list[int]]] = [
            defaultdict(list) for _ in range(_BINS // _ROWS)
        ]

    def nearest(self, text: str, position: int) -> int | None:
        """The position of an earlier text at least `threshold` similar; else remembers this one."""
        grams = shingles(text)
        keys = _band_keys(grams)
        candidates = {i for band, key in zip(self._bands, keys, strict=True) for i in band[key]}
        for index in sorted(candidates):
            seen_position, seen = self._seen[index]
            if jaccard(grams, frozenset(seen)) >= self._threshold:
                return seen_position
        for band, key in zip(self._bands, keys, strict=True):
            band[key].append(len(self._seen))
        self._seen.append((position, array("L", sorted(grams))))
        return None


def _band_keys(grams: frozenset[int]) -> list[tuple[int, ...]]:
    lowest = [_EMPTY] * _BINS
    for gram in grams:
        mixed = (gram * 0x9E3779B1) & 0xFFFFFFFF
        slot = mixed >> 27
        if mixed < lowest[slot]:
            lowest[slot] = mixed
    _fill_empty(lowest)
    return [tuple(lowest[i : i + _ROWS]) for i in range(0, _BINS, _ROWS)]


def _fill_empty(lowest: list[int]) -> None:
    """Empty bins borrow from the next full one to the right (Shrivastava and Li, ICML 2014)."""
    full = [i for i, value in enumerate(lowest) if value != _EMPTY]
    for i, value in enumerate(lowest):
        if value == _EMPTY:
            donor = next((j for j in full if j > i), full[0] + _BINS)
            lowest[i] = lowest[donor % _BINS] ^ ((donor - i) << 32)
