"""Self-contained HTML pages with inline SVG plots: what the reports are made of.

Every text is escaped; a page loads nothing and runs no script.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d9dee5;--paper:#fff;
--mark:#2563eb;--good:#15803d;--bad:#b91c1c;--unsure:#a16207}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#323b47;--paper:#14181e;
--mark:#7aa7ff;--good:#4ade80;--bad:#f87171;--unsure:#facc15}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{margin:0 0 .2rem;font-size:1.6rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.lead{font-size:1.1rem;color:var(--soft);margin:0 0 1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
svg text{fill:var(--ink);font-size:12px}svg .soft{fill:var(--soft)}svg .bar{fill:var(--mark)}
svg .axis{stroke:var(--line)}svg .curve{fill:none;stroke:var(--mark);stroke-width:2}
svg .curve.second{stroke:var(--unsure)}
.promote{color:var(--good)}.reject{color:var(--bad)}.unsure{color:var(--unsure)}
.pairs{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.3rem 1rem;
overflow-wrap:anywhere}.pairs h3{grid-column:1/-1;
font-size:.95rem;margin:1.2rem 0 0;border-top:1px solid var(--line);padding-top:.6rem}
.pairs b{font-size:.8rem;color:var(--soft);display:block}.pairs p{margin:0;white-space:pre-wrap}
@media(max-width:40rem){.pairs{grid-template-columns:minmax(0,1fr)}}
.tiles{display:flex;flex-wrap:wrap;gap:1rem}.tiles div{border:1px solid var(--line);
border-radius:.5rem;padding:.6rem 1rem;min-width:8rem;flex:1}.tiles b{font-size:1.5rem;
display:block;font-variant-numeric:tabular-nums}.tiles span{color:var(--soft);font-size:.85rem}
.checks{list-style:none;padding:0;margin:0}
.checks li{padding:.3rem 0 .3rem 1.8rem;position:relative}
.checks li::before{position:absolute;left:.2rem;font-weight:700}
.checks .good::before{content:"✓";color:var(--good)}
.checks .look::before{content:"!";color:var(--unsure)}
.checks .bad::before{content:"✗";color:var(--bad)}
.quotes{margin:0;padding:0;list-style:none}.quotes li{border-left:3px solid var(--line);
padding:.1rem .8rem;margin:.4rem 0;overflow-wrap:anywhere}
.quotes b{color:var(--soft);font-size:.8rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.85rem;margin:.4rem 0}
.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.4rem}
"""


