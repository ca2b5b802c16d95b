from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.judge import fact_recall, facts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It costs €27.50 or $ 30.", {"€27.50", "$30"}),
        ("Take part LX-40 until 13:00.", {"lx-40", "13:00"}),
        ("2 % off within 9 days", {"2%", "9"}),
        ("1,000 pieces by 12/05/2026", {"1000", "12/05/2026"}),
        (
            "Mail help@shop.example or www.shop.example/faq.",
            {"help@shop.example", "www.shop.example/faq"},
        ),
        ("The VAT of the EU", {"vat", "eu"}),
        ("Ask [EMAIL_1] and [CARD_12]", set()),
        ("No facts here", set()),
    ],
)
def test_facts_are_what_can_be_checked(text: str, found: set[str]) -> None:
    assert facts(text) == found


@pytest.mark.parametrize(
    ("answer", "recall"),
    [
        ("LX-40 is 27.5 euros", 0.5),
        ("€27.50 for part LX-40.", 1.0),
        ("LX-41, €27.55", 0.0),
        ("", 0.0),
    ],
)
def test_recall_is_the_share_of_the_references_facts(answer: str, recall: float) -> None:
    assert fact_recall("Order LX-40 for €27.50", answer) == recall


def test_recall_without_facts_in_the_reference_is_unknown() -> None:
    assert fact_recall("Glad to help", "In 7 days") is None


@given(st.text())
def test_reference_recalls_itself_completely(text: str) -> None:
    assert fact_recall(text, text) in (None, 1.0)


@pytest.mark.parametrize("piece", ["a", "a.", "-", "A-", "x@", "$", "1,", "www.", "_"])
def test_facts_are_found_in_linear_time_on_repetitions(piece: str) -> None:
    began = time.process_time()
    facts(piece * (32_000 // len(piece)))
    assert time.process_time() - began < 2
