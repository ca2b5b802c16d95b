"""Addresses of machines: IPv4, IPv6 and MAC."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from dropforge.clean.redact.kinds import Kind, Span

_IPV4 = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_VERSION = re.compile(
    r"(?i)\b(?:version|firmware|build|release|update|software|ver|rev|v|ios|driver"
    r"|app)[\s.:#]{0,3}(?:is |to |from )?$"
)
_IPV6 = re.compile(r"(?i)[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}")
_SIX_GROUPS = re.compile(rb":(?:0{1,4}:){5}")
_TO_PAIRS = bytes(
    48 if chr(b) in "0123456789abcdefABCDEF" else 58 if chr(b) in ":-" else 32 for b in range(256)
)
_MAC = re.compile(r"([:-])(?<=[0-9A-Fa-f]{2}.)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")


def internet(text: str, low: int, high: int) -> Iterator[Span]:
    """IPv4 addresses in `text[low:high]`, and no version numbers."""
    for match in _IPV4.finditer(text, low, high):
        start = match.start()
        octets = [int(part) for part in match[0].split(".")]
        if max(octets) > 255 or (
            start and (text[start - 1].isalnum() or text[start - 1] in "._-+")
        ):
            continue
        before = text[max(0, start - 24) : start]
        if _VERSION.search(before) or text[match.end() : match.end() + 1].isalpha():
            continue
        if max(octets) >= 10 or re.search(r"(?i)\bip\b", before):
            yield Span(start, match.end(), Kind.IP)


def network(text: str, colons: int) -> Iterator[Span]:
    """MAC and IPv6 addresses; `colons`: how many the text has."""
    # With ":" for "-" too: whether one stands for the other is the pattern's to tell.
    pairs = text.encode("ascii", "replace").translate(_TO_PAIRS)
    if b"0:00:00:00:00:0" in pairs:
        for match in _MAC.finditer(text):
            start = match.start() - 2
            if not start or not (text[start - 1].isalnum() or text[start - 1] in ":-."):
                yield Span(start, match.end(), Kind.MAC)
    if "::" not in text and (colons < 7 or not _SIX_GROUPS.search(pairs)):
        return
    for match in _IPV6.finditer(text):
        start, found = match.start(), match[0].rstrip(".")
        if found.endswith(":") and not found.endswith("::"):
            found = found[:-1]
        around = text[start - 1 : start] + text[start + len(found) : start + len(found) + 1]
        if any(c.isalnum() for c in around) or sum(map(bool, found.split(":"))) < 2:
            continue
        try:
            IPv6Address(found)
        except AddressValueError:
            continue
        if any(map(str.isdigit, found)):
            yield Span(start, start + len(found), Kind.IP)
