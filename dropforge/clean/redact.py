"""Personal data and secrets -> typed placeholders such as [EMAIL_1].

A value keeps its placeholder throughout a conversation, so that "I wrote from [EMAIL_1]" and the
answer still speak of the same thing. Checksums keep order numbers from being taken for cards
(Luhn, ISO/IEC 7812-1) or IBANs (mod 97, ISO 13616).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum


class Kind(StrEnum):
    """What a placeholder stands for."""

    AWS_KEY = "AWS_KEY"
    API_KEY = "API_KEY"
    TOKEN = "TOKEN"  # noqa: S105
    PASSWORD = "PASSWORD"  # noqa: S105
    EMAIL = "EMAIL"
    IBAN = "IBAN"
    CARD = "CARD"
    PHONE = "PHONE"
    NAME = "NAME"


SECRETS = frozenset({Kind.AWS_KEY, Kind.API_KEY, Kind.TOKEN, Kind.PASSWORD})


def luhn(digits: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(text: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 13616, mod 97)."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _card(found: str) -> str:
    digits = _digits(found)
    fits = 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)
    return found if fits else ""


def _iban(found: str) -> str:
    """Its longest part that has right check digits: capitals after an IBAN look like more of it."""
    for end in range(len(found), 14, -1):
        packed = found[:end].replace(" ", "")
        if found[end : end + 1] in ("", " ") and 15 <= len(packed) <= 34 and iban(packed):
            return found[:end]
    return ""


def _phone(found: str) -> str:
    """Without what follows it after a space where that makes too many digits for a number."""
    while len(_digits(found)) > 15 and " " in found:
        found = found.rpartition(" ")[0]
    return found if 9 <= len(_digits(found)) <= 15 else ""


def _password(found: str) -> str:
    """Not a word of the sentence: it has a digit, or a sign that words do not have."""
    if _PLACEHOLDER.fullmatch(found):
        return ""
    return found if any(c.isdigit() or not (c.isalnum() or c in "-'’") for c in found) else ""


def _all(found: str) -> str:
    return found


_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(Kind)})_\d+\]")


# In this order: a password may look like a key, a card like a phone number. Where a pattern has a
# group, only the group is replaced, and of that only the beginning that the function returns.
_RULES: tuple[tuple[Kind, re.Pattern[str], Callable[[str], str]], ...] = (
    (Kind.AWS_KEY, re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), _all),
    (
        Kind.API_KEY,
        re.compile(
            r"\b(?:sk|pk|rk)[-_](?:[A-Za-z]+[-_])?[A-Za-z0-9_-]{16,}|\bgh[opsu]_[A-Za-z0-9]{30,}"
            r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[A-Za-z0-9_-]{35}|\bglpat-[A-Za-z0-9_-]{20,}"
        ),
        _all,
    ),
    (Kind.TOKEN, re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"), _all),
    (Kind.TOKEN, re.compile(r"(?i)\bbearer\s+([\w.~+/-]{16,}=*)"), _all),
    (
        Kind.PASSWORD,
        re.compile(
            r"(?i)\b(?:password|passwort|passwd|pwd|passcode)\b(?:\s+(?:is|was)\b|\s*[:=])*"
            r"\s*[\"'“]?([^\s\"'“”,;]{4,}[^\s\"'“”,;.!?])"
        ),
        _password,
    ),
    (Kind.EMAIL, re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"), _all),
    (
        Kind.IBAN,
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _iban,
    ),
    (
        Kind.CARD,  # grouped as cards are: other groupings are order numbers
        re.compile(
            r"(?<![\w-])(?:[2-6]\d{12,18}|[2-6]\d{3}(?:[ -]\d{4}){2}[ -]\d{1,7}"
            r"|3[47]\d{2}[ -]\d{6}[ -]\d{5})(?![\w-])"
        ),
        _card,
    ),
    (
        Kind.PHONE,
        re.compile(
            r"(?<![\w.-])(?:\+\d[\d ().-]{7,18}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"
            r"|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}|[6-9]\d{9})(?![\w-])"
        ),
        _phone,
    ),
)
# One cheap look decides whether a text can hold anything at all: digits, an @, or a marked secret.
_WORTH_A_LOOK = re.compile(
    r"\d{2}|@|A[KS]IA|AIza|gh[opsu]_|eyJ|(?i:passw|pwd|passcode|bearer|\b[spr]k[-_]|xox|glpat)"
)


class Redactor:
    """Redacts one conversation: the same value gets the same placeholder in all of its turns.

    Args:
        names: personal names known from structured fields; found in the text they are replaced.
        keep: values that are the company's own (its support line, say) and stay.
    """

    def __init__(self, names: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        self._placeholders: dict[tuple[Kind, str], str] = {}
        self._keep = frozenset(value.casefold() for value in keep)
        self._names = _name_pattern(names)
        self.found: Counter[Kind] = Counter()

    def __call__(self, text: str) -> str:
        if _WORTH_A_LOOK.search(text):
            for kind, pattern, part in _RULES:
                text = self._replace(kind, pattern, part, text)
        for (kind, value), placeholder in self._placeholders.items():
            if kind in SECRETS and value in text.casefold():
                again = rf"(?<!\w){re.escape(value)}(?!\w)"
                text = re.sub(again, placeholder, text, flags=re.IGNORECASE)
        if self._names:
            text = self._replace(Kind.NAME, self._names, _all, text)
        return text

    def _replace(
        self, kind: Kind, pattern: re.Pattern[str], part: Callable[[str], str], text: str
    ) -> str:
        def placeholder(match: re.Match[str]) -> str:
            group = 1 if pattern.groups else 0
            value = part(match[group])
            if not value or value.casefold() in self._keep:
                return match[0]
            self.found[kind] += 1
            same = self._placeholders.setdefault(
                (kind, value.casefold()), f"[{kind}_{self._seen(kind) + 1}]"
            )
            start = match.start(group) - match.start()
            return match[0][:start] + same + match[0][start + len(value) :]

        return pattern.sub(placeholder, text)

    def _seen(self, kind: Kind) -> int:
        return sum(1 for known, _ in self._placeholders if known == kind)


def _name_pattern(names: Iterable[str]) -> re.Pattern[str] | None:
    """Full names and their parts, as they are written with a capital; no word under 3 letters."""
    parts = {
        part
        for name in names
        for part in (name, *name.split())
        if len(part) >= 3 and part[:1].isupper() and "@" not in part
    }
    if not parts:
        return None
    longest_first = sorted(parts, key=lambda part: (-len(part), part))
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")
