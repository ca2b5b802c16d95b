"""Canary: a challenger that passed the gate meets live traffic, a share of it at a time.

Pure: the counters of both arms and the clock come in, a decision with its numbers in words goes
out. Evidence is anytime-valid (`dropforge.statistics`), so one may look as often as one likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import msgspec

from dropforge.models import answer_usd
from dropforge.project.judging import CanaryPlan
from dropforge.statistics import Counts, rate_evidence, rating_evidence

ALPHA = 0.05
"""The accepted chance that a guardrail ends the canary of a challenger that is no worse."""
LIMIT = 1 / ALPHA
SHADOW = -1
"""The step in which the challenger is asked beside the champion and answers nobody."""
LOOK_S = 60
EAGER_S = 8 * 3600
"""How long a canary is looked at every minute: one that lasts longer is looked at more rarely, or
its run would have more events than Step Functions keeps (25,000)."""
LATER_LOOKS = 400
"""How many looks after these hours the time that a plan asks for is divided into."""
EARLY_LOOKS = 30
"""A step that waits for requests is looked at again after a 30th of the canary's age at least: many
short steps would otherwise take one look a second each."""


class Arm(msgspec.Struct, frozen=True):
    """What one arm answered in one step: counts, and sums of milliseconds and tokens."""

    requests: int = 0
    errors: int = 0
    slow: int = 0
    milliseconds: float = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def answers(self) -> int:
        """Requests without an error: milliseconds, slow and tokens are theirs."""
        return self.requests - self.errors

    def __add__(self, other: Arm) -> Arm:
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Arm(*(a + b for a, b in zip(mine, theirs, strict=True)))


class Arms(NamedTuple):
    """Both arms in one step."""

    challenger: Arm
    champion: Arm


class Rating(NamedTuple):
    """One answer's rating; `at` in seconds since the epoch."""

    at: float
    challengers: bool
    good: bool


class Traffic(msgspec.Struct, frozen=True):
    """All that a canary has seen.

    Attributes:
        steps: by their index in the plan; `SHADOW` for the shadow.
        ratings: in order of time.
        models: the challenger's and the champion's model_id, for their prices; None where these
            are not to be compared.
    """

    steps: Mapping[int, Arms] = {}
    ratings: Sequence[Rating] = ()
    models: tuple[str, str] | None = None

    def step(self, index: int) -> Arms:
        return self.steps.get(index, Arms(Arm(), Arm()))

    @property
    def total(self) -> Arms:
        """All steps together."""
        parts = [self.steps[index] for index in sorted(self.steps)]
        return Arms(
            sum((part.challenger for part in parts), Arm()),
            sum((part.champion for part in parts), Arm()),
        )


class Keep(msgspec.Struct, frozen=True):
    """Go on as it is; `why` says what is waited for."""

    why: str


class Step(msgspec.Struct, frozen=True):
    """Give the challenger the next share."""

    share: float
    step: int
    why: str


class Finish(msgspec.Struct, frozen=True):
    """The last step is done: the challenger becomes the champion."""

    why: str


class End(msgspec.Struct, frozen=True):
    """The champion gets all traffic back. `harm`: the challenger was shown to be worse."""

    why: str
    harm: bool = True


Decision = Keep | Step | Finish | End


class Guard(NamedTuple):
    """One guardrail: the numbers of both arms in words, and the evidence that it is broken."""

    name: str
    said: str
    evidence: float


def first_step(plan: CanaryPlan) -> dict[str, Any]:
    """How a canary begins: the fields `step`, `share` and `shadow` of the pointer's canary."""
    if plan.shadow_minutes > 0:
        return {"step": SHADOW, "share": 0.0, "shadow": True}
    return {"step": 0, "share": plan.steps[0], "shadow": False}


