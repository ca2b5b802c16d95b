"""The page about drift: how the model in production has answered over time, and what has changed.

Reads the looks in the registry, and the newest one's own file with the answers. Texts on it are the
project's golden questions, or redacted tickets of a test split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

import msgspec

from dropforge.drift import NEUTRAL, Changed, Look
from dropforge.judge import Outcome
from dropforge.page import Markup, Table, checks, page, side_by_side, tiles

SHOWN_CHANGES, SHOWN_LOOKS = 40, 16
FEWEST_FALLS = 5
"""So many answers must become wrong, and none right, before a fall is more than chance: 1 / 2^5."""
WEEK = 7 * 86400.0
"""Promotions longer before the first look are not drawn."""

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 44, 466, 26, 178
"""The plots', narrow enough to be read on a telephone."""
_LABEL = 78.0
"""Room for a version's name."""
_SHADES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d")


class Promotion(msgspec.Struct, frozen=True):
    """A version became the one that answers; `at` is in seconds since the epoch."""

    version: str
    at: float


def drift_report(
    looks: Sequence[Look], promotions: Sequence[Promotion], newest: Look | None = None
) -> str:
    """One self-contained HTML page.

    Args:
        looks: at least one, in the order of time, all of one project.
        newest: the last of them with the answers that changed.
    """
    last = newest or looks[-1]
    level = "reject" if last.drifted else "promote"
    return page(
        f"{last.project}: drift",
        Markup(f'<strong class="{level}">{escape(_lead(last))}</strong>'),
        [
            ("At a glance", tiles(_figures(last))),
            ("What to know", checks(_notes(last))),
            ("Right answers, of the questions that can be checked", _right(looks, promotions)),
            ("Win rate against its own first answers, with the 95 % interval", _wins(looks)),
            ("The looks, the newest first", _table(looks)),
            (_changed_head(last), _changed(last)),
        ],
        footer=f"version {last.version}; "
        + (f"golden questions {last.golden}" if last.golden else "test tickets of its dataset"),
    )


def _lead(last: Look) -> str:
    if last.is_first:
        return f"Version {last.version} was looked at for the first time on {last.day}."
    if last.drifted:
        return f"Version {last.version} does not answer any more as it did on {last.since}."
    return f"Version {last.version} answers as well as it did on {last.since}."


def _figures(last: Look) -> dict[str, str]:
    rate = last.win_rate
    return {
        f"right on {last.day}": _share(last.share_right),
        f"right on {last.since}": _share(last.share_right_then),
        "win rate against its first answers": _share(rate.point if rate else None),
        "rated well / badly since the look before": f"{last.ratings.up} / {last.ratings.down}",
    }


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _notes(last: Look) -> list[tuple[str, str, str]]:
    """(good, look or bad; ""; a sentence), as `page.checks` takes them."""
    notes = [("bad", "", f"{said[:1].upper()}{said[1:]}.") for said in last.findings]
    if not notes and not last.is_first:
        words = f"{last.same} of {last.compared + last.unscored} answers are the very same words"
        notes.append(("good", "", f"No drift: {words} as at first."))
    if last.golden is None:
        said = "There are no golden questions: test tickets of its dataset were asked instead."
        notes.append(("look", "", f"{said} See `dropforge golden`."))
    if last.asked < last.questions:
        notes.append(("look", "", f"There was time for {last.asked} of {last.questions} only."))
    if last.unscored:
        notes.append(("look", "", f"{last.unscored} answers could not be judged."))
    if last.checked < FEWEST_FALLS:
        said = f"Only {last.checked} answers can be told right from wrong"
        notes.append(("look", "", f"{said}: no fall among so few is more than chance."))
    return notes


