"""The page that compares versions as a person sees it: sorted by a click, all readable."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from dropforge.artifacts import Verdict
from dropforge.reports.comparison import Candidate, Move
from dropforge.reports.comparison_page import comparison_report
from tests.support import evaluations
from tests.support.browser import Page
from tests.support.evaluations import samples, verdict
from tests.support.looks import (
    SCHEMES,
    assert_whole,
    click,
    dress,
    faint_texts,
    overhang,
)

DAY, BEGAN = 86_400.0, 1.76e9
COUNTS = (1, 6, 60)


def versions(count: int) -> tuple[list[Candidate], list[Move]]:
    """A project's history: one version in a week, every fourth judged on another dataset."""
    random = Random(3)
    found = [_version(number, count, random) for number in range(count)]
    moves = [
        Move(c.version, c.made_at + 9000) for c in found if c.standing in ("champion", "previous")
    ]
    return found, moves


def _version(number: int, count: int, random: Random) -> Candidate:
    about: dict[str, Any] = {"version": f"{random.getrandbits(48):012x}"}
    about["dataset"] = ("d" if number % 4 else "f") * 64
    if number == 2:
        about["agreement"] = evaluations.agreement()
    found = verdict(samples(40, random.uniform(0.5, 0.95), seed=number), **about)
    usage = {
        arm: msgspec.structs.replace(
            used, usd=used.answers * random.uniform(1e-4, 3e-3), seconds_p50=random.uniform(0.3, 2)
        )
        for arm, used in found.evaluation.usage.items()
    }
    found = Verdict(msgspec.structs.replace(found.evaluation, usage=usage), found.decision)
    standing = {0: "champion", 1: "challenger, 10 %", 2: "previous"}
    return Candidate(
        about["version"],
        "openai" if number % 3 else "sagemaker",
        "gpt-4.1-mini",
        BEGAN + 7 * number * DAY,
        380 + number,
        3.2 + number,
        standing.get(count - 1 - number, ""),
        found if number != 4 else None,
        BEGAN + 7 * number * DAY + 7200,
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for count in COUNTS:
        (folder / f"{count}.html").write_text(comparison_report("shop", *versions(count)))
    return {count: folder / f"{count}.html" for count in COUNTS}


@pytest.mark.parametrize("count", COUNTS)
def test_page_fits_every_window_and_its_plots_are_whole(
    page: Page, pages: dict[int, Path], count: int
) -> None:
    page.open(pages[count])
    assert_whole(page)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_stands_out_from_its_ground(
    page: Page, pages: dict[int, Path], scheme: str
) -> None:
    dress(page, scheme)
    page.open(pages[6])
    assert faint_texts(page) == []


def test_whole_table_is_seen_on_a_desk(page: Page, pages: dict[int, Path]) -> None:
    page.resize(1200)
    page.open(pages[6])
    hidden = "document.querySelector('.scroll').scrollWidth - document.querySelector('.scroll')"
    assert page.ask(f"{hidden}.clientWidth") <= 0


def test_version_stays_in_sight_while_the_table_is_scrolled(
    page: Page, pages: dict[int, Path]
) -> None:
    page.resize(390)
    page.open(pages[6])
    left = "document.querySelector('.versions td').getBoundingClientRect().left"
    before = page.ask(left)
    page.ask("document.querySelector('.scroll').scrollLeft = 500")
    assert page.ask("document.querySelector('.scroll').scrollLeft") == 500
    assert page.ask(left) == before


def shown(page: Page, column: int) -> list[str]:
    """A column's cells from top to bottom, as they are seen."""
    found: list[str] = page.ask(f"""[...document.querySelectorAll('.versions tr')].slice(1)
        .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
        .map(row => row.children[{column}].innerText)""")
    return found


def test_a_click_sorts_the_rows_without_a_script(page: Page, pages: dict[int, Path]) -> None:
    page.resize(1200)
    page.open(pages[6])
    heads = page.ask("[...document.querySelectorAll('.versions th')].map(h => h.innerText)")
    assert "champion" in shown(page, 0)[0]
    dates = [cell.split("\n")[0] for cell in shown(page, heads.index("made"))[1:]]
    assert dates == sorted(dates, reverse=True)

    click(page, "label[for=by-best]")
    rates = [cell.split("\xa0")[0] for cell in shown(page, heads.index("win rate"))]
    assert rates[-1] == "–"
    assert [int(rate) for rate in rates[:-1]] == sorted(map(int, rates[:-1]), reverse=True)

    click(page, "label[for=by-cheapest]")
    prices = shown(page, heads.index("$ / 1,000"))
    assert prices[-1] == "–"
    assert prices[:-1] == sorted(prices[:-1])


def test_header_stays_on_top_whatever_the_order(page: Page, pages: dict[int, Path]) -> None:
    page.resize(1200)
    page.open(pages[6])
    top = """[...document.querySelectorAll('.versions tr')]
        .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0]
        .innerText"""
    for name in ("newest", "best", "facts", "cheapest", "fastest"):
        click(page, f"label[for=by-{name}]")
        assert page.ask(top).startswith("version"), name


def test_table_is_still_one_to_those_who_hear_it(page: Page, pages: dict[int, Path]) -> None:
    page.open(pages[6])
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in nodes]
    assert roles.count("table") == 1
    assert roles.count("row") == 7
    assert roles.count("columnheader") == 14


def test_labels_of_few_versions_are_all_there(page: Page, pages: dict[int, Path]) -> None:
    page.open(pages[6])
    names = page.ask("""[...document.querySelectorAll('svg[aria-label^="points over US"] text')]
        .map(text => text.firstChild.data)""")
    drawn = {c.short for c in versions(6)[0] if c.verdict}
    assert drawn <= set(names)


def test_printed_page_is_within_the_paper(page: Page, pages: dict[int, Path]) -> None:
    page.open(pages[6])
    page.resize(720)
    dress(page, media="print")
    assert overhang(page) <= 0