def guards(plan: CanaryPlan, traffic: Traffic) -> list[Guard]:
    """What ends a canary by evidence: errors, slow answers, ratings."""
    total = traffic.total
    counted: dict[str, Callable[[Arm], int]] = {
        "errors": lambda arm: arm.errors,
        f"answers over {plan.slow_seconds:g} s": lambda arm: arm.slow,
    }
    found = []
    for name, count in counted.items():
        evidence = rate_evidence(_counts(traffic, count), tolerance=plan.tolerance)
        found.append(Guard(name, _shares(total, count), evidence))
    if traffic.ratings:
        pairs = [(rating.challengers, rating.good) for rating in traffic.ratings]
        found.append(Guard("good ratings", _rated(pairs), rating_evidence(pairs)))
    return found


def decide(canary: Mapping[str, Any], plan: CanaryPlan, traffic: Traffic, now: float) -> Decision:
    """What becomes of a running canary.

    It ends where a guardrail's evidence reaches 1 / 0.05, where its answers cost more than
    `max_cost_ratio` times the champion's, and after `max_hours` without enough traffic; the first
    alone is harm. A step is left once it has seen `step_minutes`, `min_requests` answers of the
    challenger, half as many requests of the champion's (fewer where its share is the smaller one),
    and `min_ratings`.

    Args:
        canary: the map in the project's pointer: step, step_at and started_at are read.
        now: seconds since the epoch.
    """
    found = guards(plan, traffic)
    broken = [f"{g.name} {g.said}: e-value {g.evidence:,.0f}" for g in found if g.evidence >= LIMIT]
    if ending := [*broken, *_too_dear(plan, traffic)]:
        return End("; ".join(ending), harm=bool(broken))
    step, said = int(canary["step"]), _summary(canary, plan, traffic, found)
    if now < canary["step_at"] + _minutes(canary, plan) * 60:
        return Keep(said)
    if missing := _missing(canary, plan, traffic):
        if now - canary["started_at"] >= plan.max_hours * 3600:
            return End(f"not enough traffic in {plan.max_hours:g} hours: {missing}", harm=False)
        return Keep(said)
    if step + 1 < len(plan.steps):
        return Step(plan.steps[step + 1], step + 1, said)
    return Finish(said)


def wait_seconds(canary: Mapping[str, Any], plan: CanaryPlan, now: float) -> int:
    """How long until the next look, in whole seconds: 1 at least, a minute as a rule.

    What is left of a step where that is less. Once its time is over and requests are missing, a
    quarter of the time since it began; after the first hours, a 400th of the time that the plan
    asks for.
    """
    age = now - canary["started_at"]
    limit = LOOK_S if age < EAGER_S else max(LOOK_S, _planned_s(plan) / LATER_LOOKS)
    since = now - canary["step_at"]
    left = _minutes(canary, plan) * 60 - since
    seconds: float = min(limit, left if left > 0 else max(since / 4, age / EARLY_LOOKS))
    return max(1, ceil(seconds))


def _planned_s(plan: CanaryPlan) -> float:
    """How long a canary may wait for traffic, or its steps take, whichever is longer."""
    steps = plan.shadow_minutes + len(plan.steps) * plan.step_minutes
    return max(plan.max_hours * 3600, steps * 60)


def summary(canary: Mapping[str, Any], plan: CanaryPlan, traffic: Traffic) -> str:
    """How far the step is, in words: "canary 10 %: 43 of 100 requests, errors 0 % of 43 …"."""
    return _summary(canary, plan, traffic, guards(plan, traffic))


def _summary(
    canary: Mapping[str, Any], plan: CanaryPlan, traffic: Traffic, found: Sequence[Guard]
) -> str:
    step = traffic.step(int(canary["step"]))
    name = "shadow" if canary["shadow"] else f"canary {_percent(canary['share'])}"
    seen = [f"{step.challenger.requests:,} of {plan.min_requests:,} requests"]
    seen += _short(canary, plan, step)
    if plan.min_ratings and not canary["shadow"]:
        seen.append(f"{_ratings(canary, traffic)} of {plan.min_ratings} ratings")
    told = [f"{guard.name} {guard.said}" for guard in found]
    return f"{name}: {', '.join([*seen, *told])}"


def _minutes(canary: Mapping[str, Any], plan: CanaryPlan) -> float:
    return plan.shadow_minutes if canary["shadow"] else plan.step_minutes


