"""Personal data and secrets of nobody: well-formed enough to be found, and reserved or marked.

E-mail addresses use the domains of RFC 2606, phone numbers the ranges that the regulators of the
USA, the United Kingdom and Germany keep for drama; cards and IBANs carry valid check digits over
made-up accounts.
"""

import base64
import random
import string
import unicodedata
from typing import Final

MAIL_DOMAINS: Final = ("example.com", "example.net", "example.org", "mail.example", "post.example")
PHONES: Final = (
    "+1 (202) 555-01{:02d}",
    "202-555-01{:02d}",
    "+44 7700 9003{:02d}",
    "020 7946 09{:02d}",
    "+49 30 23125 0{:02d}",
    "+4930231255{:02d}",
)
PASSWORDS: Final = ("Basil4ever!", "m1nt&Lime77", "Thicket#2026", "Pe5to-Queen", "gR33nThumb$")
ALPHANUMERIC: Final = string.ascii_letters + string.digits


def plain(text: str) -> str:
    """The letters of `text` in lower case without accents, for an address before its @."""
    decomposed = unicodedata.normalize("NFKD", text.lower().replace("ł", "l").replace("ø", "o"))
    return "".join(c for c in decomposed if c.isascii() and c.isalpha())


def luhn_valid(number: str) -> bool:
    """Whether the digits of a card number satisfy ISO/IEC 7812-1, annex B (the Luhn check)."""
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def email(rng: random.Random, first: str, last: str) -> str:
    """An address in a domain that RFC 2606 or RFC 6761 keeps for examples."""
    joined = rng.choice((".", "_", "")).join((plain(first), plain(last)))
    return f"{joined}{rng.randrange(2, 99)}@{rng.choice(MAIL_DOMAINS)}"


def shared_email(rng: random.Random) -> str:
    """An address that belongs to no customer of the export, such as an office's."""
    return email(
        rng, rng.choice(("office", "garden", "family")), rng.choice(("post", "box", "team"))
    )


def phone(rng: random.Random) -> str:
    """A number from a range that no telephone company gives out."""
    return rng.choice(PHONES).format(rng.randrange(10, 99))


def card(rng: random.Random) -> str:
    """A 16-digit card number with a valid check digit and an account of mostly zeros."""
    body = f"40000000{rng.randrange(10**7):07d}"
    number = next(f"{body}{d}" for d in range(10) if luhn_valid(f"{body}{d}"))
    return rng.choice(("", " ", "-")).join(number[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    """A German, British or Dutch IBAN with valid check digits at a bank that does not exist."""
    account = f"{rng.randrange(10**8):08d}"
    country, bban = rng.choice(
        (("DE", f"0000000000{account}"), ("GB", f"TEST000000{account}"), ("NL", f"TEST00{account}"))
    )
    digits = "".join(str(int(c, 36)) for c in f"{bban}{country}00")
    compact = f"{country}{98 - int(digits) % 97:02d}{bban}"
    return rng.choice(("", " ")).join(compact[i : i + 4] for i in range(0, len(compact), 4))


def api_key(rng: random.Random) -> str:
    """A key in the form `sk-…` or `sk-proj-…` that says it is an example."""
    tail = "".join(rng.choices(ALPHANUMERIC, k=24))
    return f"{rng.choice(('sk-', 'sk-proj-'))}EXAMPLE{tail}"


def aws_key(rng: random.Random) -> str:
    """An AWS access key id: AKIA and sixteen characters, which say that it is an example."""
    return "AKIAEXAMPLE" + "".join(rng.choices(string.ascii_uppercase + "234567", k=9))


def bearer(rng: random.Random) -> str:
    """An opaque bearer token of 36 characters."""
    return "example_" + "".join(rng.choices(ALPHANUMERIC, k=28))


def jwt(rng: random.Random) -> str:
    """A JSON Web Token whose claims name nobody and whose signature is noise."""
    header, claims = '{"alg":"HS256","typ":"JWT"}', f'{{"sub":"nobody-{rng.randrange(1000)}"}}'
    signature = rng.randbytes(32)
    parts = (base64.urlsafe_b64encode(p) for p in (header.encode(), claims.encode(), signature))
    return ".".join(p.decode().rstrip("=") for p in parts)


def password(rng: random.Random) -> str:
    """A password with letters, a digit and a sign, as people really choose them."""
    return rng.choice(PASSWORDS)
