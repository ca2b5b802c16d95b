from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dropforge.artifacts import Decision, Verdict
from dropforge.judge import Judged, Outcome, Sample, evaluate
from dropforge.judge.questions import SCORES
from dropforge.project.judging import Gate
from dropforge.reports.migration import (
    SHOWN_PAIRS,
    Moved,
    Trained,
    headline,
    migration_report,
    text_report,
)

OLD = Trained("old1", "openai", "gpt-4.1-mini", "ft:old", 0.0, 12.5)
NEW = Trained("new1", "sagemaker", "llama", "component", 86400.0)
ORDER = (Outcome.WIN, Outcome.TIE, Outcome.UNSCORED, Outcome.LOSS)


def sample(number: int, outcome: Outcome, recorded: str = "") -> Sample:
    return Sample(
        id=str(number),
        question=f"question {number} <b>",
        reference="reference",
        answers={"challenger": "new", "base": "plain", "champion": "old"},
        judged={
            "base": Judged(Outcome.WIN, score=1.0),
            "champion": Judged(outcome, confidence=0.9, score=SCORES.get(outcome)),
        },
        recall={"challenger": 1.0, "base": 0.0, "champion": 0.5},
        recorded={"champion": recorded} if recorded else {},
    )


def verdict(samples: list[Sample], said: Any = "promote") -> Verdict:
    about = {"project": "shop", "hash": "e", "version": "new1", "dataset": "d", "judge": "j"}
    return Verdict(evaluate(samples, Gate(), **about), Decision(said, ("because",)))


def moved(**changes: Any) -> Moved:
    whole = Moved(
        project="shop",
        dataset="d",
        old=OLD,
        new=NEW,
        started_at=0.0,
        state=("succeeded", "promote"),
        answering="old1",
        ends="2027-01-14",
        ends_from="a list",
        days_left=20,
        against="old1",
        verdict=verdict([sample(i, Outcome.WIN) for i in range(30)]),
    )
    return msgspec.structs.replace(whole, **changes)


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "promote", "ready to switch: `dropforge promote new1 -p shop`"),
        ({"answering": "new1"}, "promote", "switched: new1 answers in place of old1"),
        ({"verdict": None, "state": ("running", "judge")}, "unsure", "not yet: the run is still"),
        ({"state": ("failed", "train"), "error": "X: y."}, "reject", "not yet: the run failed"),
        ({"verdict": verdict([], "reject")}, "reject", "not yet: reject: because"),
        (
            {"verdict": verdict([], "not enough evidence")},
            "unsure",
            "not yet: not enough evidence: because",
        ),
    ],
)
def test_headline_says_whether_to_switch(changes: dict[str, Any], level: str, said: str) -> None:
    found = headline(moved(**changes))
    assert found[0] == level
    assert found[1].startswith(said)


def test_short_version_names_both_models_and_the_comparison() -> None:
    text = "\n".join(text_report(moved()))
    for word in (
        "old  old1  gpt-4.1-mini on openai, training about $12.50, goes dark on 2027-01-14",
        "new  new1  llama on sagemaker",
        "moved on 1970-01-01, with 20 days left",
        "judged new against old: wins 100% [87%, 100%] (30 won, 0 lost, 0 ties)",
    ):
        assert word in text
    assert "may be worse" not in text


def test_recorded_answers_and_doubts_are_told() -> None:
    samples = [sample(i, ORDER[i % 4], "2026-12-24") for i in range(8)]
    text = "\n".join(text_report(moved(verdict=verdict(samples))))
    assert "recorded on 2026-12-24; it was not asked anew" in text
    assert "2 tickets could not be scored." in text
    assert "the new model may be worse than the old one" in text


def test_comparison_with_another_model_than_the_old_is_none() -> None:
    other = moved(against="somebody else")
    assert other.against_old is None
    assert "never compared with the old one" in "\n".join(text_report(other))
    page = migration_report(other, Gate(), [sample(0, Outcome.WIN)])
    assert "against the old model" not in page
    assert "question 0" not in page


def test_page_shows_the_old_models_better_answers_first_and_not_too_many() -> None:
    samples = [sample(i, outcome) for i, outcome in enumerate(ORDER)]
    page = migration_report(moved(verdict=verdict(samples)), Gate(), samples)
    heads = ("the old one is better", "unscored: ", "neither is better", "the new one is better")
    assert sorted(heads, key=page.index) == list(heads)
    many = [sample(i, Outcome.WIN) for i in range(40)]
    assert migration_report(moved(), Gate(), many).count("<h3>") == SHOWN_PAIRS


def test_page_escapes_what_it_quotes() -> None:
    page = migration_report(
        moved(state=("failed", "train"), error="<img>"), Gate(), [sample(0, Outcome.WIN)]
    )
    assert "<img>" not in page
    assert "question 0 &lt;b&gt;" in page


def test_page_of_a_move_under_way_is_whole() -> None:
    page = migration_report(
        moved(new=None, verdict=None, state=("running", "train"), ends=None, days_left=None),
        Gate(),
        [],
    )
    assert page.startswith("<!doctype html>")
    assert "not judged yet" in page
    assert "no end known" in page
