"""AWS Signature Version 4, for requests made without an AWS SDK."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import msgspec

from dropforge.errors import BackendError


class AwsSettingsError(BackendError):
    """The environment lacks a region or credentials."""

    code = "AWS_SETTINGS"


class Credentials(msgspec.Struct, frozen=True):
    """Whose name a request is signed in."""

    access_key: str
    secret_key: str
    token: str | None = None

    @classmethod
    def from_environment(cls) -> Credentials:
        """Raises AwsSettingsError where the environment has none."""
        try:
            return cls(
                os.environ["AWS_ACCESS_KEY_ID"],
                os.environ["AWS_SECRET_ACCESS_KEY"],
                os.environ.get("AWS_SESSION_TOKEN") or None,
            )
        except KeyError as missing:
            raise AwsSettingsError(f"{missing.args[0]} is not set.") from missing


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
    region: str,
    credentials: Credentials,
    at: float,
) -> dict[str, str]:
    """The headers with those of AWS Signature Version 4 added; all but `at` of them signed.

    Args:
        url: as it will be sent: its path and query already percent-encoded.
        headers: without Host, Authorization and X-Amz-Date.
        service: the signing name, `dynamodb`. Not for S3, which encodes paths in another way.
        at: seconds since the epoch.

    Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    host, target = _canonical_target(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    signed = {**headers, "X-Amz-Date": stamp}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    canonical = {name.lower(): " ".join(value.split()) for name, value in signed.items()}
    canonical["host"] = host
    names = sorted(canonical)
    request = "\n".join(
        (
            method,
            target,
            *(f"{name}:{canonical[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, stamp[:8], region, service)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


@functools.lru_cache(maxsize=8)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@functools.lru_cache(maxsize=32)
def _canonical_target(url: str) -> tuple[str, str]:
    """(the Host header, the lines of path and query in what is signed): few URLs are ever asked."""
    parts = urlsplit(url)
    path = quote(_without_dot_segments(parts.path), safe="/~")
    query = "&".join("=".join(pair) for pair in _query_pairs(parts.query))
    return _host(parts.scheme, parts.hostname or "", parts.port), f"{path}\n{query}"


def _host(scheme: str, hostname: str, port: int | None) -> str:
    """The Host header that http.client sends."""
    host = f"[{hostname}]" if ":" in hostname else hostname
    default = {"http": 80, "https": 443}[scheme]
    return host if port in (None, default) else f"{host}:{port}"


def _query_pairs(query: str) -> list[tuple[str, str]]:
    split = (pair.partition("=") for pair in query.split("&") if query)
    return sorted((name, value) for name, _, value in split)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, section 5.2.4, and consecutive slashes made one, as AWS asks."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
