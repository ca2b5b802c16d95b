from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean import clean_hash
from dropforge.clean.boilerplate import Phrases, strip
from dropforge.clean.prepare import MAX_CHARS, Rules, exact_key, repair_turns, unusual
from dropforge.errors import NoDataError, TooManyRejectedError
from dropforge.export import Conversation, Reason, Rejected, Row, Turn, read
from dropforge.text import normalise
from tests.support.cleaned import Cleaned, clean, clean_file
from tests.support.tickets import table, ticket, tickets_csv

ROLES = {"u": "user", "a": "assistant"}


def talk(roles: str, position: int = 1) -> Conversation:
    """A conversation by the initials of its turns' roles; each text is its place: t0, t1, …"""
    turns = (Turn(ROLES[role], f"t{i}") for i, role in enumerate(roles))  # type: ignore[arg-type]
    return Conversation(position, tuple(turns))


def conversation(position: int, question: str, answer: str, **about: object) -> Conversation:
    turns = (Turn("user", question), Turn("assistant", answer))
    return Conversation(position, turns, **about)  # type: ignore[arg-type]


def good(position: int) -> Conversation:
    return conversation(position, *ticket(position))


def reasons(cleaned: Cleaned) -> dict[int, Reason]:
    return {row.position: row.reason for row in cleaned.rejected}


@pytest.mark.parametrize(
    ("roles", "repaired", "repairs"),
    [
        ("ua", "t0 | t1", []),
        ("uaua", "t0 | t1 | t2 | t3", []),
        ("uuaa", "t0\nt1 | t2\nt3", ["turns merged"]),
        ("aua", "t1 | t2", ["greeting left out"]),
        ("uau", "t0 | t1", ["unanswered end left out"]),
        (
            "auuau",
            "t1\nt2 | t3",
            ["turns merged", "greeting left out", "unanswered end left out"],
        ),
    ],
)
def test_turns_are_repaired_to_alternate(roles: str, repaired: str, repairs: list[str]) -> None:
    found = repair_turns(talk(roles))
    assert not isinstance(found, Rejected)
    assert (" | ".join(turn.text for turn in found[0]), found[1]) == (repaired, repairs)


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        ("", Reason.NO_QUESTION),
        ("a", Reason.NO_QUESTION),
        ("aa", Reason.NO_QUESTION),
        ("u", Reason.UNANSWERED),
        ("uu", Reason.UNANSWERED),
        ("au", Reason.UNANSWERED),
    ],
)
def test_conversation_without_both_sides_is_rejected(roles: str, reason: Reason) -> None:
    found = repair_turns(talk(roles, position=9))
    assert isinstance(found, Rejected)
    assert (found.position, found.reason) == (9, reason)


