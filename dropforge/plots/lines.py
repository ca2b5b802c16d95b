"""Curves over one x axis: loss while training, evidence while judging."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from math import log10
from typing import NamedTuple

from dropforge.plots.marks import (
    WIDTH,
    Markup,
    decades,
    fitted,
    line,
    listed,
    short,
    svg,
    text_width,
    thinned,
    ticks,
    written,
)

_LEFT, _RIGHT, _BOTTOM = 44.0, 350.0, 190.0


class Line(NamedTuple):
    """One curve of a plot: (x, y) points in order; without a name it is drawn as the one before."""

    name: str
    points: Sequence[tuple[float, float]]


class Rest(NamedTuple):
    """The part of a plot from an x on that holds no data, and what to call it."""

    start: float
    name: str


def curves(
    lines: Iterable[Line],
    x_name: str,
    *,
    marks: Mapping[str, float] | None = None,
    right: float | None = None,
    rest: Rest | None = None,
    log: bool = False,
    top: float | None = None,
    tick: Callable[[float], str] = short,
) -> Markup:
    """Curves from zero upwards, or from 1 on a logarithmic axis; "none recorded" without points.

    Args:
        marks: names of horizontal lines, with their y.
        right: where the x axis ends, at the least.
        top: where the y axis ends, of a logarithmic one at the latest; else with the highest point.
    """
    drawn = [Line(found.name, thinned(found.points)) for found in lines if found.points]
    if not drawn:
        return Markup("<p>none recorded</p>")
    marks = marks or {}
    points = [point for one in drawn for point in one.points]
    x_top = max(right or 0, *(x for x, _ in points)) or 1
    highest = max(*(y for _, y in points), *marks.values(), 0) * 1.05 or 1
    y_top = min(top or highest, highest) if log else top or highest
    above = 18.0 * ((len(drawn) > 1) + bool(rest)) + 8
    scale = _scale(above, max(y_top, 12) if log else y_top, log=log)

    def place(x: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * x / x_top

    parts = [_axes(x_name, x_top, y_top, scale, tick, log=log, above=above)]
    if rest:
        parts.append(_rest(rest, place(rest.start), above))
    parts += [_threshold(name, scale(y)) for name, y in marks.items()]
    for i, one in zip(_styles(drawn), drawn, strict=True):
        path = " ".join(f"{place(x):.1f},{scale(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline class="curve line{i}" points="{path}"/>')
        if len(one.points) == 1:
            x, y = one.points[0]
            parts.append(f'<circle class="dot" cx="{place(x):.1f}" cy="{scale(y):.1f}" r="4"/>')
    parts.append(_legend(drawn) if len(drawn) > 1 else "")
    facts = [
        f"{one.name} from {short(one.points[0][1])} to {short(one.points[-1][1])}" for one in drawn
    ]
    return svg(_BOTTOM + 36, "".join(parts), listed(f"curves over {x_name}", facts))


def _scale(above: float, top: float, *, log: bool) -> Callable[[float], float]:
    def scale(y: float) -> float:
        share = log10(max(y, 1)) / log10(top) if log else y / top
        return _BOTTOM - (_BOTTOM - above) * min(1.0, max(0.0, share))

    return scale


def _axes(
    x_name: str,
    x_top: float,
    y_top: float,
    scale: Callable[[float], float],
    tick: Callable[[float], str],
    *,
    log: bool,
    above: float,
) -> str:
    parts = [line(_LEFT, above, _LEFT, _BOTTOM, "axis")]
    for y in decades(1, max(y_top, 12)) if log else ticks(0, y_top):
        parts.append(line(_LEFT, scale(y), _RIGHT, scale(y), "axis"))
        parts.append(written(_LEFT - 6, scale(y) + 4, tick(y), anchor="end", style="soft"))
    for x in ticks(0, x_top) if x_top < 1 else filter(float.is_integer, ticks(0, x_top)):
        at = _LEFT + (_RIGHT - _LEFT) * x / x_top
        anchor = "end" if at > _RIGHT - 15 else "middle"
        parts.append(written(at, _BOTTOM + 16, short(x), anchor=anchor, style="soft"))
    parts.append(written(_RIGHT, _BOTTOM + 31, x_name, anchor="end", style="soft"))
    return "".join(parts)


def _threshold(name: str, y: float) -> str:
    text = fitted(name, _RIGHT - _LEFT - 6)
    return line(_LEFT, y, _RIGHT, y, "mark dash0") + written(
        _RIGHT - 4, y - 5 if y > 40 else y + 14, text, anchor="end", style="halo soft", whole=name
    )


def _rest(rest: Rest, x: float, above: float) -> str:
    """A hatched area, named in a line of its own above the plot."""
    text = fitted(rest.name, WIDTH)
    at = min(WIDTH, max(x + text_width(text) / 2, text_width(text)))
    return (
        f'<rect class="rest" x="{x:.1f}" y="{above:.1f}" width="{max(0.0, _RIGHT - x):.1f}" '
        f'height="{_BOTTOM - above:.1f}"/>'
        + line(x, above - 4, x, _BOTTOM, "mark dash1")
        + written(at, above - 8, text, anchor="end", style="soft", whole=rest.name)
    )


def _styles(drawn: Sequence[Line]) -> list[int]:
    named = accumulate(bool(one.name) for one in drawn)
    return [max(0, number - 1) % 3 for number in named]


def _legend(drawn: Sequence[Line]) -> str:
    """A sample of each named curve with its name, in the plot's first line."""
    names = [one.name for one in drawn if one.name]
    parts, room = [], WIDTH / max(1, len(names))
    for i, name in enumerate(names):
        x = i * room
        parts.append(line(x, 8, x + 24, 8, f"curve line{i % 3}"))
        parts.append(written(x + 30, 12, fitted(name, room - 36), whole=name))
    return "".join(parts)
