"""Evaluations as a judge would leave them: tickets of a shop, judged by one judge or by a panel."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from dropforge.artifacts import Agreement, Evaluation, GoldenScore, Interval, Usage, Verdict
from dropforge.golden import GoldenResult
from dropforge.judge import AnswerUsage, Judged, JudgedBy, Outcome, Sample, evaluate
from dropforge.project.judging import Gate
from dropforge.promote import decide
from dropforge.train import TrainingEvent

JUDGES = ("gpt-4.1-mini/pairwise/1f2e3d4c", "claude-sonnet-4-5/reasoned/99aa88bb")
TOPICS = ("delivery", "returns", "billing", "set-up", "warranty")
SCORES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0}
_SAID = {
    "delivery": "Your parcel left our warehouse on Monday with DHL, and should be with you by "
    "Thursday. The number to follow it by is JD014600006281.",
    "returns": "You can send it back within 30 days. Print the label at orrin.example/returns; the "
    "money is back on your card 5 working days after it has reached us.",
    "billing": "The second charge of €49.90 was a reservation and falls away within 3 days.",
    "set-up": "Wi-Fi must be 2.4 GHz: join the network OrrinSetup and follow the app from there.",
    "warranty": "The hinge is covered for 24 months. Please order part H-113 at no cost.",
}


def sample(number: int, random: Random, rate: float, **more: Any) -> Sample:
    """A ticket that the challenger wins with chance `rate`; some are ties, flips and unscored."""
    champion, panel = more.get("champion", False), more.get("panel", False)
    topic = TOPICS[min(number % 9, 4)]
    reference = _SAID[topic]
    short = " ".join(reference.split()[: random.randint(6, 14)]) + "."
    answers = {"challenger": reference if random.random() < rate else short}
    answers["base"] = "Thank you for reaching out! " + short * random.randint(1, 3)
    if champion:
        answers["champion"] = short
    arms = [arm for arm in answers if arm != "challenger"]
    return Sample(
        id=f"t{number}",
        question=f"Order {10_000 + number}: {_asked(topic)}",
        reference=reference,
        answers=answers,
        judged={
            arm: _judged(random, rate if arm == "base" else more.get("against", 0.62), panel=panel)
            for arm in arms
        },
        recall={arm: random.choice((0.0, 0.5, 1.0, 1.0)) for arm in answers},
        cluster=f"c{number if number % 5 else number - 1}",
        topic=topic,
        scores={arm: {"chrf": random.uniform(0.3, 0.8)} for arm in answers},
        failed={"base": ("long",)} if number % 11 == 0 else {},
        usage={
            **{arm: AnswerUsage(random.uniform(0.3, 2.5), 210, 40) for arm in answers},
            "judge": AnswerUsage(random.uniform(1, 4), 900, 60),
        },
    )


def _asked(topic: str) -> str:
    return {
        "delivery": "Where is my parcel? It was to come on Tuesday.",
        "returns": "The jacket is too small. How do I send it back?",
        "billing": "Why did you charge me twice?",
        "set-up": "Does it support 5 GHz networks?",
        "warranty": "The hinge of my Orrin 2 is broken.",
    }[topic]


def _judged(random: Random, rate: float, *, panel: bool) -> Judged:
    by = tuple(_judged_by(judge, random, rate) for judge in (JUDGES if panel else JUDGES[:1]))
    scored = [one for one in by if one.outcome is not Outcome.UNSCORED]
    if 2 * len(scored) <= len(by):
        return Judged(Outcome.UNSCORED, by=by)
    score = sum(SCORES[one.outcome] for one in scored) / len(scored)
    outcome = Outcome.WIN if score > 0.5 else Outcome.LOSS if score < 0.5 else Outcome.TIE
    return Judged(
        outcome,
        all(one.flipped for one in scored),
        sum(one.confidence for one in scored) / len(scored),
        scored[0].rationale,
        score,
        by,
    )


def _judged_by(judge: str, random: Random, rate: float) -> JudgedBy:
    roll = random.random()
    if roll < 0.02:
        return JudgedBy(judge, Outcome.UNSCORED)
    if roll < 0.12:
        why = "Both say the same."
        return JudgedBy(judge, Outcome.TIE, roll < 0.07, 0.6, why, 2 if roll < 0.07 else 1)
    if random.random() < rate:
        why = "Names the day and the number of the reference."
        return JudgedBy(judge, Outcome.WIN, False, 0.92, why, 1)
    return JudgedBy(judge, Outcome.LOSS, False, 0.81, "Leaves out the date.", 1)


def samples(count: int, rate: float, seed: int = 7, **more: Any) -> list[Sample]:
    random = Random(seed)
    return [sample(number, random, rate, **more) for number in range(count)]


def verdict(judged: list[Sample], gate: Gate | None = None, **more: Any) -> Verdict:
    """What the gate makes of judged tickets; `more` are fields of the evaluation."""
    gate = gate or Gate()
    about = {
        "project": "shop",
        "hash": "e" * 64,
        "version": "1ef300e46bd5",
        "dataset": "d" * 64,
        "judge": "gpt-4.1-mini",
        "judges": JUDGES[: max([len(j.by) for s in judged for j in s.judged.values()], default=1)],
    }
    planned = more.pop("planned", None)
    fields = Evaluation.__struct_fields__
    evaluation = evaluate(judged, gate, planned=planned, **about)
    assert set(more) <= set(fields), more
    evaluation = msgspec.structs.replace(evaluation, **more)
    return Verdict(evaluation, decide(evaluation, gate))


def golden(worse: int = 2, questions: int = 12) -> tuple[GoldenScore, list[GoldenResult]]:
    """Golden questions of which the challenger alone gets some wrong."""
    results = [
        GoldenResult(
            f"g{number}",
            f"How long is the warranty of model {number}?",
            "24 months.",
            {"challenger": "12 months." if number < worse else "24 months.", "base": "24 months."},
            {"challenger": number >= worse, "base": True},
        )
        for number in range(questions)
    ]
    right = {"challenger": questions - worse, "base": questions}
    names = tuple(result.id for result in results[:worse])
    return GoldenScore("9" * 64, questions, right, "base", names), results


def agreement(labels: int = 50) -> dict[str, Agreement]:
    return {JUDGES[0]: Agreement(labels, Interval(0.82, 0.69, 0.90), 0.71)}


def priced(verdict: Verdict) -> Verdict:
    """The same verdict where prices are known."""
    usage = {
        arm: msgspec.structs.replace(used, usd=used.answers * 0.00041)
        for arm, used in verdict.evaluation.usage.items()
    }
    assert all(isinstance(used, Usage) for used in usage.values())
    evaluation = msgspec.structs.replace(verdict.evaluation, usage=usage)
    return Verdict(evaluation, verdict.decision)


def loss_curve() -> list[TrainingEvent]:
    return [
        TrainingEvent(step, 0.2 + 2.8 / (1 + step / 20), 0.4 + 2.7 / (1 + step / 25))
        for step in range(1, 200, 10)
    ]
