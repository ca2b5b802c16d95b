"""Budgets through the chat function; fault 29 where DynamoDB does not keep them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from chat_front import COMPLETION, SAGEMAKER, UPSTREAM, Result, allowances, ask, load, shop
from chat_front import upstream_requests as upstream
from http_stub import FakeTable, Stub, cuts, hangs, replies

from dropforge.serve.budget import NANO, SLOT_SECONDS, bounds, left_slot, month, slot
from dropforge.serve.options import Price, ServeOptions
from lambdas.chat import handler as chat
from lambdas.chat.budget import HOLD_SECONDS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

TOKEN = "df-abcdefghij"
PRICE = {"input": 100.0, "output": 1000.0}
OPTIONS = ServeOptions(price=Price(**PRICE), max_output_tokens=500, fallback=())
THROTTLED = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
USAGE_NANO = 20 * 100_000 + 5 * 1_000_000
"""What the upstream's answer costs at PRICE."""


def priced(rows: FakeTable, **serve: Any) -> None:
    options = {
        "price": {"M": {k: {"N": str(v)} for k, v in PRICE.items()}},
        "max_output_tokens": {"N": "500"},
        "cache": {"M": {"exact": {"BOOL": False}}},
        "fallback": {"L": []},
        **serve,
    }
    rows.items["project#shop", "config"]["serve"] = {"M": options}


@pytest.fixture
def rows() -> FakeTable:
    rows = shop()
    priced(rows)
    return rows


def asked(budget: str = "1.0", **fields: Any) -> Result:
    event = load("chat_completions")
    event["body"] = json.dumps(ask(**fields))
    about = event["requestContext"]
    about["authorizer"] = {
        "projects": "shop",
        "token_id": TOKEN,
        "token_name": "storefront",
        "budget_usd": budget,
    }
    return Result(chat.handler(event, None))


def book(rows: FakeTable) -> dict[str, int]:
    """The token's month: what is used, and what of it is held."""
    item = rows.items.get((f"budget#{TOKEN}", month(time.time())), {})
    numbers = {name: int(value["N"]) for name, value in item.items() if "N" in value}
    held = sum(value for name, value in numbers.items() if name.startswith("held_"))
    return {"used": numbers.get("used_nano", 0), "held": held}


def give(rows: FakeTable, **numbers: int) -> None:
    amounts = {name: {"N": str(value)} for name, value in numbers.items()}
    rows.put(f"budget#{TOKEN}", month(time.time()), **amounts)


def hold_of(**fields: Any) -> int:
    body = ask(**fields)
    return bounds(body, "You answer for Lumen.", OPTIONS, ensemble=False, fallback=False)[1]


def test_answer_costs_what_its_usage_says(stub: Stub, rows: FakeTable) -> None:
    assert asked().status == 200
    assert book(rows) == {"used": USAGE_NANO, "held": 0}


def test_bound_is_held_while_the_model_answers(stub: Stub, rows: FakeTable) -> None:
    seen = []

    def look(handler: Any) -> None:
        seen.append(book(rows))
        handler.reply(200, COMPLETION)

    stub.routes[UPSTREAM] = look
    asked()
    assert seen == [{"used": hold_of(), "held": hold_of()}]


@pytest.mark.parametrize(
    ("fields", "sent"),
    [({}, 500), ({"max_tokens": None}, 500), ({"max_completion_tokens": 9}, 9)],
)
def test_output_of_a_budgeted_caller_is_limited_where_nobody_did(
    stub: Stub, rows: FakeTable, fields: dict[str, Any], sent: int
) -> None:
    asked(**fields)
    assert upstream(stub)[0].json()["max_completion_tokens"] == sent


def test_limit_has_the_name_that_the_models_server_knows(stub: Stub, rows: FakeTable) -> None:
    rows.items["project#shop", "champion"]["backend"] = {"S": "sagemaker"}
    stub.routes[SAGEMAKER] = replies(200, COMPLETION)
    asked()
    assert upstream(stub, SAGEMAKER)[0].json()["max_tokens"] == 500


