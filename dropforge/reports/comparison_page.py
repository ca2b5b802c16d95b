"""The page that compares a project's model versions: which one, how good, how dear, how fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from dropforge.artifacts import Interval
from dropforge.page import Block, Markup, page, tiles
from dropforge.plots import Axis, Point, amounts, beside, figure, mark, percent, scatter
from dropforge.plots.marks import short
from dropforge.reports.comparison import (
    LATENCY,
    Candidate,
    Expense,
    Measure,
    Move,
    expense,
    facts_right,
    front,
    groups,
    judged_by,
    ordered,
    quality,
    win_rate,
)
from dropforge.reports.comparison_table import SORTING, letters, versions

LABELLED = 24
"""Versions up to which every point of a plot is labelled; beyond, those that matter."""
_DAY = 86_400


def comparison_report(
    project: str, candidates: Sequence[Candidate], moves: Sequence[Move] = ()
) -> str:
    """One self-contained HTML page.

    Args:
        candidates: every version of the project, in any order.
        moves: when which version began to answer.
    """
    listed = ordered(candidates)
    alike = groups(listed)
    sections: list[tuple[str, Block]] = []
    if listed:
        sections = [
            ("At a glance", tiles(_figures(listed))),
            ("The versions", versions(listed)),
            *_plots(listed, alike),
            *_over_time(listed, moves),
        ]
    return page(
        f"The models of {project}",
        _lead(project, listed),
        sections,
        footer="Win rates are against each version's own base model, ties as half a win; "
        "intervals are 95 %. Costs are list prices.",
        style=SORTING,
    )


def _leading(listed: Sequence[Candidate]) -> list[Candidate]:
    """The champion and those judged alike; without a judged champion, the newest's group."""
    return next(iter(groups(listed).values()), [])


def _lead(project: str, listed: Sequence[Candidate]) -> str:
    if not listed:
        return f"{project} has no model yet."
    judged = [c for c in listed if c.evaluation is not None]
    champion = next((c for c in listed if c.is_champion), None)
    count = f"{len(listed):,} version{'s' * (len(listed) > 1)}, {len(judged):,} judged"
    if champion is None:
        return f"{count}; none of them answers customers yet."
    rate = win_rate(champion)
    said = f", which wins {_span(rate)} against its base" if rate else ", which was never judged"
    return f"{champion.version} answers customers{said}. {count}."


def _span(rate: Interval) -> str:
    return f"{percent(rate.point)} [{percent(rate.low)}, {percent(rate.high)}]"


def _figures(listed: Sequence[Candidate]) -> dict[str, str]:
    alike = _leading(listed)
    if not alike:
        return {"no version was judged yet": "–"}
    measure, paid = quality(alike), expense(alike)
    found = {}
    best = [(rate.point, c) for c in alike if (rate := measure.of(c))]
    if best:
        share, winner = max(best, key=lambda pair: pair[0])
        found[f"highest {measure.name}: {winner.version}"] = percent(share)
    for one in (paid, LATENCY):
        known = [(amount, c) for c in alike if (amount := one.of(c)) is not None]
        if known:
            amount, winner = min(known, key=lambda pair: pair[0])
            found[f"least {one.name}: {winner.version}"] = f"{'$' * one.money}{amount:,.2f}"
    found[f"judged alike: by the same judges on the same tickets, of {len(listed):,}"] = (
        f"{len(alike):,}"
    )
    return found


def _plots(
    listed: Sequence[Candidate], alike: dict[tuple[tuple[str, ...], str], list[Candidate]]
) -> Iterator[tuple[str, Block]]:
    """Quality against cost and against latency; the groups have marks of their own."""
    if not alike:
        return
    leading = next(iter(alike.values()))
    measure, paid = quality(leading), expense(listed)
    drawn = [_against(listed, leading, measure, one) for one in (paid, LATENCY)]
    shown = [block for block in drawn if block]
    if shown:
        yield "Quality, cost and latency", Markup(f"{_legend(alike)}{beside(*shown)}")


def _against(
    listed: Sequence[Candidate], leading: Sequence[Candidate], measure: Measure, paid: Expense
) -> Markup | None:
    best = front(leading, measure, paid)
    winners = {candidate.version for _, _, candidate in best}
    known = [
        (amount, rate, candidate)
        for candidate in listed
        if (amount := paid.of(candidate)) is not None and (rate := measure.of(candidate))
    ]
    if not known:
        return None
    numbers = letters(listed)
    named = len(known) <= LABELLED
    points = [
        Point(
            f"{c.version}, {c.base_model} on {c.backend}{c.standing and ', ' + c.standing}",
            c.short if named or c.standing or c.version in winners else "",
            amount,
            rate.point,
            rate.low,
            rate.high,
            ord(numbers[c.version]) - ord("A") if c.version in numbers else 0,
            c.is_champion,
        )
        for amount, rate, c in known
    ]
    drawn = scatter(
        points,
        amounts(paid.name, [point.x for point in points]),
        front=[(amount, share) for amount, share, _ in best],
    )
    best_of = ", ".join(candidate.short for _, _, candidate in best)
    missing = len(listed) - len(known)
    left_out = f" {missing:,} without these numbers are not drawn." if missing else ""
    return figure(
        f"{measure.name[0].upper()}{measure.name[1:]}, by {paid.what}",
        drawn,
        f"Better is up and left. Dashed: no version of group A is better for less: {best_of}."
        f"{left_out}",
    )