def _missing(canary: Mapping[str, Any], plan: CanaryPlan, traffic: Traffic) -> str:
    """What a step has not seen yet; "" where that is nothing."""
    step = traffic.step(int(canary["step"]))
    requests, ratings = step.challenger.requests, _ratings(canary, traffic)
    missing = []
    if requests < plan.min_requests:
        missing.append(f"{requests:,} of {plan.min_requests:,} requests")
    missing += _short(canary, plan, step)
    if not canary["shadow"] and ratings < plan.min_ratings:
        missing.append(f"{ratings} of {plan.min_ratings} ratings")
    return ", ".join(missing)


def _short(canary: Mapping[str, Any], plan: CanaryPlan, step: Arms) -> list[str]:
    """What else a step lacks: answers to the challenger's requests, and the champion's requests."""
    ours, theirs = step
    short = []
    if ours.requests >= plan.min_requests > ours.answers:
        short.append(f"{ours.answers:,} of {plan.min_requests:,} answers")
    needed = _champions(canary, plan)
    if theirs.requests < needed and ours.requests >= plan.min_requests:
        short.append(f"{theirs.requests:,} of {needed:,} requests of the champion")
    return short


def _champions(canary: Mapping[str, Any], plan: CanaryPlan) -> int:
    """The champion's requests that a step needs: with none, nothing could be compared.

    Half of what its share brings while the challenger gets `min_requests`, and half of
    `min_requests` at most.
    """
    share = float(canary["share"])
    ratio = 1.0 if canary["shadow"] else min(1.0, (1 - share) / share)
    return ceil(plan.min_requests * ratio / 2)


def _ratings(canary: Mapping[str, Any], traffic: Traffic) -> int:
    """The challenger's ratings since the step began."""
    return sum(r.challengers and r.at >= canary["step_at"] for r in traffic.ratings)


def _counts(traffic: Traffic, count: Callable[[Arm], int]) -> list[tuple[Counts, Counts]]:
    return [
        (
            Counts(step.challenger.requests, count(step.challenger)),
            Counts(step.champion.requests, count(step.champion)),
        )
        for _, step in sorted(traffic.steps.items())
    ]


def _too_dear(plan: CanaryPlan, traffic: Traffic) -> list[str]:
    """Answers that cost too much: by list prices, or by tokens where these are not known.

    A mean is no evidence as a guardrail's is: of fewer than `min_requests` answers of either arm it
    says nothing.
    """
    ours, theirs = traffic.total
    if min(ours.answers, theirs.answers) < plan.min_requests:
        return []
    priced = None if traffic.models is None else _usd(traffic.models, traffic.total)
    cost, champions = priced or (_tokens(ours), _tokens(theirs))
    if not champions or cost <= plan.max_cost_ratio * champions:
        return []
    said = (
        f"${cost:.5f} an answer against ${champions:.5f}"
        if priced
        else f"{cost:,.0f} tokens an answer against {champions:,.0f}"
    )
    return [f"{said}: {cost / champions:.1f} times, allowed {plan.max_cost_ratio:g}"]


def _tokens(arm: Arm) -> float:
    return (arm.prompt_tokens + arm.completion_tokens) / arm.answers


def _usd(models: tuple[str, str], total: Arms) -> tuple[float, float] | None:
    """The mean price of both arms' answers; None where either has no known one."""
    found = []
    for model, arm in zip(models, total, strict=True):
        usd = answer_usd(model, arm.prompt_tokens, arm.completion_tokens)
        if not usd:
            return None
        found.append(usd / arm.answers)
    return found[0], found[1]


def _shares(total: Arms, count: Callable[[Arm], int]) -> str:
    return f"{_share(total.challenger, count)} against {_share(total.champion, count)}"


def _share(arm: Arm, count: Callable[[Arm], int]) -> str:
    share = count(arm) / arm.requests if arm.requests else 0.0
    return f"{_percent(share)} of {arm.requests:,}"


def _rated(pairs: Sequence[tuple[bool, bool]]) -> str:
    def of(challengers: bool) -> str:
        rated = [good for ours, good in pairs if ours is challengers]
        return f"{_percent(sum(rated) / len(rated) if rated else 0.0)} of {len(rated):,}"

    return f"{of(True)} against {of(False)}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
