"""The page about an evaluation as a person sees it: the answer first, all readable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dropforge.project.judging import Gate
from dropforge.reports.verdict import verdict_report
from tests.support import evaluations
from tests.support.browser import Page
from tests.support.evaluations import loss_curve, priced, samples, verdict
from tests.support.looks import (
    SCHEMES,
    assert_whole,
    click,
    dress,
    faint_texts,
    overhang,
    visible,
)

NASTY = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def promoted() -> str:
    """With a champion and a panel, stopped early, prices known, labels there."""
    judged = samples(120, 0.86, champion=True, panel=True, against=0.66)
    warning = "the judge and the judged model are both of the gpt family"
    found = verdict(judged, planned=200, agreement=evaluations.agreement(), warnings=(warning,))
    assert found.decision.verdict == "promote"
    return verdict_report(priced(found), Gate(), judged, loss_curve())


def rejected() -> str:
    """With golden questions that got worse."""
    judged = samples(80, 0.62)
    score, results = evaluations.golden()
    found = verdict(judged, golden=score)
    assert found.decision.verdict == "reject"
    return verdict_report(found, Gate(), judged, [], results)


def unsure() -> str:
    """Too few tickets for the strict gate; one point of a loss curve."""
    judged, gate = samples(24, 0.8), Gate(lower_bound=0.7)
    found = verdict(judged, gate)
    assert found.decision.verdict == "not enough evidence"
    return verdict_report(found, gate, judged, loss_curve()[:1])


def hostile() -> str:
    judged = [
        msgspec.structs.replace(
            one,
            question=NASTY,
            reference="w" * 3000,
            answers=dict.fromkeys(one.answers, NASTY),
            topic="<b>" + "long-topic" * 20,
        )
        for one in samples(30, 0.8)
    ]
    return verdict_report(verdict(judged, warnings=(NASTY,)), Gate(), judged, [])


def empty() -> str:
    return verdict_report(verdict([]), Gate(), [], [])


MADE: dict[str, Callable[[], str]] = {
    made.__name__: made for made in (promoted, rejected, unsure, hostile, empty)
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, make in MADE.items():
        (folder / f"{name}.html").write_text(make())
    return {name: folder / f"{name}.html" for name in MADE}


@pytest.mark.parametrize("name", MADE)
def test_page_fits_every_window_and_its_plots_are_whole(
    page: Page, pages: dict[str, Path], name: str
) -> None:
    page.open(pages[name])
    assert_whole(page)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", MADE)
def test_every_text_stands_out_from_its_ground(
    page: Page, pages: dict[str, Path], name: str, scheme: str
) -> None:
    dress(page, scheme)
    page.open(pages[name])
    dark = page.ask("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark is (scheme == "dark")
    assert faint_texts(page) == []


def test_letters_are_large_enough_on_a_telephone(page: Page, pages: dict[str, Path]) -> None:
    page.resize(390)
    page.open(pages["promoted"])
    smallest = page.ask("""Math.min(...[...document.querySelectorAll('svg text')]
        .filter(t => t.firstChild?.data.trim()).map(t => t.getBoundingClientRect().height))""")
    assert smallest >= 11


@pytest.mark.parametrize("name", ["promoted", "rejected", "unsure"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1200, 800)])
def test_first_screen_says_what_was_decided_why_and_how_sure(
    page: Page, pages: dict[str, Path], name: str, width: int, height: int
) -> None:
    page.resize(width, height)
    page.open(pages[name])
    lowest = page.ask("""Math.max(...['.lead strong', '.checks li', '.tiles div']
        .map(s => document.querySelector(s).getBoundingClientRect().bottom))""")
    assert 0 < lowest <= height


def test_hostile_tickets_run_nothing(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["hostile"])
    assert page.ask("document.title").startswith("Evaluation of")
    assert page.ask("document.querySelectorAll('script,img,iframe,link').length") == 0
    assert "<script>" in page.ask("document.querySelector('.pair').innerText")


def test_buttons_show_one_kind_of_pairs(page: Page, pages: dict[str, Path]) -> None:
    page.resize(1200)
    page.open(pages["promoted"])
    everything = visible(page, ".pair")
    losses = page.ask("document.querySelectorAll('.pair.loss-0').length")
    assert 0 < losses < everything
    click(page, "label[for=loss-0]")
    assert visible(page, ".pair") == visible(page, ".pair.loss-0") == losses
    click(page, "label[for=all]")
    assert visible(page, ".pair") == everything


def test_buttons_are_moved_by_the_keyboard_and_show_where_they_are(
    page: Page, pages: dict[str, Path]
) -> None:
    page.resize(1200)
    page.open(pages["promoted"])
    everything = visible(page, ".pair")
    page.ask("document.getElementById('all').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", windowsVirtualKeyCode=39)
    assert visible(page, ".pair") < everything
    outline = "getComputedStyle(document.querySelector('input:checked+label')).outlineStyle"
    assert page.ask(outline) == "solid"


def test_printed_page_has_all_pairs_and_no_buttons(page: Page, pages: dict[str, Path]) -> None:
    page.resize(1200)
    page.open(pages["promoted"])
    everything = visible(page, ".pair")
    click(page, "label[for=loss-0]")
    dress(page, media="print")
    assert visible(page, ".pair") == everything
    assert visible(page, ".reading label") == 0
    page.resize(720)
    assert overhang(page) <= 0


def test_intervals_are_drawn_where_their_numbers_say(page: Page, pages: dict[str, Path]) -> None:
    page.resize(1200)
    page.open(pages["promoted"])
    found = page.ask("""(() => {
        const svg = document.querySelector('svg[aria-label^="intervals"]');
        const axis = [...svg.querySelectorAll('line.axis')]
            .map(l => l.getBoundingClientRect().left);
        const dot = svg.querySelector('circle').getBoundingClientRect();
        const text = [...svg.querySelectorAll('text')].find(t => /\\[/.test(t.textContent));
        return [(dot.left + dot.width / 2 - axis[0]) / (axis[4] - axis[0]), text.textContent];
    })()""")
    assert found[0] == pytest.approx(int(found[1].split()[0].strip("%\xa0")) / 100, abs=0.01)


def test_every_plot_says_what_it_shows(page: Page, pages: dict[str, Path]) -> None:
    page.open(pages["promoted"])
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    images = [n["name"]["value"] for n in tree if n.get("role", {}).get("value") == "image"]
    assert len(images) >= 10
    assert all(len(name) > 20 for name in images)
