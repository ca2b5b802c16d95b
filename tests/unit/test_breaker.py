from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve.breaker import (
    FAILURES,
    LONGEST_SECONDS,
    MOST_RETRIES,
    OPEN_SECONDS,
    RETRIES_PER_SECOND,
    RETRY_SHARE,
    WINDOW,
    Breaker,
    RetryBudget,
)


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.closed_for(at) == 0
        breaker.failed(at, "down")
    return breaker


def test_failures_in_a_row_open_it_and_tell_why() -> None:
    breaker = opened()
    assert breaker.closed_for(100.0) == OPEN_SECONDS
    assert not breaker.allows(100.0 + OPEN_SECONDS - 0.1)
    assert breaker.reason == "down"


@pytest.mark.parametrize(("period", "opens"), [(2, True), (3, False)])
def test_half_of_the_answers_failing_open_it_and_a_third_does_not(period: int, opens: bool) -> None:
    breaker = Breaker()
    for number in range(WINDOW * 3):
        breaker.closed_for(float(number))
        if breaker.closed_for(float(number)):
            break
        if number % period:
            breaker.succeeded()
        else:
            breaker.failed(float(number), None)
    assert (breaker.closed_for(float(number)) > 0) is opens


def test_one_probe_is_asked_and_its_success_closes_it() -> None:
    breaker = opened()
    now = 100.0 + OPEN_SECONDS
    assert breaker.allows(now)
    assert breaker.closed_for(now) == 0, "the probe"
    assert breaker.closed_for(now) > 0, "while it is under way nobody else"
    breaker.succeeded()
    assert breaker.closed_for(now) == 0
    breaker.failed(now, None)
    assert breaker.closed_for(now) == 0, "what was before is forgotten"


def test_failed_probes_double_the_pause_up_to_a_minute() -> None:
    breaker = opened()
    now, pauses = 100.0, []
    for _ in range(6):
        pauses.append(breaker.closed_for(now))
        now += pauses[-1]
        assert breaker.closed_for(now) == 0
        breaker.failed(now, None)
    assert pauses == [OPEN_SECONDS, 20, 40, 60, 60, 60]


def test_probe_that_never_ends_is_followed_by_another() -> None:
    breaker = opened()
    now = 100.0 + OPEN_SECONDS
    assert breaker.closed_for(now) == 0
    assert breaker.closed_for(now + LONGEST_SECONDS) == 0


@pytest.mark.parametrize(("told", "believed"), [(7.0, 7.0), (3600.0, 60.0), (0.0, 0.0)])
def test_server_that_says_when_is_believed_at_once_and_for_a_minute_at_most(
    told: float, believed: float
) -> None:
    breaker = Breaker()
    breaker.failed(5.0, "full", told)
    assert breaker.closed_for(5.0) == believed


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=200))
def test_it_is_never_closed_for_longer_than_a_minute(steps: list[tuple[bool, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for works, wait in steps:
        now += wait
        assert breaker.closed_for(now) <= LONGEST_SECONDS
        if breaker.allows(now):
            breaker.closed_for(now)
            breaker.succeeded() if works else breaker.failed(now, None)
    assert breaker.closed_for(now + LONGEST_SECONDS) == 0


@given(st.integers(1, 3000), st.floats(0, 5), st.integers())
def test_retries_are_a_share_of_the_requests_and_a_few(n: int, gap: float, seed: int) -> None:
    random, budget, spent, now = Random(seed), RetryBudget(0.0), 0, 0.0
    for _ in range(n):
        now += gap * random.random()
        budget.deposit(now)
        spent += random.random() < 0.7 and budget.withdraw()
    assert spent <= MOST_RETRIES + RETRY_SHARE * n + RETRIES_PER_SECOND * now


def test_who_asks_seldom_may_retry_every_time() -> None:
    budget, answers = RetryBudget(0.0), []
    for minute in range(100):
        budget.deposit(minute * 60.0)
        answers.append(budget.withdraw())
    assert all(answers)


def test_spent_budget_comes_back_with_requests_that_need_none() -> None:
    budget = RetryBudget(0.0)
    while budget.withdraw():
        pass
    grown = []
    for _ in range(11):
        budget.deposit(0.0)
        grown.append(budget._tokens)
    assert all(a < b for a, b in pairwise(grown))
    assert budget.withdraw()


def test_a_failure_may_count_for_several() -> None:
    breaker = Breaker()
    breaker.failed(0.0, "slow", weight=3)
    assert breaker.allows(0.0)
    breaker.failed(0.0, "slow", weight=3)
    assert not breaker.allows(0.0)
