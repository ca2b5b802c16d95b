"""Drift: does the model in production still answer as it did when it was first looked at?

A provider may change a model under its name. So the same questions are asked again and again: the
project's golden questions, else test tickets of the model's own dataset. Its first answers are kept
in `judge/<project>/drift/baseline-<version>/answers.jsonl` and are never changed; each look is held
against them and written to `judge/<project>/drift/<day>/drift.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import comb
from typing import Any

import msgspec

from dropforge.artifacts import Interval, digest
from dropforge.chat import ChatExample, encode_lines
from dropforge.golden import GoldenQuestion, is_right
from dropforge.judge import Judged, Outcome, choose_samples, cluster_of, fact_recall, facts
from dropforge.statistics import clustered

SURE = 0.05
"""How often, at most, chance alone would make so many more right answers wrong than wrong right."""
NEUTRAL = 0.5
"""The win rate of answers that are neither better nor worse than the first ones."""
BASELINE = "answers.jsonl"
Messages = list[dict[str, str]]


class Asked(msgspec.Struct, frozen=True):
    """A question of a look.

    Attributes:
        checked: whether an answer can be told right or wrong: not so for a ticket whose reference
            states no fact.
        cluster: what questions of one customer have in common; they are no independent evidence.
    """

    question: GoldenQuestion
    checked: bool
    cluster: str


class FirstAnswer(msgspec.Struct, frozen=True):
    """What the model said the first time; `address` stands for all that it was asked with."""

    address: str
    day: str
    answer: str


class Pair(msgspec.Struct, frozen=True):
    """One question with the first answer and today's.

    Attributes:
        first: None where today's is the first.
        judged: today's answer held against the first one; None where both are the same text.
    """

    asked: Asked
    first: FirstAnswer | None
    now: str
    judged: Judged | None = None

    @property
    def then(self) -> str:
        """The first answer's text."""
        return self.first.answer if self.first else self.now

    @property
    def is_same(self) -> bool:
        return self.then == self.now


class Ratings(msgspec.Struct, frozen=True):
    """What customers said of the version's answers since the look before."""

    up: int = 0
    down: int = 0


class Changed(msgspec.Struct, frozen=True):
    """A question that is answered in other words than at first.

    Attributes:
        right_then, right_now: None where right and wrong cannot be told apart.
        outcome: today's answer against the first one, as the judges saw it.
    """

    id: str
    question: str
    reference: str
    then: str
    now: str
    since: str
    right_then: bool | None
    right_now: bool | None
    outcome: Outcome

    @property
    def is_worse(self) -> bool:
        """Wrong by now, or else worse in the judges' eyes."""
        fell = self.right_then is True and self.right_now is False
        return fell or (self.outcome is Outcome.LOSS and self.right_now is not True)


class Look(msgspec.Struct, frozen=True):
    """What one look at the model in production found, against its first answers.

    Attributes:
        day: ISO 8601. `at` is in seconds since the epoch.
        since: the day of the oldest first answer that today's are held against.
        golden: hash of the golden questions; None where test tickets stood for them.
        questions, asked: how many there are, and how many there was time for.
        checked: of those asked, the ones whose answers are right or wrong.
        right, right_then: how many of these are right now, and were at first.
        fell, rose: right answers that became wrong, and wrong ones that became right.
        chance: how often as many would fall if as many rose as fell (`chance_of_falls`).
        facts, facts_then: mean share of the references' facts stated; None without any.
        same: answers in the very words of the first ones.
        compared, unscored: pairs that judges scored or that are the same, and those they did not.
        win_rate: of today's answers against the first ones, ties as half a win; None where
            nothing is compared, as at the first look.
        findings: why this is drift; empty: it is none.
        changed: only in the look's own file.
    """

    project: str
    day: str
    at: float
    version: str
    since: str
    golden: str | None
    questions: int
    asked: int
    checked: int
    right: int
    right_then: int
    fell: int
    rose: int
    chance: float
    facts: float | None
    facts_then: float | None
    same: int
    compared: int
    unscored: int
    win_rate: Interval | None
    tolerance: float
    ratings: Ratings = Ratings()
    findings: tuple[str, ...] = ()
    changed: tuple[Changed, ...] = ()

    @property
    def drifted(self) -> bool:
        return bool(self.findings)

    @property
    def is_first(self) -> bool:
        """Whether there were no earlier answers to hold its own against."""
        return self.compared + self.unscored == 0

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        if self.drifted:
            return f"drift: {'; '.join(self.findings)}"
        right = f"{self.right} of {self.checked} answers right" if self.checked else "looked at"
        if self.is_first:
            return f"{right}; its first answers are kept"
        return f"{right}, {self.right_then} at first; no drift"

    @property
    def share_right(self) -> float | None:
        return self.right / self.checked if self.checked else None

    @property
    def share_right_then(self) -> float | None:
        return self.right_then / self.checked if self.checked else None


def golden_set(questions: Iterable[GoldenQuestion]) -> tuple[Asked, ...]:
    """The golden questions, each evidence of its own."""
    return tuple(Asked(question, checked=True, cluster=question.id) for question in questions)


