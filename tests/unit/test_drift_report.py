"""The page about drift, as text: what it says in which case."""

from __future__ import annotations

import re

import msgspec
import pytest

from dropforge.drift import Look
from dropforge.judge import Outcome
from dropforge.reports.drift import SHOWN_CHANGES, Promotion, drift_report
from tests.support.drift_looks import NEW, OLD, looks, one_look, promotions, summaries


def text(page: str) -> str:
    body = page[page.index("<body>") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_drift_is_said_first_with_what_was_found() -> None:
    page = text(drift_report(summaries(), promotions(), looks()[-1]))
    assert f"Version {NEW} does not answer any more as it did on 2026-09-21." in page
    assert "15 of 24 answers are right, 24 were at first (9 became wrong, 0 right" in page
    assert "53 / 12" in page
    assert "15 of 24, at first 24: drift" in page


def test_no_drift_is_said_as_well() -> None:
    page = text(drift_report(summaries()[:12], promotions()))
    assert f"Version {NEW} answers as well as it did on 2026-09-21." in page
    assert "No drift: 23 of 24 answers are the very same words as at first." in page


def test_first_look_has_nothing_to_compare() -> None:
    page = text(drift_report(summaries()[:1], []))
    assert f"Version {OLD} was looked at for the first time on 2026-08-03." in page
    assert "nothing to compare with yet" in page
    assert "No drift" not in page


def test_changed_answers_stand_side_by_side_the_worse_ones_first() -> None:
    page = drift_report(summaries(), promotions(), looks()[-1])
    heads = re.findall(r"<h3>(.*?)</h3>", page)
    assert len(heads) == 17
    assert all(head.startswith("wrong now, right at first: ") for head in heads[:9])
    assert all(head.startswith("right, as good as at first: ") for head in heads[9:])
    assert "then, 2026-09-21" in page
    assert "now, 2026-11-02" in page
    assert "please ask &lt;our&gt; colleagues &amp; have" in page


def test_beyond_what_fits_the_number_of_changes_is_told() -> None:
    last = looks()[-1]
    many = msgspec.structs.replace(last, changed=last.changed * 4)
    page = drift_report([last], [], many)
    assert page.count("<h3>") == SHOWN_CHANGES
    assert "(28 more are in the look&#x27;s file)" in page


@pytest.mark.parametrize(
    ("then", "now", "outcome", "said"),
    [
        (True, False, Outcome.TIE, "wrong now, right at first"),
        (False, True, Outcome.WIN, "right now, wrong at first"),
        (False, False, Outcome.LOSS, "wrong as at first, worse than at first"),
        (True, True, Outcome.UNSCORED, "right, not judged"),
        (None, None, Outcome.WIN, "better than at first"),
    ],
)
def test_what_became_of_an_answer_is_said_in_words(
    then: bool | None, now: bool | None, outcome: Outcome, said: str
) -> None:
    last = looks()[-1]
    one = msgspec.structs.replace(
        last.changed[0], right_then=then, right_now=now, outcome=outcome, question="Why?"
    )
    page = drift_report([last], [], msgspec.structs.replace(last, changed=(one,)))
    assert f"<h3>{said}: Why?</h3>" in page


def test_reader_is_told_what_weakens_a_look() -> None:
    weak = msgspec.structs.replace(
        one_look(3, OLD, 0, wrong=0), golden=None, asked=4, checked=4, unscored=2
    )
    page = text(drift_report([weak], []))
    for said in (
        "There are no golden questions",
        "There was time for 4 of 24 only.",
        "2 answers could not be judged.",
        "no fall among so few is more than chance",
    ):
        assert said in page


def test_look_that_checked_nothing_is_drawn() -> None:
    nothing = msgspec.structs.replace(one_look(3, OLD, 0, wrong=0), checked=0, right=0)
    assert "no question that can be checked" in drift_report([nothing], [])


def test_versions_and_promotions_are_drawn() -> None:
    page = drift_report(summaries(), promotions(), looks()[-1])
    assert page.count("<polyline") == 2
    assert page.count('fill="var(--bad)"') == 4  # two looks on two plots
    assert f"{OLD} promoted on 2026-08-01" in page
    assert f"{NEW} ▾" in page


def test_promotion_long_before_the_first_look_does_not_stretch_the_axis() -> None:
    long_ago = Promotion("0" * 12, 0.0)
    assert "promoted on 1970" not in drift_report(summaries(), [long_ago, *promotions()])


def test_texts_are_escaped_and_nothing_is_loaded() -> None:
    bad = msgspec.structs.replace(looks()[-1], project="<b>", version='"><script>', day="<i>")
    page = drift_report([bad], [Promotion('"><script>', bad.at)], bad)
    assert "<script" not in page
    assert "<i>" not in page.replace("<i style", "")
    assert "http" not in page.replace("http-equiv", "")


def test_single_look_is_drawn_in_the_middle() -> None:
    found: Look = summaries()[0]
    assert 'cx="255.0"' in drift_report([found], [])
