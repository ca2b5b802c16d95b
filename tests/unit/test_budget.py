from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve.budget import (
    MEDIA_TOKENS,
    NANO,
    SLOT_SECONDS,
    Spent,
    bounds,
    budget_key,
    cost,
    input_bound,
    left_slot,
    month,
    output_tokens,
    renewal,
    slot,
)
from dropforge.serve.options import Ensemble, Price, ServedModel, ServeOptions

PRICE = Price(input=0.15, output=0.6)
OPTIONS = ServeOptions(price=PRICE, max_output_tokens=1000)
NOW = 1_795_435_200.0  # 2026-11-23
QUESTION = {"messages": [{"role": "user", "content": "Where is my parcel?"}]}


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


@given(text=st.text(), prompt=st.text())
def test_input_is_bounded_by_the_bytes_of_all_texts(text: str, prompt: str) -> None:
    fields = asking(text, tools=[{"function": {"name": "f", "description": text}}])
    assert input_bound(fields, prompt) > len((text + text + prompt).encode())


def test_part_that_is_no_text_counts_as_the_dearest_image() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    parts = [{"type": "text", "text": "What is this?"}, image]
    plain = input_bound({"messages": [{"role": "user", "content": parts[:1]}]}, None)
    assert input_bound({"messages": [{"role": "user", "content": parts}]}, None) > (
        plain + MEDIA_TOKENS
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (1000, False)),
        ({"max_tokens": None}, (1000, False)),
        ({"max_tokens": 7}, (7, True)),
        ({"max_completion_tokens": 9}, (9, True)),
        ({"max_tokens": 7, "max_completion_tokens": 9}, (9, True)),
    ],
)
def test_output_is_what_the_caller_named_or_else_the_projects(
    fields: dict[str, Any], expected: tuple[int, bool]
) -> None:
    assert output_tokens(fields, OPTIONS) == expected


@given(
    text=st.text(max_size=200),
    asked=st.integers(0, 400),
    answered=st.integers(0, 1000),
    n=st.integers(1, 8),
    price=st.builds(Price, st.floats(0, 100), st.floats(0, 500)),
)
def test_no_answer_within_the_limits_costs_more_than_its_bound(
    text: str, asked: int, answered: int, n: int, price: Price
) -> None:
    options = ServeOptions(price=price, max_output_tokens=1000)
    fields = asking(text, n=n)
    usage = {"prompt_tokens": min(asked, len(text.encode())), "completion_tokens": answered * n}
    ask, whole = bounds(fields, None, options, ensemble=False, fallback=True)
    spent = cost({"usage": usage}, price)
    assert spent is not None
    assert spent <= ask
    assert whole == 2 * ask


def test_bound_of_one_ask_in_billionths_of_a_dollar() -> None:
    expected = math.ceil(input_bound(QUESTION, "Be kind.") * 150 + 1000 * 600)
    found = bounds(QUESTION, "Be kind.", OPTIONS, ensemble=False, fallback=False)
    assert found == (expected, expected)


def test_ensemble_holds_its_asks_two_more_and_its_judge() -> None:
    judge = ServedModel("openai", "judge")
    voting = msgspec.structs.replace(OPTIONS, ensemble=Ensemble(n=3))
    judged = msgspec.structs.replace(OPTIONS, ensemble=Ensemble(n=3, by="judge", judge=judge))
    ask, whole = bounds(QUESTION, None, voting, ensemble=True, fallback=True)
    assert whole == 5 * ask
    # The judge reads three answers of 1000 tokens, each twice as long to it, and is asked twice.
    assert bounds(QUESTION, None, judged, ensemble=True, fallback=True)[1] > (
        whole + 2 * (6000 * 150 + 1000 * 600)
    )
    assert bounds(QUESTION, None, judged, ensemble=False, fallback=True)[1] == 2 * ask


def test_without_a_price_nothing_is_held() -> None:
    assert bounds(QUESTION, None, ServeOptions(), ensemble=False, fallback=True) == (0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
    ],
)
def test_usage_that_says_nothing_has_no_cost(usage: Any) -> None:
    assert cost({"usage": usage}, PRICE) is None
    assert cost(None, PRICE) is None


@pytest.mark.parametrize(
    ("at", "this", "following"),
    [
        (NOW, "2026-11", "2026-12-01"),
        (1_798_761_599.9, "2026-12", "2027-01-01"),
        (1_798_761_600.0, "2027-01", "2027-02-01"),
    ],
)
def test_months_are_utc_and_renew_on_the_first(at: float, this: str, following: str) -> None:
    assert (month(at), renewal(at)) == (this, following)
    assert budget_key("df-a", month(at)) == ("budget#df-a", this)


@given(at=st.floats(1e9, 4e9), skew=st.floats(-SLOT_SECONDS, SLOT_SECONDS))
def test_slot_that_is_emptied_is_nobodys_even_where_clocks_differ(at: float, skew: float) -> None:
    live = {slot(at), slot(at - SLOT_SECONDS)}
    assert left_slot(at) not in live
    assert left_slot(at) != slot(at + skew)


def test_what_is_held_is_not_spent() -> None:
    item = {"used_nano": 5 * NANO, "held_0": NANO, "held_3": 2 * NANO}
    assert Spent.of(item) == Spent(5 * NANO, 3 * NANO)
    assert Spent.of(item).spent_usd == 2.0
    assert Spent.of({}).spent_usd == 0.0
