"""Near-duplicates by word-3-gram Jaccard similarity: found by banded min-hashes, exactly verified.

A text becomes the set of 32-bit hashes of its word 3-grams (`shingles`); a set becomes 8 band keys
(`band_keys`); texts that share a key in a band are candidates, and each candidate is verified on
the whole sets (`jaccard`), so nothing less similar than the threshold is ever taken for a
duplicate. A pair of similarity .8 is a candidate with probability 1 - (1 - .8**4)**8 = .985, one of
.9 with .9998 (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3.4).

A bucket is all texts with one key in one band. Who is compared with whom is decided per bucket,
whatever the batches: a text's candidates are those of the first `BUCKET` texts of each of its
buckets that came before it. So 100,000 tickets of one template cost 8 x `BUCKET` comparisons each
at most, and Spark can say the same with a banding join and a row number. Four lose little: on
tickets of a mutual similarity of .33, .48, .65 and .74, planted near-duplicates were found to .998,
.997, .968 and .933; with 64 a bucket, at fifteen times the work, to .999, .997, .972 and .942.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dropforge.shingle import (
    CHUNK,
    HALF,
    MIX,
    Hashes,
    Rows,
    Shingles,
    changes,
    offsets_of,
    shingles,
    sort_rows,
)

__all__ = [
    "BANDS",
    "BUCKET",
    "THRESHOLD",
    "Deduplicator",
    "Shingles",
    "band_keys",
    "components",
    "jaccard",
    "shingles",
]

THRESHOLD = 0.8
BANDS = 8
BUCKET = 4
_BINS, _PER_BAND = 32, 4
_BATCH = 1 << 15  # rows placed in the index at once: enough to make numpy's calls cheap
_NONE = np.uint32(0xFFFFFFFF)  # no shingle in a range of the hash; no row in a slot of a table

Scalar = TypeVar("Scalar", np.uint32, np.int64)


def band_keys(batch: Shingles) -> NDArray[np.uint64]:
    """(rows, 8) numbers below 2**32: rows that share a column's key are candidates.

    One-permutation hashing (Li, Owen, Zhang, NeurIPS 2012): the lowest shingle of each of 32 ranges
    of the hash; an empty range takes over the next full one's to its right, changed by the distance
    (densification by rotation: Shrivastava and Li, ICML 2014). Four ranges are a band.
    """
    rows = batch.offsets.size - 1
    step = max(1, rows * (CHUNK // 4) // max(1, batch.hashes.size))
    keys = np.empty((rows, BANDS), np.uint64)
    for begin in range(0, rows, step):
        offsets = batch.offsets[begin : begin + step + 1]
        values = batch.hashes[offsets[0] : offsets[-1]]
        keys[begin : begin + step] = _keys(values, offsets - offsets[0])
    return keys


def _keys(values: Hashes, offsets: Rows) -> NDArray[np.uint64]:
    rows = offsets.size - 1
    bins = values >> np.uint32(27)
    lowest = np.flatnonzero(changes(bins, offsets))  # values are sorted
    slots = np.repeat(np.arange(rows) * _BINS, np.diff(np.searchsorted(lowest, offsets)))
    slots += bins[lowest]
    table = np.full(rows * _BINS, _NONE)
    table[slots] = values[lowest]
    empty = np.flatnonzero(table == _NONE)
    for distance in range(1, _BINS):
        if not empty.size:
            break
        donor = table[(empty & -_BINS) | ((empty + distance) & (_BINS - 1))]
        full = donor != _NONE
        table[empty[full]] = donor[full] + np.uint32(distance * 0x9E3779B1 & 0xFFFFFFFF)
        empty = empty[~full]
    halves = table.view(np.uint64).reshape(rows, BANDS, _PER_BAND // 2)
    keys = halves[:, :, 0] * MIX[0]
    keys += halves[:, :, 1]
    keys ^= keys >> HALF
    keys *= MIX[1]
    keys >>= HALF
    return keys


def jaccard(one: Hashes, other: Hashes) -> float:
    """|one & other| / |one | other| of two rows' hashes, between 0 and 1; 1 when both are empty."""
    common = np.intersect1d(one, other, assume_unique=True).size
    return common / (one.size + other.size - common) if one.size or other.size else 1.0


