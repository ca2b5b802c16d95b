"""How sure an evaluation's win rates are: intervals, evidence as it grew, and where it wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dropforge.artifacts import Comparison, Evaluation, Interval
from dropforge.judge import MIN_SCORED, Sample
from dropforge.judge.sampling import clusters
from dropforge.page import Block, Markup
from dropforge.plots import Line, Rate, Rest, beside, curves, figure, interval, percent
from dropforge.project.judging import Gate
from dropforge.statistics import confidence_sequence, power, running_evidence, wilson

SMALL = 8
"""Customers below which a share is drawn grey: its interval is wider than 60 points."""
TOPICS = 12
"""Topics that are drawn; all others share a row."""
_LOOKS = 12
"""How often the interval that holds at any stop is drawn; each is computed from the beginning."""
_HIGHEST = 1e6
"""Where the axis of the evidence ends at the latest."""
_LONGEST = 1000
"""Tickets up to which the power is computed: beyond, nearly every difference shows."""
_UNKNOWN = (0.0, 1.0)


def how_sure(
    evaluation: Evaluation, gate: Gate, samples: Sequence[Sample]
) -> Iterator[tuple[str, Block]]:
    """For each opponent the intervals against the gate, and how the evidence grew."""
    for comparison in evaluation.comparisons.values():
        drawn = [_intervals(comparison, gate, stopped=evaluation.stopped_early)]
        if any(clusters(samples, comparison.opponent)):
            drawn += _growth(evaluation, comparison, gate, samples)
        body = beside(*drawn)
        if comparison.opponent == "base":
            body = Markup(body + _strength(evaluation, gate))
        yield f"How sure is the win rate against the {comparison.opponent}?", body


def _strength(evaluation: Evaluation, gate: Gate) -> str:
    """How often so many tickets show what there is to see; nothing where that takes seconds."""
    planned = max(evaluation.planned, evaluation.samples)
    rates = [share for step in (1, 2, 3) if (share := gate.lower_bound + step / 10) < 0.99]
    if not MIN_SCORED <= planned <= _LONGEST or not rates:
        return ""
    chances = [
        f"{percent(rate)} in {percent(power(rate, planned, gate.lower_bound, alpha=gate.alpha))}"
        for rate in rates
    ]
    said = (
        f"What {planned:,} tickets of as many customers can show: that a model wins over "
        f"{percent(gate.lower_bound)}, where it truly wins {', '.join(chances)} of cases."
    )
    return f'<p class="note">{said}</p>'


def _intervals(comparison: Comparison, gate: Gate, *, stopped: bool) -> Markup:
    rates = [
        ("win rate, by customers", comparison.win_rate),
        ("anytime, for every stop", comparison.anytime),
        ("Wilson, by tickets", comparison.wilson),
        ("length-controlled", comparison.length_controlled),
        *((f"judge {judge}", rate) for judge, rate in comparison.by_judge.items()),
    ]
    rows = [
        (name, rate.point, rate.low, rate.high)
        for i, (name, rate) in enumerate(rates)
        if rate is not None and (i == 0 or (rate.low, rate.high) != _UNKNOWN)
    ]
    return figure(
        "Win rate with its 95 % interval, against the gate",
        interval(rows, _asked(comparison, gate)),
        "Ties count as half a win. The gate reads the point of the first row, and the evidence; "
        "the other rows say how much hangs on the way of counting."
        + (" Since judging stopped early, trust the anytime row most." if stopped else ""),
    )


def _asked(comparison: Comparison, gate: Gate) -> dict[str, float]:
    if comparison.opponent != "base":
        return {"asked: at least": gate.against_champion}
    if gate.lower_bound == gate.win_rate:
        return {"asked, and to be shown:": gate.win_rate}
    return {"to be shown: over": gate.lower_bound, "asked: over": gate.win_rate}


def _growth(
    evaluation: Evaluation, comparison: Comparison, gate: Gate, samples: Sequence[Sample]
) -> list[Markup]:
    """Evidence and win rate after each customer, over the tickets judged by then."""
    found = clusters(samples, comparison.opponent)
    scores = [sum(own) / len(own) for own in found]
    places = _running([len(own) for own in found])
    planned = max(evaluation.planned, len(samples))
    threshold = gate.lower_bound if comparison.opponent == "base" else gate.against_champion
    horizon = max(evaluation.customers or planned, len(scores), 1)
    grown = running_evidence(scores, threshold, horizon=horizon, alpha=gate.alpha)
    means = [total / n for n, total in enumerate(_running(scores), start=1)]
    rest = _rest(evaluation, samples)
    target = 1 / gate.alpha
    base = comparison.opponent == "base"
    asked = f"{target:g}{' asked' * base}: chance gets there in {percent(gate.alpha)}"
    evidence = curves(
        [Line("evidence", [(0, 1.0), *zip(places, grown, strict=True)])],
        "tickets judged",
        marks={asked: target},
        right=planned,
        rest=rest,
        log=True,
        top=_HIGHEST,
    )
    bounds = _bounds(scores, places)
    rate = curves(
        [
            Line("win rate", list(zip(places, means, strict=True))),
            Line("its 95 % interval", [(x, found.low) for x, found in bounds]),
            Line("", [(x, found.high) for x, found in bounds]),
        ],
        "tickets judged",
        marks={f"{name} {percent(at)}": at for name, at in _asked(comparison, gate).items()},
        right=planned,
        rest=rest,
        top=1.0,
        tick=percent,
    )
    return [
        figure(f"Evidence of more than {percent(threshold)}", evidence, _stopped(evaluation)),
        figure(
            "The win rate, ticket by ticket",
            rate,
            "The interval holds at every ticket at once, so it may be looked at while judging.",
        ),
    ]


def _running(values: Sequence[float]) -> list[float]:
    total, sums = 0.0, []
    for value in values:
        total += value
        sums.append(total)
    return sums


def _bounds(scores: Sequence[float], places: Sequence[float]) -> list[tuple[float, Interval]]:
    every = max(1, len(scores) // _LOOKS) if len(scores) <= 1000 else len(scores)
    ends = sorted({*range(every, len(scores) + 1, every), len(scores)})
    return [(places[end - 1], confidence_sequence(scores[:end])) for end in ends]


def _rest(evaluation: Evaluation, samples: Sequence[Sample]) -> Rest | None:
    if not evaluation.stopped_early or not samples:
        return None
    saved = evaluation.planned - evaluation.samples
    return Rest(len(samples), f"{saved:,} tickets not judged")


def _stopped(evaluation: Evaluation) -> str:
    """Where judging ended, and what that saved."""
    if not evaluation.stopped_early:
        return f"All tickets that were planned were judged: {evaluation.samples:,}."
    saved = evaluation.planned - evaluation.samples
    return (
        f"Judging stopped after {evaluation.samples:,} of {evaluation.planned:,} tickets, when the "
        f"answer was clear; {percent(saved / evaluation.planned)} of the judge's calls were saved."
    )


def where(evaluation: Evaluation, samples: Sequence[Sample]) -> Iterator[tuple[str, Block]]:
    """The win rate by topic and by length, for each opponent."""
    for opponent in evaluation.comparisons:
        scored = [(s, score) for s in samples if (score := _score(s, opponent)) is not None]
        if not scored:
            continue
        of = partial(_longer, opponent=opponent)
        drawn = [
            figure(
                "By topic",
                _rates(scored, lambda s: s.topic or "no topic", most=TOPICS),
                f"Grey: fewer than {SMALL} customers.",
            ),
            figure("By length of the challenger's answer", _rates(scored, _bucket, _BUCKETS)),
            figure(
                f"By length against the {opponent}'s answer",
                _rates(scored, of, _LONGER),
                "A judge that likes long answers shows here.",
            ),
        ]
        yield f"Where it wins against the {opponent}", beside(*drawn)


Scored = Sequence[tuple[Sample, float]]


def _score(sample: Sample, opponent: str) -> float | None:
    judged = sample.judged.get(opponent)
    return judged.score if judged else None


def _rates(
    scored: Scored,
    kind: Callable[[Sample], str],
    order: Sequence[str] = (),
    *,
    most: int | None = None,
) -> Markup:
    """The win rate of each kind of ticket: in the given order, else the most frequent first."""
    found: dict[str, list[tuple[Sample, float]]] = {name: [] for name in order}
    for sample, score in scored:
        found.setdefault(kind(sample), []).append((sample, score))
    named = [(name, listed) for name, listed in found.items() if listed]
    if not order:
        named.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    if most is not None and len(named) > most:
        others = [pair for _, listed in named[most - 1 :] for pair in listed]
        named = [*named[: most - 1], (f"{len(named) - most + 1} others", others)]
    return interval([_rate(name, listed) for name, listed in named], {}, middle=0.5)


def _rate(name: str, listed: Scored) -> Rate:
    """Its interval counts customers, so that a customer's tickets are no independent evidence."""
    customers = len({sample.cluster or sample.id for sample, _ in listed})
    found = wilson(sum(score for _, score in listed) / len(listed), customers)
    return Rate(
        name, found.point, found.low, found.high, f"n {len(listed):,}", faint=customers < SMALL
    )


_EDGES = (20, 40, 80, 160)
_BUCKETS = (
    "up to 20 words",
    "21 to 40 words",
    "41 to 80 words",
    "81 to 160 words",
    "over 160 words",
)
_LONGER = ("much shorter", "about as long", "much longer")


def _bucket(sample: Sample) -> str:
    words = len(sample.answers.get("challenger", "").split())
    return _BUCKETS[sum(words > edge for edge in _EDGES)]


def _longer(sample: Sample, opponent: str) -> str:
    """Much is a third more or less, and five words at least."""
    ours, theirs = (len(sample.answers.get(arm, "").split()) for arm in ("challenger", opponent))
    if abs(ours - theirs) < 5 or 0.75 * theirs <= ours <= theirs / 0.75:
        return _LONGER[1]
    return _LONGER[2] if ours > theirs else _LONGER[0]
