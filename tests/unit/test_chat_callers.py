from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from chat_front import Result, ask, load, served
from http_stub import FakeTable, Stub, replies

from dropforge.serve.tokens import principal_key
from lambdas.chat import callers
from lambdas.chat import handler as chat

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

ROLE = "arn:aws:iam::123456789012:role/team/web"
SESSION = "arn:aws:sts::123456789012:assumed-role/web/i-0abc"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    monkeypatch.setenv("DROPFORGE_AUTH", "iam")
    with served(monkeypatch, rows) as server:
        yield server


def admit(rows: FakeTable, **changes: Any) -> None:
    item = {
        "token_id": {"S": "df-abcdefghij"},
        "name": {"S": "web"},
        "projects": {"L": [{"S": "shop"}]},
        "budget_usd": {"NULL": True},
        "expires_at": {"N": "0"},
    }
    rows.put(*principal_key(ROLE), **{**item, **changes})


def signed(arn: str | None = SESSION, authorizer: Any = None) -> Result:
    event = load("chat_completions")
    event["body"] = json.dumps(ask())
    event["requestContext"]["identity"]["userArn"] = arn
    event["requestContext"]["authorizer"] = authorizer
    return Result(chat.handler(event, None))


def test_session_of_a_known_role_is_answered(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    admit(rows)
    assert signed().status == 200
    assert json.loads(capsys.readouterr().out)["token_name"] == "web"


def test_principal_is_read_once_in_a_while(stub: Stub, rows: FakeTable) -> None:
    admit(rows)
    for _ in range(3):
        assert signed().status == 200
    assert rows.reads.count("principal") == 1


def test_revoked_principal_is_refused_when_it_was_forgotten(
    stub: Stub, rows: FakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "CALLER_SECONDS", 0.0)
    admit(rows)
    assert signed().status == 200
    del rows.items[principal_key(ROLE)]
    assert signed().status == 401


@pytest.mark.parametrize(
    "arn", [None, "", "arn:aws:sts::123456789012:assumed-role/other/i-1", "arn:aws:iam::1:root"]
)
def test_anybody_else_has_no_access(stub: Stub, rows: FakeTable, arn: str | None) -> None:
    admit(rows)
    assert signed(arn).status == 401


def test_expired_principal_has_no_access(stub: Stub, rows: FakeTable) -> None:
    admit(rows, expires_at={"N": "1000"})
    assert signed().status == 401


def test_other_projects_stay_closed(stub: Stub, rows: FakeTable) -> None:
    admit(rows, projects={"L": [{"S": "bank"}]})
    assert signed().status == 404


def test_registry_that_cannot_be_read_is_no_verdict(stub: Stub, rows: FakeTable) -> None:
    stub.routes["/"] = replies(400, {"__type": "x#ValidationException"})
    assert signed().status == 503


def test_signatures_count_for_nothing_where_bearer_tokens_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, rows: FakeTable
) -> None:
    admit(rows)
    with served(monkeypatch, rows):
        assert signed().status == 401


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json"])
def test_what_anybody_may_read_needs_no_registry(stub: Stub, path: str) -> None:
    stub.routes["/"] = replies(400, {"__type": "x#ValidationException"})
    event = {**load("health"), "path": path, "resource": path}
    event["requestContext"]["identity"] = {"userArn": SESSION}
    assert Result(chat.handler(event, None)).status == 200
    assert stub.seen == []
