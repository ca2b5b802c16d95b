"""How long one question may take, its tries together."""

from __future__ import annotations

import time

import pytest

from dropforge.backends.openai_api.chats import TRIES, Chats
from dropforge.errors import RetryableError
from tests.support.http import Fault, hangs
from tests.support.provider import Provider, answers

QUESTION = [{"role": "user", "content": "?"}]


def chats(provider: Provider, slept: list[float], *, timeout: float, total: float) -> Chats:
    return Chats(provider.url, "k", timeout, not_served="", total=total, sleep=slept.append)


def test_no_try_outlasts_the_time_for_all_of_them(provider: Provider) -> None:
    provider.refuses = hangs
    slept: list[float] = []
    began = time.monotonic()
    with pytest.raises(RetryableError):
        chats(provider, slept, timeout=60, total=0.3).complete("m", QUESTION, 9)
    assert time.monotonic() - began < 15, "the provider hangs for 30 s"
    assert (len(provider.order), slept) == (1, [])


@pytest.mark.parametrize("fault", [answers(503), answers(429)])
def test_nobody_waits_for_a_try_that_there_is_no_time_for(provider: Provider, fault: Fault) -> None:
    provider.refuses = fault
    slept: list[float] = []
    with pytest.raises(RetryableError):
        chats(provider, slept, timeout=60, total=0.2).complete("m", QUESTION, 9)
    assert (len(provider.order), slept) == (1, [])


def test_with_time_enough_there_are_three_tries(provider: Provider) -> None:
    provider.refuses = answers(503)
    slept: list[float] = []
    with pytest.raises(RetryableError):
        chats(provider, slept, timeout=60, total=60).complete("m", QUESTION, 9)
    assert (len(provider.order), len(slept)) == (TRIES, TRIES - 1)
