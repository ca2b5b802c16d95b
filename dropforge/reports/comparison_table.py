"""The table of the page that compares versions: sorted by radio buttons, without a script.

The rows lie in a grid, and the chosen button decides which of their numbers is their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from dropforge.artifacts import Interval
from dropforge.page import Markup
from dropforge.plots import percent
from dropforge.reports.comparison import (
    LATENCY,
    Candidate,
    agreement_of,
    expense,
    facts_right,
    groups,
    ordered,
    usage_of,
    usd_per_thousand,
    win_rate,
)

_COLUMNS = (
    "version",
    "alike",
    "model",
    "made",
    "win rate",
    "facts",
    "chrF",
    "golden",
    "checks",
    "p50 / p95",
    "$ / 1,000",
    "training",
    "verdict",
    "judge fits",
)
_ORDERS = ("newest", "best", "facts", "cheapest", "fastest")
SORTING = (
    "body{max-width:82rem}p,.tiles,.plots{max-width:64rem}"
    ".versions{display:grid;width:max-content;min-width:100%;font-size:.86rem;"
    f"grid-template-columns:repeat({len(_COLUMNS)},auto)}}"
    ".versions tbody{display:contents}.versions tr{display:grid;grid-column:1/-1;"
    "grid-template-columns:subgrid;order:var(--newest)}.versions tr:first-child{order:-1!important}"
    ".versions td,.versions th{overflow-wrap:normal;white-space:nowrap;"
    "padding:.3rem .36rem}.versions small{"
    "color:var(--soft)}.versions td:first-child,.versions th:first-child{position:sticky;left:0;"
    "background:var(--paper);z-index:1}.versions .champion td{font-weight:700}"
    ".groups{list-style:none;padding:0;font-size:.88rem}.groups svg{display:inline-block;"
    "vertical-align:-3px}.groups li{overflow-wrap:anywhere}"
    "@media print{.scroll{overflow:visible}.versions{width:auto;font-size:.6rem}"
    ".versions td,.versions th{white-space:normal;padding:.15rem}}"
    + "".join(f"#by-{name}:checked~.scroll .versions tr{{order:var(--{name})}}" for name in _ORDERS)
)


def letters(listed: Sequence[Candidate]) -> dict[str, str]:
    """By version, the letter of those judged alike: A is the champion's; none where not judged.

    After 26 groups they share the last one.
    """
    return {
        candidate.version: chr(65 + min(number, 25))
        for number, alike in enumerate(groups(ordered(listed)).values())
        for candidate in alike
    }


def versions(listed: Sequence[Candidate]) -> Markup:
    """The table with its buttons; the given order is that of the button chosen at first."""
    ranks = {name: _ranks(listed, key) for name, key in _keys(listed).items()}
    buttons = "".join(_button(name, chosen=name == "newest") for name in _ORDERS)
    numbers = letters(listed)
    rows = "".join(
        _row(
            candidate,
            "".join(f"--{name}:{ranks[name][candidate.version]};" for name in _ORDERS),
            numbers.get(candidate.version, ""),
        )
        for candidate in listed
    )
    header = "".join(f'<th role="columnheader">{escape(name)}</th>' for name in _COLUMNS)
    return Markup(
        f'<div class="reading">{buttons}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="model versions"><table class="versions" role="table"><tr role="row">{header}'
        f"</tr>{rows}</table></div></div>{_note(numbers)}"
    )


def _note(numbers: dict[str, str]) -> str:
    different = len(set(numbers.values())) > 1
    said = (
        "Compare only versions of the same letter (column “alike”): others had other judges or "
        "other test tickets. "
        if different
        else ""
    )
    return (
        f'<p class="note">{said}Rows: what it was trained on. Checks: answers that failed one. '
        "p50 / p95: half, and 95 %, of the answers came within. $ / 1,000: for 1,000 answers. "
        "Judge fits: how often its outcome was that of people.</p>"
    )


Key = Callable[[Candidate], float | None]


def _keys(listed: Sequence[Candidate]) -> dict[str, Key]:
    """By name of an order, the number to sort by, the least first; None comes last."""
    places = {candidate.version: float(i) for i, candidate in enumerate(listed)}
    return {
        "newest": lambda c: places[c.version],
        "best": lambda c: _falling(win_rate(c)),
        "facts": lambda c: _falling(facts_right(c)),
        "cheapest": expense(listed).of,
        "fastest": LATENCY.of,
    }


def _falling(rate: Interval | None) -> float | None:
    return None if rate is None else -rate.point


def _ranks(listed: Iterable[Candidate], key: Key) -> dict[str, int]:
    known = [(key(candidate), candidate.version) for candidate in listed]
    chosen = sorted(known, key=lambda pair: (pair[0] is None, pair[0] or 0.0))
    return {version: place for place, (_, version) in enumerate(chosen)}


def _button(name: str, *, chosen: bool) -> str:
    said = "champion, then newest" if name == "newest" else f"{name} first"
    said = "most facts first" if name == "facts" else said
    mark = " checked" if chosen else ""
    return (
        f'<input type="radio" name="order" id="by-{name}"{mark}>'
        f'<label for="by-{name}">{said}</label>'
    )


def _row(candidate: Candidate, order: str, letter: str) -> str:
    style = ' class="champion"' if candidate.is_champion else ""
    cells = "".join(f'<td role="cell">{cell}</td>' for cell in _cells(candidate, letter))
    return f'<tr role="row"{style} style="{order}">{cells}</tr>'


def _cells(c: Candidate, letter: str) -> list[str]:
    standing = f"<br><small>{escape(c.standing)}</small>" if c.standing else ""
    ends = f", ends {escape(c.ends)}" if c.ends else ""
    made = datetime.fromtimestamp(c.made_at, UTC).strftime("%Y-%m-%d")
    used, facts, cost = usage_of(c), facts_right(c), usd_per_thousand(c)
    rows = "" if c.rows is None else f"{c.rows:,} rows"
    within = f"{used.seconds_p50:.2f} / {used.seconds_p95:.2f} s" if used else "–"
    return [
        f"{escape(c.version)}{standing}",
        letter or "–",
        f"{escape(c.base_model)}<br><small>{escape(c.backend)}{ends}</small>",
        f"{made}<br><small>{rows}</small>",
        _rate(win_rate(c)),
        percent(facts.point) if facts else "–",
        _chrf(c),
        _golden(c),
        _checks(c),
        within if used and used.seconds_p50 else "–",
        "–" if cost is None else f"${cost:,.2f}",
        "–" if c.training_usd is None else f"${c.training_usd:,.2f}",
        escape(c.verdict.decision.verdict) if c.verdict else "<small>not judged</small>",
        _agreement(c),
    ]


def _rate(rate: Interval | None) -> str:
    if rate is None:
        return "–"
    return f"{percent(rate.point)}<br><small>{percent(rate.low)} to {percent(rate.high)}</small>"


def _chrf(c: Candidate) -> str:
    value = c.evaluation.scores.get("challenger", {}).get("chrf") if c.evaluation else None
    return "–" if value is None else percent(value)


def _golden(c: Candidate) -> str:
    golden = c.evaluation.golden if c.evaluation else None
    if golden is None:
        return "–"
    return f"{golden.right.get('challenger', 0)} of {golden.questions}"


def _checks(c: Candidate) -> str:
    failing = c.evaluation.failing.get("challenger") if c.evaluation else None
    if c.evaluation is None or failing is None:
        return "–"
    return f"{failing} of {c.evaluation.samples}"


def _agreement(c: Candidate) -> str:
    known = agreement_of(c)
    if known is None:
        return "<small>no labels</small>" if c.evaluation else "–"
    share = percent(known.agreement.point)
    return f"{share}<br><small>{known.labels} pairs</small>"
