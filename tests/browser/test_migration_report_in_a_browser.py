"""The page about a move as a person sees it: drawn, within the window, and loading nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropforge.artifacts import Decision, Verdict
from dropforge.judge import Judged, Outcome, Sample, evaluate
from dropforge.judge.questions import SCORES
from dropforge.project.judging import Gate
from dropforge.reports.migration import Moved, Trained, migration_report
from tests.support.browser import Page
from tests.support.looks import assert_whole


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = [
        Sample(
            id=str(number),
            question=f"Where is parcel {number}?",
            reference="It comes on Monday with DHL.",
            answers={"challenger": "It comes on Monday.", "base": "No.", "champion": "x" * 400},
            judged={
                "base": Judged(Outcome.WIN, score=1.0),
                "champion": Judged(outcome, confidence=0.9, score=SCORES.get(outcome)),
            },
            recall={"challenger": 1.0, "base": 0.0, "champion": 0.5},
            recorded={"champion": "2026-12-24"},
        )
        for number, outcome in enumerate([Outcome.WIN, Outcome.LOSS, Outcome.TIE] * 10)
    ]
    evaluation = evaluate(
        samples, Gate(), project="shop", hash="e" * 64, version="v2", dataset="d" * 64, judge="j"
    )
    moved = Moved(
        project="shop",
        dataset="d" * 64,
        old=Trained("38f3e494c3f8", "openai", "gpt-4.1-mini", "ft:gpt-4.1-mini:acme::x", 0.0, 1.0),
        new=Trained("4856c3f5efa5", "sagemaker", "llama-3-8b-instruct", "dropforge-shop", 0.0),
        started_at=0.0,
        state=("succeeded", "promote"),
        answering="38f3e494c3f8",
        ends="2027-01-14",
        ends_from="OpenAI's deprecations page",
        days_left=20,
        against="38f3e494c3f8",
        verdict=Verdict(evaluation, Decision("promote", ("wins",))),
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(migration_report(moved, Gate(), samples))
    return path


@pytest.fixture
def opened(page: Page, path: Path) -> Page:
    page.resize(1000)
    page.open(path)
    return page


def test_page_is_drawn_whole_without_a_complaint_and_fetches_nothing(opened: Page) -> None:
    heads = opened.ask("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert heads[:3] == ["At a glance", "What to know", "The two models"]
    assert "ready to switch" in opened.ask("document.querySelector('.lead').innerText")
    assert_whole(opened)