def _right(looks: Sequence[Look], promotions: Sequence[Promotion]) -> Markup:
    """A line for each version, over the band in which its share of right answers may move."""
    drawn = [one for one in looks if one.share_right is not None]
    if not drawn:
        return Markup("<p>no question that can be checked</p>")
    promotions = [p for p in promotions if p.at >= drawn[0].at - WEEK]
    x = _time_axis([*(one.at for one in drawn), *(p.at for p in promotions)])
    parts, legend = [_axes(drawn, x)], []
    for shade, version, own in _by_version(drawn):
        then = [(x(one.at), one.share_right_then or 0.0, one.tolerance) for one in own]
        upper = [f"{place:.1f},{_y(share):.1f}" for place, share, _ in then]
        lower = [f"{place:.1f},{_y(share - may):.1f}" for place, share, may in reversed(then)]
        points = [(x(one.at), _y(one.share_right or 0.0)) for one in own]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(
            f'<polygon points="{" ".join(upper + lower)}" fill="{shade}" stroke="{shade}" '
            f'stroke-width="5" stroke-linejoin="round" opacity=".16"/>'
            f'<polyline points="{line}" fill="none" stroke="{shade}" stroke-width="2"/>'
        )
        parts += [_dot(px, py, shade, one) for (px, py), one in zip(points, own, strict=True)]
        legend.append(f'<span><i style="background:{shade}"></i>{escape(version)}</span>')
    parts.append(_promoted(promotions, x))
    legend.append("<span>band: what its first answers' share may fall by</span>")
    return _plot("right answers over time", parts, legend)


def _wins(looks: Sequence[Look]) -> Markup:
    """A point with its interval for each look; below the broken line is drift."""
    drawn = [one for one in looks if one.win_rate is not None]
    if not drawn:
        return Markup("<p>nothing to compare with yet</p>")
    x = _time_axis([one.at for one in drawn])
    floor = NEUTRAL - drawn[-1].tolerance
    parts = [_axes(drawn, x)]
    for share, dashes in ((NEUTRAL, ""), (floor, ' stroke-dasharray="4 3"')):
        y = _y(share)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var(--bad)" opacity=".7"{dashes}/>'
        )
    for shade, _, own in _by_version(drawn):
        for one in own:
            rate, px = one.win_rate, x(one.at)
            if rate is not None:
                parts.append(
                    f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{_y(rate.low):.1f}" '
                    f'y2="{_y(rate.high):.1f}" stroke="{shade}" stroke-width="2"/>'
                    f"{_dot(px, _y(rate.point), shade, one)}"
                )
    legend = [
        f"<span>50 %: neither better nor worse; drift where a whole line lies below {floor:.0%}"
        "</span>"
    ]
    return _plot("win rate over time", parts, legend)


def _by_version(looks: Sequence[Look]) -> Iterable[tuple[str, str, list[Look]]]:
    versions = list(dict.fromkeys(one.version for one in looks))
    for number, version in enumerate(versions):
        shade = _SHADES[number % len(_SHADES)]
        yield shade, version, [one for one in looks if one.version == version]


def _time_axis(times: Sequence[float]) -> Callable[[float], float]:
    """Seconds since the epoch -> the place on the plot; a single time stands in the middle."""
    first, span = min(times), max(times) - min(times)
    inner = _RIGHT - _LEFT - 24
    return lambda at: _LEFT + 12 + inner * ((at - first) / span if span else 0.5)


def _y(share: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * min(1.0, max(0.0, share))


def _axes(looks: Sequence[Look], x: Callable[[float], float]) -> str:
    lines = "".join(
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_y(s / 4):.1f}" y2="{_y(s / 4):.1f}"/>'
        f'<text class="soft" x="{_LEFT - 6}" y="{_y(s / 4) + 4:.1f}" text-anchor="end">'
        f"{s * 25} %</text>"
        for s in range(5)
    )
    return lines + "".join(
        f'<text class="soft" x="{place:.1f}" y="{_BOTTOM + 17}" text-anchor="middle">'
        f"{escape(day)}</text>"
        for place, day in _days(looks, x)
    )


