"""A person's yes: the question, the signed link, its page and buttons, and what the run is told."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from dropforge.approval import VALID_S, is_signed, link, signature
from dropforge.backends.approvals import Approvals
from dropforge.cli.watch import describe
from lambdas import edge
from lambdas.approve import ask
from lambdas.approve import handler as approve
from tests.support.memory_aws import MemoryAws, memory_aws
from tests.support.promotions import APPROVAL, judged
from tests.support.world import World
from tests.unit.http_stub import Stub, replies

KEY = "a signing key of the deployment"


@pytest.fixture(scope="module")
def aws(moto: None) -> Iterator[MemoryAws]:
    """The topic and the queue are moto's, all else is in memory."""
    with memory_aws() as memory:
        yield memory


@pytest.fixture
def states() -> Iterator[Stub]:
    """Step Functions, which takes every token; what it was told is in `seen`."""
    stub = Stub()
    stub.routes["/"] = replies(200, {})
    yield stub
    stub.stop()


@pytest.fixture
def asked(world: World, states: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A run that asks: the event of the state machine. The topic's mails go to a queue."""
    secret = boto3.client("secretsmanager").create_secret(
        Name=f"{world.table}-approval", SecretString=KEY
    )
    topic = boto3.client("sns").create_topic(Name=f"{world.table}-approvals")["TopicArn"]
    queue = boto3.client("sqs").create_queue(QueueName=world.table)["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:123456789012:{world.table}"
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    monkeypatch.setenv("DROPFORGE_APPROVAL_SECRET_ARN", secret["ARN"])
    monkeypatch.setenv("DROPFORGE_TOPIC_ARN", topic)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", states.url)
    caches = (ask._client, approve._states, edge.secret)
    for cached in caches:
        cached.cache_clear()
    state = judged(world, "new", APPROVAL)
    event = {name: state[name] for name in ("run", "evaluation")}
    yield {**event, "model": state["poll"]["model"], "token": "t1", "queue": queue, "state": state}
    for cached in caches:
        cached.cache_clear()


def mails(asked: dict[str, Any]) -> list[dict[str, Any]]:
    found = boto3.client("sqs").receive_message(QueueUrl=asked["queue"], MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def told(states: Stub) -> list[tuple[str, dict[str, Any]]]:
    """(token, output) of every SendTaskSuccess."""
    bodies = [request.json() for request in states.seen]
    return [(body["taskToken"], json.loads(body["output"])) for body in bodies]


def opened(url: str, verb: str = "GET", body: str = "") -> dict[str, Any]:
    """API Gateway's event of a request to the link."""
    parts = urlsplit(url)
    _, _, project, run = parts.path.rsplit("/", 3)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return {
        "resource": "/approvals/{project}/{run}",
        "httpMethod": verb,
        "path": f"/approvals/{project}/{run}",
        "pathParameters": {"project": project, "run": run},
        "queryStringParameters": query,
        "body": body,
        "isBase64Encoded": False,
    }


def address(asked: dict[str, Any]) -> str:
    """Ask, and take the link out of the mail."""
    assert ask.handler(asked, None) == {"sent": True}
    [mail] = mails(asked)
    found = re.search(r"http\S+", mail["Message"])
    assert found
    return found[0]


def page(answer: dict[str, Any]) -> str:
    assert answer["headers"]["Content-Type"] == "text/html; charset=utf-8"
    assert answer["headers"]["Cache-Control"] == "no-store"
    return str(answer["body"])


def question(world: World) -> dict[str, Any]:
    return world.registry.get("shop", "approval#run-of-new") or {}


# --- the question


def test_mail_has_the_numbers_the_command_and_the_link(world: World, asked: dict[str, Any]) -> None:
    assert ask.handler(asked, None) == {"sent": True}
    [mail] = mails(asked)
    assert mail["Subject"] == "Dropforge: approve new of shop?"
    said = mail["Message"]
    for part in (
        "win rate against the base: 90% [83%, 94%]",
        "facts right, challenger: 80%",
        "because: wins 90 % [83 %, 94 %]",
        "dropforge approve new -p shop",
        "http://127.0.0.1:9/prod/approvals/shop/run-of-new?expires=",
    ):
        assert part in said
    item = question(world)
    assert (item["token"], item["version"], item["evaluation"]) == ("t1", "new", "e-new")
    assert item["expires_at"] - item["asked_at"] == VALID_S
    assert (
        describe(world.run_item(asked["state"]), "promote") == "new waits for `dropforge approve`"
    )


def test_mail_that_cannot_be_sent_leaves_the_question(
    world: World, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DROPFORGE_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:missing")
    assert ask.handler(asked, None) == {"sent": False}
    assert question(world)["token"] == "t1"


def test_stage_that_asks_again_waits_with_the_newest_token(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    ask.handler(asked, None)
    ask.handler({**asked, "token": "t2"}, None)
    assert question(world)["token"] == "t2"
    assert not states.seen


def test_stage_that_asks_after_the_answer_goes_on_at_once(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = address(asked)
    approve.handler(opened(url, "POST", "decision=approve"), None)
    assert ask.handler({**asked, "token": "t2"}, None) == {"told": True}
    assert [token for token, _ in told(states)] == ["t1", "t2"]
    assert mails(asked) == [], "nobody is asked twice"


# --- the link


def test_opening_the_link_decides_nothing(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    """Mail scanners open every link, and follow what they find with GET."""
    url = address(asked)
    shown = page(approve.handler(opened(url), None))
    assert "Shall it meet customers?" in shown
    assert "90% [83%, 94%]" in shown
    assert shown.count("<button") == 2
    approve.handler({**opened(url), "body": "decision=approve"}, None)
    assert not states.seen
    assert "decided_at" not in question(world)


@pytest.mark.parametrize(("press", "approved"), [("approve", True), ("decline", False)])
@pytest.mark.parametrize("encoded", [True, False])
def test_button_decides_and_the_run_goes_on(
    world: World, asked: dict[str, Any], states: Stub, press: str, approved: bool, encoded: bool
) -> None:
    event = opened(address(asked), "POST", f"decision={press}")
    if encoded:
        event.update(body=base64.b64encode(event["body"].encode()).decode(), isBase64Encoded=True)
    shown = page(approve.handler(event, None))
    assert f"was {'approved' if approved else 'declined'} by whoever has the link" in shown
    assert "<button" not in shown
    assert told(states) == [
        ("t1", {"approved": approved, "who": "whoever has the link", "why": ""})
    ]
    item = question(world)
    assert item["approved"] is approved
    assert "expires_at" not in item, "what was decided is kept for good"


def test_second_click_says_what_was_decided_before(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = address(asked)
    approve.handler(opened(url, "POST", "decision=decline"), None)
    shown = page(approve.handler(opened(url, "POST", "decision=approve"), None))
    assert "was declined by" in shown
    assert question(world)["approved"] is False
    assert [output["approved"] for _, output in told(states)] == [False, False]
    assert "was declined by" in page(approve.handler(opened(url), None))


def test_decision_whose_run_was_not_told_is_told_by_the_next_click(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = address(asked)
    states.routes["/"] = replies(400, {"__type": "ThrottlingException", "message": "slow down"})
    with pytest.raises(Exception, match="slow down"):
        approve.handler(opened(url, "POST", "decision=approve"), None)
    states.routes["/"] = replies(200, {})
    states.seen.clear()
    approve.handler(opened(url, "POST", "decision=decline"), None)
    assert [output["approved"] for _, output in told(states)] == [True]


def test_run_that_waits_no_more_is_no_error(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = address(asked)
    states.routes["/"] = replies(400, {"__type": "TaskTimedOut", "message": "gone"})
    answer = approve.handler(opened(url, "POST", "decision=approve"), None)
    assert answer["statusCode"] == 200
    assert "was approved by whoever has the link" in page(answer)
    assert "Its run was not waiting any more: dropforge status -p shop" in page(answer)


def test_page_of_a_run_that_goes_on_says_nothing_of_waiting(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = address(asked)
    shown = page(approve.handler(opened(url, "POST", "decision=approve"), None))
    assert "not waiting any more" not in shown
    assert "not waiting any more" not in page(approve.handler(opened(url), None))


@pytest.mark.parametrize("body", ["", "decision=", "decision=maybe", "x", "decision=APPROVE"])
def test_post_without_a_button_decides_nothing(
    world: World, asked: dict[str, Any], states: Stub, body: str
) -> None:
    assert approve.handler(opened(address(asked), "POST", body), None)["statusCode"] == 200
    assert not states.seen


def refused(event: dict[str, Any], states: Stub) -> None:
    answer = approve.handler(event, None)
    assert answer["statusCode"] == 403
    assert "This link cannot be used" in page(answer)
    assert not states.seen


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "0" * 64},
        {"signature": ""},
        {"signature": "ü"},
        {"signature": None},
        {"expires": "99999999999"},
        {"expires": ""},
        {"expires": "soon"},
        {"expires": "²"},
    ],
)
def test_changed_link_is_refused(
    world: World, asked: dict[str, Any], states: Stub, change: dict[str, Any]
) -> None:
    event = opened(address(asked), "POST", "decision=approve")
    event["queryStringParameters"].update(change)
    refused(event, states)


def test_link_of_one_run_opens_no_other(world: World, asked: dict[str, Any], states: Stub) -> None:
    event = opened(address(asked), "POST", "decision=approve")
    world.registry.put("shop", "approval#other", {**question(world), "token": "t9"})
    refused({**event, "pathParameters": {"project": "shop", "run": "other"}}, states)
    refused({**event, "pathParameters": {"project": "bank", "run": "run-of-new"}}, states)
    refused({**event, "pathParameters": None, "queryStringParameters": None}, states)


def test_link_is_of_no_use_after_its_week(
    world: World, asked: dict[str, Any], states: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = opened(address(asked), "POST", "decision=approve")
    later = time.time() + VALID_S + 1
    monkeypatch.setattr("lambdas.approve.handler.time.time", lambda: later)
    refused(event, states)


def test_link_with_another_key_is_refused(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    address(asked)
    url = link("http://x/prod", "another key", "shop", "run-of-new", int(time.time()) + 60)
    refused(opened(url, "POST", "decision=approve"), states)


def test_link_to_a_question_that_was_forgotten_is_refused(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    url = link("http://x/prod", KEY, "shop", "no-such-run", int(time.time()) + 60)
    refused(opened(url), states)


def test_signature_is_over_everything_that_a_link_says() -> None:
    right = signature(KEY, "shop", "run", 1000)
    assert is_signed(KEY, "shop", "run", "1000", right, now=999.0)
    assert not is_signed(KEY, "shop", "run", "1000", right, now=1000.0)
    for other in (("bank", "run", "1000"), ("shop", "runs", "1000"), ("shop", "run", "1001")):
        assert not is_signed(KEY, *other, right, now=1.0)
    assert signature(KEY, "a", "b\nc", 1) != signature(KEY, "a\nb", "c", 1)


# --- the first decision stands


def test_of_two_decisions_at_once_the_first_stands(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    ask.handler(asked, None)
    approvals = Approvals(world.registry)
    about: dict[str, Any] = {"why": "", "at": 1.0}
    first, _ = approvals.decide("shop", "run-of-new", approved=True, who="ann", **about)
    second, _ = approvals.decide("shop", "run-of-new", approved=False, who="bob", **about)
    assert (first["who"], second["who"], second["approved"]) == ("ann", "ann", True)
    with pytest.raises(KeyError):
        approvals.decide("shop", "other", approved=True, who="ann", **about)


def test_question_asked_anew_in_mid_decision_tells_the_newest_task(
    world: World, asked: dict[str, Any], states: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask.handler(asked, None)
    approvals = Approvals(world.registry)
    read, left = approvals.of, [1]

    def of(project: str, run_id: str) -> Any:
        item = read(project, run_id)
        if left:
            left.pop()
            world.registry.update(project, f"approval#{run_id}", {"token": "t2"})
        return item

    monkeypatch.setattr(approvals, "of", of)
    approvals.decide("shop", "run-of-new", approved=True, who="ann", why="", at=1.0)
    assert [token for token, _ in told(states)] == ["t2"]


def test_waiting_are_those_that_nobody_decided_and_that_still_can_be(
    world: World, asked: dict[str, Any], states: Stub
) -> None:
    ask.handler(asked, None)
    approvals, now = Approvals(world.registry), time.time()
    assert [item["version"] for item in approvals.waiting("shop", now)] == ["new"]
    assert approvals.waiting("shop", now + VALID_S + 1) == []
    approvals.decide("shop", "run-of-new", approved=True, who="ann", why="", at=now)
    assert approvals.waiting("shop", now) == []
