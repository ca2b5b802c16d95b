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


def test_the_set_has_questions_of_the_same_words_that_say_something_else() -> None:
    assert sum(pair.kind == "role swap" for pair in PAIRS) >= 40


SWAPPED = """
Does the blue shirt have white buttons? | Does the white shirt have blue buttons?
Does the phone come with the case? | Does the case come with the phone?
Has the lamp a warranty if I buy the desk? | Has the desk a warranty if I buy the lamp?
Can I pay you by card? | Can you pay me by card?
Can I pay you? | Can I pay for you?
Did you charge me for my order? | Did I charge you for my order?
Was I charged? | Did I charge?
Did I get charged? | Did I charge?
You charged my card | You charge my card
Can I return it? | Can you return it?
Can you return my item? | Can I return your item?
Is my data shared with you? | Is your data shared with me?
Is my order here? | Is your order there?
Should I charge the battery overnight? | Can I charge the battery overnight?
Must I charge the battery overnight? | Can I charge the battery overnight?
Will you refund me? | Can you refund me?
Should I call you? | Will you call me?
Do you refund me? | Would you refund me?
Can I pay if you will ship? | Will I pay if you can ship?
Who pays for return shipping to you? | Who pays for return shipping from you?
Will my order arrive before Friday? | Will my order arrive by Friday?
Is it in the box? | Is it on the box?
Can I wash it with bleach in cold water? | Can I wash it in bleach with cold water?
Can I take ibuprofen for pain? | Can I take pain for ibuprofen?
Does it charge the lamp? | Does the lamp charge it?
Does this fit that? | Does that fit this?
Do they pay her? | Does she pay them?
Do you tell customers not to return lamps? | Do you not tell customers to return lamps?
If the lamp breaks, is the shade free? | If the shade breaks, is the lamp free?
If I return the lamp, do you pay me? | If you pay me, do I return the lamp?
"""


@pytest.mark.parametrize("pair", SWAPPED.strip().splitlines())
def test_who_does_what_to_whom_counts(pair: str) -> None:
    one, other = pair.split(" | ")
    assert signature(one) != signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("If the lamp was sent, can I cancel it?", "Can I cancel it if the lamp was sent?"),
        ("How much does the lamp cost?", "What's the price of the lamp?".replace("'s", " is")),
        ("How long does it take to ship to Oslo?", "How long does delivery to Oslo take?"),
        ("Where can I find the manual?", "Where do I find the manual?"),
        ("Is it possible to pay by card?", "Can I pay by card?"),
    ],
)
def test_what_means_the_same_in_another_order_is_found(one: str, other: str) -> None:
    assert signature(one) == signature(other)


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