@given(st.text("ua", max_size=12))
def test_repaired_turns_always_go_from_question_to_answer(roles: str) -> None:
    found = repair_turns(talk(roles))
    if isinstance(found, Rejected):
        return
    kept = [turn.role for turn in found[0]]
    assert kept == ["user", "assistant"] * (len(kept) // 2)


def test_conversation_too_long_for_any_model_is_rejected() -> None:
    long = conversation(1, "Why?", "x" * MAX_CHARS)
    assert reasons(clean([long, good(2)])) == {1: Reason.TOO_LONG}


def test_turn_of_invisible_characters_counts_as_none() -> None:
    blank = conversation(1, "Why?", "\u200b <p> </p>")
    assert reasons(clean([blank, good(2)])) == {1: Reason.UNANSWERED}


def test_nul_characters_are_left_out_and_counted() -> None:
    cleaned = clean([conversation(1, "Wh\0y not?", "S\0o it is."), good(2)])
    assert [m.content for m in cleaned.examples[0].messages] == ["Why not?", "So it is."]
    assert cleaned.repaired == {"NUL left out": 1}


def test_same_text_in_another_dress_is_a_duplicate() -> None:
    question, answer = ticket(1)
    again = conversation(2, f"<p>{question.upper()}</p>", f"  {answer}\r\n")
    cleaned = clean([good(1), again])
    assert reasons(cleaned) == {2: Reason.DUPLICATE}
    assert cleaned.rejected[0].detail == "same text as row 1"


def test_nearly_the_same_text_is_a_near_duplicate() -> None:
    question, answer = ticket(1)
    again = conversation(2, f"{question} Thanks", answer)
    assert reasons(clean([good(1), again])) == {2: Reason.NEAR_DUPLICATE}


def test_same_question_with_another_answer_is_kept() -> None:
    question, _ = ticket(1)
    other = conversation(2, question, "We no longer sell it, but model C-7 does the same and more.")
    assert not clean([good(1), other]).rejected


def test_tickets_that_differ_in_redacted_data_alone_are_duplicates() -> None:
    letters = [
        conversation(i, f"Send the bill to {name}@mail.example please", "Done.")
        for i, name in enumerate(("ann", "bob"), start=1)
    ]
    assert reasons(clean([*letters, good(3)])) == {2: Reason.DUPLICATE}


def test_rejected_row_counts_in_no_redaction_or_repair() -> None:
    question = "I am ann@mail.example"
    cleaned = clean([conversation(1, question, "Hi."), conversation(2, question, "Hi."), good(3)])
    assert cleaned.redacted_rows == {"EMAIL": 1}


def test_customer_is_the_group_whatever_the_case() -> None:
    rows = [
        conversation(1, *ticket(1), customer="Ann@Mail.example"),
        conversation(2, *ticket(2), customer="ann@mail.example"),
        conversation(3, *ticket(3), id="T-3"),
        good(4),
    ]
    groups = [example.group for example in clean(rows).examples]
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    assert not any("ann" in group for group in groups)


def test_names_of_the_customer_are_replaced_in_every_turn() -> None:
    row = conversation(1, "Maria Canary here", "Dear Maria, done.", names=("Maria Canary",))
    example = clean([row]).examples[0]
    assert [m.content for m in example.messages] == ["[NAME_1] here", "Dear [NAME_2], done."]


def test_kept_values_of_the_company_stay() -> None:
    row = conversation(1, "Where to write?", "To help@shop.example or bob@mail.example.")
    example = clean([row], keep=("Help@shop.example",)).examples[0]
    assert example.reference == "To help@shop.example or [EMAIL_1]."


def test_position_of_the_row_stays_with_its_example() -> None:
    cleaned = clean_file(tickets_csv(12))
    assert [example.position for example in cleaned.examples] == list(range(1, 13))


def test_more_than_a_fifth_unreadable_stops_the_file() -> None:
    broken: list[Row] = [Rejected(i, Reason.BROKEN_ROW, "2 cells") for i in range(1, 4)]
    with pytest.raises(TooManyRejectedError, match=r"3 of 14 rows .* first is row 1: 2 cells"):
        clean([*broken, *(good(i) for i in range(4, 15))])


def test_exactly_a_fifth_unreadable_goes_on() -> None:
    broken: list[Row] = [Rejected(1, Reason.ENCODING, ""), Rejected(2, Reason.UNKNOWN_SHAPE, "")]
    assert clean([*broken, *(good(i) for i in range(3, 11))]).read == 10


def test_unusable_rows_are_no_sign_of_a_wrong_file() -> None:
    unanswered = [conversation(i, f"Question {i}", "") for i in range(2, 50)]
    assert len(clean([good(1), *unanswered]).examples) == 1


@pytest.mark.parametrize("rows", [[], [conversation(1, "Why?", "")]])
def test_file_without_a_usable_row_is_no_data(rows: list[Row]) -> None:
    with pytest.raises(NoDataError):
        clean(rows)


def test_same_file_comes_out_byte_for_byte_the_same() -> None:
    data = table([(f"{i}", f"I am u{i % 7}@mail.example", f"Answer {i % 5}") for i in range(40)])
    assert clean_file(data) == clean_file(data)


def test_clean_hash_depends_on_all_that_decides_the_result() -> None:
    usual = clean_hash("sha", {"answer": None}, Rules())
    others = {
        clean_hash("sha2", {"answer": None}, Rules()),
        clean_hash("sha", {"answer": "reply"}, Rules()),
        clean_hash("sha", {"answer": None}, Rules(keep=("a",))),
        clean_hash("sha", {"answer": None}, Rules(languages=("en",))),
        clean_hash("sha", {"answer": None}, Rules(boilerplate=("Yours, the shop",))),
    }
    assert len(others | {usual}) == 6


cells = st.text(st.characters(exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(cells, cells), max_size=12))
def test_every_row_is_kept_or_rejected_once(pairs: list[tuple[str, str]]) -> None:
    data = table([(str(i), *pair) for i, pair in enumerate(pairs)]).encode("utf-8", "surrogatepass")
    try:
        rows = list(read(io.BytesIO(data)))
        cleaned = clean(iter(rows))
    except (NoDataError, TooManyRejectedError):
        return
    positions = [row.position for row in cleaned.examples]
    positions += [row.position for row in cleaned.rejected]
    assert sorted(positions) == [row.position for row in rows]
    assert (
        cleaned.read
        == len(rows)
        == sum(cleaned.rejected_by_reason.values()) + len(cleaned.examples)
    )


written = st.lists(
    st.sampled_from(
        (
            *("It is on. ", "Regards, Tom", "Best wishes, Ann Lee.", "[Ticket #1] ", "##", "a & b"),
            *("é", "  ", "\n", "Have a day.", "<br>", "tab\t", "\0", "> x", "Hi, Bob"),
        )
    ),
    max_size=7,
).map("".join)


@given(st.lists(written | st.text(), max_size=6))
def test_text_that_is_not_looked_at_has_nothing_to_change(texts: list[str]) -> None:
    phrases = Phrases(["have a day"])
    looked_at = unusual(texts, phrases)
    for place, text in enumerate(texts):
        if place not in looked_at:
            assert strip(normalise(text), phrases) == (text, frozenset())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Where is it?", "where\nis IT?", True),
        ("Where  is\tit?", " where is it? ", True),
        ("STRASSE", "straße", True),
        ("Where is it?", "Where is it!", False),
    ],
)
def test_exact_key_minds_neither_case_nor_white_space(one: str, other: str, same: bool) -> None:
    assert (exact_key(one) == exact_key(other)) is same
