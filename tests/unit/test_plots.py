from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.plots import (
    Line,
    Markup,
    Point,
    Rate,
    Rest,
    amounts,
    beside,
    curves,
    figure,
    interval,
    outcomes,
    scatter,
)
from dropforge.plots.marks import WIDTH, decades, fitted, short, text_width, thinned, ticks

NASTY = "<script>alert('x')</script> & \"quoted\""
shares = st.floats(0, 1)
texts = st.text(st.characters(categories=["L", "N", "P", "Z"]), max_size=40)


def drawn(markup: Markup) -> ET.Element:
    return ET.fromstring(markup)  # noqa: S314


def said(plot: ET.Element) -> list[str]:
    return [text.text or "" for text in plot.iter("text")]


Box = tuple[float, float, float, float]


def boxes(plot: ET.Element) -> list[Box]:
    """Where the texts lie, by the same estimate of a letter's width that placed them."""
    found = []
    for text in plot.iter("text"):
        width = text_width(text.text or "")
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        left = x - {"start": 0, "middle": width / 2, "end": width}[text.get("text-anchor", "start")]
        found.append((left, y - 10, left + width, y + 2))
    return found


def overlapping(plot: ET.Element) -> list[tuple[Box, Box]]:
    return [
        (a, b)
        for a, b in combinations(boxes(plot), 2)
        if a[0] < b[2] - 0.5 and b[0] < a[2] - 0.5 and a[1] < b[3] and b[1] < a[3]
    ]


# --- intervals


def test_interval_is_drawn_to_scale() -> None:
    plot = drawn(interval([("base", 0.5, 0.25, 1.0)], {}))
    spans = [line for line in plot.iter("line") if line.get("class") == "curve"]
    axis = sorted({float(line.get("x1", "")) for line in plot.iter("line")})
    zero, whole = axis[0], axis[-1]
    assert float(spans[0].get("x1", "")) == pytest.approx(zero + 0.25 * (whole - zero), abs=0.1)
    assert float(spans[0].get("x2", "")) == pytest.approx(whole, abs=0.1)


def test_interval_says_its_numbers_to_those_who_do_not_see_it() -> None:
    label = drawn(interval([("base", 0.82, 0.74, 0.88)], {"asked": 0.7})).get("aria-label", "")
    assert "base 82\N{NO-BREAK SPACE}% [74\N{NO-BREAK SPACE}%, 88\N{NO-BREAK SPACE}%]" in label
    assert "asked at 70\N{NO-BREAK SPACE}%" in label


def test_faint_rates_are_hollow_and_say_how_few_they_are() -> None:
    plot = drawn(interval([Rate("billing", 1, 0.4, 1, "n 3", faint=True)], {}, middle=0.5))
    assert next(plot.iter("circle")).get("class") == "dot faint"
    assert any(text.endswith("n 3") for text in said(plot))


def test_bars_begin_in_the_middle() -> None:
    plot = drawn(interval([("a", 0.75, 0.6, 0.9), ("b", 0.25, 0.1, 0.4)], {}, middle=0.5))
    up, down = plot.iter("rect")
    assert float(up.get("x", "")) == pytest.approx(
        float(down.get("x", "")) + float(down.get("width", ""))
    )


def test_no_rates_are_none() -> None:
    assert interval([], {}) == "<p>none</p>"
    assert outcomes([]) == "<p>none</p>"


@given(
    st.lists(st.tuples(texts, shares, shares, shares), min_size=1, max_size=5),
    st.dictionaries(texts, shares, max_size=3),
)
def test_texts_of_intervals_never_lie_on_each_other(
    rows: list[tuple[str, float, float, float]], marks: dict[str, float]
) -> None:
    plot = drawn(interval(rows, marks))
    assert overlapping(plot) == []
    assert all(left > -1 and right < WIDTH + 1 for left, _, right, _ in boxes(plot))


def test_outcomes_fill_the_bar() -> None:
    plot = drawn(outcomes([("base", 6, 3, 1)]))
    widths = [float(bar.get("width", "")) for bar in plot.iter("rect")]
    assert widths == pytest.approx([216, 108, 36])
    assert "6 won · 3 tied · 1 lost" in said(plot)


