from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean.quality import verdict, verdicts
from dropforge.export import Reason, Turn

ASKED = "Where is my order? It should have come last week."


def judged(answer: str, asked: str = ASKED) -> Reason | None:
    found = verdict([Turn("user", asked), Turn("assistant", answer)], 10)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Yes.", Reason.SHORT_ANSWER),
        ("[EMAIL_1] https://x.example/a/b/c ...", Reason.NO_WORDS),
        ("!!! ??? --- ...", Reason.NO_WORDS),
        (
            "I am out of the office until Monday. For urgent cases ask a colleague.",
            Reason.AUTOMATIC,
        ),
        ("Hello, we have received your request (#12345). Thank you.", Reason.AUTOMATIC),
        ("Your ticket has been closed automatically.", Reason.AUTOMATIC),
        ("Wir haben Ihre Anfrage erhalten.", Reason.AUTOMATIC),
        ("Please see attached.", Reason.ELSEWHERE),
        ("As discussed on the phone. Regards", Reason.ELSEWHERE),
        ("Called the customer.", Reason.ELSEWHERE),
        ("Internal note: waiting for stock", Reason.ELSEWHERE),
        ("Wie telefonisch besprochen.", Reason.ELSEWHERE),
        ("a" * 60, Reason.GIBBERISH),
        ("test " * 30, Reason.GIBBERISH),
        ("please help me now ok " * 40, Reason.GIBBERISH),
        ("sdfkj wrtzpq xcvbnm dfghjkl qwrtp", Reason.GIBBERISH),
        ("Ihr RÃ¼cksendeetikett lÃ¤uft Ã¼ber den Shop", Reason.MOJIBAKE),
    ],
)
def test_answer_not_worth_training_on_has_a_reason(answer: str, reason: Reason) -> None:
    assert judged(answer) == reason


@pytest.mark.parametrize(
    "answer",
    [
        "It was sent today and arrives on Friday.",
        "Please see the attached label: print it, put it on the parcel and bring it to any shop. "
        "As soon as we have it, the money is on its way.",
        "Your request has been received. To reset the lamp, hold the button for ten"
        " seconds until it"
        " blinks twice, then release it and pair it again in the app.",
        "Sorry to hear that! Unplug it, wait for a minute, plug it in.",
        "We have received your request and checked your order: it left our warehouse yesterday.",
        "Das Rücksendeetikett finden Sie in Ihrem Konto unter der Bestellung.",
        "No. No, no. It is not on, not off.",
    ],
)
def test_answer_with_something_to_learn_stays(answer: str) -> None:
    assert judged(answer) is None


def test_gibberish_of_the_customer_counts_too_and_no_answer_is_not_judged_here() -> None:
    assert judged("It was sent today.", "x" * 80) == Reason.GIBBERISH
    assert verdict([Turn("user", ASKED)], 10) is None


def test_detail_shows_no_number() -> None:
    found = verdict([Turn("assistant", "Your ticket T-4711 has been closed.")], 1)
    assert found is not None
    assert "4711" not in found[1]


@given(st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), st.text()), max_size=4))
def test_any_turns_are_judged_without_an_error(turns: list[Turn]) -> None:
    found = verdict(turns, 5)
    assert found is None or found[1]


@pytest.mark.parametrize(
    "piece", ["a", "ab ", "your ticket ", "1 ", "!", "we have ", "Ã", "in the "]
)
def test_judging_takes_linear_time_on_repetitions(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    began = time.process_time()
    judged(text, text)
    assert time.process_time() - began < 1


sayings = st.lists(
    st.sampled_from(
        [
            "Please see attached.",
            "Your ticket has been closed.",
            "Thank you!",
            "www.shop.example",
            "[EMAIL_1]",
            "The lamp starts at six.",
            "It was sent today and arrives on Friday.",
            "Hold the button for ten seconds and pair it again.",
            "sdfkj wrtzpq xcvbnm",
            "zzzzzzzzzzzzzzzzzzzzzzzzz",
            "RÜCKSENDEETIKETT AUTOMATISCHE ANTWORT",
            "lÃ¤uft Ã¼ber",
            "ok ok ok ok ok",
            "!!!",
        ]
    ),
    max_size=14,
).map(" ".join)


@given(st.lists(st.tuples(sayings | st.text(), sayings | st.text()), max_size=6))
def test_many_are_judged_together_as_one_by_one(pairs: list[tuple[str, str]]) -> None:
    asked, said = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one_by_one = [
        verdict([Turn("user", question), Turn("assistant", answer)], 10)
        for question, answer in pairs
    ]
    assert verdicts(said, asked, 10) == one_by_one


def test_ordinary_answers_are_let_through_among_others() -> None:
    fine = "You will find the label in your account; print it and bring the parcel to any shop."
    poor = "Please see attached."
    found = verdicts([fine, poor] * 700, [ASKED] * 1400, 2)
    assert [verdict is None for verdict in found] == [True, False] * 700
