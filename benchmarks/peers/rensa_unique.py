"""rensa, "Keep unique documents" of its README, on word 3-grams instead of words.

It compares estimates with the threshold, so about .8 it decides by chance. Its faster rho pipeline
samples words and flags both texts of a pair: of such flags half are right, and half are missing.
"""

from collections.abc import Iterator

from measure import contest
from rensa import RMinHashDeduplicator


def grams(text: str) -> list[str]:
    """As benchmarks/full_benchmark.py of rensa makes them."""
    words = text.lower().split()
    if len(words) < 3:
        return words
    return [" ".join(words[i : i + 3]) for i in range(len(words) - 2)]


def find(texts: list[str]) -> Iterator[int]:
    dedup = RMinHashDeduplicator(threshold=0.8, num_perm=128, use_lsh=True)
    kept = dedup.add_pairs((str(i), grams(text)) for i, text in enumerate(texts))
    return (i for i, keep in enumerate(kept) if not keep)


if __name__ == "__main__":
    contest(list, find)
