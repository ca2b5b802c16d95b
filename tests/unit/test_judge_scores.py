from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF

from dropforge.errors import ProjectError
from dropforge.judge import chrf, cosine, failed_checks
from dropforge.project import parse_project
from dropforge.project.judging import Checks
from tests.support.tickets import example

TICKET = example(1)
_sacrebleu = CHRF()


@given(st.text("abc 12€", max_size=30), st.text("abc 12€", max_size=30))
def test_chrf_equals_sacrebleus(answer: str, reference: str) -> None:
    wanted = _sacrebleu.sentence_score(answer, [reference]).score / 100
    assert chrf(answer, reference) == pytest.approx(wanted, abs=1e-9)


@given(st.text(min_size=1))
def test_text_is_most_like_itself(text: str) -> None:
    assert chrf(text, text) == pytest.approx(1.0 if text.split() else 0.0)


def test_cosine_is_never_negative_and_knows_no_length() -> None:
    assert cosine([1, 0], [5, 0]) == 1
    assert cosine([1, 0], [-5, 0]) == 0
    assert cosine([0, 0], [1, 2]) == 0
    assert cosine([1, 1], [1, 0]) == pytest.approx(0.7071, abs=1e-4)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ("Please order the part.", ()),
        ("", ("empty",)),
        ("\u200b \u2060", ("empty",)),
        ("one two three four five six", ("long",)),
        ("As an AI I cannot", ("banned",)),
        ("AS AN  ai", ("banned",)),
        ("Write to jane@else.example", ("pii",)),
        ("Call +49 (30) 1234-5678", ("pii",)),
        ("Card 4111 1111 1111 1111", ("pii",)),
        ("Card 4111 1111 1111 1112 on 12.05.2026", ("long",)),
        ("IBAN DE89 3704 0044 0532 0130 00", ("pii", "long")),
        ("Key AKIAIOSFODNN7EXAMPLE", ("pii",)),
        ("Order 12345678", ()),
        ("By 12/05/2026 or 13:00", ()),
        ("Part LX-40 2026-05-12", ()),
        ("For €1,250.00 in all", ()),
    ],
)
def test_checks_find_what_no_answer_may_have(answer: str, failed: tuple[str, ...]) -> None:
    checks = Checks(banned=("as an AI",), most_words=5)
    assert set(failed_checks(TICKET, answer, checks)) == set(failed)


def test_data_of_the_ticket_itself_is_no_leak() -> None:
    known = example(2)
    said = "Write to help@shop.example or call +49 30 1234567."
    answered = known.messages[-1].__class__("assistant", said)
    ticket = known.__class__(known.id, known.group, 1, (*known.messages[:-1], answered))
    assert failed_checks(ticket, "HELP@shop.example, (+49) 301 234567", Checks()) == ()
    assert failed_checks(ticket, "sales@shop.example", Checks()) == ("pii",)


def test_format_is_of_the_whole_answer() -> None:
    checks = Checks(format=r"Hello.*\nBye")
    assert failed_checks(TICKET, "Hello Ann\nBye", checks) == ()
    assert failed_checks(TICKET, "Well. Hello\nBye", checks) == ("format",)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1"])
def test_format_that_is_no_expression_is_refused_when_it_is_dropped(pattern: str) -> None:
    with pytest.raises(ProjectError, match="no regular expression"):
        parse_project("x", f"backend: openai\nmodel: m\njudge: {{checks: {{format: '{pattern}'}}}}")


def test_format_is_matched_in_linear_time() -> None:
    began = time.process_time()
    assert failed_checks(TICKET, "a" * 50_000 + "!", Checks(format="(a+)+$")) == ("format",)
    assert time.process_time() - began < 2


@given(st.text())
def test_checks_take_any_text(text: str) -> None:
    assert set(failed_checks(TICKET, text, Checks())) <= {"empty", "pii"}
