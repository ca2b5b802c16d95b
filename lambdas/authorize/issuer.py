"""JWTs of one issuer in place of Dropforge's own tokens. The one module that imports PyJWT.

Only RS256 and ES256 are taken, whatever a token's header says, and only with a key that the issuer
publishes for it: a public key can then be no HMAC secret, and `none` is no algorithm (RFC 8725,
sections 3.1 and 3.2).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlsplit

import jwt
import msgspec

from dropforge.backends.connection import Connection, HttpError

ALGORITHMS = ("RS256", "ES256")
FETCH_SECONDS = 3.0
REFETCH_SECONDS = 60.0
"""An unknown key id makes the keys be read again, this often at most."""
KEEP_SECONDS = 3600.0
"""Until the keys are read again anyway, so that one that was withdrawn is not trusted for ever."""
LEEWAY_SECONDS = 30
LOOPBACK = ("127.0.0.1", "localhost")


class Trust(msgspec.Struct, frozen=True):
    """Whom a deployment trusts: the context value `auth.jwt`.

    Attributes:
        claim: the one that lists the projects, as a list or as text with commas or blanks between.
        key: the usage-plan key that all of these callers share.
        budget_usd: what each subject may spend in a month; None: there is no limit.

    Raises:
        ValueError: the keys would come over a network that anybody can write to. This machine's
            own address is none.
    """

    issuer: str
    audience: str
    jwks_url: str
    claim: str
    key: str = ""
    budget_usd: float | None = None

    def __post_init__(self) -> None:
        url = urlsplit(self.jwks_url)
        if url.scheme != "https" and url.hostname not in LOOPBACK:
            raise ValueError("The issuer's keys have to be read over https.")


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class KeysUnreadableError(Exception):
    """The issuer's keys cannot be read: no verdict on any token."""


class Issuer:
    """Checks tokens; lives as long as its container, and remembers the keys."""

    def __init__(self, trust: Trust, clock: Callable[[], float] = time.monotonic) -> None:
        self._trust = trust
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at: float | None = None

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Raises msgspec.ValidationError for JSON that is no Trust."""
        return cls(msgspec.json.decode(text, type=Trust))

    def owner(self, token: str) -> dict[str, Any] | None:
        """What the registry would say of a token of Dropforge's own; None for one that is no good.

        `token_id` is made of issuer and subject, and `name` is "jwt": a subject can be a person's
        address, and both reach logs.

        Raises:
            KeysUnreadableError: the issuer's keys were never read and cannot be.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._trust.audience,
                issuer=self._trust.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError:
            return None
        projects = _projects(claims.get(self._trust.claim))
        if not projects:
            return None
        who = hashlib.sha256(f"{self._trust.issuer}\0{claims['sub']}".encode()).hexdigest()
        return {
            "token_id": f"jwt-{who[:16]}",
            "name": "jwt",
            "projects": projects,
            "budget_usd": self._trust.budget_usd,
            "key": self._trust.key,
        }

    def _key(self, header: dict[str, Any]) -> jwt.PyJWK | None:
        """The published key that a header names, if it is one for the header's algorithm."""
        kid = header.get("kid")
        if header.get("alg") not in ALGORITHMS or not isinstance(kid, str):
            return None
        age = None if self._read_at is None else self._clock() - self._read_at
        if age is None or age > KEEP_SECONDS or (kid not in self._keys and age > REFETCH_SECONDS):
            self._read()
        key = self._keys.get(kid)
        return key if key and key.algorithm_name == header["alg"] else None

    def _read(self) -> None:
        url = urlsplit(self._trust.jwks_url)
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        connection = Connection(self._trust.jwks_url)
        deadline = time.monotonic() + FETCH_SECONDS
        try:
            answer = connection.request("GET", target, b"", {}, deadline=deadline, resend=True)
            self._keys = _usable(answer.body if answer.status == 200 else b"")
        except (HttpError, msgspec.MsgspecError, ValueError) as error:
            if self._read_at is None:
                raise KeysUnreadableError("The issuer's keys cannot be read.") from error
        finally:
            connection.close()
        self._read_at = self._clock()


def _usable(body: bytes) -> dict[str, jwt.PyJWK]:
    """The signing keys of a JWK set by id; others and broken ones are left out.

    Raises:
        msgspec.MsgspecError: it is no JWK set.
        ValueError: no key is left, which an issuer does not mean: known keys go on.
    """
    keys = {}
    for each in msgspec.json.decode(body, type=_Keys).keys:
        try:
            if each.get("use", "sig") == "sig" and each.get("kty") in ("RSA", "EC"):
                keys[str(each["kid"])] = jwt.PyJWK(each)
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            continue
    if not keys:
        raise ValueError("no usable key")
    return keys


def _projects(claimed: object) -> list[str]:
    """A claim's projects; names with a comma would read as two and are no project's."""
    if isinstance(claimed, str):
        claimed = claimed.replace(",", " ").split()
    if not isinstance(claimed, list):
        return []
    return [name for name in claimed if isinstance(name, str) and name and "," not in name]
