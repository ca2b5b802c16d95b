"""Judged tickets -> the `Evaluation` in `judge/<project>/<hash>/verdict.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dropforge.artifacts import Comparison, Evaluation, Interval, Usage
from dropforge.judge.questions import SCORES
from dropforge.judge.samples import AnswerUsage, Judged, Outcome, Sample
from dropforge.judge.sampling import clusters, in_sequence
from dropforge.project.judging import Gate
from dropforge.statistics import (
    clustered,
    confidence_sequence,
    evidence_above,
    length_controlled,
    wilson,
)

MANY_FLIPS = 0.3
"""Share of pairs that a judge flips on above which it is worth a word."""


def compare_arm(opponent: str, samples: Sequence[Sample], gate: Gate, customers: int) -> Comparison:
    """Wins, losses and ties against one opponent, and all that says how sure they are.

    Args:
        customers: how many there are among all tickets that may be judged.
    """
    against = [sample for sample in samples if opponent in sample.judged]
    judged = [sample.judged[opponent] for sample in against]
    count = Counter(one.outcome for one in judged)
    scored = [one for one in judged if one.score is not None]
    scores = [one.score for one in scored if one.score is not None]
    sequence = in_sequence(against, opponent)
    threshold = gate.lower_bound if opponent == "base" else gate.against_champion
    horizon = max(customers, len(sequence), 1)
    return Comparison(
        opponent=opponent,
        wins=count[Outcome.WIN],
        losses=count[Outcome.LOSS],
        ties=count[Outcome.TIE],
        flips=sum(one.flipped for one in judged),
        unscored=count[Outcome.UNSCORED],
        win_rate=clustered(clusters(against, opponent)),
        confidence=_mean([one.confidence for one in scored]) or 0.0,
        wilson=_wilson(scores),
        anytime=confidence_sequence(sequence, alpha=0.05),
        e_value=evidence_above(sequence, threshold, horizon=horizon, alpha=gate.alpha).e_value,
        length_controlled=_length_controlled(against, opponent),
        position_bias=_position_bias(judged),
        by_judge=_by_judge(judged),
    )


def _length_controlled(samples: Sequence[Sample], opponent: str) -> Interval | None:
    rows = [
        (
            score,
            (len(s.answers["challenger"].split()), len(s.answers[opponent].split())),
            s.cluster or s.id,
        )
        for s in samples
        if (score := s.judged[opponent].score) is not None
    ]
    if not rows:
        return None
    scores, lengths, customers = zip(*rows, strict=True)
    return length_controlled(scores, lengths, customers)


def _position_bias(judged: Iterable[Judged]) -> float:
    """Of all opinions that named a winner, the share that named the answer shown first, less half.

    A flip names the same place twice; a win or loss both places once; a tie at least one of neither
    (`JudgedBy.first` tells of the first place alone, so ties are left out).
    """
    first = opinions = 0
    for one in judged:
        for by in one.by:
            if by.first is not None and (by.flipped or by.outcome is not Outcome.TIE):
                first += by.first
                opinions += 2
    return first / opinions - 0.5 if opinions else 0.0


def _by_judge(judged: Sequence[Judged]) -> dict[str, Interval]:
    """Each judge's own win rate; nothing where there is only one."""
    scores: dict[str, list[float]] = {}
    for one in judged:
        for by in one.by:
            listed = scores.setdefault(by.judge, [])
            if by.outcome is not Outcome.UNSCORED:
                listed.append(SCORES[by.outcome])
    if len(scores) < 2:
        return {}
    return {judge: _wilson(of) for judge, of in sorted(scores.items())}


def _wilson(scores: Sequence[float]) -> Interval:
    mean = _mean(scores)
    return wilson(0.5 if mean is None else mean, len(scores))


def evaluate(
    samples: Sequence[Sample],
    gate: Gate,
    *,
    planned: int | None = None,
    customers: int | None = None,
    **about: Any,
) -> Evaluation:
    """Sum up the judged samples.

    Args:
        planned: how many there would be without an early stop; `customers`: of how many.
        about: the evaluation's project, hash, version, dataset, judge and what else is known.
    """
    planned = planned or len(samples)
    customers = customers or len({sample.cluster or sample.id for sample in samples})
    arms = sorted({arm for sample in samples for arm in sample.judged})
    everybody = ("challenger", *arms)
    recalls = {arm: _recalls(samples, arm) for arm in everybody}
    days = [pair for sample in samples for pair in sample.recorded.items()]
    return Evaluation(
        **about,
        samples=len(samples),
        planned=planned,
        customers=customers,
        comparisons={arm: compare_arm(arm, samples, gate, customers) for arm in arms},
        fact_recall={arm: sum(of) / len(of) for arm, of in recalls.items() if of},
        samples_with_facts=len(recalls["challenger"]),
        recorded=dict(sorted(days)),
        scores=_scores(samples, everybody),
        failed=_failed(samples, everybody),
        failing={arm: _failing(samples, arm) for arm in everybody},
        answered={arm: sum(arm in s.answers for s in samples) for arm in everybody},
        failing_beside={
            arm: _failing([s for s in samples if arm in s.answers], "challenger") for arm in arms
        },
        usage={arm: usage(s.usage.get(arm) for s in samples) for arm in (*everybody, "judge")},
    )


def _recalls(samples: Sequence[Sample], arm: str) -> list[float]:
    """The shares of the facts that an arm stated, of the tickets with facts that it answered."""
    return [found for s in samples if (found := s.recall.get(arm)) is not None]


def _failing(samples: Sequence[Sample], arm: str) -> int:
    return sum(bool(s.failed.get(arm)) for s in samples)


def _scores(samples: Sequence[Sample], arms: Iterable[str]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for arm in arms:
        listed: dict[str, list[float]] = {}
        for sample in samples:
            for name, value in sample.scores.get(arm, {}).items():
                listed.setdefault(name, []).append(value)
        found[arm] = {name: sum(values) / len(values) for name, values in listed.items()}
    return found


def _failed(samples: Sequence[Sample], arms: Iterable[str]) -> dict[str, dict[str, int]]:
    return {
        arm: dict(sorted(Counter(c for s in samples for c in s.failed.get(arm, ())).items()))
        for arm in arms
    }


def usage(of: Iterable[AnswerUsage | None]) -> Usage:
    """What some answers took together; those that nothing is known of are left out."""
    known = [one for one in of if one is not None]
    seconds = sorted(one.seconds for one in known if one.seconds > 0)
    return Usage(
        answers=len(known),
        prompt_tokens=sum(one.prompt_tokens or 0 for one in known),
        completion_tokens=sum(one.completion_tokens or 0 for one in known),
        seconds_p50=_quantile(seconds, 0.5),
        seconds_p95=_quantile(seconds, 0.95),
    )


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def warnings(evaluation: Evaluation, related: Mapping[str, str]) -> tuple[str, ...]:
    """What a reader should know before trusting the numbers.

    Args:
        related: judges that share a family with the model they judge, and that family's name.
    """
    found = [
        f"the judge {judge} and the judged model are both of the {family} family: models tend to "
        "prefer what sounds like themselves"
        for judge, family in related.items()
    ]
    found += [
        f"against the {comparison.opponent} the judge changed its mind with the order on "
        f"{comparison.flip_rate:.0%} of the pairs: they count as ties"
        for comparison in evaluation.comparisons.values()
        if comparison.flip_rate > MANY_FLIPS
    ]
    unlabelled = [judge for judge in evaluation.judges if judge not in evaluation.agreement]
    if unlabelled:
        found.append(
            "nobody has checked how often the judge agrees with people: run `dropforge label`"
        )
    return tuple(found)