def _legend(alike: dict[tuple[tuple[str, ...], str], list[Candidate]]) -> Markup:
    """What each mark stands for, and that the groups cannot be compared."""
    items = []
    for number, ((judges, dataset), listed) in enumerate(alike.items()):
        if number > 4:
            break
        sign = mark(number, 8, 8)
        count = f"{len(listed):,} version{'s' * (len(listed) > 1)}"
        said = f"{chr(65 + number)}: {count}, judged by {', '.join(judges)} on {dataset[:12]}"
        others = len(alike) - 5
        said += f", and {others} other groups" if number == 4 and others > 0 else ""
        items.append(
            '<li><svg aria-hidden="true" viewBox="0 0 16 16" width="16" height="16">'
            f"{sign}</svg> {escape(said)}</li>"
        )
    note = (
        '<p class="note">Groups cannot be compared with each other: other judges, or other test '
        "tickets.</p>"
    )
    return Markup(f'<ul class="groups">{"".join(items)}</ul>{note if len(alike) > 1 else ""}')


def _over_time(listed: Sequence[Candidate], moves: Sequence[Move]) -> Iterator[tuple[str, Block]]:
    """When which quality was reached, and when it began to answer."""
    judged = [c for c in listed if c.evaluation is not None]
    measure = Measure("win rate against the base", win_rate)
    if not any(win_rate(c) for c in judged):
        measure = Measure("facts right", facts_right)
    known = [(c.judged_at or c.made_at, rate, c) for c in judged if (rate := measure.of(c))]
    if not known:
        return
    numbers = letters(listed)
    named = len(known) <= LABELLED
    points = [
        Point(
            f"{c.version}, {_day(at)}",
            c.short if named or c.standing else "",
            at,
            rate.point,
            rate.low,
            rate.high,
            ord(numbers[c.version]) - ord("A"),
            c.is_champion,
        )
        for at, rate, c in known
    ]
    began = {move.at: move.version[:7] for move in moves}
    axis = _days([*(point.x for point in points), *began])
    drawn = scatter(points, axis, events=began)
    yield (
        "Over time",
        figure(
            f"{measure.name[0].upper()}{measure.name[1:]}, by the day it was judged",
            drawn,
            "Dotted lines: from then on the version named at the foot answered customers.",
        ),
    )


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _days(times: Sequence[float]) -> Axis:
    """Midnights of at most three days, evenly."""
    low, high = min(times) - _DAY / 2, max(times) + _DAY / 2
    span = high - low
    low, high = low - 0.04 * span, high + 0.08 * span
    first, last = -int(-low // _DAY), int(high // _DAY)
    every = max(1, -(-(last - first + 1) // 3))
    days = range(first, last + 1, every)
    return Axis("", low, high, {float(day * _DAY): _day(day * _DAY) for day in days})


def text_rows(candidates: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """The table in short, for a terminal: header first."""
    listed = ordered(candidates)
    numbers = letters(listed)
    paid = expense(listed)
    header = (
        "version",
        "win rate",
        "facts",
        paid.name,
        "p50",
        "training",
        "verdict",
        "role",
        "alike",
        "model",
    )
    rows: list[tuple[str, ...]] = [header]
    for c in listed:
        rate, facts = win_rate(c), facts_right(c)
        amount, waited = paid.of(c), LATENCY.of(c)
        rows.append(
            (
                c.version,
                _span(rate) if rate else "",
                percent(facts.point) if facts else "",
                "" if amount is None else short(amount),
                "" if waited is None else f"{waited:.2f} s",
                "" if c.training_usd is None else f"${c.training_usd:,.2f}",
                c.verdict.decision.verdict if c.verdict else "not judged",
                c.standing,
                numbers.get(c.version, ""),
                f"{c.base_model} on {c.backend}",
            )
        )
    return rows


def judged_in(candidates: Sequence[Candidate]) -> list[str]:
    """What each letter of the table stands for, a sentence each; nothing where all are alike."""
    alike = groups(ordered(candidates))
    if len(alike) < 2:
        return []
    return [
        f"{letter}: judged by {', '.join(judges)} on dataset {dataset[:12]}"
        for letter, (judges, dataset) in zip(
            dict.fromkeys(letters(ordered(candidates)).values()), alike, strict=False
        )
    ]


__all__ = ["Candidate", "Move", "comparison_report", "judged_by", "judged_in", "text_rows"]
