"""The page about drift as a person sees it: drawn, within the window, and loading nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropforge.reports.drift import drift_report
from tests.support.browser import Page
from tests.support.drift_looks import looks, promotions, summaries
from tests.support.looks import (
    SCHEMES,
    WIDTHS,
    assert_whole,
    dress,
    faint_texts,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "drift.html"
    path.write_text(drift_report(summaries(), promotions(), looks()[-1]))
    return path


@pytest.fixture
def opened(page: Page, path: Path) -> Page:
    page.resize(1000)
    page.open(path)
    return page


def test_page_is_drawn_without_a_complaint_and_fetches_nothing(opened: Page) -> None:
    heads = opened.ask("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert heads[:2] == ["At a glance", "What to know"]
    assert "does not answer any more" in opened.ask("document.querySelector('.lead').innerText")
    assert_whole(opened)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_page_can_be_read(opened: Page, width: int, scheme: str) -> None:
    dress(opened, scheme)
    opened.resize(width)
    assert faint_texts(opened) == []
    height = """Math.min(...[...document.querySelectorAll('svg text')]
        .map(text => text.getBoundingClientRect().height))"""
    assert opened.ask(height) >= 9


def test_points_stand_where_their_shares_are(opened: Page) -> None:
    """The last look's 15 of 24 lie as far below the first look's 24 of 24 as the axis says."""
    places = opened.ask("""(() => {
        const svg = document.querySelector('svg[aria-label="right answers over time"]');
        const middle = mark => { const box = mark.getBoundingClientRect();
            return (box.top + box.bottom) / 2; };
        const dots = [...svg.querySelectorAll('circle')].map(middle);
        const lines = [...svg.querySelectorAll('line.axis')].map(middle);
        return [dots[0], dots.at(-1), lines[0], lines[4]];
    })()""")
    first, last, zero, whole = places
    assert first == pytest.approx(whole, abs=1)
    assert (zero - last) / (zero - whole) == pytest.approx(15 / 24, abs=0.01)