def test_callers_own_limit_is_left_as_it_is(stub: Stub, rows: FakeTable) -> None:
    asked(max_tokens=12)
    sent = upstream(stub)[0].json()
    assert sent["max_tokens"] == 12
    assert "max_completion_tokens" not in sent


@pytest.mark.parametrize("budget", [None, ""])
def test_without_a_budget_nothing_is_counted_or_limited(
    stub: Stub, rows: FakeTable, budget: Any
) -> None:
    asked(budget)
    assert book(rows) == {"used": 0, "held": 0}
    assert "max_completion_tokens" not in upstream(stub)[0].json()


def test_project_without_a_price_costs_nothing(stub: Stub, rows: FakeTable) -> None:
    del rows.items["project#shop", "config"]["serve"]["M"]["price"]
    assert asked().status == 200
    assert book(rows) == {"used": 0, "held": 0}


def test_request_beyond_the_budget_asks_no_model_and_says_why(stub: Stub, rows: FakeTable) -> None:
    give(rows, used_nano=NANO - hold_of() + 1)
    result = asked()
    assert result.status == 429
    assert result.error["type"] == result.error["code"] == "insufficient_quota"
    assert result.error["param"] is None
    assert f"budget of $1.00 for {month(time.time())}" in result.error["message"]
    assert "$0.4" in result.error["message"]  # what is spent
    assert "renews on" in result.error["message"]
    assert "max_tokens" in result.error["message"]
    assert result.headers["x-should-retry"] == "false"
    assert upstream(stub) == []
    assert book(rows) == {"used": NANO - hold_of() + 1, "held": 0}


def test_last_request_that_fits_is_answered(stub: Stub, rows: FakeTable) -> None:
    give(rows, used_nano=NANO - hold_of())
    assert asked().status == 200
    assert book(rows)["used"] == NANO - hold_of() + USAGE_NANO


def test_request_that_could_cost_more_than_the_whole_budget_is_refused(
    stub: Stub, rows: FakeTable
) -> None:
    assert asked("0.1").status == 429
    assert asked("0.1", max_tokens=1).status == 200


@pytest.mark.parametrize(
    ("respond", "status"),
    [(replies(429, {}), 429), (replies(500, {}), 502), (replies(400, {}), 400)],
    ids=["overload", "5xx", "refusal"],
)
def test_model_that_wrote_nothing_is_not_paid(
    stub: Stub, rows: FakeTable, respond: Any, status: int
) -> None:
    stub.routes[UPSTREAM] = respond
    assert asked().status == status
    assert book(rows) == {"used": 0, "held": 0}


@pytest.mark.parametrize("respond", [hangs, cuts], ids=["too late", "cut off"])
def test_model_that_may_have_written_stays_paid(stub: Stub, rows: FakeTable, respond: Any) -> None:
    stub.routes[UPSTREAM] = respond
    assert asked().status in (502, 504)
    assert book(rows) == {"used": hold_of(), "held": 0}


def test_answer_without_usage_costs_its_bound(stub: Stub, rows: FakeTable) -> None:
    stub.routes[UPSTREAM] = replies(200, {k: v for k, v in COMPLETION.items() if k != "usage"})
    assert asked().status == 200
    assert book(rows) == {"used": hold_of(), "held": 0}


def test_fallback_is_covered_by_the_hold(stub: Stub, rows: FakeTable) -> None:
    """The first model's answer came apart, and counts as paid; the other's by its usage."""
    priced(rows, fallback={"L": [{"S": "base"}]})
    answers = iter([cuts, replies(200, COMPLETION)])
    stub.routes[UPSTREAM] = lambda handler: next(answers)(handler)
    held = []
    settle = chat._front()._answering._budgets.settle

    def note(exchange: Any) -> None:
        held.append(exchange.hold)
        settle(exchange)

    chat._front()._answering._budgets.settle = note  # type: ignore[method-assign]
    assert asked("2.0").status == 200
    assert held[0].nano == 2 * held[0].ask
    assert book(rows) == {"used": held[0].ask + USAGE_NANO, "held": 0}


