"""What is redacted, and what a rule may look at."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


def words(listed: str) -> list[str]:
    """The words of a list that is written as running text."""
    return listed.split()


class Kind(StrEnum):
    """What a placeholder stands for."""

    PRIVATE_KEY = "PRIVATE_KEY"
    AWS_KEY = "AWS_KEY"
    API_KEY = "API_KEY"
    TOKEN = "TOKEN"  # noqa: S105
    CREDENTIALS = "CREDENTIALS"
    PASSWORD = "PASSWORD"  # noqa: S105
    EMAIL = "EMAIL"
    IBAN = "IBAN"
    CARD = "CARD"
    SSN = "SSN"
    NINO = "NINO"
    PAN = "PAN"
    AADHAAR = "AADHAAR"
    IP = "IP"
    MAC = "MAC"
    BIRTHDATE = "BIRTHDATE"
    ADDRESS = "ADDRESS"
    USERNAME = "USERNAME"
    PHONE = "PHONE"
    NAME = "NAME"


SECRETS = frozenset(
    {
        Kind.PRIVATE_KEY,
        Kind.AWS_KEY,
        Kind.API_KEY,
        Kind.TOKEN,
        Kind.CREDENTIALS,
        Kind.PASSWORD,
    }
)
ORDER = {kind: place for place, kind in enumerate(Kind)}
"""Where two findings overlap, the kind that stands first wins: a password may look like a key."""


class Span(NamedTuple):
    """A finding: `text[start:end]` is a `kind`."""

    start: int
    end: int
    kind: Kind
