from __future__ import annotations

import pytest

from dropforge.serve.semantic import MOST_CHARACTERS, agree, signature
from tests.support.near_questions import question_pairs

PAIRS = list(question_pairs())


def test_the_set_has_enough_of_both_kinds() -> None:
    assert sum(pair.same for pair in PAIRS) >= 200
    assert sum(not pair.same for pair in PAIRS) >= 400


def test_no_near_question_has_the_signature_of_its_like() -> None:
    wrong = [p for p in PAIRS if not p.same and signature(p.one) == signature(p.other)]
    assert len(wrong) <= 0.01 * sum(not pair.same for pair in PAIRS), wrong


def test_most_paraphrases_have() -> None:
    same = [pair for pair in PAIRS if pair.same]
    found = sum(signature(pair.one) == signature(pair.other) for pair in same)
    assert found >= 0.6 * len(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mail it to ann@shop.example", "Mail it to ben@shop.example"),
        ("Is <ORDER_1> on its way?", "Is <ORDER_2> on its way?"),
        ("I did not get the lamp but got the bulb", "I got the lamp but did not get the bulb"),
        ("Ich will die Lampe nicht", "Ich will die Lampe"),
        ("Wechsel von Basis zu Plus?", "Wechsel von Plus zu Basis?"),
        ("¿Puedo devolver la lámpara?", "¿No puedo devolver la lámpara?"),
        ("ランプを返品できますか", "ランプを返品できませんか"),
        ("Is 1,000 enough?", "Is 1000 enough for all?"),
        ("Does it run at 12V?", "Does it run at 24V?"),
        ("Is it $5?", "Is it €5?"),
    ],
)
def test_other_questions_have_other_signatures(one: str, other: str) -> None:
    assert signature(one) != signature(other)


@pytest.mark.parametrize("question", ["", "  ", "x" * (MOST_CHARACTERS + 1)])
def test_what_cannot_be_read_has_none(question: str) -> None:
    assert signature(question) is None


def test_case_and_punctuation_make_no_difference() -> None:
    assert signature("How do I return a lamp?") == signature("HOW DO I RETURN A LAMP")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("It ships on Monday.", "It will ship on Monday.", True),
        ("It takes 3 days.", "It takes 5 days.", False),
        ("Yes, you can.", "No, you cannot.", False),
        ("Yes, you can.", "Yes.", True),
    ],
)
def test_answers_agree_where_numbers_and_denials_do(one: str, other: str, same: bool) -> None:
    assert agree(one, other, 0.95) is same
    assert not agree(one, other, 0.5)
