from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

from benchmarks import bill, cost

NOTHING = bill.Request(
    wait_seconds=0, own_seconds=0, cache=False, budget=False, authorized=0, cold=0, log_kb=0,
    answer_kb=0, traced=0,
)  # fmt: skip


def test_waiting_two_seconds_costs_what_the_price_list_says() -> None:
    lines = bill.per_million(bill.Template(memory_mb=256), bill.Request(wait_seconds=2.0))
    # 1M requests × 2 s × 0.25 GB × $0.0000166667
    assert lines["Lambda: the wait for the model"] == pytest.approx(8.33335)


def test_a_request_that_takes_nothing_still_pays_for_being_asked() -> None:
    lines = bill.per_million(bill.Template(), NOTHING)
    paid = {name: usd for name, usd in lines.items() if usd}
    assert paid == {
        "Lambda: requests": pytest.approx(0.20),
        "API Gateway": pytest.approx(3.50),
        "WAF": pytest.approx(0.60),
        "DynamoDB: reads": pytest.approx(0.05 * 0.125),
    }


def test_answers_from_the_cache_pay_for_no_wait_and_no_write() -> None:
    asked = bill.per_million(bill.Template(), bill.Request(budget=False))
    hit = bill.per_million(bill.Template(), bill.Request(budget=False, cached=1.0))
    assert asked["DynamoDB: writes (budget and cache)"] == pytest.approx(2 * 0.625)
    assert hit["Lambda: the wait for the model"] == 0
    assert hit["DynamoDB: writes (budget and cache)"] == 0
    assert hit["DynamoDB: reads"] == asked["DynamoDB: reads"]


def test_a_budget_costs_two_writes_a_request() -> None:
    without = bill.per_million(bill.Template(), bill.Request(budget=False))
    budget = bill.per_million(bill.Template(), bill.Request())
    more = sum(budget.values()) - sum(without.values())
    assert more == pytest.approx(2 * bill.PRICES["DynamoDB writes"].usd)


def test_arm_is_a_fifth_cheaper_for_the_wait() -> None:
    both = [
        bill.per_million(bill.Template(architecture=name), bill.Request())
        for name in ("x86_64", "arm64")
    ]
    x86, arm = (found["Lambda: the wait for the model"] for found in both)
    assert arm / x86 == pytest.approx(0.8, abs=0.001)


def test_idle_pays_for_what_stands_there() -> None:
    empty = bill.Template(
        keys=0, secrets=0, alarm_metrics=0, polled_queues=0, web_lists=0, web_rules=0
    )
    assert sum(bill.idle(empty).values()) == 0
    assert sum(bill.idle(replace(empty, web_lists=1, web_rules=2)).values()) == pytest.approx(7)
    # 5 polls of 20 s each, a month of 730 hours: 657,000 requests
    assert sum(bill.idle(replace(empty, polled_queues=1)).values()) == pytest.approx(0.2628)


def test_containers_cost_what_two_tasks_and_a_load_balancer_do() -> None:
    way = bill.containers(bill.Request(), count=2, vcpu=0.5, gb=1.0)
    task = 0.5 * 0.04048 + 0.004445 + 0.005
    assert way.month == pytest.approx(730 * (2 * task + 0.0225))


def test_break_even_is_where_both_bills_are_the_same() -> None:
    one, other = bill.Way("one", 10, 16), bill.Way("other", 60, 1)
    even = bill.break_even(one, other)
    assert even is not None
    assert one.usd(even) == pytest.approx(other.usd(even))
    assert one.usd(even * 0.9) < other.usd(even * 0.9)
    assert bill.break_even(other, one) is None


def test_the_page_holds_what_the_table_gives() -> None:
    assert cost.PAGE.read_text() == cost.page(), "python -m benchmarks cost"


def test_the_plot_holds_what_the_table_gives_and_is_well_formed() -> None:
    drawn = cost.PLOT.read_text()
    assert drawn == cost.plot(), "python -m benchmarks cost"
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own file
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "containers cost less from" in "".join(root.itertext())
