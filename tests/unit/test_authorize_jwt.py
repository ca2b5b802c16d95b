from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from http_stub import FakeTable, Stub

from lambdas.authorize import handler as authorize
from lambdas.authorize.issuer import (
    KEEP_SECONDS,
    REFETCH_SECONDS,
    Issuer,
    KeysUnreadableError,
    Trust,
)
from tests.support.http import Handler, Server

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ISSUER, AUDIENCE = "https://login.example", "dropforge"
ARN = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/prod/POST/v1/chat"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = rsa.generate_private_key(65537, 2048)


def public(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else None
    shaped: Any = (kind or jwt.algorithms.ECAlgorithm).to_jwk(key.public_key(), as_dict=True)
    return {**shaped, "kid": kid, "use": "sig", **more}


class Login(Server):
    """An issuer that publishes its keys."""

    def __init__(self) -> None:
        super().__init__(LoginHandler)
        self.url += "/jwks?tenant=1"
        self.keys = [public(RSA_KEY, "r1", alg="RS256"), public(EC_KEY, "e1")]
        self.body: bytes | None = None
        self.status = 200
        self.reads = 0
        self.start()


class LoginHandler(Handler):
    server: Login

    def do_GET(self) -> None:
        assert self.path == "/jwks?tenant=1"
        self.server.reads += 1
        body = self.server.body
        self.reply(self.server.status, {"keys": self.server.keys} if body is None else body)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def login() -> Iterator[Login]:
    server = Login()
    yield server
    server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(login: Login, clock: Clock) -> Issuer:
    trust = Trust(ISSUER, AUDIENCE, login.url, "projects", "shared-key", 2.5)
    return Issuer(trust, clock)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann@shop.example",
        "exp": now + 300,
        "projects": ["shop"],
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def signed(key: Any = RSA_KEY, kid: str | None = "r1", alg: str = "RS256", **changes: Any) -> str:
    headers = {"kid": kid} if kid else {}
    return jwt.encode(claims(**changes), key, algorithm=alg, headers=headers)


def forged(header: dict[str, Any], signature: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A JWT that no library would sign."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    text = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims()).encode())
    return (text + b"." + part(signature(text))).decode()


def test_signed_token_is_the_subjects(issuer: Issuer) -> None:
    who = hashlib.sha256(f"{ISSUER}\0ann@shop.example".encode()).hexdigest()[:16]
    assert issuer.owner(signed()) == {
        "token_id": f"jwt-{who}",
        "name": "jwt",
        "projects": ["shop"],
        "budget_usd": 2.5,
        "key": "shared-key",
    }


def test_elliptic_curve_is_as_good(issuer: Issuer) -> None:
    assert issuer.owner(signed(EC_KEY, "e1", "ES256"))


@pytest.mark.parametrize(
    ("claimed", "projects"),
    [
        (["shop", "bank"], ["shop", "bank"]),
        ("shop bank", ["shop", "bank"]),
        ("shop,bank", ["shop", "bank"]),
        (["shop", "a,bank", "", 7], ["shop"]),
    ],
)
def test_projects_are_a_list_or_text(issuer: Issuer, claimed: Any, projects: list[str]) -> None:
    assert (issuer.owner(signed(projects=claimed)) or {})["projects"] == projects


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1000},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"sub": None},
        {"projects": None},
        {"projects": []},
        {"projects": {"shop": True}},
        {"projects": ["a,b"]},
    ],
    ids=str,
)
def test_claim_that_is_wrong_or_missing_lets_nobody_in(
    issuer: Issuer, changes: dict[str, Any]
) -> None:
    assert issuer.owner(signed(**changes)) is None


def public_pem() -> bytes:
    return RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    "token",
    [
        forged({"alg": "none", "kid": "r1"}),
        forged({"alg": "None", "kid": "r1"}),
        forged({"alg": "HS256", "kid": "r1"}, lambda t: hmac.digest(public_pem(), t, "sha256")),
        forged({"alg": "RS256", "kid": "r1"}, lambda t: hmac.digest(public_pem(), t, "sha256")),
        signed(OTHER),
        signed(EC_KEY, "r1", "ES256"),
        signed(RSA_KEY, "e1"),
        signed(RSA_KEY, "r1", "PS256"),
        signed(RSA_KEY, "r1", "RS512"),
        signed(RSA_KEY, None),
        signed()[:-4],
        signed() + "AAAA",
        "a.b.c",
        "..",
        forged({"alg": "RS256", "kid": ["r1"]}),
        forged({"alg": ["RS256"], "kid": "r1"}),
        forged({"alg": "RS256", "kid": "r1", "crit": ["x"]}),
        forged({"alg": "RS256", "jwk": public(OTHER, "o1"), "jku": "http://127.0.0.1/keys"}),
    ],
)
def test_forged_token_lets_nobody_in(issuer: Issuer, token: str) -> None:
    assert issuer.owner(token) is None


def test_keys_are_read_once(issuer: Issuer, login: Login) -> None:
    for _ in range(3):
        assert issuer.owner(signed())
    assert login.reads == 1


