"""JSONL and JSON: rows from lines and from elements."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from dropforge.export.container import Read
from dropforge.export.elements import elements
from dropforge.export.lines import blocks
from dropforge.export.objects import Objects, keys_apart
from dropforge.export.rows import Reason, Rejected, Row
from dropforge.export.shapes import Said


def jsonl_rows(
    read: Read, objects: Objects, offset: int | None, position: int = 0, end: int = sys.maxsize
) -> Iterator[Row | Said]:
    """The rows of the lines that begin before `end`.

    Args:
        offset: the place of the first byte; None if rejections should carry no offset.
        position: the number of the line before the first.
    """
    for block in blocks(read, offset or 0):
        place = block.offset
        if place >= end:
            return
        if not block.data:
            position += 1
            at = None if offset is None else place
            yield Rejected(position, Reason.TOO_LONG, f"{block.size} bytes", at)
            continue
        apart = keys_apart(block.data)
        lines = block.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            if place >= end:
                return
            position += 1
            if line and not line.isspace():
                at = None if offset is None else place
                yield objects.row(line, position, at, apart=apart)
            place += len(line) + 1


def json_rows(read: Read, objects: Objects, offset: int, position: int = 0) -> Iterator[Row | Said]:
    """The rows of a JSON file: see `elements`.

    Raises:
        SchemaError: its brackets do not match.
    """
    for element in elements(read, offset):
        position += 1
        if element.data:
            apart = keys_apart(element.data)
            yield objects.row(element.data, position, element.offset, apart=apart)
        else:
            detail = f"{element.size} bytes"
            yield Rejected(position, Reason.TOO_LONG, detail, element.offset)
