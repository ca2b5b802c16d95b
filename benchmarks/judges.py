"""Asking judges: how long an evaluation waits for them, and what attacks on them gain."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.serving.processes import upstream
from dropforge.judge import Pair, compare_arm, judge_pairs, make_sample
from dropforge.project import ProjectConfig
from dropforge.project.judging import Gate, Judging
from dropforge.settings import JudgeSettings
from lambdas.judge.asking import Panel
from serving.embeddings import Embedder
from serving.judge import ReferenceJudge
from tests.support.attacks import ATTACKS
from tests.support.tickets import example

TICKETS, CONCURRENCY, UPSTREAM_S = 200, 32, 0.05
IDEAL_S = 2 * TICKETS * UPSTREAM_S / CONCURRENCY
MOST_RATIO = 1.3
ATTACKED = 12
"""Tickets; every other answer is right, the others are right ones of another ticket."""
MOST_SHIFT = 0.05


def figures() -> Iterator[Figure]:
    """Both sections, the quick one first."""
    yield from _waiting()
    yield from _attacks()


def _waiting() -> Iterator[Figure]:
    config = ProjectConfig(
        backend="openai", model="m", judge={"model": "j", "concurrency": CONCURRENCY}
    )
    pairs = [Pair(example(i), "base", "a", "b", f"{i:016x}") for i in range(TICKETS)]
    seconds, processor = [], []
    with upstream() as stub:
        stub.set(delay=UPSTREAM_S, answer=json.dumps({"winner": "tie", "confidence": 0.9}))
        settings = JudgeSettings(
            bucket="b", table="t", providers={}, endpoint_name="e",
            judge_base_url=f"{stub.url}/v1", judge_secret_arn="",
        )  # fmt: skip
        for _ in range(5):
            began, used = time.perf_counter(), time.process_time()
            judge_pairs(pairs, Panel(config, settings).ask, config.judge)
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - used)
    middle = sorted(seconds)[2]
    yield Figure(
        f"{TICKETS} tickets in both orders, {1000 * UPSTREAM_S:.0f} ms upstream, concurrency "
        f"{CONCURRENCY}: time over the ideal {IDEAL_S:.3f} s, median of 5 (fastest, slowest)",
        f"{middle / IDEAL_S:.2f}× ({min(seconds) / IDEAL_S:.2f}, {max(seconds) / IDEAL_S:.2f}); "
        f"{1000 * sorted(processor)[2] / (2 * TICKETS):.2f} CPU-ms a call",
        f"at most {MOST_RATIO}×",
        middle <= MOST_RATIO * IDEAL_S,
    )


def _attacks() -> Iterator[Figure]:
    """The local judge on answers of which every other one is right, with and without attacks.

    It is arithmetic and obeys nobody, so this measures what the words of an attack do to the
    scores; `tests/faults/` asks a judge that obeys whatever gets out of its marks.
    """
    judge = ReferenceJudge(Embedder())
    honest = _rate(judge, None)
    shifts = {name: _rate(judge, name) - honest for name in ATTACKS}
    best = max(shifts, key=lambda name: shifts[name])
    yield Figure(
        f"gain of {len(ATTACKS)} attacks on reference-judge, {ATTACKED} tickets each: the largest "
        f"({best}), the mean; honest win rate {honest:.2f}",
        f"{shifts[best]:+.3f}, {sum(shifts.values()) / len(shifts):+.3f}",
        f"at most {MOST_SHIFT:+.2f}",
        shifts[best] <= MOST_SHIFT,
    )


def _rate(judge: ReferenceJudge, attack: str | None) -> float:
    sway = ATTACKS[attack] if attack else str
    tickets = [example(7 * i) for i in range(ATTACKED + 2)]
    pairs = [
        Pair(
            t,
            "base",
            sway(t.reference if i % 2 else tickets[i + 1].reference),
            tickets[i + 2].reference,
            f"{i:016x}",
        )
        for i, t in enumerate(tickets[:ATTACKED])
    ]
    judging, gate = Judging(model="j"), Gate()
    judged = judge_pairs(
        pairs, lambda asked: [judge.answer(q.messages[-1]["content"]) for q in asked], judging
    )
    samples = [
        make_sample(
            p.example, {"challenger": p.challenger, "base": p.opponent}, {"base": j}, judging
        )
        for p, j in zip(pairs, judged, strict=True)
    ]
    return compare_arm("base", samples, gate, ATTACKED).win_rate.point
