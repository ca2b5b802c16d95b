"""One person's way through some pairs, in the terminal and on the page alike."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from dropforge.artifacts import digest
from dropforge.backends.labels import Labels
from dropforge.calibration import (
    Choice,
    Label,
    Pair,
    between_people,
    choose_pairs,
    in_words,
    outcome_of,
    what_is_missing,
)

# All that moves a cursor, colours a terminal or turns the direction of reading: nothing to see.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Shown(NamedTuple):
    """What a person sees of a pair; `earlier` are the turns before the question, if any."""

    key: str
    earlier: str
    question: str
    reference: str
    left: str
    right: str


def visible(text: str) -> str:
    """The text with each control character made a mark that does nothing."""
    return _UNSEEN.sub("\ufffd", text.replace("\r\n", "\n").replace("\t", "    "))


class Session:
    """The pairs of one sitting; every label is kept at once, and safe from several threads.

    Args:
        earlier: by sample, what was said before the question.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        labels: Labels,
        project: str,
        evaluation: str,
        who: str,
        pairs: Sequence[Pair],
        *,
        earlier: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.project, self.who, self.total = project, who, len(pairs)
        self._labels, self._evaluation, self._pairs = labels, evaluation, tuple(pairs)
        self._earlier, self._clock = earlier or {}, clock
        self._past: list[Label | None] = []  # None: skipped
        self._shown_at = clock()
        self._lock = threading.RLock()

    @property
    def position(self) -> int:
        """How many pairs were labelled or skipped."""
        return len(self._past)

    @property
    def labelled(self) -> int:
        return sum(label is not None for label in self._past)

    @property
    def current(self) -> Shown | None:
        """The pair to look at; None at the end."""
        with self._lock:
            if self.position >= self.total:
                return None
            pair = self._pairs[self.position]
            sample, earlier = pair.sample, self._earlier.get(pair.sample.id, "")
            texts = (earlier, sample.question, sample.reference, *pair.shown(self.who))
            return Shown(pair.key, *map(visible, texts))

    def choose(self, choice: Choice, key: str | None = None) -> bool:
        """Label the current pair; False where it is not the one the person saw (`key`)."""
        with self._lock:
            pair = self._the_current(key)
            if pair is None:
                return False
            now = self._clock()
            label = Label(
                pair=pair.key,
                evaluation=self._evaluation,
                sample=pair.sample.id,
                opponent=pair.opponent,
                outcome=outcome_of(choice, pair.challenger_side(self.who)),
                who=self.who,
                at=now,
                seconds=round(max(0.0, now - self._shown_at), 1),
            )
            self._labels.save(self.project, label)
            self._step(label)
            return True

    def skip(self, key: str | None = None) -> bool:
        """Go on without a label; the pair comes again in another session."""
        with self._lock:
            if self._the_current(key) is None:
                return False
            self._step(None)
            return True

    def undo(self, position: int | None = None) -> bool:
        """Go back one pair and take its label back; False at the beginning.

        Args:
            position: where the person was; nothing is done where the session is elsewhere.
        """
        with self._lock:
            if not self._past or position not in (None, self.position):
                return False
            label = self._past[-1]
            if label is not None:
                taken_back = replace(label, outcome=None, at=self._clock())
                self._labels.save(self.project, taken_back)
            self._past.pop()
            self._shown_at = self._clock()
            return True

    def _the_current(self, key: str | None) -> Pair | None:
        if self.position >= self.total:
            return None
        pair = self._pairs[self.position]
        return pair if key in (None, pair.key) else None

    def _step(self, label: Label | None) -> None:
        self._past.append(label)
        self._shown_at = self._clock()


def begin(
    labels: Labels, project: str, evaluation: str, who: str, limit: int
) -> tuple[Session, int]:
    """A session with the next pairs for a person, and how many pairs the evaluation has for it.

    Each person has an order of their own, and pairs that nobody has labelled come first: the work
    is shared, also at the same moment, and second opinions come when all pairs have one.
    """
    given = [label for label in labels.labels(project) if label.outcome]
    mine = {label.pair for label in given if label.who == who}
    others = {label.pair for label in given} - mine
    samples = labels.samples(project, evaluation)
    seed = int(digest("labels", project, evaluation, who)[:8], 16)
    every = choose_pairs(samples, mine, len(samples) * 8, seed, by_others=others)
    earlier = labels.earlier(project, evaluation)
    session = Session(labels, project, evaluation, who, every[:limit], earlier=earlier)
    return session, len(every)


def results(labels: Labels, project: str, floor: float | None) -> list[str]:
    """Every judge's agreement with all labels, recomputed and kept: as sentences."""
    found = labels.calibrate(project)
    given = labels.labels(project)
    people = {label.who for label in given if label.outcome}
    if not people:
        return ["Nobody has labelled a pair yet."]
    if not found:
        return ["Labels are kept. No judge's own outcomes are known for these pairs yet."]
    lines = [
        f"{in_words(judge, one)}. {what_is_missing(one.agreement, floor)}"
        for judge, one in found.items()
    ]
    both = between_people(given)
    if both.labels:
        share = both.agreement
        lines.append(
            f"People among themselves: the same on {round(share.point * both.labels)} of "
            f"{both.labels}: {share.point:.0%} [{share.low:.0%}, {share.high:.0%}], "
            f"kappa {both.kappa:.2f}."
        )
    return lines
