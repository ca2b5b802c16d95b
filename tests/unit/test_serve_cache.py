from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.serve.cache import (
    CacheKey,
    Entry,
    cacheable,
    given_name,
    hit_id,
    hit_name,
    holder,
    tenant,
    worth_keeping,
)
from dropforge.serve.routing import Route
from dropforge.serve.streams import Assembly, chunks

ROUTE = Route("shop", "v2", "champion", "openai", "ft:shop:2")
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Where is my order?"}]}
ANSWER: dict[str, Any] = {"choices": [{"message": {"content": "Here."}, "finish_reason": "stop"}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(JSON, JSON)
def test_keys_are_equal_just_where_the_values_are(one: Any, other: Any) -> None:
    equal = msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
    assert (CacheKey.of(one) == CacheKey.of(other)) is equal


@given(st.text(), st.text(), st.text(), st.text())
def test_tenants_are_never_confused(one: str, two: str, three: str, four: str) -> None:
    same = (one, two) == (three, four)
    assert (CacheKey.of(tenant(one, two, {})) == CacheKey.of(tenant(three, four, {}))) is same


def test_the_name_does_not_tell_the_secret() -> None:
    key = CacheKey.of("q")
    assert key.secret not in key.name.encode()
    assert len(key.name) == 32


@pytest.mark.parametrize("field", ["user", "safety_identifier"])
def test_the_end_user_is_part_of_the_tenant(field: str) -> None:
    assert tenant("shop", "t", {field: "ann"}) != tenant("shop", "t", {field: "ben"})
    assert tenant("shop", "t", {}, "ann") != tenant("shop", "t", {})


def test_spellings_of_one_request_are_one() -> None:
    plain = cacheable(ASK, ROUTE, "Be kind.")
    odd = {"stream": True, "stream_options": {}, "n": 1, "seed": None, "model": "x", **ASK}

    assert cacheable({**odd, "tools": [], "store": True}, ROUTE, "Be kind.") == plain
    named = {**ASK, "metadata": {"conversation_id": "c1"}}
    assert cacheable(named, ROUTE, "Be kind.") == plain


@pytest.mark.parametrize(
    "field",
    [{"temperature": 1}, {"metadata": {"shop": "b"}}, {"seed": 0}, {"stop": []}],
    ids=str,
)
def test_what_may_change_an_answer_stays(field: dict[str, Any]) -> None:
    assert cacheable({**ASK, **field}, ROUTE, None) != cacheable(ASK, ROUTE, None)


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"tools": [{}]},
        {"modalities": ["audio"]},
        {"web_search_options": {"a": 1}},
        {"logprobs": True},
        {"top_logprobs": 2},
    ],
)
def test_requests_without_one_lasting_text_are_not_cacheable(field: dict[str, Any]) -> None:
    assert cacheable({**ASK, **field}, ROUTE, None) is None


def test_text_is_cacheable_though_its_modality_is_named() -> None:
    assert cacheable({**ASK, "modalities": ["text"]}, ROUTE, None) == cacheable(ASK, ROUTE, None)


@pytest.mark.parametrize(
    "completion", [None, {}, {"choices": []}, {"choices": ANSWER["choices"] * 2}]
)
def test_what_is_no_answer_is_not_worth_keeping(completion: Any) -> None:
    assert worth_keeping(ANSWER)
    assert not worth_keeping(completion)


@pytest.mark.parametrize(
    ("beside", "worth"),
    [
        ({"refusal": "I may not."}, False),
        ({"tool_calls": [{"id": "1"}]}, False),
        ({"annotations": [{"type": "url_citation"}]}, False),
        ({"audio": {"id": "a"}}, False),
        ({"function_call": {"name": "f"}}, False),
        ({"reasoning_content": "Let me see."}, True),
        ({"role": "assistant", "refusal": None, "annotations": [], "tool_calls": []}, True),
    ],
    ids=str,
)
def test_an_answer_that_is_more_than_its_text_is_not_worth_keeping(
    beside: dict[str, Any], worth: bool
) -> None:
    message = {"content": "Here.", **beside}
    assert worth_keeping({"choices": [{"message": message, "finish_reason": "stop"}]}) is worth
    [role, delta, end, _] = chunks({"choices": [{"message": message, "finish_reason": "stop"}]})
    assembly = Assembly()
    for chunk in (role, delta, end):
        assembly.add(chunk)
    assert worth_keeping(assembly.completion()) is worth


def test_log_probabilities_are_not_kept_though_nobody_asked() -> None:
    choice = {**ANSWER["choices"][0], "logprobs": {"content": [{"token": "Here"}]}}
    assert not worth_keeping({"choices": [choice]})


def sealed(at: int = 1000, hours: float = 1) -> tuple[CacheKey, Entry]:
    key = CacheKey.of("q")
    return key, Entry.seal(key, "h", ANSWER, at, hours)


def test_an_entry_opens_until_its_time_and_by_the_hours_of_today() -> None:
    key, entry = sealed()

    assert entry.open(key, 1000 + 3599, 1) == ANSWER
    assert entry.open(key, 1000 + 3600, 1) is None
    assert entry.open(key, 1000 + 3601, 24) is None
    assert entry.open(key, 1000 + 600, 0.1) is None


@pytest.mark.parametrize(
    "change",
    [{"body": b"{}"}, {"at": 1001}, {"expires_at": 9**9}, {"code": b""}, {"holder": "x"}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_entry_does_not_open(change: dict[str, Any]) -> None:
    key, entry = sealed()
    assert msgspec.structs.replace(entry, **change).open(key, 1001, 1) is None


def test_another_keys_or_a_blocked_entry_does_not_open() -> None:
    key, entry = sealed()

    assert entry.open(CacheKey.of("other"), 1001, 1) is None
    assert msgspec.structs.replace(entry, blocked=True).open(key, 1001, 1) is None


def test_ids_of_hits_name_their_entry_and_are_their_own() -> None:
    name = CacheKey.of("q").name
    one, other = hit_id(name, "00000000-0000-4000-1"), hit_id(name, "00000000-0000-4000-2")

    assert one != other
    assert hit_name(f"{one}.v2.champion") == name
    assert hit_name("chatcmpl-1.v2.champion") is None


def test_notes_of_given_answers_are_their_tokens_own() -> None:
    assert given_name("shop", "t1", "a") != given_name("shop", "t2", "a")
    assert holder("shop", "t1") != holder("shopt", "1")
