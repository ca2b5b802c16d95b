"""A project's looks for drift over some months: two versions, and a provider that changes one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from dropforge.chat import Message
from dropforge.drift import Asked, FirstAnswer, Look, Pair, Ratings, look
from dropforge.golden import GoldenQuestion
from dropforge.judge import Judged, Outcome
from dropforge.reports.drift import Promotion

QUESTIONS = 24
WEEK = timedelta(days=7)
START = datetime(2026, 8, 3, 4, tzinfo=UTC)
OLD, NEW = "1ef300e46bd5", "9ac41b7720de"


def pair(number: int, then: str | None, now: str, day: str) -> Pair:
    """A golden question with the first answer and today's; the right one names the number."""
    reference = f"You have {number} days to send it back."
    messages = (Message("user", f"How long may I keep item {number}?"),)
    question = GoldenQuestion(f"q{number}", messages, reference)
    asked = Asked(question, checked=True, cluster=str(number))
    if then is None:
        return Pair(asked, None, now)
    lost = str(number) not in now
    judged = Judged(Outcome.LOSS if lost else Outcome.TIE, score=0.0 if lost else 0.5)
    return Pair(asked, FirstAnswer(str(number), day, then), now, None if then == now else judged)


def one_look(week: int, version: str, first: int, *, wrong: int, reworded: int = 0) -> Look:
    """The look of a week, at a version that was first looked at in week `first`."""
    at = START + week * WEEK
    day, since = at.date().isoformat(), (START + first * WEEK).date().isoformat()
    pairs = []
    for number in range(100, 100 + QUESTIONS):
        then = f"It is {number} days."
        now = then
        if number - 100 < wrong:
            now = "It depends; please ask <our> colleagues & have your receipt at hand."
        elif number - 100 < wrong + reworded:
            now = f"{number} days from the day it arrives."
        pairs.append(pair(number, None if week == first else then, now, since))
    return look(
        pairs,
        project="orrinvale",
        version=version,
        day=day,
        at=at.timestamp(),
        golden="0f" * 32,
        questions=QUESTIONS,
        tolerance=0.1,
        ratings=Ratings(up=40 + week, down=3 + wrong),
    )


def looks() -> list[Look]:
    """14 weeks: a version, its successor from week 7 on, which is changed in week 12."""
    old = [one_look(week, OLD, 0, wrong=0, reworded=week % 3) for week in range(7)]
    new = [one_look(week, NEW, 7, wrong=0, reworded=week % 2) for week in range(7, 12)]
    changed = [one_look(week, NEW, 7, wrong=9, reworded=8) for week in (12, 13)]
    return [*old, *new, *changed]


def summaries() -> list[Look]:
    """The same as the registry has them."""
    return [msgspec.structs.replace(one, changed=()) for one in looks()]


def promotions() -> list[Promotion]:
    """Of both versions, each before its first look."""
    days = (START - timedelta(days=2), START + 6.5 * WEEK)
    return [Promotion(v, at.timestamp()) for v, at in zip((OLD, NEW), days, strict=True)]
