"""Questions kept for questions like them, and the record of how often such a hit was wrong.

Pure, and imports nothing but msgspec: the chat path reads this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from math import exp, log, log1p, sqrt
from operator import mul

import msgspec

from dropforge.serve.cache import CacheKey

ALPHA = 0.05
FRACTIONS = ((0.0, 0.3), (0.1, 0.25), (0.25, 0.2), (0.5, 0.15), (0.75, 0.1))
"""What the bettor takes for the share of false hits, of the limit, and with how much of it."""


class Record(msgspec.Struct, frozen=True):
    """How many would-be hits were checked, and how many of them were false."""

    checks: int = 0
    false: int = 0

    def proven(self, limit: float) -> bool:
        """Whether less than `limit` of the hits are false; holds at all looks at once (95 %)."""
        return self._evidence(limit, FRACTIONS) >= 1 / ALPHA

    def refuted(self, limit: float) -> bool:
        """Whether more than `limit` of them are, as sure: then no more checks are needed."""
        over = tuple((1 + step * (1 / limit - 1) / 8, 0.2) for step in (0.25, 0.5, 1, 2, 4))
        return self._evidence(limit, over) >= 1 / ALPHA

    def bound(self) -> float:
        """The smallest limit that is proven, to 1/1000; 1 where none is."""
        low, high = 0, 1000
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.proven(middle / 1000) else (middle, high)
        return high / 1000

    def _evidence(self, limit: float, bets: Iterable[tuple[float, float]]) -> float:
        """The capital of who bets, from 1, that the share is a fraction of the limit and not it.

        A mixture of likelihood ratios of Bernoulli trials: at a share of `limit` or worse it is a
        nonnegative supermartingale, so it ever reaches 20 with a chance of at most 1/20 (Ville
        1939; Robbins 1970, "Statistical methods related to the law of the iterated logarithm").
        Worse means on the other side of the limit from the bet. It needs the two counts only.
        """
        if not 0 < limit < 1:
            return 0.0
        capital = 0.0
        for fraction, weight in bets:
            share = fraction * limit
            if share == 0:
                wrong = -float("inf") if self.false else 0.0
            else:
                wrong = self.false * log(fraction)
            right = (self.checks - self.false) * (log1p(-share) - log1p(-limit))
            capital += weight * exp(min(700.0, wrong + right))
        return capital


class Near(msgspec.Struct, frozen=True):
    """A question as it is kept beside its answer's entry: its vector, and no text.

    Attributes:
        entry: the name of the entry with the answer.
        sealed: the entry's secret, readable only with the partition's.
        vector: the embedding, scaled so that its largest number is 127; one signed byte a number.
    """

    entry: str
    at: int
    expires_at: int
    vector: bytes
    sealed: bytes
    code: bytes

    @classmethod
    def of(cls, partition: CacheKey, key: CacheKey, vector: bytes, at: int, expires: int) -> Near:
        """The note in this partition of a question whose entry has this key."""
        sealed = _pad(partition, key.name, key.secret)
        code = partition.code(key.name.encode(), b"%d %d" % (at, expires), vector, sealed)
        return cls(key.name, at, expires, vector, sealed, code)

    def open(self, partition: CacheKey) -> CacheKey | None:
        """The key of the entry; None where this is no note of the partition."""
        times = b"%d %d" % (self.at, self.expires_at)
        code = partition.code(self.entry.encode(), times, self.vector, self.sealed)
        if code != self.code:
            return None
        return CacheKey(_pad(partition, self.entry, self.sealed), self.entry)


def _pad(partition: CacheKey, name: str, secret: bytes) -> bytes:
    """The secret under a one-time pad, or the secret again. A pad is of one entry's name only."""
    pad = hashlib.blake2b(name.encode(), key=partition.secret, digest_size=32).digest()
    return bytes(map(int.__xor__, pad, secret))


def packed(vector: list[float]) -> bytes:
    """A vector's direction in a byte a number, which changes cosines by less than 0.005.

    Raises ValueError for a vector of no direction.
    """
    largest = max(map(abs, vector), default=0.0)
    if not 0 < largest < float("inf"):
        raise ValueError("a vector of no direction")
    return bytes(round(127 * value / largest) & 0xFF for value in vector)


def cosine(one: list[float], other: list[float]) -> float:
    """The cosine of two vectors; 0 where one has no direction, or their lengths differ."""
    lengths = sqrt(sum(map(mul, one, one)) * sum(map(mul, other, other)))
    return sum(map(mul, one, other)) / lengths if lengths and len(one) == len(other) else 0.0


def nearest(vector: bytes, others: Iterable[Near]) -> tuple[float, Near | None]:
    """The cosine, and the question that is most like this vector; of equals the first one."""
    asked = _signed(vector)
    length = _dot(asked, asked)
    best: tuple[float, Near | None] = (-1.0, None)
    for other in others:
        if len(other.vector) != len(vector):
            continue
        kept = _signed(other.vector)
        cosine = _dot(asked, kept) / sqrt(length * _dot(kept, kept) or 1)
        if cosine > best[0]:
            best = cosine, other
    return best


def _signed(vector: bytes) -> list[int]:
    return memoryview(vector).cast("b").tolist()


def _dot(one: list[int], other: list[int]) -> int:
    return sum(map(mul, one, other))