def _days(looks: Sequence[Look], x: Callable[[float], float]) -> list[tuple[float, str]]:
    """The last look's day and those before it that have room beside the later ones: (x, day)."""
    chosen: list[tuple[float, str]] = []
    for one in reversed(looks):
        place = min(max(x(one.at), _LABEL / 2), _WIDTH - 4 - _LABEL / 2)
        if not chosen or place < chosen[-1][0] - _LABEL:
            chosen.append((place, one.day))
    return chosen


def _dot(x: float, y: float, shade: str, one: Look) -> str:
    mark = "var(--bad)" if one.drifted else shade
    told = escape(f"{one.day}, {one.version}: {one.sentence}")
    size = 6 if one.drifted else 4
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{mark}"><title>{told}</title></circle>'
    )


def _promoted(promotions: Sequence[Promotion], x: Callable[[float], float]) -> str:
    """A line where a version was promoted; its name where there is room for it."""
    parts, taken = [], -_LABEL
    for one in sorted(promotions, key=lambda p: p.at):
        place = x(one.at)
        parts.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP - 6}" y2="{_BOTTOM}" '
            f'stroke="var(--soft)" stroke-dasharray="2 3"><title>{escape(one.version)} promoted on '
            f"{_day(one.at)}</title></line>"
        )
        label = min(max(place, 4 + _LABEL / 2), _WIDTH - 4 - _LABEL / 2)
        if label - taken >= _LABEL:
            taken = label
            parts.append(
                f'<text class="soft" x="{label:.1f}" y="12" text-anchor="middle">'
                f"{escape(one.version)} ▾</text>"
            )
    return "".join(parts)


def _plot(label: str, parts: Sequence[str], legend: Sequence[str]) -> Markup:
    return Markup(
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_BOTTOM + 26}" '
        f'width="100%" style="max-width:40rem">{"".join(parts)}</svg>'
        f'<div class="legend">{"".join(legend)}</div>'
    )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _table(looks: Sequence[Look]) -> Table:
    """Four columns, so that it fits a telephone."""
    rows = [
        (
            Markup(f'<span style="white-space:nowrap">{escape(one.day)}</span> {_version(one)}'),
            _counted(one),
            _rate(one),
            f"{one.ratings.up} / {one.ratings.down}",
        )
        for one in list(reversed(looks))[:SHOWN_LOOKS]
    ]
    return Table(("day, version", "right", "win rate", "rated well / badly"), rows)


def _version(one: Look) -> str:
    return f'<span style="white-space:nowrap">{escape(one.version)}</span>'


def _counted(one: Look) -> Markup:
    said = f"{one.right} of {one.checked}, at first {one.right_then}"
    return Markup(f'<span class="reject">{said}: drift</span>' if one.drifted else said)


def _rate(one: Look) -> str:
    rate = one.win_rate
    return f"{rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}]" if rate else "–"


def _order(one: Changed) -> tuple[bool, bool, str]:
    return not one.is_worse, one.right_now is True, one.id


def _changed_head(last: Look) -> str:
    more = len(last.changed) - SHOWN_CHANGES
    beyond = f" ({more} more are in the look's file)" if more > 0 else ""
    return f"Answers in other words than at first, the worse ones first{beyond}"


def _changed(last: Look) -> Markup:
    if not last.changed:
        return Markup("<p>none</p>")
    chosen = sorted(last.changed, key=_order)[:SHOWN_CHANGES]
    return side_by_side(
        (
            f"{_became(one)}: {one.question}",
            {
                f"then, {one.since}": one.then,
                f"now, {last.day}": one.now,
                "reference": one.reference,
            },
        )
        for one in chosen
    )


def _became(one: Changed) -> str:
    if one.right_then != one.right_now:
        return "right now, wrong at first" if one.right_now else "wrong now, right at first"
    judged = {
        Outcome.WIN: "better than at first",
        Outcome.LOSS: "worse than at first",
        Outcome.TIE: "as good as at first",
        Outcome.UNSCORED: "not judged",
    }[one.outcome]
    known = {True: "right", False: "wrong as at first", None: ""}[one.right_now]
    return f"{known}, {judged}" if known else judged
