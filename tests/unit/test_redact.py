from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean.redact import Kind, Redactor, iban, luhn


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("I am ann.b+c@mail.example.org!", "I am [EMAIL_1]!"),
        ("key AKIAIOSFODNN7EXAMPLE ok", "key [AWS_KEY_1] ok"),
        ("sk-live_abcdefghijklmnop1234", "[API_KEY_1]"),
        ("ghp_" + "a1" * 18, "[API_KEY_1]"),
        ("xoxb-123456789-abcdef", "[API_KEY_1]"),
        ("glpat-abcdefghij0123456789", "[API_KEY_1]"),
        ("Authorization: Bearer abcdef0123456789ABCDEF==", "Authorization: Bearer [TOKEN_1]"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "[TOKEN_1]"),
        ("my password is hunter22.", "my password is [PASSWORD_1]."),
        ('Passwort: "gr0ss&klein"', 'Passwort: "[PASSWORD_1]"'),
        ("DE89370400440532013000", "[IBAN_1]"),
        ("IBAN GB82 WEST 1234 5698 7654 32, thanks", "IBAN [IBAN_1], thanks"),
        ("ES9121000418450200051332 I sent it", "[IBAN_1] I sent it"),
        ("AT61 1904 3002 3457 3201 OK then", "[IBAN_1] OK then"),
        ("ES91 2100 0418 4502 0005 1332 ASAP", "[IBAN_1] ASAP"),
        ("card 4111 1111 1111 1111 exp", "card [CARD_1] exp"),
        ("5555-5555-5555-4444", "[CARD_1]"),
        ("378282246310005", "[CARD_1]"),
        ("3782 822463 10005", "[CARD_1]"),
        ("call +49 30 1234567 now", "call [PHONE_1] now"),
        ("(415) 555-2671", "[PHONE_1]"),
        ("020 7946 0958", "[PHONE_1]"),
        ("+44 20 7946 0958 2026", "[PHONE_1] 2026"),
    ],
)
def test_personal_data_and_secrets_are_replaced(text: str, redacted: str) -> None:
    assert Redactor()(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112 is no card",
        "DE00370400440532013000 has wrong check digits",
        "I forgot my password, please reset it",
        "password required!",
        "Ticket T-10412 of 2026-01-05 costs €27.50",
        "tracking 1234567890123456789012345",
        "4444 4444 4444 4444",
        "send it @ noon",
        "part LX-40, 9 days, 13:00",
        "risk-averse task-force",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert Redactor()(text) == text


def test_same_value_has_the_same_placeholder_in_every_turn() -> None:
    redact = Redactor()
    assert redact("From ann@x.example or bob@x.example") == "From [EMAIL_1] or [EMAIL_2]"
    assert redact("To BOB@x.example") == "To [EMAIL_2]"
    assert redact.found == {Kind.EMAIL: 3}


def test_secret_is_replaced_where_it_is_repeated_without_its_label() -> None:
    redact = Redactor()
    assert redact("My password is Hunter22") == "My password is [PASSWORD_1]"
    assert redact("Never tell hunter22 to anyone") == "Never tell [PASSWORD_1] to anyone"
    assert redact("hunter2255 is another word") == "hunter2255 is another word"


def test_key_given_as_a_password_is_counted_once() -> None:
    redact = Redactor()
    assert redact("password: AKIAIOSFODNN7EXAMPLE") == "password: [AWS_KEY_1]"
    assert redact.found == {Kind.AWS_KEY: 1}


def test_kept_value_stays_whatever_its_case() -> None:
    redact = Redactor(keep=["Help@Shop.example"])
    assert redact("help@shop.example, a@shop.example") == "help@shop.example, [EMAIL_1]"


def test_names_are_replaced_whole_and_in_parts() -> None:
    redact = Redactor(names=["José María Lind"])
    assert redact("José María Lind, or Mr Lind") == "[NAME_1], or Mr [NAME_2]"


@pytest.mark.parametrize("name", ["al", "ann", "a@b.example", "", "  "])
def test_name_that_may_be_a_word_is_no_name(name: str) -> None:
    assert Redactor(names=[name])(f"all {name} annual") == f"all {name} annual".replace(
        "a@b.example", "[EMAIL_1]"
    )


def test_name_with_pattern_characters_is_taken_literally() -> None:
    assert Redactor(names=["O(Brien"])("Mr O(Brien and Obrien") == "Mr [NAME_1] and Obrien"


pieces = st.sampled_from(
    [
        "ann@mail.example",
        "bob@mail.example",
        "AKIAIOSFODNN7EXAMPLE",
        "sk-live_abcdefghijklmnop1234",
        "Bearer abcdef0123456789ABCDEF",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
        "password: hunter22",
        "my passcode is 'x9-y8'",
        "password",
        "DE89 3704 0044 0532 0130 00",
        "4111111111111111",
        "+49 30 1234567",
        "Maria",
        "hunter22",
        "[EMAIL_1]",
        "is",
        "OK",
        "7.",
    ]
)


@given(st.lists(pieces, max_size=10).map(" ".join))
def test_redacting_again_changes_nothing(text: str) -> None:
    once = Redactor(names=["Maria"])(text)
    assert Redactor(names=["Maria"])(once) == once


@given(st.lists(pieces, max_size=10).map(" ".join))
def test_no_planted_value_is_left(text: str) -> None:
    redacted = Redactor(names=["Maria"])(text)
    planted = ("ann@", "bob@", "AKIA", "sk-live", "abcdef0123", "DE89", "41111", "Maria", "eyJh")
    assert not [value for value in planted if value in redacted]


@given(st.text())
def test_any_text_is_redacted_without_an_error(text: str) -> None:
    redact = Redactor()
    assert (redact(text) == text) == (not redact.found)


@pytest.mark.parametrize(
    "piece",
    ["a1b22", "1-", "+1 ", "password ", "x@", "x.", "eyJ", "AB12 ", "sk-", "bearer ", "0 1"],
)
def test_redacting_takes_linear_time_on_repetitions(piece: str) -> None:
    text = "22" + piece * (64_000 // len(piece))
    began = time.perf_counter()
    Redactor()(text)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("digits", "right"),
    [("79927398713", True), ("79927398710", False), ("4111111111111111", True), ("0", True)],
)
def test_luhn_agrees_with_known_numbers(digits: str, right: bool) -> None:
    assert luhn(digits) is right


@given(st.text("0123456789", min_size=2, max_size=19), st.integers(0, 18), st.integers(1, 9))
def test_luhn_finds_every_single_wrong_digit(digits: str, place: int, change: int) -> None:
    check = next(c for c in "0123456789" if luhn(digits + c))
    whole = digits + check
    place %= len(whole)
    wrong = whole[:place] + str((int(whole[place]) + change) % 10) + whole[place + 1 :]
    assert luhn(whole)
    assert not luhn(wrong)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("GB82WEST12345698765432", True),
        ("GB82WEST12345698765423", False),
        ("NO9386011117947", True),
        ("MT84MALT011000012345MTLCAST001S", True),
    ],
)
def test_iban_agrees_with_known_numbers(text: str, right: bool) -> None:
    assert iban(text) is right
