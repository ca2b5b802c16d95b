"""Check digits, and the shapes of numbers that have them.

They keep order numbers from being taken for cards, accounts or identity numbers.
"""

from __future__ import annotations

import re
from string import ascii_uppercase, digits

from dropforge.clean.redact.kinds import words

# ISO 13616-1 registry: how many characters each country's IBAN has.
_IBAN_LENGTHS = {
    part[:2]: int(part[2:])
    for part in words(
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28"
        " EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26"
        " IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18"
        " NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24"
        " TR26 UA29 VA22 VG24 XK20"
    )
}
_BETWEEN = re.compile("[ \u00a0-]")
_IBANS = {
    country: re.compile(rf"[A-Za-z0-9](?:[ \u00a0-]?[A-Za-z0-9]){{{length - 1}}}(?![^\W_])")
    for country, length in _IBAN_LENGTHS.items()
}
_VALUES = {ord(char): str(int(char, 36)) for char in ascii_uppercase}
_DOUBLED = {ord(char): str(sum(map(int, str(2 * int(char))))) for char in digits}
# Verhoeff, Error Detecting Decimal Codes, 1969: the dihedral group D5 and the permutation.
_D5 = tuple(
    tuple((i + j) % 5 if j < 5 else 5 + (i + j) % 5 for j in range(10))
    if i < 5
    else tuple(5 + (i - j) % 5 if j < 5 else (i - j) % 5 for j in range(10))
    for i in range(10)
)
_P1 = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_P = [tuple(range(10))]
for _ in range(7):
    _P.append(tuple(_P1[value] for value in _P[-1]))
# Issuer prefixes (ISO/IEC 7812-1 registry, as the networks publish them) and the lengths in use.
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|(?:6011|64[4-9]\d|65\d\d)\d{12,15}|3(?:0[0-5]|[689]\d)\d{11,16}"
    r"|35(?:2[89]|[3-8]\d)\d{12,15}|62\d{14,17}|(?:50|5[6-8]|6[0-9])\d{11,17}|8[12]\d{14}|22\d{14}"
)


def luhn(digits: str) -> bool:
    """Whether a card number's check digit is right (ISO/IEC 7812-1, annex B)."""
    odd = map(int, digits[::-2])
    even = map(int, digits[-2::-2].translate(_DOUBLED))
    return (sum(odd) + sum(even)) % 10 == 0


def card(digits: str) -> bool:
    """Whether an issuer gives out such numbers, and the check digit is right."""
    return bool(_ISSUERS.fullmatch(digits)) and len(set(digits)) > 1 and luhn(digits)


def iban(text: str) -> bool:
    """Whether an IBAN's check digits are right (ISO 13616, mod 97)."""
    return int((text[4:] + text[:4]).translate(_VALUES)) % 97 == 1


def iban_end(text: str, start: int) -> int:
    """Where the valid IBAN that begins at `start` ends, single spaces or dashes in it; else -1."""
    shape = _IBANS.get(text[start : start + 2].upper())
    match = shape.match(text, start) if shape else None
    if match is None:
        return -1
    return match.end() if iban(_BETWEEN.sub("", match[0]).upper()) else -1


def verhoeff(digits: str) -> bool:
    """Whether an Aadhaar number's check digit is right (J. Verhoeff, 1969)."""
    check = 0
    for place, char in enumerate(reversed(digits)):
        check = _D5[check][_P[place % 8][int(char)]]
    return check == 0
