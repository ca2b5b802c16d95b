"""Checks of an answer that need no opinion: format, banned phrases, length, personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dropforge.chat import ChatExample
from dropforge.patterns import is_whole
from dropforge.project.judging import Checks
from dropforge.text import normalise

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_DIGITS = re.compile(r"(?<![\w.])\+?\(?\d(?:[ ().-]{0,2}\d){7,18}(?![\w.]?\d)")
_DATE = re.compile(r"\b\d{1,4}([./-])\d{1,2}\1\d{1,4}\b")
_SECRET = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|sk-[\w-]{20,}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
)


def failed_checks(example: ChatExample, answer: str, checks: Checks) -> tuple[str, ...]:
    """The names of the checks that an answer fails, each once: empty, long, format, banned, pii.

    `pii` is an e-mail address, telephone or card number, IBAN or key that stands in none of the
    ticket's own messages: one that the model has made up, or remembers from somebody else's ticket.
    """
    return tuple(_failed(example, answer, checks))


def _failed(example: ChatExample, answer: str, checks: Checks) -> Iterator[str]:
    plain = normalise(answer)
    if not plain:
        yield "empty"
    if checks.most_words is not None and len(plain.split()) > checks.most_words:
        yield "long"
    if checks.format and not is_whole(checks.format, plain):
        yield "format"
    lowered = plain.casefold()
    if any(phrase.casefold() in lowered for phrase in checks.banned):
        yield "banned"
    known = _data("\n".join(m.content for m in example.messages))
    if not _data(plain) <= known:
        yield "pii"


def _data(text: str) -> set[str]:
    """Personal data and keys in a text, without the signs that only lay them out."""
    found = {m[0].lower().rstrip(".") for m in _EMAIL.finditer(text)}
    found |= {m[0].replace(" ", "") for m in _IBAN.finditer(text) if _is_iban(m[0])}
    found |= {m[0] for m in _SECRET.finditer(text)}
    dateless = _DATE.sub(" . ", text)
    return found | {re.sub(r"\D", "", m[0]) for m in _DIGITS.finditer(dateless) if _is_number(m[0])}


def _is_number(text: str) -> bool:
    """A card number by its check digit, or a telephone number by how it is written.

    Plain digits of other lengths are order and article numbers, which support answers are full of.
    """
    digits = re.sub(r"\D", "", text)
    if 13 <= len(digits) <= 19 and luhn(digits):
        return True
    written = text.startswith(("+", "(", "00")) or re.search(r"\d[ ().-]+\d", text) is not None
    return written and 9 <= len(digits) <= 15


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = [int(d) * (1 + at % 2) for at, d in enumerate(reversed(digits))]
    return sum(d // 10 + d % 10 for d in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the check digits hold (ISO 13616: mod 97 of the rearranged number is 1)."""
    plain = text.replace(" ", "")
    digits = "".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])
    return int(digits) % 97 == 1
