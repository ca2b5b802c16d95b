"""Calibration: does a judge decide as people do?

People label pairs of answers without knowing which is whose or what the judges said; a judge's
agreement with their labels, and its interval, is what its verdicts are worth.

Pairs to label are a simple random sample of those judged, so the share of equal outcomes among the
labelled ones estimates, without bias or weights, that among all; every judge of a panel is measured
by the same labels. Pairs of equal answers are left out: nobody has to judge them, and they would
flatter every judge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

import msgspec

from dropforge.artifacts import Agreement, digest
from dropforge.families import family, same_family
from dropforge.judge import Outcome, Sample
from dropforge.statistics import agreement, wilson

__all__ = [
    "NARROW",
    "Calibration",
    "Choice",
    "Label",
    "Pair",
    "between_people",
    "calibrate",
    "choose_pairs",
    "family",
    "in_words",
    "labels_needed",
    "outcome_of",
    "pair_key",
    "pairs_of",
    "people_say",
    "same_family",
    "what_is_missing",
]

Choice = Literal["left", "right", "tie"]
Side = Literal["left", "right"]
Labelled = Literal["win", "tie", "loss"]

NARROW = 0.15
"""Width of an interval that is narrow enough where the gate asks for no floor of its own."""

MOST_LABELS = 5000


class Label(msgspec.Struct, frozen=True):
    """What one person said about one pair.

    Attributes:
        pair: `pair_key`: the texts, so that a label stays good when another judge is asked.
        evaluation, sample, opponent: where the person saw it.
        outcome: as seen from the challenger; None: taken back.
        at: seconds since the epoch.
        seconds: how long the person looked at it.
    """

    pair: str
    evaluation: str
    sample: str
    opponent: str
    outcome: Labelled | None
    who: str
    at: float
    seconds: float = 0.0


class Pair(NamedTuple):
    """Two answers to one ticket: the challenger's and an opponent's."""

    key: str
    sample: Sample
    opponent: str

    def challenger_side(self, who: str) -> Side:
        """Where a person sees the challenger: by chance, but at the same side every time."""
        return "left" if int(digest("side", self.key, who)[:8], 16) % 2 else "right"

    def shown(self, who: str) -> tuple[str, str]:
        """The answers as a person sees them, left and right."""
        ours, theirs = self.sample.answers["challenger"], self.sample.answers[self.opponent]
        return (ours, theirs) if self.challenger_side(who) == "left" else (theirs, ours)


class Calibration(NamedTuple):
    """A judge beside people.

    Attributes:
        opposite: labelled pairs where the judge and the people named different winners.
        unscored: labelled pairs that the judge could not decide; they count in nothing else.
    """

    agreement: Agreement
    opposite: int = 0
    unscored: int = 0


def pair_key(sample: Sample, opponent: str) -> str:
    """What names a pair, whoever judges it: a digest (32 hex digits) of all that a person reads."""
    ours, theirs = sample.answers["challenger"], sample.answers[opponent]
    return digest("pair/1", sample.question, sample.reference, ours, theirs)[:32]


def pairs_of(samples: Iterable[Sample]) -> dict[str, Pair]:
    """Every pair that was judged and whose answers differ, by its key, in the samples' order."""
    found: dict[str, Pair] = {}
    for sample in samples:
        for opponent in sorted(sample.judged):
            if _differ(sample, opponent):
                key = pair_key(sample, opponent)
                found.setdefault(key, Pair(key, sample, opponent))
    return found


def _differ(sample: Sample, opponent: str) -> bool:
    if not {"challenger", opponent} <= sample.answers.keys():
        return False
    return sample.answers["challenger"].split() != sample.answers[opponent].split()


def choose_pairs(
    samples: Iterable[Sample],
    done: Collection[str],
    limit: int,
    seed: int,
    *,
    by_others: Collection[str] = (),
) -> list[Pair]:
    """The pairs that a person should see next, in a random order that the seed decides.

    Neither the judges' outcomes nor the answers influence the choice, so whatever is labelled so
    far is a simple random sample of the pairs.

    Args:
        done: keys of the pairs that this person has labelled.
        by_others: keys of those that others have: they come after all that nobody has labelled.
    """
    pairs = [pair for pair in pairs_of(samples).values() if pair.key not in done]
    others = frozenset(by_others)
    pairs.sort(key=lambda pair: (pair.key in others, digest("label", seed, pair.key)))
    return pairs[:limit]


def outcome_of(choice: Choice, challenger: Side) -> Labelled:
    """A person's choice as seen from the challenger, which was shown on that side."""
    if choice == "tie":
        return "tie"
    return "win" if choice == challenger else "loss"


