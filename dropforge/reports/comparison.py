"""What is compared of a project's model versions: quality, cost and latency, each as one number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from dropforge.artifacts import Agreement, Evaluation, Interval, Usage, Verdict
from dropforge.reports.verdict_answers import per_thousand
from dropforge.statistics import wilson

CHALLENGER = "challenger"


class Candidate(msgspec.Struct, frozen=True):
    """One model version, with what is known of it.

    Attributes:
        made_at, judged_at: seconds since the epoch.
        rows: examples it was trained on.
        training_usd: what its training costs by list prices; None where no price is known.
        standing: "champion", "previous", "canary 10%", "rolled back", or nothing.
        verdict: of its newest evaluation.
        ends: the first day on which it does not answer (ISO 8601), where its provider has said so.
    """

    version: str
    backend: str
    base_model: str
    made_at: float
    rows: int | None = None
    training_usd: float | None = None
    standing: str = ""
    verdict: Verdict | None = None
    judged_at: float | None = None
    ends: str = ""

    @property
    def evaluation(self) -> Evaluation | None:
        return self.verdict.evaluation if self.verdict else None

    @property
    def is_champion(self) -> bool:
        return self.standing == "champion"

    @property
    def short(self) -> str:
        """As much of the version as tells it apart on a plot."""
        return self.version[:7]


class Move(msgspec.Struct, frozen=True):
    """A moment at which another version began to answer all customers."""

    version: str
    at: float


Judged = tuple[tuple[str, ...], str]
"""By whom and on which dataset: versions that differ in it cannot be compared."""


def ordered(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The champion first, then the newest."""
    return sorted(candidates, key=lambda c: (not c.is_champion, -c.made_at, c.version))


def judged_by(evaluation: Evaluation) -> Judged:
    return evaluation.judges or (evaluation.judge,), evaluation.dataset


def groups(candidates: Sequence[Candidate]) -> dict[Judged, list[Candidate]]:
    """Those that were judged alike, in the given order; those never judged are in no group."""
    found: dict[Judged, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.evaluation is not None:
            found.setdefault(judged_by(candidate.evaluation), []).append(candidate)
    return found


class Measure(msgspec.Struct, frozen=True):
    """How good a version is: which share, and by what name."""

    name: str
    of: Callable[[Candidate], Interval | None]


def win_rate(candidate: Candidate) -> Interval | None:
    """Against the base model of its own."""
    evaluation = candidate.evaluation
    base = evaluation.comparisons.get("base") if evaluation else None
    return base.win_rate if base is not None and base.scored else None


def facts_right(candidate: Candidate) -> Interval | None:
    """The facts of the agents' answers that it states; the interval counts tickets with facts."""
    evaluation = candidate.evaluation
    recall = evaluation.fact_recall.get(CHALLENGER) if evaluation else None
    if evaluation is None or recall is None:
        return None
    return wilson(recall, evaluation.samples_with_facts)


def quality(alike: Sequence[Candidate]) -> Measure:
    """The measure that compares these versions.

    The win rate, unless they were trained from different base models: each was judged against its
    own base, and winning against a weak one is no merit. Then it is the share of facts right.
    """
    bases = {candidate.base_model for candidate in alike}
    facts = any(facts_right(candidate) for candidate in alike)
    if len(bases) > 1 and facts:
        return Measure("facts right", facts_right)
    return Measure("win rate against the base", win_rate)


def usage_of(candidate: Candidate) -> Usage | None:
    """What its answers took while it was judged; None where nobody recorded it."""
    evaluation = candidate.evaluation
    used = evaluation.usage.get(CHALLENGER) if evaluation else None
    return used if used and used.answers else None


def usd_per_thousand(candidate: Candidate) -> float | None:
    used = usage_of(candidate)
    return per_thousand(used) if used else None


def tokens_written(candidate: Candidate) -> float | None:
    """Of one answer, on average: what stands for the cost where no price is known."""
    used = usage_of(candidate)
    return used.completion_tokens / used.answers if used and used.completion_tokens else None


def seconds(candidate: Candidate) -> float | None:
    """Within which half of its answers came."""
    used = usage_of(candidate)
    return used.seconds_p50 if used and used.seconds_p50 else None


class Expense(msgspec.Struct, frozen=True):
    """What is paid for quality, and how it is called; less is better.

    Attributes:
        what: in a word or two; `name` says it with its unit.
        money: whether it is in US dollars.
    """

    what: str
    name: str
    of: Callable[[Candidate], float | None]
    money: bool = False


LATENCY = Expense("latency", "seconds, half of the answers within", seconds)


def expense(candidates: Iterable[Candidate]) -> Expense:
    """US dollars where any price is known, else the tokens that an answer takes."""
    if any(usd_per_thousand(candidate) is not None for candidate in candidates):
        return Expense("cost", "US$ for 1,000 answers", usd_per_thousand, money=True)
    return Expense("length", "tokens written for an answer", tokens_written)


def front(
    candidates: Iterable[Candidate], measure: Measure, paid: Expense
) -> list[tuple[float, float, Candidate]]:
    """Those that no other one beats in quality without being dearer (Pareto), the cheapest first.

    Returns:
        (expense, quality, candidate)
    """
    known = [
        (amount, found.point, candidate)
        for candidate in candidates
        if (amount := paid.of(candidate)) is not None
        and (found := measure.of(candidate)) is not None
    ]
    best: list[tuple[float, float, Candidate]] = []
    for amount, share, candidate in sorted(known, key=lambda k: (k[0], -k[1])):
        if not best or share > best[-1][1]:
            best.append((amount, share, candidate))
    return best


def agreement_of(candidate: Candidate) -> Agreement | None:
    """How its judge fits people's labels; of a panel, the judge that fits them worst."""
    evaluation = candidate.evaluation
    known = [a for a in evaluation.agreement.values() if a.labels] if evaluation else []
    return min(known, key=lambda a: a.agreement.point, default=None)
