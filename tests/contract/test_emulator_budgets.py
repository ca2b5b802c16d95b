"""A budget among many callers at once, on a DynamoDB with conditions and locks of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dropforge.backends.awsapi import Table
from dropforge.serve import BudgetExceededError
from dropforge.serve.budget import NANO, Spent, bounds, budget_key, left_slot, month
from dropforge.serve.options import Price, ServeOptions
from dropforge.serve.routing import Route
from lambdas.chat import budget as budgets
from lambdas.chat.budget import Budgets
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange

CALLERS, TURNS = 64, 4
OPTIONS = ServeOptions(price=Price(1.0, 10.0), max_output_tokens=1000, fallback=())
FIELDS: dict[str, Any] = {"messages": [{"role": "user", "content": "Where is my parcel?"}]}
ASK, _ = bounds(FIELDS, None, OPTIONS, ensemble=False, fallback=False)


@pytest.fixture(scope="module")
def table(emulator: str, aws: Callable[[str], Any]) -> Iterator[str]:
    names = ("pk", "sk")
    aws("dynamodb").create_table(
        TableName="budgets",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in names],
        KeySchema=[
            {"AttributeName": n, "KeyType": kind}
            for n, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", emulator)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setattr(budgets, "HOLD_SECONDS", 60.0)  # the emulator is no DynamoDB in haste
        yield "budgets"


def exchange(token: str, budget_usd: float) -> Exchange:
    call = Call(
        method="POST",
        path="/v1/chat/completions",
        request_id="r",
        projects=("shop",),
        project="shop",
        token_name="storefront",
        token_id=token,
        budget_usd=budget_usd,
        deadline=time.monotonic() + 60,
        at=time.time(),
        raw_body="",
        is_base64=False,
    )
    route = Route("shop", "v1", "champion", "openai", "ft:1")
    return Exchange(
        call=call, fields=FIELDS, asked=route, options=OPTIONS, collect=None, prompt=None,
        stream=False, route=route,
    )  # fmt: skip


def book(table: str, token: str) -> Spent:
    deadline = time.monotonic() + 60
    item = Table(table).get(*budget_key(token, month(time.time())), deadline=deadline)
    return Spent.of(item or {})


def at_once(work: Callable[[Budgets], int], table: str) -> list[int]:
    """Each caller is a container of its own, and all begin together."""
    ready = threading.Barrier(CALLERS)

    def caller(_: int) -> int:
        mine = Budgets(Table(table))
        ready.wait()
        return work(mine)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(caller, range(CALLERS)))


def test_parallel_callers_hold_all_of_the_budget_and_no_more(table: str) -> None:
    """What a hold leaves over is less than a hold: the money can be used to the end."""
    granted = CALLERS // 2
    budget = (granted * ASK + ASK - 1) / NANO

    def hold(mine: Budgets) -> int:
        try:
            mine.hold(exchange("df-holds", budget))
        except BudgetExceededError:
            return 0
        return 1

    assert sum(at_once(hold, table)) == granted
    assert book(table, "df-holds") == Spent(granted * ASK, granted * ASK)


def test_parallel_callers_spend_the_budget_to_the_end(table: str) -> None:
    """All of them ask and are answered until they are refused; each answer costs half its hold."""
    answer = ASK // 2
    usage = {"prompt_tokens": 0, "completion_tokens": answer // 10_000}
    cost = usage["completion_tokens"] * 10_000
    budget = 100 * cost

    def spend(mine: Budgets) -> int:
        answered = 0
        for _ in range(TURNS):
            asked = exchange("df-spends", budget / NANO)
            try:
                mine.hold(asked)
            except BudgetExceededError as error:
                asked.error = error
            else:
                asked.first = time.monotonic()
                asked.completion = {"usage": usage}
                answered += 1
            mine.settle(asked)
        return answered

    answered = sum(at_once(spend, table))
    left = book(table, "df-spends")
    assert left == Spent(answered * cost, 0)
    assert left.used <= budget
    alone = Budgets(Table(table))
    while True:  # one after the other, nothing that is left over is lost
        last = exchange("df-spends", budget / NANO)
        try:
            alone.hold(last)
        except BudgetExceededError:
            break
        last.first, last.completion = time.monotonic(), {"usage": usage}
        alone.settle(last)
    assert budget - ASK < book(table, "df-spends").used <= budget


def test_parallel_callers_take_back_what_died_once(table: str) -> None:
    token, dead = "df-heals", left_slot(time.time())
    pk, sk = budget_key(token, month(time.time()))
    room = 10 * ASK
    Table(table).update(
        pk, sk, f"ADD used_nano :n, {dead} :n", {":n": room}, deadline=time.monotonic() + 60
    )

    def hold(mine: Budgets) -> int:
        try:
            mine.hold(exchange(token, room / NANO))
        except BudgetExceededError:
            return 0
        return 1

    granted = sum(at_once(hold, table))
    assert 1 <= granted <= 10
    assert book(table, token) == Spent(granted * ASK, granted * ASK)
