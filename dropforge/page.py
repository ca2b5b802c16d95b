"""Self-contained HTML pages: what the reports are made of. Their plots are `dropforge.plots`.

Every text is escaped; a page loads nothing and runs no script.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from dropforge.plots import Line, Markup, bars, columns, curves, interval, share_bar

__all__ = [
    "Block",
    "Line",
    "Markup",
    "Table",
    "bars",
    "checks",
    "columns",
    "curves",
    "interval",
    "page",
    "quotes",
    "scrolling",
    "share_bar",
    "side_by_side",
    "table",
    "tiles",
]

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#d9dee5;--paper:#fff;
--mark:#2563eb;--other:#c2410c;--third:#0f766e;--good:#15803d;--bad:#b91c1c;--unsure:#a16207}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#323b47;--paper:#14181e;
--mark:#7aa7ff;--other:#fb923c;--third:#2dd4bf;--good:#4ade80;--bad:#f87171;--unsure:#facc15}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{margin:0 0 .2rem;font-size:1.6rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.lead{font-size:1.1rem;color:var(--soft);margin:0 0 1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
th{overflow-wrap:break-word}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem;overflow-wrap:anywhere}
svg{display:block}svg text{fill:var(--ink);font-size:12px}svg .soft{fill:var(--soft)}
svg .strong{font-weight:700}svg .halo{paint-order:stroke;stroke:var(--paper);stroke-width:4px;
stroke-linejoin:round}svg .bar,svg .dot{fill:var(--mark)}svg .axis{stroke:var(--line)}
svg .fill{fill:var(--mark);opacity:.3}svg .fill.faint{fill:var(--soft)}
svg .curve{fill:none;stroke:var(--mark);stroke-width:2;stroke-linejoin:round}
svg .line1{stroke:var(--other);stroke-dasharray:7 4}svg .line2{stroke:var(--soft);
stroke-dasharray:2 3}svg .curve.faint{stroke:var(--soft);stroke-width:1.3}
svg .dot.faint{fill:var(--paper);stroke:var(--soft);stroke-width:1.5}
svg .mark{stroke:var(--bad);stroke-width:1.5}svg .dash0{stroke-dasharray:5 3}
svg .dash1{stroke-dasharray:1.5 3}svg .dash2{stroke-dasharray:9 3 2 3}
svg .rest{fill:var(--soft);opacity:.14}svg .leader{stroke:var(--soft);stroke-width:.8}
svg .won{fill:var(--mark)}svg .tied{fill:var(--line)}svg .lost{fill:var(--other)}
svg .group0{fill:var(--mark);stroke:var(--mark)}svg .group1{fill:var(--other);stroke:var(--other)}
svg .group2{fill:var(--third);stroke:var(--third)}svg .group3{fill:var(--paper);
stroke:var(--ink);stroke-width:1.6}svg .group4{fill:none;stroke:var(--soft);stroke-width:1.8}
svg .whisker{stroke-width:1.4;opacity:.55}svg .front{fill:none;stroke:var(--mark);
stroke-width:1.5;stroke-dasharray:3 3}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));
gap:1rem 2rem}figure{margin:0;min-width:0}figure h3,h3.part{font-size:.95rem;margin:.6rem 0 .3rem}
figcaption,.note{color:var(--soft);font-size:.85rem;margin:.3rem 0}
.promote{color:var(--good)}.reject{color:var(--bad)}.unsure{color:var(--unsure)}
.pairs{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.3rem 1rem;
overflow-wrap:anywhere}.pairs h3{grid-column:1/-1;
font-size:.95rem;margin:1.2rem 0 0;border-top:1px solid var(--line);padding-top:.6rem}
.pairs b{font-size:.8rem;color:var(--soft);display:block}.pairs p{margin:0;white-space:pre-wrap}
@media(max-width:40rem){.pairs{grid-template-columns:minmax(0,1fr)}}
.scroll{overflow-x:auto}.scroll:focus-visible{outline:2px solid var(--mark)}
.scroll td{overflow-wrap:normal;white-space:nowrap}.scroll td:first-child{white-space:normal;
min-width:7rem}.held{color:var(--good)}.missed{color:var(--bad)}.missed,.held{font-weight:700}
.held,.missed,.figure{white-space:nowrap}
.lead strong{font-size:1.25rem}ul.why{margin:.2rem 0 1rem;padding-left:1.2rem}
.reading input{position:absolute;opacity:0}.reading label{display:inline-block;cursor:pointer;
border:1px solid var(--line);border-radius:1rem;padding:.15rem .7rem;margin:0 .3rem .4rem 0;
font-size:.85rem}.reading input:checked+label{border-color:var(--mark);font-weight:700;
box-shadow:inset 0 0 0 1px var(--mark)}.reading input:focus-visible+label{outline:2px solid
var(--mark);outline-offset:2px}.pair{border-top:1px solid var(--line);padding:.6rem 0 1rem}
.pair h3{font-size:.95rem;margin:0 0 .4rem;white-space:pre-wrap}.pair .answers{display:grid;
gap:.4rem 1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,14rem),1fr))}
.pair p{margin:0;white-space:pre-wrap}.pair b{font-size:.8rem;color:var(--soft);display:block}
.pair,.pair *{overflow-wrap:anywhere}.pair ul{margin:.5rem 0 0;padding-left:1.1rem;font-size:.88rem}
.badge{display:inline-block;border:1px solid currentColor;border-radius:.3rem;padding:0 .4rem;
font-size:.8rem;font-weight:700;margin-right:.4rem;white-space:nowrap}
.badge.win{color:var(--good)}.badge.loss{color:var(--bad)}.badge.tie,.badge.flip{
color:var(--unsure)}.badge.unscored{color:var(--soft)}
@media print{body{max-width:none;margin:0}.reading input,.reading label{display:none}
.reading .pair{display:block!important}.pair,figure,tr{break-inside:avoid}h2,h3{
break-after:avoid}}
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


class Table(NamedTuple):
    header: Sequence[str]
    rows: Iterable[Sequence[object]]


Block = str | Markup | Table


def page(
    title: str,
    lead: str | Markup,
    sections: Iterable[tuple[str, Block]],
    *,
    footer: str = "",
    style: str = "",
) -> str:
    """A complete HTML document: a title, what matters in one sentence, and headed sections.

    Args:
        style: rules of this page alone; trusted text, for it is not escaped.
    """
    body = "".join(f"<h2>{escape(head)}</h2>{_block(block)}" for head, block in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'\"><style>{STYLE}{style}</style></head>"
        f'<body><h1>{escape(title)}</h1><p class="lead">{_text(lead)}</p>{body}'
        f"<footer>{escape(footer)}</footer></body></html>"
    )


def _text(value: object) -> str:
    return value if isinstance(value, Markup) else escape(str(value))


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return table(block)
    return block if isinstance(block, Markup) else f"<p>{escape(block)}</p>"


def table(of: Table) -> Markup:
    """A table as HTML, to be put into a block with other things."""
    rows = [list(row) for row in of.rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        for i in range(len(of.header))
    ]

    def cells(tag: str, values: Iterable[object]) -> str:
        marks = (' class="number"' if number else "" for number in numeric)
        return "".join(
            f"<{tag}{m}>{_text(_number(v))}</{tag}>" for m, v in zip(marks, values, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return Markup(f"<table><tr>{cells('th', of.header)}</tr>{body}</table>")


def scrolling(of: Table, name: str) -> Markup:
    """A table that may be wider than a telephone: it scrolls within the page."""
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">{table(of)}'
        "</div>"
    )


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


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


def side_by_side(pairs: Iterable[tuple[str, dict[str, str]]]) -> Markup:
    """Texts to read next to each other: (heading, {column: text}) for each."""
    parts = []
    for heading, texts in pairs:
        columns = "".join(
            f"<div><b>{escape(name)}</b><p>{escape(text)}</p></div>" for name, text in texts.items()
        )
        parts.append(f"<h3>{escape(heading)}</h3>{columns}")
    return Markup(f'<div class="pairs">{"".join(parts)}</div>')