@pytest.mark.parametrize("tier", ["priority", "scale", "", 5, ["flex"], {"a": 1}])
def test_dearer_service_tier_is_refused_where_there_is_a_budget(
    stub: Stub, rows: FakeTable, tier: Any
) -> None:
    result = asked(service_tier=tier)
    assert (result.status, result.error["param"]) == (400, "service_tier")
    assert "flex" in result.error["message"]
    assert (upstream(stub), book(rows)["used"]) == ([], 0)
    assert asked("", service_tier=tier).status == 200


@pytest.mark.parametrize("tier", [None, "auto", "default", "flex"])
def test_usual_service_tiers_are_taken(stub: Stub, rows: FakeTable, tier: Any) -> None:
    assert asked(service_tier=tier).status == 200
    assert book(rows) == {"used": USAGE_NANO, "held": 0}


JUDGE = {"backend": {"S": "openai"}, "model": {"S": "judge-1"}}
MODELS = {"L": [{"S": name} for name in ("champion", "previous", "base")]}


def by_model(**answers: Any) -> Any:
    """Answers by the name of who is asked, without its punctuation; others with COMPLETION."""

    def respond(handler: Any) -> None:
        name = "".join(filter(str.isalnum, handler.request_seen.json()["model"]))
        answers.get(name, replies(200, COMPLETION))(handler)

    return respond