# --- curves


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), min_size=1, max_size=8))
def test_curves_stay_inside_the_plot(points: list[tuple[float, float]]) -> None:
    plot = drawn(curves([Line("loss", sorted(points))], "step"))
    path = next(plot.iter("polyline")).get("points", "")
    for point in path.split():
        x, y = map(float, point.split(","))
        assert 43 <= x <= 351
        assert 5 <= y <= 191


def test_evidence_on_a_logarithmic_axis_grows_by_equal_steps() -> None:
    plot = drawn(curves([Line("e", [(0, 1), (1, 10), (2, 100)])], "tickets", log=True))
    path = next(plot.iter("polyline")).get("points", "").split()
    heights = [float(point.split(",")[1]) for point in path]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)


def test_evidence_beyond_the_axis_is_drawn_at_its_end() -> None:
    plot = drawn(curves([Line("e", [(0, 1), (1, 1e12)])], "tickets", log=True, top=1e6))
    assert "1M" in said(plot)
    assert len([text for text in said(plot) if text.startswith("1e")]) == 0


def test_curves_without_points_are_none() -> None:
    assert curves([Line("loss", [])], "step") == "<p>none recorded</p>"


def test_a_curve_without_a_name_looks_like_the_one_before() -> None:
    lines = [Line("mean", [(0, 1), (1, 1)]), Line("low", [(0, 0), (1, 0)]), Line("", [(0, 2)])]
    plot = drawn(curves(lines, "n"))
    assert [p.get("class") for p in plot.iter("polyline")] == [
        "curve line0",
        "curve line1",
        "curve line1",
    ]
    assert [text for text in said(plot) if text in ("mean", "low", "")] == ["mean", "low"]


def test_what_was_not_judged_is_shaded_to_the_end() -> None:
    plot = drawn(
        curves([Line("e", [(0, 1), (50, 9)])], "n", right=100, rest=Rest(50, "50 not judged"))
    )
    area = next(rect for rect in plot.iter("rect") if rect.get("class") == "rest")
    assert float(area.get("x", "")) + float(area.get("width", "")) == pytest.approx(350)
    assert float(area.get("width", "")) == pytest.approx(153, abs=0.5)
    assert overlapping(plot) == []


def test_a_long_curve_is_thinned_but_keeps_its_ends() -> None:
    points = [(float(i), float(i % 7)) for i in range(5000)]
    kept = thinned(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert len(kept) <= 241


# --- points


def crowd(count: int) -> list[Point]:
    return [
        Point(f"v{i}", f"{i:07x}", 1 + (i * 37 % 100) / 50, 0.5 + (i * 53 % 40) / 100, 0.4, 0.95)
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 8, 24, 200])
def test_labels_of_points_never_lie_on_each_other(count: int) -> None:
    plot = drawn(scatter(crowd(count), amounts("US$", [1, 3])))
    assert overlapping(plot) == []
    assert len(list(plot.iter("circle"))) == count


@pytest.mark.parametrize("count", [1, 2, 8])
def test_each_of_a_few_points_has_its_label(count: int) -> None:
    plot = drawn(scatter(crowd(count), amounts("US$", [1, 3])))
    assert {point.label for point in crowd(count)} <= set(said(plot))


def test_equal_points_are_both_labelled() -> None:
    twins = [Point(name, name, 1.0, 0.8, 0.7, 0.9) for name in ("one", "two", "three")]
    plot = drawn(scatter(twins, amounts("US$", [1.0])))
    assert {"one", "two", "three"} <= set(said(plot))
    assert overlapping(plot) == []


def test_whiskers_reach_from_low_to_high() -> None:
    plot = drawn(scatter([Point("v", "v", 1, 0.8, 0.5, 1.0)], amounts("US$", [1])))
    whisker = next(e for e in plot.iter("line") if "whisker" in e.get("class", ""))
    assert float(whisker.get("y1", "")) - float(whisker.get("y2", "")) == pytest.approx(110, abs=1)


