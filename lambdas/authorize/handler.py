"""API Gateway's TOKEN authorizer: a bearer token in, a policy for the whole stage out.

Reads the registry item `token#<sha256 of the token>`; the token itself is stored nowhere. Where
DROPFORGE_JWT says whom to trust, a JWT of that issuer is checked in its place (`issuer.py`).
"""

from __future__ import annotations

import functools
import os
import time
from typing import TYPE_CHECKING, Any

from dropforge.backends.awsapi import Table
from dropforge.serve.tokens import token_key

if TYPE_CHECKING:
    from lambdas.authorize.issuer import Issuer

READ_SECONDS = 5.0
MAX_TOKEN_CHARACTERS = 512
MAX_JWT_CHARACTERS = 8192


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The Allow policy of the token, with what the chat function and the usage plan need of it.

    API Gateway keeps it for other paths too, so it covers the stage and not the one method. Every
    value of `context` is a text, as API Gateway wants it; `budget_usd` is "" where there is none.

    Raises:
        Exception: exactly "Unauthorized", which API Gateway answers with 401. Anything else that
            is raised, as when the registry cannot be read, becomes a 500.
    """
    token = bearer_token(event.get("authorizationToken", ""))
    owner = _owner(token) if token else None
    if owner is None:
        raise Exception("Unauthorized")  # noqa: TRY002 - API Gateway's contract
    stage = "/".join(event["methodArn"].split("/")[:2])
    budget = owner.get("budget_usd")
    policy: dict[str, Any] = {
        "principalId": owner["token_id"],
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{stage}/*"}
            ],
        },
        "context": {
            "projects": ",".join(owner["projects"]),
            "token_id": owner["token_id"],
            "token_name": owner["name"],
            "budget_usd": "" if budget is None else str(budget),
        },
    }
    if owner.get("key"):
        policy["usageIdentifierKey"] = owner["key"]
    return policy


def bearer_token(header: str) -> str | None:
    """The token of an `Authorization: Bearer …` header; the scheme's case does not matter."""
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    longest = MAX_JWT_CHARACTERS if _is_jwt(token) else MAX_TOKEN_CHARACTERS
    if scheme.lower() != "bearer" or not 0 < len(token) <= longest:
        return None
    return token


def read_owner(token: str) -> dict[str, Any] | None:
    """The token's item, or None for one that is unknown, revoked or expired."""
    deadline = time.monotonic() + READ_SECONDS
    item = _table().get(*token_key(token), deadline=deadline, consistent=True)
    if item is None:
        return None
    if 0 < (item.get("expires_at") or 0) <= time.time():  # DynamoDB's own expiry is days late
        return None
    return item


def _owner(token: str) -> dict[str, Any] | None:
    return _issuer().owner(token) if _is_jwt(token) else read_owner(token)


def _is_jwt(token: str) -> bool:
    return token.count(".") == 2 and bool(os.environ.get("DROPFORGE_JWT"))


@functools.lru_cache(maxsize=1)
def _issuer() -> Issuer:
    from lambdas.authorize.issuer import Issuer  # with cryptography, which takes its time

    return Issuer.from_text(os.environ["DROPFORGE_JWT"])


@functools.lru_cache(maxsize=1)
def _table() -> Table:
    return Table(os.environ["DROPFORGE_TABLE"])
