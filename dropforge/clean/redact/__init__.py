"""Personal data and secrets -> typed placeholders such as [EMAIL_1].

A value keeps its placeholder throughout a conversation, so that "I wrote from [EMAIL_1]" and the
answer still speak of the same thing.

How it is fast: one look at all words of the text (`scan`) tells which of them call for a rule, and
where; only those rules are tried, and only there. Numbers are judged where digits stand.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from dropforge.clean.redact import labels, names
from dropforge.clean.redact.checks import iban, luhn, verhoeff
from dropforge.clean.redact.kinds import ORDER, SECRETS, Kind, Span
from dropforge.clean.redact.numbers import STREETS, numbers
from dropforge.clean.redact.scan import ODD, Scanned, Scanner
from dropforge.clean.redact.secrets import (
    KEY_STARTS,
    PREFIXES,
    aws_secrets,
    emails,
    hidden_emails,
    prefixed,
    secrets,
)

__all__ = ["SECRETS", "Kind", "Redactor", "Scanned", "iban", "luhn", "scan", "verhoeff"]

_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(Kind)})_\d+\]")
_HIDING = re.compile("[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_WIDE = {ord(w): chr(ord(w) - 0xFEE0) for w in map(chr, range(0xFF01, 0xFF5F))} | {
    0xA0: " ",
    0x202F: " ",
    0x2011: "-",
}
_BETWEEN = "\n\0\n"
_AT_ONCE = 128  # conversations whose arrays fit a core's cache


class Redactor:
    """Redacts one conversation: the same value gets the same placeholder in all of its turns.

    Args:
        names: personal names known from structured fields; found in the text they are replaced.
        keep: values that are the company's own (its support line, say) and stay.
    """

    def __init__(self, names: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        self._placeholders: dict[tuple[Kind, str], str] = {}
        self._numbers: dict[Kind, int] = {}
        self._keep = frozenset(value.casefold() for value in keep)
        self._names = list(names)
        self._parts: list[tuple[str, bool]] | None = None
        self._secrets: dict[str, Kind] = {}
        self._scanned: Scanned | None = None
        self.found: dict[Kind, int] = {}

    def __call__(self, text: str) -> str:
        """The text with placeholders for what it holds, and for what earlier texts gave away."""
        if text.isascii() or ODD not in self._look(text).flat:
            return self._redacted(text)
        before = self.found.copy()
        plain = _HIDING.sub("", text).translate(_WIDE)
        redacted = self._redacted(plain)
        return redacted if self.found != before else text

    def conversation(self, texts: Sequence[str], scanned: Scanned | None = None) -> list[str]:
        """All texts of a conversation at once.

        Faster than one by one, and complete: what a later text gives away (a password's label, the
        customer's name) is replaced in the earlier ones too. `scanned`, of the same texts, is what
        `scan` saw in them along with many others: it costs a tenth of a look at one.
        """
        self._scanned = scanned
        joined = _BETWEEN.join(texts)
        if joined.count("\0") >= len(texts):
            return [self(text) for text in texts]
        return self(joined).split(_BETWEEN) if texts else []

    def _redacted(self, text: str) -> str:
        spans = self._find(text)
        if self._keep:
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
        return found_in(self._look(text))

    def _look(self, text: str) -> Scanned:
        if self._scanned is None or self._scanned.text != text:
            self._scanned = _SCANNER([text])[0]
        return self._scanned

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
        if self._keep:
            spans = [s for s in spans if text[s.start : s.end].casefold() not in self._keep]
        return spans

    def _replaced(self, text: str, spans: list[Span]) -> str:
        """Placeholders for the findings; where two overlap, the one that goes first in `ORDER`."""
        if len(spans) == 1 and "[" not in text:
            start, end, only = spans[0]
            return text[:start] + self._placeholder(only, text[start:end]) + text[end:]
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
        self.found[kind] = self.found.get(kind, 0) + 1
        key = (kind, _key(kind, value))
        placeholder = self._placeholders.get(key)
        if placeholder is None:
            number = self._numbers[kind] = self._numbers.get(kind, 0) + 1
            placeholder = self._placeholders[key] = f"[{kind}_{number}]"
        return placeholder


def _rank(span: Span) -> tuple[int, int, int]:
    return ORDER[span.kind], span.start - span.end, span.start


_NUMERIC = frozenset((Kind.PHONE, Kind.CARD, Kind.IBAN, Kind.SSN, Kind.AADHAAR, Kind.NINO))
_MARKS = re.compile(r"[^\w+]+")


def _key(kind: Kind, value: str) -> str:
    """What two spellings of one value have in common."""
    if kind in _NUMERIC:
        return _MARKS.sub("", value).casefold()
    return names.folded(value) if kind is Kind.NAME else value.casefold()


def scan(conversations: Iterable[Sequence[str]]) -> list[Scanned]:
    """A first look at many conversations at once, for `Redactor.conversation`."""
    joined = [_BETWEEN.join(texts) for texts in conversations]
    found = []
    for first in range(0, len(joined), _AT_ONCE):
        found += _SCANNER(joined[first : first + _AT_ONCE])
    return found


def found_in(scanned: Scanned) -> list[Span]:
    """Everything the rules find in a text; findings may overlap."""
    text, _, words, long, digits = scanned
    spans = numbers(text, digits)
    spans += secrets(text, long)
    if "@" in text:
        spans += emails(text)
    whole = {hidden_emails} if _spelt_at(text) else set()
    done: dict[str, int] = {}
    for trigger, place in words:
        if trigger in _WHOLE:
            whole.add(_WHOLE[trigger])
            continue
        if place < done.get(trigger, 0):  # in what it gave away before
            continue
        for way in _WAYS[trigger]:
            found = way(text, trigger, place)
            if found:
                spans += found
                done[trigger] = max(done.get(trigger, 0), *(span.end for span in found))
    for rule in whole:
        spans += rule(text)
    return spans


def _spelt_at(text: str) -> bool:
    return ("(" in text and "(at" in text) or ("[" in text and "[at" in text)


# What a trigger word calls for: a look at its place, or at the whole text.
_WAYS: dict[str, list[Callable[[str, str, int], list[Span]]]] = {}
_WHOLE = {"aws": aws_secrets, "dot": hidden_emails, "punkt": hidden_emails}
for _words, _way in (
    ((*labels.RULES, *labels.STREETS), labels.labelled),
    (names.TRIGGERS, names.spoken),
    (PREFIXES, prefixed),
):
    for _word in dict.fromkeys(_words):
        _WAYS.setdefault(_word, []).append(_way)
_SCANNER = Scanner((*_WAYS, *_WHOLE), names.FOLLOWED, STREETS, KEY_STARTS)