def people_say(labels: Iterable[Label]) -> dict[str, Labelled]:
    """What people say of each labelled pair: what more than half of them said, else a tie.

    Of several labels of one person on one pair the last one counts.
    """
    votes: dict[str, dict[str, Label]] = defaultdict(dict)
    for label in sorted(labels, key=lambda label: label.at):
        votes[label.pair][label.who] = label
    said: dict[str, Labelled] = {}
    for pair, by_person in votes.items():
        counts = Counter(label.outcome for label in by_person.values() if label.outcome)
        if counts:
            outcome, most = counts.most_common(1)[0]
            said[pair] = outcome if 2 * most > counts.total() else "tie"
    return said


def calibrate(labels: Iterable[Label], samples: Iterable[Sample]) -> dict[str, Calibration]:
    """Each judge beside the people, by its version; only judges of which a pair was labelled.

    Args:
        samples: of any number of evaluations, the newest last: where a judge was asked about the
            same two answers twice, its last outcome counts.
    """
    said = people_say(labels)
    judged: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for sample in samples:
        for opponent, found in sample.judged.items():
            if not _differ(sample, opponent) or (key := pair_key(sample, opponent)) not in said:
                continue
            for one in found.by:
                judged[one.judge][key] = one.outcome
    return {judge: _beside(outcomes, said) for judge, outcomes in sorted(judged.items())}


def _beside(outcomes: dict[str, Outcome], said: dict[str, Labelled]) -> Calibration:
    scored = [
        (outcome.value, said[key])
        for key, outcome in outcomes.items()
        if outcome is not Outcome.UNSCORED
    ]
    opposite = sum({"win", "loss"} == set(pair) for pair in scored)
    return Calibration(agreement(scored), opposite, len(outcomes) - len(scored))


def between_people(labels: Iterable[Label]) -> Agreement:
    """How two people agree on the pairs that several have labelled: what a judge is up against.

    Of more than two, those two whose names come first in a digest's order.
    """
    votes: dict[str, dict[str, str]] = defaultdict(dict)
    for label in sorted(labels, key=lambda label: label.at):
        if label.outcome:
            votes[label.pair][label.who] = label.outcome
        else:
            votes[label.pair].pop(label.who, None)
    twos = [
        [outcome for _, outcome in sorted((digest(pair, w), o) for w, o in by_person.items())[:2]]
        for pair, by_person in votes.items()
        if len(by_person) > 1
    ]
    return agreement([(first, second) for first, second in twos])


def labels_needed(found: Agreement, floor: float | None = None) -> int | None:
    """How many more labels it takes, should the judge go on agreeing as often as it does so far.

    Until the interval's lower end reaches the floor, or without one until the interval is no wider
    than `NARROW`. None where no number up to 5,000 would do.
    """
    share = found.agreement.point

    def enough(labels: int) -> bool:
        reached = wilson(share, labels)
        return reached.low >= floor if floor is not None else reached.high - reached.low <= NARROW

    if found.labels and enough(found.labels):
        return 0
    upwards = range(found.labels + 1, MOST_LABELS + 1)
    return next((total - found.labels for total in upwards if enough(total)), None)


def in_words(judge: str, found: Calibration) -> str:
    """A judge's agreement as a sentence."""
    about, share = found.agreement, found.agreement.agreement
    if not about.labels:
        return f"{judge}: no labelled pair that it decided" + _unread(found)
    agreed = round(share.point * about.labels)
    named = f"; it named the other answer on {found.opposite}" if found.opposite else ""
    return (
        f"{judge} agrees on {agreed} of {about.labels}: {share.point:.0%} "
        f"[{share.low:.0%}, {share.high:.0%}], kappa {about.kappa:.2f}{named}{_unread(found)}"
    )


def _unread(found: Calibration) -> str:
    return f"; {found.unscored} more it left undecided" if found.unscored else ""


def what_is_missing(found: Agreement, floor: float | None) -> str:
    """A sentence about how many more labels a judge needs, or that it has enough."""
    if not found.labels:
        return "Nothing is known of it yet."
    more = labels_needed(found, floor)
    if floor is None:
        what = f"the interval is no wider than {NARROW * 100:.0f} points"
        return (
            f"Enough: {what}."
            if more == 0
            else f"About {more} more labels, if it goes on so, until {what}."
        )
    if more == 0:
        return f"Above the gate's floor of {floor:.0%}."
    if more is None:
        return (
            f"At or below the gate's floor of {floor:.0%}: more labels alone will hardly change "
            "it. Look at the pairs where it decides otherwise, and at the rubric."
        )
    return (
        f"About {more} more labels, if it goes on so, until it is above the floor of {floor:.0%}."
    )
