"""API tokens: how they are written, and the keys of what the registry knows of them.

A token is `df-<id>-<secret>`. `df-<id>` is public: lists and logs show it, and it stays when the
secret is rotated. Pure; imports the standard library only, and that late where it is rarely needed.

Registry items:
    tokens / <id>                            what `dropforge tokens list` shows
    token#<SHA-256 of the token> / token     what the authorizer reads, once a secret
    principal#<SHA-256 of the ARN> / principal   the same for an IAM role or user
"""

from __future__ import annotations

import hashlib
import re

RECORDS = "tokens"
ID = re.compile(r"df-[a-z2-7]{10}")
TOKEN = re.compile(r"(df-[a-z2-7]{10})-[A-Za-z0-9_-]{43}")
_ASSUMED = re.compile(r"arn:(aws[a-z-]*):sts::(\d{12}):assumed-role/([^/]+)/.+")
_ROLE = re.compile(r"(arn:aws[a-z-]*:iam::\d{12}:role)/(?:.+/)?([^/]+)")


def new_token() -> str:
    """A token with 50 random bits of id and 256 of secret."""
    import base64
    import secrets

    name = base64.b32encode(secrets.token_bytes(7))[:10].decode().lower()
    return f"df-{name}-{secrets.token_urlsafe(32)}"


def token_id(text: str) -> str | None:
    """The id that a token begins with, or an id itself; None for anything else."""
    if ID.fullmatch(text):
        return text
    found = TOKEN.fullmatch(text)
    return found[1] if found else None


def token_key(token: str) -> tuple[str, str]:
    """The registry's key of a token: the token itself is stored nowhere."""
    return f"token#{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}", "token"


def principal(arn: str) -> str:
    """The IAM principal of an ARN: a role for each of its sessions, and without its path.

    STS's ARN of a session leaves the role's path out, so roles of one name count as one; IAM allows
    a name only once in an account (IAM API reference, CreateRole).
    """
    if found := _ASSUMED.fullmatch(arn):
        return f"arn:{found[1]}:iam::{found[2]}:role/{found[3]}"
    if found := _ROLE.fullmatch(arn):
        return f"{found[1]}/{found[2]}"
    return arn


def principal_key(arn: str) -> tuple[str, str]:
    """The registry's key of an IAM principal, by any ARN of it."""
    digest = hashlib.sha256(principal(arn).encode("utf-8", "surrogatepass")).hexdigest()
    return f"principal#{digest}", "principal"
