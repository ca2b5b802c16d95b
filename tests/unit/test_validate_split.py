from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.validate.split import Splitter, split_of
from tests.support.tickets import example


def test_split_is_about_eighty_ten_ten() -> None:
    counts = Counter(split_of(f"customer-{i}") for i in range(5000))
    assert counts["train"] == pytest.approx(4000, rel=0.05)
    assert counts["validation"] == pytest.approx(500, rel=0.2)
    assert counts["test"] == pytest.approx(500, rel=0.2)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_no_customer_and_no_conversation_stands_in_two_splits(ties: list[tuple[int, int]]) -> None:
    splitter = Splitter()
    seen: dict[str, set[str]] = {}
    for number, (customer, ticket) in enumerate(ties):
        row = example(number, group=f"customer {customer}")
        row = msgspec.structs.replace(row, conversation=f"ticket {ticket}" if ticket else "")
        split = splitter.assign(row)
        if split:
            for tie in filter(None, (row.group, row.conversation)):
                seen.setdefault(tie, set()).add(split)
    assert all(len(splits) == 1 for splits in seen.values())


@given(st.lists(st.integers(0, 30), max_size=60), st.lists(st.integers(0, 30), max_size=60))
def test_later_rows_move_no_earlier_one(earlier: list[int], later: list[int]) -> None:
    rows = [example(i, group=f"customer {g}") for i, g in enumerate([*earlier, *later])]
    alone, together = Splitter(), Splitter()
    before = [alone.assign(row) for row in rows[: len(earlier)]]
    assert [together.assign(row) for row in rows][: len(earlier)] == before