def says(text: str, **changes: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    return replies(200, {**COMPLETION, "choices": [{**choice, "finish_reason": "stop"}], **changes})


def ensemble(rows: FakeTable, **judge: Any) -> None:
    priced(rows, ensemble={"M": {"models": MODELS, "n": {"N": "3"}, "by": {"S": "vote"}, **judge}})
    rows.items["project#shop", "champion"]["previous"] = {"S": "v1"}


@pytest.mark.parametrize(
    ("failure", "lost"),
    [(cuts, 1), (replies(504, {}), 1), (replies(200, "{"), 1), (replies(500, {}), 0)],
    ids=["breaks off", "too late", "no completion", "refuses"],
)
def test_ensembles_model_that_may_have_written_something_is_paid(
    stub: Stub, rows: FakeTable, failure: Any, lost: int
) -> None:
    ensemble(rows)
    stub.routes[UPSTREAM] = by_model(ftshop1=failure)
    assert asked("9.0").status == 200
    assert book(rows) == {"used": 2 * USAGE_NANO + lost * hold_of(), "held": 0}


@pytest.mark.parametrize(("failure", "lost"), [(cuts, 2), (replies(500, {}), 0)])
def test_judge_that_may_have_written_something_is_paid(
    stub: Stub, rows: FakeTable, failure: Any, lost: int
) -> None:
    """It is asked twice, the second time without settings that some models do not take."""
    ensemble(rows, by={"S": "judge"}, judge={"M": JUDGE})
    stub.routes[UPSTREAM] = by_model(ftshop1=says("Friday."), judge1=failure)
    assert asked("9.0").status == 200
    assert book(rows) == {"used": 3 * USAGE_NANO + lost * hold_of(), "held": 0}


@pytest.mark.parametrize("told", [0, 1, 2])
def test_ensembles_answers_without_a_usage_are_no_gift(
    stub: Stub, rows: FakeTable, told: int
) -> None:
    """Each is reckoned as the others, or as a whole ask where none told any."""
    ensemble(rows)
    answers = [says("Yes.", usage=None)] * (3 - told) + [says("Yes.")] * told
    stub.routes[UPSTREAM] = by_model(ftshop1=answers[0], smollm2=answers[1], ftshop2=answers[2])
    assert asked("9.0").status == 200
    assert book(rows)["used"] == 3 * (USAGE_NANO if told else hold_of())


def test_stream_costs_its_usage(stub: Stub, rows: FakeTable) -> None:
    piece = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Monday."}}]}
    last = {"choices": [], "usage": COMPLETION["usage"]}
    text = "".join(f"data: {json.dumps(part)}\n\n" for part in (piece, last)) + "data: [DONE]\n\n"
    stub.routes[UPSTREAM] = replies(200, text.encode(), Content_Type="text/event-stream")
    assert "Monday." in asked(stream=True).text
    assert book(rows) == {"used": USAGE_NANO, "held": 0}


def test_what_dead_containers_held_is_given_back_to_who_would_be_refused(
    stub: Stub, rows: FakeTable
) -> None:
    give(rows, used_nano=NANO, **{left_slot(time.time()): NANO // 2 + hold_of()})
    assert asked().status == 200
    assert book(rows) == {"used": NANO // 2 - hold_of() + USAGE_NANO, "held": 0}


def test_what_living_containers_may_hold_is_left_alone(stub: Stub, rows: FakeTable) -> None:
    now = time.time()
    give(rows, used_nano=NANO, **{slot(now): 1, slot(now - SLOT_SECONDS): NANO - 1})
    assert asked().status == 429
    assert book(rows) == {"used": NANO, "held": NANO}


def refusing_updates(rows: FakeTable, respond: Any) -> Any:
    def answer(handler: Any) -> None:
        if handler.request_seen.headers["x-amz-target"].endswith("UpdateItem"):
            respond(handler)
        else:
            rows(handler)

    return answer


@pytest.mark.parametrize(
    "respond",
    [replies(400, {"__type": THROTTLED}), replies(500, {}), hangs],
    ids=["throttled", "broken", "silent"],
)
def test_chat_goes_on_unchecked_where_the_budget_cannot_be_asked(
    stub: Stub,
    rows: FakeTable,
    respond: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked()  # opens the connections
    capsys.readouterr()
    stub.routes["/"] = refusing_updates(rows, respond)
    told = allowances(monkeypatch)
    assert asked().status == 200
    log = json.loads(capsys.readouterr().out)
    updates = [allowed for about, allowed in told if about == "UpdateItem"]
    assert len(updates) == 2  # the second one after the caller has the answer
    assert max(updates) <= HOLD_SECONDS
    assert (log["BudgetUnchecked"], log["BudgetUnsettled"]) == (1, 1)


def test_debt_is_written_before_the_next_hold(stub: Stub, rows: FakeTable) -> None:
    throttles = refusing_updates(rows, replies(400, {"__type": THROTTLED}))
    stub.routes["/"] = throttles
    asked()
    asked()
    assert book(rows)["used"] == 0
    stub.routes["/"] = rows
    asked()
    assert book(rows) == {"used": 3 * USAGE_NANO, "held": 0}


def test_debt_can_use_the_budget_up(stub: Stub, rows: FakeTable) -> None:
    give(rows, used_nano=NANO - hold_of())
    stub.routes["/"] = refusing_updates(rows, replies(400, {"__type": THROTTLED}))
    assert asked().status == 200
    stub.routes["/"] = rows
    assert asked().status == 429
    assert book(rows)["used"] == NANO - hold_of() + USAGE_NANO


def test_settling_that_fails_leaves_the_hold(
    stub: Stub, rows: FakeTable, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse_from_now_on(handler: Any) -> None:
        stub.routes["/"] = refusing_updates(rows, replies(400, {"__type": THROTTLED}))
        handler.reply(200, COMPLETION)

    stub.routes[UPSTREAM] = refuse_from_now_on
    assert asked().status == 200
    assert json.loads(capsys.readouterr().out)["BudgetUnsettled"] == 1
    assert book(rows) == {"used": hold_of(), "held": hold_of()}