def test_new_key_is_found_and_strangers_ask_for_none_more_than_once_a_minute(
    issuer: Issuer, login: Login, clock: Clock
) -> None:
    assert issuer.owner(signed())
    login.keys.append(public(OTHER, "o1"))
    assert issuer.owner(signed(OTHER, "o1")) is None
    assert login.reads == 1
    clock.now += REFETCH_SECONDS + 1
    assert issuer.owner(signed(OTHER, "o1"))
    for kid in range(20):
        assert issuer.owner(signed(OTHER, f"x{kid}")) is None
    assert login.reads == 2


def test_withdrawn_key_is_not_trusted_for_ever(issuer: Issuer, login: Login, clock: Clock) -> None:
    assert issuer.owner(signed())
    login.keys.pop(0)
    clock.now += KEEP_SECONDS + 1
    assert issuer.owner(signed()) is None


def test_known_keys_go_on_where_the_issuer_is_down(
    issuer: Issuer, login: Login, clock: Clock
) -> None:
    assert issuer.owner(signed())
    login.status = 503
    clock.now += KEEP_SECONDS + 1
    assert issuer.owner(signed())


def test_keys_that_were_never_read_are_no_verdict(issuer: Issuer, login: Login) -> None:
    login.status = 503
    with pytest.raises(KeysUnreadableError):
        issuer.owner(signed())


@pytest.mark.parametrize(
    "body",
    ['{"keys":5}', '{"keys":["x"]}', '{"keys":{"a":1}}', '{"keys":[]}', "{}", "[]", "5", "", "<p>",
     '{"keys":[{"kty":"RSA","kid":"r1","n":5,"e":[]}]}', '{"keys":[{"kty":"EC","kid":"r1"}]}'],
)  # fmt: skip
def test_what_holds_no_key_is_no_answer_and_known_keys_go_on(
    issuer: Issuer, login: Login, clock: Clock, body: str
) -> None:
    assert issuer.owner(signed())
    login.body = body.encode()
    clock.now += KEEP_SECONDS + 1
    assert issuer.owner(signed())
    assert login.reads == 2
    assert issuer.owner(signed(OTHER)) is None
    with pytest.raises(KeysUnreadableError):
        Issuer(issuer._trust, clock).owner(signed())


@pytest.mark.parametrize(
    "url", ["http://login.example/jwks", "ftp://login.example", "//login.example", "login.example"]
)
def test_keys_are_not_read_over_an_open_network(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Trust(ISSUER, AUDIENCE, url, "projects")
    trust = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": url, "claim": "projects"}
    with pytest.raises(msgspec.ValidationError, match="https"):
        Issuer.from_text(json.dumps(trust))
    Trust(ISSUER, AUDIENCE, "https://login.example/jwks", "projects")


def test_keys_that_are_of_no_use_are_left_out(issuer: Issuer, login: Login) -> None:
    login.keys[:0] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "r1", "use": "sig"},
        public(RSA_KEY, "enc", use="enc"),
        {"kty": "RSA", "kid": "broken"},
        {"kty": "RSA"},
    ]
    assert issuer.owner(signed())
    assert issuer.owner(signed(kid="enc")) is None


# --- through the handler


@pytest.fixture
def rows(login: Login, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTable]:
    server, rows = Stub(), FakeTable()
    server.routes["/"] = rows
    trust = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": login.url, "claim": "projects"}
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_REGION": "us-east-1",
        "DROPFORGE_TABLE": "registry",
        "DROPFORGE_JWT": json.dumps({**trust, "key": "shared-key"}),
    }.items():
        monkeypatch.setenv(name, value)
    for cached in (authorize._table, authorize._issuer):
        cached.cache_clear()
    yield rows
    authorize._table()._service.close()
    for cached in (authorize._table, authorize._issuer):
        cached.cache_clear()
    server.stop()


def authorized(token: str) -> dict[str, Any]:
    event = {"type": "TOKEN", "authorizationToken": f"Bearer {token}", "methodArn": ARN}
    return authorize.handler(event, None)


def test_jwt_reaches_the_chat_function_like_a_token(rows: FakeTable) -> None:
    found = authorized(signed(projects=["shop", "bank"], filler="x" * 2000))
    assert found["context"] == {
        "projects": "shop,bank",
        "token_id": found["principalId"],
        "token_name": "jwt",
        "budget_usd": "",
    }
    assert found["usageIdentifierKey"] == "shared-key"
    assert "ann@" not in json.dumps(found)
    assert rows.reads == []


def test_wrong_jwt_is_unauthorized_and_no_token_of_ours(rows: FakeTable) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorized(signed(aud="another"))
    assert rows.reads == []


def test_our_own_tokens_work_beside_jwts(rows: FakeTable) -> None:
    key = hashlib.sha256(b"df-ours").hexdigest()
    item = {
        "projects": {"L": [{"S": "shop"}]}, "name": {"S": "x"}, "token_id": {"S": "df-a"},
    }  # fmt: skip
    rows.put(f"token#{key}", "token", **item)
    assert authorized("df-ours")["principalId"] == "df-a"
