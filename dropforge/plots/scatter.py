"""Points in the plane: quality against cost, quality over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import product
from math import log10
from typing import NamedTuple

from dropforge.plots.marks import (
    LETTER,
    WIDTH,
    Markup,
    decades,
    fitted,
    line,
    listed,
    percent,
    short,
    svg,
    text_width,
    ticks,
    written,
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 348.0, 10.0, 230.0
CROWD = 60
"""Points up to which all of them are drawn large, with whiskers."""
SHAPES = 5
"""Groups that have a mark of their own; those after share the last one."""


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Point(NamedTuple):
    """A share `y` with its interval at some `x`.

    Attributes:
        group: decides the mark's shape and colour.
        strong: drawn large, its label in bold.
        label: what stands beside it; `name` is what a pointer over it shows.
    """

    name: str
    label: str
    x: float
    y: float
    low: float
    high: float
    group: int = 0
    strong: bool = False


class Axis(NamedTuple):
    """The x axis: from `low` to `high`, with texts at `marks`."""

    name: str
    low: float
    high: float
    marks: Mapping[float, str]
    log: bool = False

    def place(self, x: float) -> float:
        low, high, at = (
            (log10(self.low), log10(self.high), log10(x)) if self.log else (*self[1:3], x)
        )
        share = (at - low) / (high - low) if high > low else 0.5
        return _LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, share))


def amounts(name: str, values: Sequence[float], tick: Callable[[float], str] = short) -> Axis:
    """An axis for amounts from zero on; logarithmic where they differ by more than 30 times."""
    top = max(values, default=1.0) or 1.0
    least = min((v for v in values if v > 0), default=top)
    if top / least > 30 and min(values) > 0:
        low, high = least / 1.5, top * 1.5
        return Axis(name, low, high, {v: tick(v) for v in decades(low, high, 5)}, log=True)
    high = top * 1.12
    return Axis(name, 0, high, {v: tick(v) for v in ticks(0, high)})


def scatter(
    points: Sequence[Point],
    axis: Axis,
    *,
    front: Sequence[tuple[float, float]] = (),
    events: Mapping[float, str] | None = None,
) -> Markup:
    """Points with whiskers and labels over an x axis; y is a share, from 0 to 100 %.

    Args:
        front: the points that no other one beats in both, in order: joined by steps.
        events: x -> name of something that happened there: vertical lines, named above.
    """
    if not points:
        return Markup("<p>none</p>")
    parts = [_frame(axis)]
    taken: list[Box] = []
    for x, name in (events or {}).items():
        parts.append(_event(axis.place(x), name, taken))
    if len(front) > 1:
        path = " ".join(_steps([(axis.place(x), _y(y)) for x, y in front]))
        parts.append(f'<polyline class="front" points="{path}"/>')
    ordered = sorted(points, key=lambda point: point.strong)
    places = [(axis.place(point.x), _y(point.y)) for point in ordered]
    crowded = len(points) > CROWD
    parts += [_point(point, *at, crowded) for point, at in zip(ordered, places, strict=True)]
    taken += [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    spans = [
        (x - 2, _y(p.high), x + 2, _y(p.low)) for p, (x, _) in zip(ordered, places, strict=True)
    ]
    for point, at in reversed(list(zip(ordered, places, strict=True))):
        parts.append(_label(point, at, taken, spans) if point.label else "")
    facts = [f"{p.name} {percent(p.y)} at {short(p.x)}" for p in reversed(ordered)]
    return svg(_BOTTOM + 38, "".join(parts), listed(f"points over {axis.name}", facts))


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(1.0, max(0.0, share))


def _frame(axis: Axis) -> str:
    parts = []
    for s in range(5):
        y = _y(s / 4)
        parts.append(line(_LEFT, y, _RIGHT, y, "axis"))
        parts.append(written(_LEFT - 6, y + 4, percent(s / 4), anchor="end", style="soft"))
    free = 0.0
    for x, text in axis.marks.items():
        at, half = axis.place(x), text_width(text) / 2
        at = min(at, WIDTH - half)
        if at - half >= free:
            parts.append(written(at, _BOTTOM + 18, text, anchor="middle", style="soft"))
            free = at + half + LETTER
    parts.append(written(_RIGHT, _BOTTOM + 33, axis.name, anchor="end", style="soft"))
    return "".join(parts)


def _event(x: float, name: str, taken: list[Box]) -> str:
    """A dashed line with its name at the foot of the plot, where there is room for one."""
    text = fitted(name, 110)
    width = text_width(text)
    parts = line(x, _TOP, x, _BOTTOM, "mark dash1")
    for y, left in product((_BOTTOM - 6, _BOTTOM - 21, _BOTTOM - 36), (x + 4, x - 4 - width)):
        box = (left, y - 11, left + width, y + 3)
        if _free(box, taken):
            taken.append(box)
            return parts + written(left, y, text, style="halo soft", whole=name)
    return parts.replace("/>", f"><title>{escape(name)}</title></line>")


def _steps(points: Sequence[tuple[float, float]]) -> list[str]:
    """Corners of the stairs through the points: what is reached, up to the next one."""
    corners = [points[0]]
    for x, y in points[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return [f"{x:.1f},{y:.1f}" for x, y in corners]


def _point(point: Point, x: float, y: float, crowded: bool) -> str:
    """In a crowd a point without a label is small and has no whisker."""
    group = min(point.group, SHAPES - 1)
    said = f"{point.name}: {percent(point.y)} [{percent(point.low)}, {percent(point.high)}]"
    whisker = line(x, _y(point.low), x, _y(point.high), f"whisker group{group}")
    small = crowded and not point.label
    drawn = mark(group, x, y, 6.5 if point.strong else 2.5 if small else 4.5)
    return f"<g><title>{escape(said)}</title>{'' if small else whisker}{drawn}</g>"


def mark(group: int, x: float, y: float, r: float = 4.5) -> str:
    """The mark of a group: circle, square, triangle, diamond, or a cross for all others."""
    style = f'class="group{group}"'
    if group == 0:
        return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
    corners = {
        1: ((-r, -r), (r, -r), (r, r), (-r, r)),
        2: ((0, -1.2 * r), (1.1 * r, r), (-1.1 * r, r)),
        3: ((0, -1.35 * r), (1.35 * r, 0), (0, 1.35 * r), (-1.35 * r, 0)),
    }
    if group in corners:
        path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[group])
        return f'<polygon {style} points="{path}"/>'
    return line(x - r, y - r, x + r, y + r, f"group{group}") + line(
        x - r, y + r, x + r, y - r, f"group{group}"
    )


def _label(point: Point, at: tuple[float, float], taken: list[Box], spans: Sequence[Box]) -> str:
    """The label where it covers nothing; further off with a line to its point; else left out.

    Args:
        spans: whiskers, which a label may cover where there is no other place.
    """
    width = text_width(point.label) * (1.1 if point.strong else 1)
    for blocked, far in ((spans, 0), ((), 0), (spans, 16), (spans, 32), ((), 48)):
        for box in _places(at, width, far):
            if _free(box, taken) and _free(box, blocked):
                taken.append(box)
                return _named(point, at, box, far)
    return ""


def _places(at: tuple[float, float], width: float, far: float) -> Iterator[Box]:
    """Right of the point, left, above and below it; `far` units off in a slanted direction."""
    x, y = at
    for dx, dy in ((9, 4), (-9 - width, 4), (-width / 2, -9), (-width / 2, 18)):
        aside = 0.5 * (far if dx > 0 else -far if dx < -width else 0)
        for shift in (-far, far) if far else (0.0,):
            left, base = x + dx + aside, y + dy + shift
            yield left, base - 11, left + width, base + 3


def _named(point: Point, at: tuple[float, float], box: Box, far: float) -> str:
    (x, y), (left, top, right, bottom) = at, box
    style = "halo strong" if point.strong else "halo"
    drawn = written(left, bottom - 3, point.label, style=style, whole=point.name)
    if not far:
        return drawn
    end = bottom if bottom < y else top
    return line(x, y, min(max(x, left), right), end, "leader") + drawn


def _free(box: Box, taken: Sequence[Box]) -> bool:
    left, top, right, bottom = box
    inside = left >= _LEFT and right <= WIDTH and top >= 0 and bottom <= _BOTTOM
    return inside and not any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
        for other in taken
    )
