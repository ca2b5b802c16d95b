from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_stub import FakeTable, Stub, replies

from dropforge.backends.awsapi import AwsError
from lambdas.authorize import handler as authorize
from lambdas.authorize.handler import MAX_JWT_CHARACTERS, MAX_TOKEN_CHARACTERS
from lambdas.chat.static import PAGE

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

TOKEN = "df-example-token"
EVENT: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "events" / "apigateway_authorizer_token.json").read_text()
)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    server = Stub()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("DROPFORGE_TABLE", "registry")
    authorize._table.cache_clear()
    yield server
    authorize._table()._service.close()
    authorize._table.cache_clear()
    server.stop()


@pytest.fixture
def rows(stub: Stub) -> FakeTable:
    rows = FakeTable()
    stub.routes["/"] = rows
    return rows


def give_token(rows: FakeTable, **attributes: Any) -> None:
    item = {
        "token_id": {"S": "df-abcdefghij"},
        "name": {"S": "storefront"},
        "projects": {"L": [{"S": "shop"}]},
        "budget_usd": {"NULL": True},
        "expires_at": {"N": "0"},
        "key": {"S": "usage-plan-key"},
    }
    key = f"token#{hashlib.sha256(TOKEN.encode()).hexdigest()}"
    rows.put(key, "token", **{**item, **attributes})


def test_known_token_is_allowed_the_whole_stage(rows: FakeTable) -> None:
    give_token(rows)
    policy = authorize.handler(EVENT, None)
    assert policy == {
        "principalId": "df-abcdefghij",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/prod/*",
                }
            ],
        },
        "context": {
            "projects": "shop",
            "token_id": "df-abcdefghij",
            "token_name": "storefront",
            "budget_usd": "",
        },
        "usageIdentifierKey": "usage-plan-key",
    }
    assert TOKEN not in json.dumps(policy)


def test_token_itself_is_never_sent_to_the_table(stub: Stub, rows: FakeTable) -> None:
    give_token(rows)
    authorize.handler(EVENT, None)
    assert all(TOKEN.encode() not in request.body for request in stub.seen)
    assert stub.seen[0].json()["ConsistentRead"] is True


@pytest.mark.parametrize(
    "attributes",
    [None, {"expires_at": {"N": str(int(time.time()) - 1)}}],
    ids=["unknown", "expired"],
)
def test_token_without_access_is_unauthorized(
    rows: FakeTable, attributes: dict[str, Any] | None
) -> None:
    if attributes is not None:
        give_token(rows, **attributes)
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize.handler(EVENT, None)


def test_context_is_texts_alone(rows: FakeTable) -> None:
    """API Gateway takes no lists there, and hands numbers on as texts."""
    both = {"L": [{"S": "shop"}, {"S": "bank"}]}
    give_token(rows, projects=both, budget_usd={"N": "12.5"})
    context = authorize.handler(EVENT, None)["context"]
    assert (context["projects"], context["budget_usd"]) == ("shop,bank", "12.5")
    assert all(isinstance(value, str) for value in context.values())


def test_budget_of_nothing_is_one(rows: FakeTable) -> None:
    give_token(rows, budget_usd={"N": "0"})
    assert authorize.handler(EVENT, None)["context"]["budget_usd"] == "0"


def test_token_in_no_usage_plan_names_no_key(rows: FakeTable) -> None:
    give_token(rows, key={"S": ""})
    assert "usageIdentifierKey" not in authorize.handler(EVENT, None)


def test_jwt_is_an_unknown_token_where_none_are_trusted(rows: FakeTable) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize.handler({**EVENT, "authorizationToken": "Bearer a.b.c"}, None)
    assert rows.reads == ["token"]


def test_token_that_expires_later_is_allowed(rows: FakeTable) -> None:
    give_token(rows, expires_at={"N": str(int(time.time()) + 60)})
    assert authorize.handler(EVENT, None)["principalId"] == "df-abcdefghij"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic dXNlcg==", TOKEN, "Bearer " + "x" * 513]
)
def test_header_without_a_bearer_token_is_refused_unread(
    stub: Stub, rows: FakeTable, header: str
) -> None:
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize.handler({**EVENT, "authorizationToken": header}, None)
    assert stub.seen == []


def test_scheme_is_matched_without_regard_to_case(rows: FakeTable) -> None:
    give_token(rows)
    event = {**EVENT, "authorizationToken": f"bearer  {TOKEN} "}
    assert authorize.handler(event, None)["principalId"] == "df-abcdefghij"


def test_unreadable_table_is_no_verdict_on_the_token(stub: Stub) -> None:
    stub.routes["/"] = replies(500, b"")
    with pytest.raises(AwsError):
        authorize.handler(EVENT, None)


def test_chat_page_takes_the_longest_credential() -> None:
    """A token, or the JWT of an issuer that the deployment trusts."""
    field = re.search(r'<input id="token"[^>]*>', PAGE.read_text())
    assert field
    assert f'maxlength="{max(MAX_TOKEN_CHARACTERS, MAX_JWT_CHARACTERS)}"' in field[0]
