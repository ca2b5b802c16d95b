"""Dropforge, as the cleaning stage calls it."""

from collections.abc import Iterator

from measure import contest

from dropforge.deduplicate import Deduplicator


def find(texts: list[str]) -> Iterator[int]:
    seen = Deduplicator()
    batch = 1 << 15
    for begin in range(0, len(texts), batch):
        for row, near in enumerate(seen.add(texts[begin : begin + batch]).tolist(), begin):
            if near >= 0:
                yield row


if __name__ == "__main__":
    contest(list, find)
