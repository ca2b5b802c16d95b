from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean.boilerplate import (
    DISCLAIMER,
    MACRO,
    PHRASE,
    QUOTED,
    SIGNATURE,
    Phrases,
    strip,
)
from dropforge.text import normalise

NONE = Phrases()


@pytest.mark.parametrize(
    "opening",
    [
        "On Mon, 3 Mar 2025 at 10:00, Bob <b@x.example> wrote:",
        "On Tue, Mar 4, 2025, Bob Jones\n<b@x.example> wrote:",
        "Am 3. März 2025 um 10:00 schrieb Bob <b@x.example>:",
        "Le lun. 3 mars 2025 à 10:00, Bob <b@x.example> a écrit :",
        "El lun, 3 mar 2025 a las 10:00, Bob (<b@x.example>) escribió:",
        "Em seg., 3 de mar. de 2025 às 10:00, Bob <b@x.example> escreveu:",
        "Il giorno lun 3 mar 2025 alle ore 10:00 Bob <b@x.example> ha scritto:",
        "Op ma 3 mrt 2025 om 10:00 schreef Bob <b@x.example>:",
        "-----Original Message-----",
        "-----Ursprüngliche Nachricht-----",
        "From: Bob\nSent: Monday\nTo: Ann\nSubject: lamp",
        "Von: Bob\nGesendet: Montag\nAn: Ann\nBetreff: Lampe",
        "De : Bob\nEnvoyé : lundi\nÀ : Ann\nObjet : lampe",
    ],
)
def test_quoted_reply_is_left_out(opening: str) -> None:
    assert strip(f"It works now.\n{opening}\nDid it help?", NONE) == (
        "It works now.",
        frozenset({QUOTED}),
    )


@pytest.mark.parametrize(
    ("text", "left", "found"),
    [
        ("> one\n> two\nMy answer", "My answer", {QUOTED}),
        ("On 3/4/2025 Bob wrote:\n> is it on?\nYes, it is.", "Yes, it is.", {QUOTED}),
        ("It is.\n--\nBob\nACME", "It is.", {SIGNATURE}),
        ("It is.\nSent from my iPhone", "It is.", {SIGNATURE}),
        ("Ja.\nVon meinem iPhone gesendet", "Ja.", {SIGNATURE}),
        ("It is.\nGet Outlook for iOS", "It is.", {SIGNATURE}),
        (
            "It is.\nBest regards,\nTom Miller\nSupport Manager\n+49 30 123",
            "It is.\nBest regards,",
            {SIGNATURE},
        ),
        ("Thanks,\nTom", "Thanks,", {SIGNATURE}),
        (
            "Gut.\nMit freundlichen Grüßen\nAnna Schmidt",
            "Gut.\nMit freundlichen Grüßen",
            {SIGNATURE},
        ),
        ("It is. Kind regards, Tom Miller", "It is. Kind regards,", {SIGNATURE}),
        ("Yes.\nCONFIDENTIALITY NOTICE: it is private.\nNotify the sender.", "Yes.", {DISCLAIMER}),
        ("Yes.\nIf you are not the intended recipient, delete it.", "Yes.", {DISCLAIMER}),
        ("##- Please type your reply above this line -##\nHello?", "Hello?", {MACRO}),
        ("[Ticket #123] Where is it?", "Where is it?", {MACRO}),
        ("Done.\nRate your support experience: good or bad", "Done.", {MACRO}),
        ("Done.\nThis is an automated message", "Done.", {MACRO}),
    ],
)
def test_boilerplate_is_left_out_and_named(text: str, left: str, found: set[str]) -> None:
    assert strip(text, NONE) == (left, frozenset(found))


@pytest.mark.parametrize(
    "text",
    [
        "Best regards",
        "This is an automated message. Please do not reply.",
        "It takes > 30 days.\n> 5 items cost more",
        "On Monday I wrote:\nplease help",
        "Thanks,\nplease call me tomorrow at home",
        "From: Berlin, to: Paris",
        "I sent it from my iPhone to yours.",
        "Is this e-mail address confidential?\nThe recipient is me.",
        "The ticket [12] is lost. Thanks, it works",
        "Step 1 -- open it\nStep 2 -- close it",
        "",
    ],
)
def test_text_of_its_own_stays(text: str) -> None:
    assert strip(text, NONE) == (text, frozenset())


def test_project_phrase_goes_as_a_line_or_a_sentence() -> None:
    phrases = Phrases(["Have a nice day!", "ACME, the friendly  shop", " "])
    assert strip("Done. HAVE a nice\nday. Bye", phrases) == ("Done. Bye", frozenset({PHRASE}))
    assert strip("Done.\nAcme, the friendly shop", phrases) == ("Done.", frozenset({PHRASE}))
    kept = "Will you have a nice day out? ACME, the friendly shop next door"
    assert strip(kept, phrases) == (kept, frozenset())
    assert strip("Have a nice day!", phrases) == ("Have a nice day!", frozenset())


words = st.text(st.sampled_from("abcdeäö ,.?!13\n"), max_size=300).map(normalise)
pieces = st.lists(
    st.sampled_from(
        [
            "Hello there.",
            "> quoted",
            "On 3.3.25 Bob <b@x> wrote:",
            "Best regards,",
            "Tom Miller",
            "--",
            "Sent from my iPhone",
            "DISCLAIMER: none",
            "delete it",
            "[Ticket #1] x",
            "Have a day.",
            "Thanks,",
            "From: a",
            "To: b",
            "Subject: c",
            "Rate your agent",
            "Regards, Bob",
            "-----Original Message-----",
        ]
    ),
    max_size=9,
).map("\n".join)


@given(words)
def test_text_without_markers_comes_back_unchanged(text: str) -> None:
    assert strip(text, NONE) == (text, frozenset())


@given(pieces | st.text().map(normalise))
def test_stripping_again_changes_nothing_and_never_empties(text: str) -> None:
    phrases = Phrases(["have a day"])
    once, _ = strip(text, phrases)
    assert strip(once, phrases)[0] == once
    assert bool(once.strip()) == bool(text.strip())


@pytest.mark.parametrize(
    "piece",
    [
        "> ",
        "On ",
        "On 1.1.25 wrote",
        "From: a\n",
        "--\n",
        "Best regards,\n",
        "A ",
        "##-",
        "[Ticket ",
        "x:\n",
        "this email ",
        "thanks, ",
        "-----",
        "have a ",
        "Rate your ",
        "Regards, A",
    ],
)
def test_stripping_takes_linear_time_on_repetitions(piece: str) -> None:
    text = normalise(piece * (100_000 // len(piece)) + "\nregards wrote confidential")
    began = time.process_time()
    strip(text, Phrases(["have a day"]))
    assert time.process_time() - began < 1
