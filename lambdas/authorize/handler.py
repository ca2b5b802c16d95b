"""API Gateway's TOKEN authorizer: a bearer token in, a policy for the whole stage out.

Reads the registry item `token#<sha256 of the token>`; the token itself is stored nowhere.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
from typing import Any

from dropforge.backends.awsapi import Table

READ_SECONDS = 5.0
MAX_TOKEN_CHARACTERS = 512


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """The Allow policy of the token's project.

    API Gateway keeps it for other paths too, so it covers the stage and not the one method.

    Raises:
        Exception: exactly "Unauthorized", which API Gateway answers with 401. Anything else that
            is raised, as when the registry cannot be read, becomes a 500.
    """
    token = bearer_token(event.get("authorizationToken", ""))
    owner = read_owner(token) if token else None
    if owner is None:
        raise Exception("Unauthorized")  # noqa: TRY002 - API Gateway's contract
    stage = "/".join(event["methodArn"].split("/")[:2])
    return {
        "principalId": f"{owner['project']}/{owner['name']}",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{stage}/*"}
            ],
        },
        "context": {"projects": owner["project"], "token_name": owner["name"]},
    }


def bearer_token(header: str) -> str | None:
    """The token of an `Authorization: Bearer …` header; the scheme's case does not matter."""
    scheme, _, token = header.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        return None
    return token


def read_owner(token: str) -> dict[str, Any] | None:
    """The token's item, or None for one that is unknown, revoked or expired."""
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
    deadline = time.monotonic() + READ_SECONDS
    item = _table().get(f"token#{digest}", "token", deadline=deadline, consistent=True)
    if item is None or item.get("revoked"):
        return None
    if 0 < (item.get("expires_at") or 0) <= time.time():  # DynamoDB's own expiry is days late
        return None
    return item


@functools.lru_cache(maxsize=1)
def _table() -> Table:
    return Table(os.environ["DROPFORGE_TABLE"])