def ticket_set(examples: Iterable[ChatExample], samples: int) -> tuple[Asked, ...]:
    """Test tickets that stand for golden questions: at most `samples`, the same ones each time."""
    return tuple(
        Asked(
            GoldenQuestion(example.id, example.prompt, example.reference, topic=example.topic),
            checked=bool(facts(example.reference)),
            cluster=cluster_of(example),
        )
        for example in choose_samples(examples, samples)
    )


def in_turn(asked: Iterable[Asked], day: str) -> list[Asked]:
    """The questions in the order of one day, another one each day.

    Where time is short, the last ones are left out: not the same ones each time.
    """
    return sorted(asked, key=lambda one: digest("drift", day, one.question.id))


def address(model_id: str, messages: Messages, max_tokens: int) -> str:
    """What stands for a prompt, system prompt included: another prompt has a first answer anew."""
    return digest("drift/1", model_id, messages, max_tokens)[:32]


_decoder = msgspec.json.Decoder(FirstAnswer)


def encode_baseline(answers: Mapping[str, FirstAnswer]) -> bytes:
    """JSONL in the order of the addresses."""
    return encode_lines(answers[key] for key in sorted(answers))


def decode_baseline(data: bytes | None) -> dict[str, FirstAnswer]:
    """The first answers by their address; none of a file that is not there."""
    return {one.address: one for one in _decoder.decode_lines(data or b"")}


def chance_of_falls(fell: int, rose: int) -> float:
    """How likely at least `fell` of the answers that changed would have become wrong by chance.

    The exact form of McNemar's test (McNemar 1947, "Note on the sampling error of the difference
    between correlated proportions"): given fell + rose changes, falls are binomial with 1/2 where
    nothing has changed. One-sided, since only a fall is drift. 1 where nothing changed.
    """
    changes = fell + rose
    return float(sum(comb(changes, k) for k in range(fell, changes + 1)) / 2**changes)


def is_fall(checked: int, fell: int, rose: int, tolerance: float) -> bool:
    """Whether the share of right answers fell by more than `tolerance`, and by more than chance."""
    share = (fell - rose) / checked if checked else 0.0
    return share > tolerance + 1e-9 and chance_of_falls(fell, rose) < SURE


def look(pairs: Sequence[Pair], *, day: str, tolerance: float, **about: Any) -> Look:
    """Sum up one look.

    Drift is found where right answers fell (`is_fall`), or where the whole 95 % interval of the win
    rate against the first answers lies below 1/2 - `tolerance`.

    Args:
        pairs: at least one.
        about: the look's project, version, at, golden, questions and ratings.
    """
    checked = [_was_and_is_right(pair) for pair in pairs if pair.asked.checked]
    older = [pair for pair in pairs if pair.first]
    fell = sum(was and not now for was, now in checked)
    rose = sum(now and not was for was, now in checked)
    scores = _scores(older)
    compared = sum(map(len, scores))
    found = Look(
        **about,
        day=day,
        since=min(pair.first.day if pair.first else day for pair in pairs),
        asked=len(pairs),
        checked=len(checked),
        right=sum(now for _, now in checked),
        right_then=sum(was for was, _ in checked),
        fell=fell,
        rose=rose,
        chance=chance_of_falls(fell, rose),
        facts=_facts((pair, pair.now) for pair in pairs),
        facts_then=_facts((pair, pair.then) for pair in pairs),
        same=sum(pair.is_same for pair in older),
        compared=compared,
        unscored=len(older) - compared,
        win_rate=clustered(scores) if scores else None,
        tolerance=tolerance,
        changed=tuple(_changed(pair) for pair in older if not pair.is_same),
    )
    return msgspec.structs.replace(found, findings=_findings(found))


def _was_and_is_right(pair: Pair) -> tuple[bool, bool]:
    question = pair.asked.question
    return is_right(question, pair.then), is_right(question, pair.now)


def _scores(pairs: Iterable[Pair]) -> list[list[float]]:
    """Today's answers against the first ones, a list for each customer; the same text is a tie."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        score = NEUTRAL if pair.is_same else pair.judged.score if pair.judged else None
        if score is not None:
            found.setdefault(pair.asked.cluster, []).append(score)
    return list(found.values())


def _facts(answers: Iterable[tuple[Pair, str]]) -> float | None:
    shares = [fact_recall(pair.asked.question.reference, text) for pair, text in answers]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None


def _changed(pair: Pair) -> Changed:
    question, checked = pair.asked.question, pair.asked.checked
    was, now = _was_and_is_right(pair)
    return Changed(
        id=question.id,
        question=question.question,
        reference=question.reference,
        then=pair.then,
        now=pair.now,
        since=pair.first.day if pair.first else "",
        right_then=was if checked else None,
        right_now=now if checked else None,
        outcome=pair.judged.outcome if pair.judged else Outcome.UNSCORED,
    )


def _findings(found: Look) -> tuple[str, ...]:
    """Why this is drift, in sentences; none where it is not."""
    said = []
    if is_fall(found.checked, found.fell, found.rose, found.tolerance):
        said.append(
            f"{found.right} of {found.checked} answers are right, {found.right_then} were at first"
            f" ({found.fell} became wrong, {found.rose} right; chance alone does so in"
            f" {found.chance:.1%} of looks)"
        )
    rate = found.win_rate
    if rate is not None and rate.high < NEUTRAL - found.tolerance:
        said.append(f"against its first answers it wins {rate.point:.0%}, at most {rate.high:.0%}")
    return tuple(said)
