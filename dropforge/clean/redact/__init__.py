"""Personal data and secrets -> typed placeholders such as [EMAIL_1].

A value keeps its placeholder throughout a conversation, so that "I wrote from [EMAIL_1]" and the
answer still speak of the same thing.

How it is fast: two translations of the text's bytes, a few µs, tell which words and which sorts of
numbers it holds; only rules that these call for are tried, and only at the places of their words.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from dropforge.clean.redact import labels, names
from dropforge.clean.redact.checks import iban, luhn, verhoeff
from dropforge.clean.redact.kinds import ORDER, SECRETS, Kind, Span
from dropforge.clean.redact.numbers import numbers
from dropforge.clean.redact.secrets import (
    PREFIXES,
    aws_secrets,
    emails,
    hidden_emails,
    prefixed,
    secrets,
)

__all__ = ["SECRETS", "Kind", "Redactor", "iban", "luhn", "verhoeff"]

_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(Kind)})_\d+\]")
_HIDING = re.compile("[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_WIDE = {ord(w): chr(ord(w) - 0xFEE0) for w in map(chr, range(0xFF01, 0xFF5F))} | {
    0xA0: " ",
    0x202F: " ",
    0x2011: "-",
}
_ODD = re.compile(
    "[\xa0\xad\u034f\u061c\u180e\u200b-\u200f\u2011\u202a-\u202f\u2060-\u206f\ufeff\uff01-\uff5e]"
)

_TO_WORDS = bytes(
    b if b > 127 or chr(b).isdigit() else ord(chr(b).lower()) if chr(b).isalpha() else 32
    for b in range(256)
)
_TO_CLASSES = bytes(48 if 48 <= b < 58 else 97 for b in range(256))
_TRIGGERS = {
    word.encode(): word
    for word in (*labels.RULES, *labels.STREETS, *names.TRIGGERS, *PREFIXES, "aws", "dot", "punkt")
}
_WORDS = frozenset(_TRIGGERS)
_BETWEEN = "\n\0\n"


class Redactor:
    """Redacts one conversation: the same value gets the same placeholder in all of its turns.

    Args:
        names: personal names known from structured fields; found in the text they are replaced.
        keep: values that are the company's own (its support line, say) and stay.
    """

    def __init__(self, names: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        self._placeholders: dict[tuple[Kind, str], str] = {}
        self._numbers: Counter[Kind] = Counter()
        self._keep = frozenset(value.casefold() for value in keep)
        self._names = list(names)
        self._parts: list[tuple[str, bool]] | None = None
        self._secrets: dict[str, Kind] = {}
        self.found: Counter[Kind] = Counter()

    def __call__(self, text: str) -> str:
        """The text with placeholders for what it holds, and for what earlier texts gave away."""
        if text.isascii() or not _ODD.search(text):
            return self._redacted(text)
        before = self.found.copy()
        plain = _HIDING.sub("", text).translate(_WIDE)
        redacted = self._redacted(plain)
        return redacted if self.found != before else text

    def conversation(self, texts: Sequence[str]) -> list[str]:
        """All texts of a conversation at once.

        Faster than one by one, and complete: what a later text gives away (a password's label, the
        customer's name) is replaced in the earlier ones too.
        """
        if any("\0" in text for text in texts):
            return [self(text) for text in texts]
        return self(_BETWEEN.join(texts)).split(_BETWEEN) if texts else []

    def _redacted(self, text: str) -> str:
        spans = self._find(text)
        spans = [s for s in spans if text[s.start : s.end].casefold() not in self._keep]
        for span in spans:
            if span.kind in SECRETS:
                self._secrets.setdefault(text[span.start : span.end].casefold(), span.kind)
            elif span.kind is Kind.NAME:
                self._names.append(text[span.start : span.end])
                self._parts = None
        if self._names or self._secrets:
            spans += self._again(text)
        return self._replaced(text, spans) if spans else text

    def _find(self, text: str) -> list[Span]:
        """What is to be redacted by what it is, not by what was said before."""
        return found_in(text)

    def _again(self, text: str) -> list[Span]:
        """Where known names and secrets stand, with or without what gave them away."""
        spans: list[Span] = []
        if self._names:
            if self._parts is None:
                self._parts = names.known_parts(self._names)
            spans += names.known(text, names.folded(text), self._parts)
        if self._secrets:
            lowered = text.casefold()
            for value, kind in self._secrets.items():
                if value in lowered:
                    again = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
                    spans += (Span(*m.span(), kind) for m in again.finditer(text))
        return [s for s in spans if text[s.start : s.end].casefold() not in self._keep]

    def _replaced(self, text: str, spans: list[Span]) -> str:
        """Placeholders for the findings; where two overlap, the one that goes first in `ORDER`."""
        starts, ends = [-1], [-1]
        kinds: list[Kind | None] = [None]  # what stands so far, in the text's order
        if "[" in text:
            for match in _PLACEHOLDER.finditer(text):
                starts.append(match.start())
                ends.append(match.end())
                kinds.append(None)
        for start, end, found in sorted(spans, key=_rank):
            place = bisect_right(starts, start)
            if ends[place - 1] > start or (place < len(starts) and starts[place] < end):
                continue
            starts.insert(place, start)
            ends.insert(place, end)
            kinds.insert(place, found)
        parts: list[str] = []
        last = 0
        for start, end, kind in zip(starts, ends, kinds, strict=True):
            if kind is not None:
                parts += text[last:start], self._placeholder(kind, text[start:end])
                last = end
        return "".join((*parts, text[last:]))

    def _placeholder(self, kind: Kind, value: str) -> str:
        self.found[kind] += 1
        key = (kind, _key(kind, value))
        if key not in self._placeholders:
            self._numbers[kind] += 1
            self._placeholders[key] = f"[{kind}_{self._numbers[kind]}]"
        return self._placeholders[key]


def _rank(span: Span) -> tuple[int, int, int]:
    return ORDER[span.kind], span.start - span.end, span.start


_NUMERIC = frozenset((Kind.PHONE, Kind.CARD, Kind.IBAN, Kind.SSN, Kind.AADHAAR, Kind.NINO))
_MARKS = re.compile(r"[^\w+]+")


def _key(kind: Kind, value: str) -> str:
    """What two spellings of one value have in common."""
    if kind in _NUMERIC:
        return _MARKS.sub("", value).casefold()
    return names.folded(value) if kind is Kind.NAME else value.casefold()


def found_in(text: str) -> list[Span]:
    """Everything the rules find in a text; findings may overlap."""
    raw = text.encode("ascii", "replace")
    classes = raw.translate(_TO_CLASSES)
    if not text.isascii():
        raw = text.lower().encode(errors="replace")
    words = raw.translate(_TO_WORDS).split()
    hits = _WORDS.intersection(words)
    spans: list[Span] = []
    if b"0" in classes:
        spans += numbers(text, classes)
    spans += secrets(text, words)
    if "@" in text:
        spans += emails(text)
    if b"dot" in hits or b"punkt" in hits or "(at" in text or "[at" in text:
        spans += hidden_emails(text)
    if hits:
        spans += _triggered(text, [_TRIGGERS[hit] for hit in sorted(hits)])
    return spans


def _triggered(text: str, hits: list[str]) -> list[Span]:
    spans: list[Span] = []
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = "".join(low if len(low := char.lower()) == 1 else char for char in text)
    for trigger in hits:
        if trigger == "aws":
            spans += aws_secrets(text)
        ways = _WAYS.get(trigger, ())
        place = lowered.find(trigger)
        while place >= 0:
            end = place + len(trigger)
            if not lowered[end : end + 1].isalnum() and not lowered[place - 1 : place].isalnum():
                for way in ways:
                    found = way(text, trigger, place)
                    if found:
                        spans += found
                        end = max(end, *(span.end for span in found))
            place = lowered.find(trigger, end)
    return spans


_WAYS: dict[str, list[Callable[[str, str, int], list[Span]]]] = {}
for _words, _way in (
    ((*labels.RULES, *labels.STREETS), labels.labelled),
    (names.TRIGGERS, names.spoken),
    (PREFIXES, prefixed),
):
    for _word in dict.fromkeys(_words):
        _WAYS.setdefault(_word, []).append(_way)