class Markup(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


class Table(NamedTuple):
    header: Sequence[str]
    rows: Iterable[Sequence[object]]


class Line(NamedTuple):
    """One curve of a plot: (x, y) points in order."""

    name: str
    points: Sequence[tuple[float, float]]


Block = str | Markup | Table


def page(
    title: str, lead: str | Markup, sections: Iterable[tuple[str, Block]], *, footer: str = ""
) -> str:
    """A complete HTML document: a title, what matters in one sentence, and headed sections."""
    body = "".join(f"<h2>{escape(head)}</h2>{_block(block)}" for head, block in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'\"><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<p class="lead">{_text(lead)}</p>{body}<footer>{escape(footer)}</footer></body></html>'
    )


def _text(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    return block if isinstance(block, Markup) else f"<p>{escape(block)}</p>"


def _table(table: Table) -> str:
    rows = [list(row) for row in table.rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(table.header))
    ]

    def cells(tag: str, values: Iterable[object]) -> str:
        marks = (' class="number"' if number else "" for number in numeric)
        return "".join(
            f"<{tag}{m}>{_text(_number(v))}</{tag}>" for m, v in zip(marks, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', table.header)}</tr>{body}</table>"


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def bars(counts: dict[str, int]) -> Markup:
    """A horizontal bar a count, in the given order; says "none" where there is nothing."""
    if not counts:
        return Markup("<p>none</p>")
    top = max(max(counts.values()), 1)
    left = min(400, max(200, 7 * max(map(len, counts))))  # a label's width, at 12 px a letter
    rows = []
    for i, (name, count) in enumerate(counts.items()):
        y = i * 24
        width = (620 - left) * count / top
        rows.append(
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{left}" y="{y + 4}" width="{width:.1f}" height="16" rx="2"/>'
            f'<text class="soft" x="{left + 6 + width:.1f}" y="{y + 16}">{count:,}</text>'
        )
    return _svg(700, len(counts) * 24, "".join(rows), "bar chart")


def columns(counts: dict[str, int]) -> Markup:
    """A vertical column a count, in the given order: a histogram whose labels are lower edges."""
    if not counts:
        return Markup("<p>none</p>")
    top = max(max(counts.values()), 1)
    width = min(60.0, 660 / len(counts))
    every = -(-len(counts) // 12)  # as many labels as fit
    parts = ['<line class="axis" x1="20" x2="690" y1="140" y2="140"/>']
    for i, (name, count) in enumerate(counts.items()):
        x, height = 25 + i * width, 110 * count / top
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{140 - height:.1f}" width="{width * 0.85:.1f}" '
            f'height="{height:.1f}"><title>{escape(name)}: {count:,}</title></rect>'
        )
        middle = x + width * 0.42
        if i % every == 0:
            parts.append(
                f'<text class="soft" x="{middle:.1f}" y="156" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
        if len(counts) <= 12 and count:
            parts.append(
                f'<text class="soft" x="{middle:.1f}" y="{134 - height:.1f}" '
                f'text-anchor="middle">{count:,}</text>'
            )
    if len(counts) > 12:
        parts.append(f'<text class="soft" x="20" y="24">{top:,}</text>')
    return _svg(700, 164, "".join(parts), "histogram")


_SHADES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d", "#64748b", "#b91c1c")


def share_bar(counts: dict[str, int]) -> Markup:
    """One bar, divided by shares, with a legend that names and counts them."""
    total = sum(counts.values())
    if not total:
        return Markup("<p>none</p>")
    parts, legend, x = [], [], 0.0
    for i, (name, count) in enumerate(counts.items()):
        width, shade = 700 * count / total, _SHADES[i % len(_SHADES)]
        title = f"{escape(name)}: {count:,} ({count / total:.1%})"
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.2f}" height="26" fill="{shade}">'
            f"<title>{title}</title></rect>"
        )
        legend.append(f'<span><i style="background:{shade}"></i>{title}</span>')
        x += width
    bar = _svg(700, 26, "".join(parts), "shares")
    return Markup(f'{bar}<div class="legend">{"".join(legend)}</div>')


def tiles(figures: dict[str, str]) -> Markup:
    """The few figures that matter, large."""
    cells = (
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
        for name, value in figures.items()
    )
    return Markup(f'<div class="tiles">{"".join(cells)}</div>')


def checks(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Findings with a mark each: (good, look or bad; what was asked; the answer)."""
    items = (
        f'<li class="{level}">{f"<b>{escape(asked)}</b> " if asked else ""}{escape(answer)}</li>'
        for level, asked, answer in rows
    )
    return Markup(f'<ul class="checks">{"".join(items)}</ul>')


def quotes(rows: Iterable[tuple[str, str]]) -> Markup:
    """Short texts under a small heading each."""
    items = (f"<li><b>{escape(head)}</b><br>{escape(text)}</li>" for head, text in rows)
    return Markup(f'<ul class="quotes">{"".join(items)}</ul>')


def interval(rows: Iterable[tuple[str, float, float, float]], marks: dict[str, float]) -> Markup:
    """Points with their intervals on a 0–100 % axis, against named marks (a gate's thresholds).

    Args:
        rows: (name, point, low, high), each between 0 and 1.
        marks: name of a threshold -> its place between 0 and 1.
    """
    listed = list(rows)
    left, width, bottom = 200, 460, len(listed) * 34 + 26

    def x(share: float) -> float:
        return left + width * share

    parts = [
        f'<line class="axis" x1="{x(s / 4):.1f}" x2="{x(s / 4):.1f}" y1="20" y2="{bottom}"/>'
        f'<text class="soft" x="{x(s / 4):.1f}" y="{bottom + 16}" text-anchor="middle">'
        f"{s * 25} %</text>"
        for s in range(5)
    ]
    parts += [
        f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="16" y2="{bottom}" stroke="var(--bad)" '
        f'stroke-dasharray="4 3"/><text class="soft" x="{x(at):.1f}" y="12" text-anchor="middle">'
        f"{escape(name)}</text>"
        for name, at in marks.items()
    ]
    for i, (name, point, low, high) in enumerate(listed):
        y = i * 34 + 40
        parts.append(
            f'<text x="190" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<line class="curve" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="bar" cx="{x(point):.1f}" cy="{y}" r="5"/>'
        )
    return _svg(700, bottom + 24, "".join(parts), "interval plot")


def curves(lines: Iterable[Line], x_name: str) -> Markup:
    """Curves over one x axis, from zero upwards; says "none" where there are no points."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Markup("<p>none recorded</p>")
    right = max(x for line in drawn for x, _ in line.points) or 1
    top = max(y for line in drawn for _, y in line.points) or 1
    parts = [
        '<line class="axis" x1="50" x2="680" y1="200" y2="200"/>'
        '<line class="axis" x1="50" x2="50" y1="10" y2="200"/>'
        f'<text class="soft" x="44" y="16" text-anchor="end">{top:.2f}</text>'
        '<text class="soft" x="44" y="204" text-anchor="end">0</text>'
        f'<text class="soft" x="680" y="218" text-anchor="end">{escape(x_name)} {right:g}</text>'
    ]
    for i, line in enumerate(drawn):
        path = " ".join(
            f"{50 + 630 * x / right:.1f},{200 - 190 * y / top:.1f}" for x, y in line.points
        )
        style = "curve second" if i else "curve"
        stroke = "var(--unsure)" if i else "var(--mark)"
        y = 14 + 18 * i
        parts.append(
            f'<polyline class="{style}" points="{path}"/>'
            f'<rect x="560" y="{y}" width="12" height="12" fill="{stroke}"/>'
            f'<text x="578" y="{y + 11}">{escape(line.name)}</text>'
        )
    return _svg(700, 224, "".join(parts), "line chart")


def _svg(width: int, height: int, inner: str, label: str) -> Markup:
    return Markup(
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}" '
        f'width="100%" style="max-width:{width}px">{inner}</svg>'
    )


def side_by_side(pairs: Iterable[tuple[str, dict[str, str]]]) -> Markup:
    """Texts to read next to each other: (heading, {column: text}) for each."""
    parts = []
    for heading, texts in pairs:
        columns = "".join(
            f"<div><b>{escape(name)}</b><p>{escape(text)}</p></div>" for name, text in texts.items()
        )
        parts.append(f"<h3>{escape(heading)}</h3>{columns}")
    return Markup(f'<div class="pairs">{"".join(parts)}</div>')
