"""What every plot is made of: markup, texts that fit, axes, and the frame of an SVG.

A plot is 360 units wide and its letters are 12 units high, so that a telephone shows it one to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil, floor, log10
from unicodedata import east_asian_width

WIDTH = 360
LETTER = 7.4
"""Units that a letter of 12 units takes at most on average in the common sans-serif fonts."""


class Markup(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


def percent(share: float) -> str:
    """As the pages write it: with a space that does not break."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def text_width(text: str) -> float:
    """Units that a text takes; an upper estimate."""
    return sum(13 if east_asian_width(letter) in "WF" else LETTER for letter in text)


def fitted(text: str, width: float) -> str:
    """The text on one line, cut with an ellipsis where it is wider than `width`."""
    line = " ".join(text.split())
    if text_width(line) <= width:
        return line
    while line and text_width(line) > width - LETTER:
        line = line[:-1]
    return line.rstrip() + "…"


def written(
    x: float, y: float, text: str, *, anchor: str = "start", style: str = "", whole: str = ""
) -> str:
    """A text of a plot; `whole` is what a pointer over it shows."""
    title = f"<title>{escape(whole)}</title>" if whole and whole != text else ""
    classes = f' class="{style}"' if style else ""
    return (
        f'<text{classes} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}{title}'
        "</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def svg(height: float, inner: str, label: str, *, width: int = WIDTH, widest: int = 470) -> Markup:
    """A drawing as wide as its place, at most `widest` pixels; `label` says what it shows."""
    return Markup(
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height:g}" '
        f'width="100%" style="max-width:{widest}px">{inner}</svg>'
    )


def listed(kind: str, facts: Iterable[str], most: int = 12) -> str:
    """What a plot shows, in words, for those who do not see it."""
    found = list(facts)
    rest = [f"and {len(found) - most} more"] if len(found) > most else []
    return f"{kind}: {'; '.join([*found[:most], *rest])}"


def beside(*blocks: str) -> Markup:
    """Blocks of HTML next to each other where there is room, else below each other."""
    return Markup(f'<div class="plots">{"".join(f"<div>{block}</div>" for block in blocks)}</div>')


def figure(heading: str, drawing: Markup, caption: str = "") -> Markup:
    """A plot with a heading and a sentence that says how to read it."""
    note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return Markup(f"<figure><h3>{escape(heading)}</h3>{drawing}{note}</figure>")


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from `low` to `high`, about so many."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / about
    unit = 10.0 ** floor(log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    first = ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten from `low` to `high`, at most so many."""
    powers = range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1)
    every = max(1, ceil(len(powers) / most))
    return [10.0**power for power in powers[::every]]


def short(number: float) -> str:
    """A number for an axis: at most six letters, up to a billion."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(number) >= 10 * unit or number == unit == 1e6:
            return f"{number / unit:.4g}{letter}"
    return f"{number:,.4g}" if abs(number) >= 1e-3 else f"{number:.1g}"


def thinned(points: Sequence[tuple[float, float]], most: int = 240) -> list[tuple[float, float]]:
    """At most about so many of the points, the first and the last among them."""
    every = max(1, -(-len(points) // most))
    kept = list(points[::every])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
