"""Shares with their intervals, on one axis from 0 to 100 %."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dropforge.plots.marks import (
    WIDTH,
    Markup,
    fitted,
    line,
    listed,
    percent,
    svg,
    text_width,
    written,
)

_EDGE = 19
"""Units left and right of the axis: half of the widest tick's text."""
_ROW = 38


class Rate(NamedTuple):
    """One share with its interval, each between 0 and 1.

    Attributes:
        note: what stands behind the numbers, as in "of 12".
        faint: too little data to read much into it; drawn grey and hollow.
    """

    name: str
    point: float
    low: float
    high: float
    note: str = ""
    faint: bool = False

    @property
    def said(self) -> str:
        span = f"{percent(self.point)} [{percent(self.low)}, {percent(self.high)}]"
        return f"{span} {self.note}" if self.note else span


def interval(
    rows: Iterable[tuple[str, float, float, float] | Rate],
    marks: Mapping[str, float],
    *,
    middle: float | None = None,
) -> Markup:
    """Points with their intervals on a 0–100 % axis, against named marks (a gate's thresholds).

    Args:
        rows: (name, point, low, high), or a `Rate`.
        marks: name of a threshold -> its place between 0 and 1.
        middle: where bars begin that end at the points; none are drawn without it.
    """
    rates = [Rate(*row) for row in rows]
    if not rates:
        return Markup("<p>none</p>")
    top = 8 + 15 * len(marks)
    bottom = top + _ROW * len(rates) + 4
    parts = [
        line(_x(s / 4), top, _x(s / 4), bottom, "axis")
        + written(_x(s / 4), bottom + 15, percent(s / 4), anchor="middle", style="soft")
        for s in range(5)
    ]
    parts += _thresholds(marks, bottom)
    parts += [_rate(rate, top + _ROW * i, middle) for i, rate in enumerate(rates)]
    facts = [f"{rate.name} {rate.said}" for rate in rates]
    asked = [f"{name} at {percent(at)}" for name, at in marks.items()]
    return svg(bottom + 20, "".join(parts), listed("intervals", [*facts, *asked]))


def _x(share: float) -> float:
    return _EDGE + (WIDTH - 2 * _EDGE) * min(1.0, max(0.0, share))


def _thresholds(marks: Mapping[str, float], bottom: float) -> list[str]:
    """A dashed line each, named in a line of its own above the plot, so that no two texts meet."""
    parts: list[str] = []
    for i, (name, at) in enumerate(marks.items()):
        y = 11 + 15 * i
        text = fitted(f"{name} {percent(at)}", WIDTH - 2 * _EDGE)
        half = text_width(text) / 2
        place = min(max(_x(at), half), WIDTH - half)
        parts.insert(0, line(_x(at), y + 4, _x(at), bottom, f"mark dash{i % 3}"))
        parts.append(written(place, y, text, anchor="middle", style="halo soft"))
    return parts


def _rate(rate: Rate, y: float, middle: float | None) -> str:
    drawn = y + 26
    faint = " faint" if rate.faint else ""
    name = fitted(rate.name, WIDTH - text_width(rate.said) - 10)
    parts = [
        written(0, y + 13, name, style=f"halo{faint and ' soft'}", whole=rate.name),
        written(WIDTH, y + 13, rate.said, anchor="end", style="halo soft"),
    ]
    if middle is not None:
        left, right = sorted((_x(middle), _x(rate.point)))
        parts.append(
            f'<rect class="fill{faint}" x="{left:.1f}" y="{drawn - 5:.1f}" '
            f'width="{right - left:.1f}" height="10"/>'
        )
    parts.append(line(_x(rate.low), drawn, _x(rate.high), drawn, f"curve{faint}"))
    ends = (rate.low, rate.high)
    parts += [line(_x(end), drawn - 4, _x(end), drawn + 4, f"curve{faint}") for end in ends]
    parts.append(f'<circle class="dot{faint}" cx="{_x(rate.point):.1f}" cy="{drawn:.1f}" r="4.5"/>')
    return "".join(parts)


def outcomes(rows: Sequence[tuple[str, int, int, int]]) -> Markup:
    """Wins, ties and losses as one divided bar for each (name, wins, ties, losses)."""
    parts, facts = [], []
    for i, (name, *counts) in enumerate(rows):
        total, y, x = max(1, sum(counts)), 42 * i, 0.0
        said = " · ".join(
            f"{n:,} {word}" for n, word in zip(counts, ("won", "tied", "lost"), strict=True)
        )
        facts.append(f"{name}: {said}")
        shown = fitted(name, WIDTH - text_width(said) - 10)
        parts.append(written(0, y + 13, shown, whole=name))
        parts.append(written(WIDTH, y + 13, said, anchor="end", style="soft"))
        for count, style in zip(counts, ("won", "tied", "lost"), strict=True):
            width = WIDTH * count / total
            parts.append(
                f'<rect class="{style}" x="{x:.1f}" y="{y + 19}" width="{width:.1f}" height="14"/>'
            )
            x += width
    if not rows:
        return Markup("<p>none</p>")
    return svg(42 * len(rows), "".join(parts), listed("outcomes", facts))