class Deduplicator:
    """Tells of each text whether one so near was seen before, on one machine.

    It keeps 4 bytes a shingle, and 100 to 150 bytes a row to find it by.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._hashes = _Column(np.uint32)
        self._offsets = _Column(np.int64)
        self._offsets.append(np.zeros(1, np.int64))
        self._bands = [_Band() for _ in range(BANDS)]

    def add(self, texts: Sequence[str]) -> Rows:
        """For each text the index of its earliest candidate that is near to it, or -1.

        Indexes count all texts ever added, from 0, and earlier ones count whether or not they were
        duplicates themselves. The answer does not depend on how texts are cut into batches.
        """
        parts = (texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH))
        return np.concatenate(
            [np.empty(0, np.int64), *(self.add_shingles(shingles(p)) for p in parts)]
        )

    def add_shingles(self, batch: Shingles) -> Rows:
        """The same of texts that were turned into shingles earlier, or elsewhere."""
        nearest = [np.empty(0, np.int64)]
        for begin in range(0, batch.offsets.size - 1, _BATCH):
            offsets = batch.offsets[begin : begin + _BATCH + 1]
            values = batch.hashes[offsets[0] : offsets[-1]]
            nearest.append(self._add(Shingles(values, offsets - offsets[0])))
        return np.concatenate(nearest)

    def _add(self, batch: Shingles) -> Rows:
        first, keys = self._offsets.size - 1, band_keys(batch).astype(np.uint32)
        self._offsets.append(batch.offsets[1:] + self._hashes.size)
        self._hashes.append(batch.hashes)
        pairs = np.unique(
            np.concatenate([band.add(keys[:, i]) for i, band in enumerate(self._bands)])
        )
        rows, candidates = pairs >> 32, pairs & 0xFFFFFFFF
        nearest = np.full(keys.shape[0], -1, np.int64)
        while rows.size:  # each row's lowest candidate, then the next of those that are still open
            lowest = np.concatenate(([True], rows[1:] != rows[:-1]))
            near = self._near(rows[lowest], candidates[lowest])
            nearest[rows[lowest][near] - first] = candidates[lowest][near]
            still = ~lowest & (nearest[rows - first] < 0)
            rows, candidates = rows[still], candidates[still]
        return nearest

    def _near(self, ones: Rows, others: Rows) -> NDArray[np.bool_]:
        """Which pairs of rows are as similar as the threshold asks, exactly."""
        offsets = self._offsets.values
        sizes = np.stack((offsets[ones + 1] - offsets[ones], offsets[others + 1] - offsets[others]))
        # What differs so much in size cannot be similar; half a shingle is for rounding.
        near: NDArray[np.bool_] = sizes.min(0) + 0.5 >= self._threshold * sizes.max(0)
        possible = np.flatnonzero(near)
        if not possible.size:
            return near
        parts = min(possible.size, 1 + int(sizes[:, possible].sum()) // CHUNK)
        for some in np.array_split(possible, parts):
            pair = np.stack((ones[some], others[some]), 1).ravel()
            near[some] = self._similarity(offsets[pair], offsets[pair + 1]) >= self._threshold
        return near

    def _similarity(self, begins: Rows, ends: Rows) -> NDArray[np.float64]:
        """Jaccard similarity of each two neighbours of the sets `hashes[begin:end]`."""
        offsets = offsets_of(ends - begins)
        places = np.arange(offsets[-1])
        places += np.repeat(begins - offsets[:-1], ends - begins)
        values, both = self._hashes.values[places], offsets[::2]
        sort_rows(values, both)
        same = offsets_of((~changes(values, both)).view(np.int8))  # a set holds a value once
        common = np.diff(same[both])
        union = np.diff(both) - common
        similarity = np.ones(union.size)
        np.divide(common, union, out=similarity, where=union > 0)
        return similarity


class _Band:
    """One band's keys of all rows, and a hash table of the first `BUCKET` rows of each key.

    The table is open-addressed: a row lies at the first free slot on its key's path, so that on the
    path from its beginning there are the earlier rows of its bucket, in their order.
    """

    def __init__(self) -> None:
        self._keys = _Column(np.uint32)
        self._table = np.full(1 << 10, _NONE)

    def add(self, keys: Hashes) -> Rows:
        """Pairs (row << 32 | earlier row) of the new rows and their candidates."""
        first = self._keys.size
        self._keys.append(keys)
        size = self._table.size
        while self._keys.size > 0.6 * size:
            size *= 2
        if size > self._table.size:
            self._table = np.full(size, _NONE)
            for begin in range(0, first, _BATCH):
                self._place(begin, min(begin + _BATCH, first))
        return self._place(first, self._keys.size)

    def _place(self, first: int, last: int) -> Rows:
        all_keys = self._keys.values
        mask = self._table.size - 1
        rows = np.arange(first, last, dtype=np.uint32)
        keys = all_keys[first:last]
        slots = keys.astype(np.int64) & mask
        met = np.zeros(rows.size, np.uint8)  # earlier rows of the bucket, so far
        found = [np.empty(0, np.int64)]
        while rows.size:
            there = self._table[slots]
            free = (there == _NONE).nonzero()[0][::-1]
            claimed = slots[free]
            self._table[claimed] = rows[free]  # of several the lowest, as it is the last
            there[free] = self._table[claimed]
            going = (there != rows).nonzero()[0]
            there, rows, keys, slots, met = (x[going] for x in (there, rows, keys, slots, met))
            same = all_keys[there] == keys
            met += same
            pairs = rows[same].astype(np.int64) << 32
            pairs |= there[same]
            found.append(pairs)
            if pairs.size:
                going = (met < BUCKET).nonzero()[0]
                rows, keys, slots, met = (x[going] for x in (rows, keys, slots, met))
            slots += (keys >> np.uint32(16)) | np.uint32(1)  # the key's own step, odd
            slots &= mask
        return np.concatenate(found)


class _Column(Generic[Scalar]):
    """An array that grows at its end, by reallocation: there are never two copies of it."""

    def __init__(self, kind: type[Scalar]) -> None:
        self._data: NDArray[Scalar] = np.empty(0, kind)
        self.size = 0

    @property
    def values(self) -> NDArray[Scalar]:
        """What was appended; not to be held over another append."""
        values: NDArray[Scalar] = self._data[: self.size]
        return values

    def append(self, values: NDArray[Scalar]) -> None:
        size = self.size + values.size
        if size > self._data.size:
            self._data.resize(size + size // 8, refcheck=False)
        self._data[self.size : size] = values
        self.size = size


def components(pairs: Rows, n: int) -> Rows:
    """Of each of n rows the lowest row that (m, 2) `pairs` connect it with.

    Hooking and pointer jumping (Shiloach and Vishkin, J. Algorithms 1982): few rounds over arrays.
    """
    lowest = np.arange(n)
    while True:
        ones, others = lowest[pairs[:, 0]], lowest[pairs[:, 1]]
        if np.array_equal(ones, others):
            return lowest
        np.minimum.at(lowest, np.maximum(ones, others), np.minimum(ones, others))
        while not np.array_equal(lowest, jumped := lowest[lowest]):
            lowest = jumped