def _offsets(points: str) -> list[tuple[float, float]]:
    """The corners of a mark, seen from its middle."""
    corners = [tuple(map(float, corner.split(","))) for corner in points.split()]
    x, y = (sum(axis) / len(corners) for axis in zip(*corners, strict=True)) if corners else (0, 0)
    return [(round(cx - x), round(cy - y)) for cx, cy in corners]


def test_groups_differ_in_shape() -> None:
    points = [Point(f"v{g}", f"v{g}", g + 1, 0.5, 0.4, 0.6, group=g) for g in range(7)]
    plot = drawn(scatter(points, amounts("US$", [1, 7])))
    outlines = [
        frozenset(_offsets(mark.get("points", "")))
        for group in plot.iter("g")
        for mark in group
        if mark.tag in ("circle", "polygon")
    ]
    assert len(outlines) == len(set(outlines)) == 4
    crosses = [e for e in plot.iter("line") if e.get("class") == "group4"]
    assert len(crosses) == 2 * 3


def test_amounts_that_differ_much_stand_on_a_logarithmic_axis() -> None:
    assert amounts("US$", [0.01, 5]).log
    assert not amounts("US$", [0, 5]).log
    assert not amounts("US$", [1, 5]).log


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=5))
def test_every_amount_has_a_place_on_its_axis(values: list[float]) -> None:
    axis = amounts("US$", values)
    assert all(44 <= axis.place(value) <= 348 for value in values)


def test_points_on_no_axis_are_none() -> None:
    assert scatter([], amounts("US$", [])) == "<p>none</p>"


def test_an_event_is_named_beside_its_line() -> None:
    axis = amounts("day", [1, 10])
    plot = drawn(scatter([Point("v", "v", 5, 0.5, 0.4, 0.6)], axis, events={2.0: "a", 2.1: "b"}))
    assert {"a", "b"} <= set(said(plot))
    assert overlapping(plot) == []


# --- marks


def test_every_text_of_a_plot_is_escaped() -> None:
    plots = [
        interval([(NASTY, 0.5, 0.4, 0.6)], {NASTY: 0.7}),
        curves([Line(NASTY, [(0, 1)]), Line("b", [(0, 2)])], NASTY, marks={NASTY: 1.0}),
        scatter([Point(NASTY, NASTY, 1, 0.5, 0.4, 0.6)], amounts(NASTY, [1]), events={1: NASTY}),
        outcomes([(NASTY, 1, 2, 3)]),
        figure(NASTY, interval([("a", 0.5, 0.4, 0.6)], {}), NASTY),
    ]
    for plot in plots:
        assert "<script" not in plot
        assert "&lt;script" in plot


def test_every_plot_says_what_it_is() -> None:
    for plot in (
        interval([("a", 0.5, 0.4, 0.6)], {}),
        curves([Line("loss", [(0, 1)])], "step"),
        scatter([Point("v", "v", 1, 0.5, 0.4, 0.6)], amounts("US$", [1])),
    ):
        root = drawn(plot)
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 10


def test_blocks_stand_beside_each_other() -> None:
    assert beside(Markup("<p>a</p>"), Markup("<p>b</p>")) == (
        '<div class="plots"><div><p>a</p></div><div><p>b</p></div></div>'
    )


@given(texts, st.floats(20, 360))
def test_a_fitted_text_is_no_wider_than_its_room(text: str, room: float) -> None:
    assert text_width(fitted(text, room)) <= room


def test_a_text_that_fits_is_left_alone() -> None:
    assert fitted("delivery", 200) == "delivery"
    assert fitted("x" * 100, 100).endswith("…")


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_within(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert len(found) <= 8
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in found)


def test_ticks_are_round() -> None:
    assert ticks(0, 120) == [0, 50, 100]
    assert ticks(0, 1) == [0, 0.5, 1]
    assert decades(1, 1e6) == [1, 100, 10_000, 1_000_000]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.5, "0.5"), (1234, "1,234"), (10_000, "10k"), (1_000_000, "1M"), (2e-5, "2e-05")],
)
def test_numbers_of_an_axis_are_short(number: float, text: str) -> None:
    assert short(number) == text
