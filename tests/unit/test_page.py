from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.page import (
    Line,
    Markup,
    Table,
    bars,
    curves,
    interval,
    page,
    scrolling,
    side_by_side,
)

NASTY = "<script>alert('x')</script> & \"quoted\""


class Tags(HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def test_every_text_is_escaped() -> None:
    text = page(
        NASTY,
        NASTY,
        [
            (NASTY, NASTY),
            ("table", Table((NASTY,), [(NASTY,)])),
            ("bars", bars({NASTY: 1})),
            ("interval", interval([(NASTY, 0.5, 0.4, 0.6)], {NASTY: 0.7})),
            ("curves", curves([Line(NASTY, [(0, 1)])], NASTY)),
            ("pairs", side_by_side([(NASTY, {NASTY: NASTY})])),
        ],
        footer=NASTY,
    )
    assert "script" not in Tags(text).names
    assert text.count("&lt;script&gt;") >= 14


def test_page_loads_nothing_and_runs_nothing() -> None:
    text = page("t", "lead", [("plot", bars({"a": 1}))])
    tags = Tags(text)
    assert not {"script", "link", "img", "iframe"} & set(tags.names)
    assert not {"src", "href", "onload"} & {name for name, _ in tags.attributes}
    assert "default-src 'none'" in text


def test_lead_in_markup_is_kept() -> None:
    assert '<p class="lead"><b>yes</b></p>' in page("t", Markup("<b>yes</b>"), [])


def test_table_aligns_columns_of_numbers() -> None:
    text = page("t", "", [("h", Table(("name", "n"), [("a", 12345), ("b", 0.12345)]))])
    assert '<td>a</td><td class="number">12,345</td>' in text
    assert '<td class="number">0.123</td>' in text


def test_wide_table_scrolls_within_the_page_and_can_be_reached_by_keyboard() -> None:
    text = scrolling(Table(("name", "n"), [("a", 1)]), NASTY)
    assert text.startswith('<div class="scroll" tabindex="0" role="region" aria-label="&lt;script')
    assert '<td class="number">1</td>' in text


def test_a_page_may_have_rules_of_its_own() -> None:
    assert ".mine{color:red}</style>" in page("t", "", [], style=".mine{color:red}")


def test_table_without_rows_has_a_header() -> None:
    assert "<th>name</th>" in page("t", "", [("h", Table(("name",), []))])


def test_table_with_a_row_of_another_length_is_an_error() -> None:
    with pytest.raises((ValueError, IndexError)):
        page("t", "", [("h", Table(("a", "b"), [(1,)]))])


def test_nothing_counted_is_none() -> None:
    assert bars({}) == "<p>none</p>"
    assert curves([Line("loss", [])], "step") == "<p>none recorded</p>"


def test_longest_bar_fills_the_plot_and_zero_has_none() -> None:
    widths = [
        float(rect.get("width", ""))
        for rect in ET.fromstring(bars({"a": 10, "b": 5, "c": 0})).iter("rect")  # noqa: S314
    ]
    assert widths == [420.0, 210.0, 0.0]


names = st.text(st.characters(categories=["L", "N", "P"]), max_size=10)


@given(st.dictionaries(names, st.integers(0, 10**6), min_size=1, max_size=6))
def test_bars_are_well_formed(counts: dict[str, int]) -> None:
    assert len(list(ET.fromstring(bars(counts)).iter("rect"))) == len(counts)  # noqa: S314
