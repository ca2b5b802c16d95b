from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from urllib.parse import parse_qsl, quote, urlsplit

import botocore.auth
import pytest
from botocore.credentials import Credentials

from serving.bearer_token import PREFIX, bearer_token

NOW = datetime.datetime(2026, 11, 22, 18, 7, 0, tzinfo=datetime.UTC)
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+=")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)


def decoded(token: str) -> tuple[str, dict[str, str]]:
    assert token.startswith(PREFIX)
    url = base64.b64decode(token.removeprefix(PREFIX), validate=True).decode()
    parts = urlsplit(f"https://{url}")
    return f"{parts.netloc}{parts.path}", dict(parse_qsl(parts.query, strict_parsing=True))


def test_token_is_a_presigned_call_without_its_scheme() -> None:
    place, query = decoded(bearer_token(KEYS, "eu-west-1", 12))
    assert place == "sagemaker.amazonaws.com/"
    assert query == {
        "Action": "CallWithBearerToken",
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIDEXAMPLE/20261122/eu-west-1/sagemaker/aws4_request",
        "X-Amz-Date": "20261122T180700Z",
        "X-Amz-Expires": "43200",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Security-Token": "session/token+=",
        "X-Amz-Signature": query["X-Amz-Signature"],
        "Version": "1",
    }


def test_signature_is_that_of_signature_version_4() -> None:
    """Computed here by the steps of AWS's documentation; the version is added after signing."""
    _, query = decoded(bearer_token(KEYS, "eu-west-1", 1))
    signature, version = query.pop("X-Amz-Signature"), query.pop("Version")
    canonical_query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(query.items())
    )
    empty = hashlib.sha256(b"").hexdigest()
    host = "host:sagemaker.amazonaws.com\n"
    canonical = f"POST\n/\n{canonical_query}\n{host}\nhost\n{empty}"
    scope = "20261122/eu-west-1/sagemaker/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n20261122T180700Z\n{scope}\n{hashed}"
    key = b"AWS4" + str(KEYS.secret_key).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    assert signature == hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    assert version == "1"


def test_long_lived_credentials_have_no_session() -> None:
    _, query = decoded(bearer_token(Credentials("AKIDEXAMPLE", "secret"), "us-east-1", 0.5))
    assert "X-Amz-Security-Token" not in query
    assert query["X-Amz-Expires"] == "1800"


@pytest.mark.parametrize("hours", [0, -1, 12.01])
def test_lifetimes_that_aws_refuses_are_refused(hours: float) -> None:
    with pytest.raises(ValueError, match="at most 12 hours"):
        bearer_token(KEYS, "us-east-1", hours)
