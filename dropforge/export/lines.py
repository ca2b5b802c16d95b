"""Lines of unbounded content in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dropforge.export.container import CHUNK, Read
from dropforge.export.rows import MAX_LINE


class Block(NamedTuple):
    """Whole lines, each with its newline but perhaps the last of the file; `offset` of the first.

    A line over MAX_LINE is a block of its own with no data; `size` is how long it was.
    """

    offset: int
    data: bytes
    size: int


def blocks(read: Read, offset: int) -> Iterator[Block]:
    """The content cut behind newlines; no more than a chunk and a line is ever held."""
    rest, behind = b"", b""
    while chunk := behind or read(CHUNK):
        behind = b""
        cut = chunk.rfind(b"\n") + 1
        if cut:
            data = rest + chunk[:cut]
            yield from _split_off_long(Block(offset, data, len(data)), len(rest))
            offset += len(data)
            rest = chunk[cut:]
            continue
        rest += chunk
        if len(rest) > MAX_LINE:
            size, behind = _skip_line(read, len(rest))
            yield Block(offset, b"", size)
            offset += size
            rest = b""
    if rest:
        yield Block(offset, rest, len(rest))


def _skip_line(read: Read, size: int) -> tuple[int, bytes]:
    """Reads and forgets the rest of a long line: its size in all, and what was read behind it."""
    while chunk := read(CHUNK):
        end = chunk.find(b"\n") + 1
        size += end or len(chunk)
        if end:
            return size, chunk[end:]
    return size, b""


def _split_off_long(block: Block, carried: int) -> Iterator[Block]:
    """Only the first line can be too long: the others fit into one chunk."""
    first = block.data.find(b"\n", carried) + 1
    if first <= MAX_LINE + 1:
        yield block
        return
    yield Block(block.offset, b"", first)
    if first < len(block.data):
        yield Block(block.offset + first, block.data[first:], len(block.data) - first)
