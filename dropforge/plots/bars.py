"""Counts: horizontal bars, a histogram, and one bar divided by shares."""

from __future__ import annotations

from html import escape

from dropforge.plots.marks import Markup, listed, svg

_WIDE = 700
_SHADES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d", "#64748b", "#b91c1c")


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
    return _wide(len(counts) * 24, "".join(rows), "bar chart", counts)


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
    return _wide(164, "".join(parts), "histogram", counts)


def share_bar(counts: dict[str, int]) -> Markup:
    """One bar, divided by shares, with a legend that names and counts them."""
    total = sum(counts.values())
    if not total:
        return Markup("<p>none</p>")
    parts, legend, x = [], [], 0.0
    for i, (name, count) in enumerate(counts.items()):
        width, shade = _WIDE * count / total, _SHADES[i % len(_SHADES)]
        title = f"{escape(name)}: {count:,} ({count / total:.1%})"
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.2f}" height="26" fill="{shade}">'
            f"<title>{title}</title></rect>"
        )
        legend.append(f'<span><i style="background:{shade}"></i>{title}</span>')
        x += width
    bar = _wide(26, "".join(parts), "shares", counts)
    return Markup(f'{bar}<div class="legend">{"".join(legend)}</div>')


def _wide(height: int, inner: str, kind: str, counts: dict[str, int]) -> Markup:
    facts = (f"{name} {count:,}" for name, count in counts.items())
    return svg(height, inner, listed(kind, facts), width=_WIDE, widest=_WIDE)
