"""Pairs of answers to read side by side, with a choice of which: without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from dropforge.artifacts import Evaluation
from dropforge.judge import Judged, Outcome, Sample
from dropforge.page import Markup
from dropforge.plots import percent
from dropforge.reports.verdict_answers import clipped

_SHOWN = {"loss": 14, "flip": 8, "unscored": 4, "tie": 6, "win": 8}
"""How many pairs of each kind, the kinds that teach most first."""
SHOWN_PAIRS = sum(_SHOWN.values())
_SAID = {
    "loss": "lost to the {}",
    "flip": "undecided against the {}",
    "unscored": "not scored against the {}",
    "tie": "tied with the {}",
    "win": "won against the {}",
}
_SIGN = {"loss": "✗", "flip": "⇄", "unscored": "–", "tie": "=", "win": "✓"}


class _Kind(NamedTuple):
    """Pairs of one outcome against one opponent; `key` names them in the style sheet."""

    key: str
    said: str
    found: int
    shown: list[Sample]


def kind_of(judged: Judged) -> str:
    """loss, flip (a tie because the judge changed its mind with the order), unscored, tie, win."""
    return "flip" if judged.flipped else judged.outcome.value


def pairs(evaluation: Evaluation, samples: Sequence[Sample]) -> Markup:
    """At most `SHOWN_PAIRS` pairs for each opponent, losses first; radio buttons choose a kind."""
    kinds = list(_kinds(evaluation, samples))
    chosen = {id(sample): sample for kind in kinds for sample in kind.shown}
    if not chosen:
        return Markup("<p>none</p>")
    buttons = [_button("all", f"all {len(chosen)}", chosen=True)]
    for kind in kinds:
        count = f"{len(kind.shown)} of {kind.found:,}"
        count = f"{kind.found:,}" if len(kind.shown) == kind.found else count
        buttons.append(_button(kind.key, f"{kind.said}: {count}"))
    body = "".join(_pair(sample, evaluation) for sample in chosen.values())
    return Markup(
        '<div class="reading" role="group" aria-label="pairs to read">'
        f"{''.join(buttons)}{body}</div>"
    )


def pair_style(evaluation: Evaluation) -> str:
    """The style sheet's rules that make the radio buttons choose."""
    keys = [f"{name}-{n}" for name in _SHOWN for n in range(len(evaluation.comparisons))]
    return "".join(f"#{key}:checked~.pair:not(.{key}){{display:none}}" for key in keys)


def _kinds(evaluation: Evaluation, samples: Sequence[Sample]) -> Iterator[_Kind]:
    for name, most in _SHOWN.items():
        for number, opponent in enumerate(evaluation.comparisons):
            found = [
                s for s in samples if opponent in s.judged and kind_of(s.judged[opponent]) == name
            ]
            if found:
                said = _SAID[name].format(opponent)
                yield _Kind(f"{name}-{number}", said, len(found), found[:most])


def _button(key: str, text: str, *, chosen: bool = False) -> str:
    mark = " checked" if chosen else ""
    return (
        f'<input type="radio" name="outcome" id="{key}"{mark}>'
        f'<label for="{key}">{escape(text)}</label>'
    )


def _pair(sample: Sample, evaluation: Evaluation) -> str:
    against = [arm for arm in evaluation.comparisons if arm in sample.judged]
    numbers = {arm: number for number, arm in enumerate(evaluation.comparisons)}
    keys = " ".join(f"{kind_of(sample.judged[arm])}-{numbers[arm]}" for arm in against)
    badges = "".join(_badge(arm, sample.judged[arm]) for arm in against)
    said = "".join(one for arm in against for one in _opinions(arm, sample.judged[arm]))
    return (
        f'<article class="pair {keys}"><h3>{badges}{escape(clipped(sample.question))}</h3>'
        f'<div class="answers">{"".join(_answers(sample, against))}</div>'
        + (f"<ul>{said}</ul>" if said else "")
        + "</article>"
    )


def _badge(arm: str, judged: Judged) -> str:
    kind = kind_of(judged)
    return f'<span class="badge {kind}">{_SIGN[kind]} {escape(_SAID[kind].format(arm))}</span>'


def _answers(sample: Sample, against: Sequence[str]) -> Iterator[str]:
    """The reference, then the answers, each with the failed checks and the day it was recorded."""
    yield f"<div><b>the agent's answer</b><p>{escape(clipped(sample.reference))}</p></div>"
    for arm in ("challenger", *against):
        notes = [f"recorded on {sample.recorded[arm]}"] if arm in sample.recorded else []
        notes += [f"fails: {', '.join(sample.failed[arm])}"] if sample.failed.get(arm) else []
        head = ", ".join([arm, *notes])
        text = clipped(sample.answers.get(arm, ""))
        yield f"<div><b>{escape(head)}</b><p>{escape(text) or '(empty)'}</p></div>"


def _opinions(arm: str, judged: Judged) -> Iterator[str]:
    """What each judge said; the sum of them where there is no more to tell."""
    for by in judged.by:
        outcome = "changed its mind" if by.flipped else by.outcome.value
        sure = "" if by.outcome is Outcome.UNSCORED else f", {percent(by.confidence)} sure"
        yield _opinion(f"{by.judge} against the {arm}: {outcome}{sure}", by.rationale)
    if not judged.by and judged.rationale:
        yield _opinion(f"the judge, {percent(judged.confidence)} sure", judged.rationale)


def _opinion(head: str, rationale: str) -> str:
    said = f": {escape(clipped(rationale))}" if rationale else ""
    return f"<li>{escape(head)}{said}</li>"
