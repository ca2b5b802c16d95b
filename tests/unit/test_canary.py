"""What becomes of a canary, by its traffic and the clock."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.canary import (
    LIMIT,
    SHADOW,
    Arm,
    Arms,
    Decision,
    End,
    Finish,
    Keep,
    Rating,
    Step,
    Traffic,
    decide,
    first_step,
    summary,
    wait_seconds,
)
from dropforge.project.judging import CanaryPlan
from lambdas.train.launch import MAX_POLLS

MINUTE, HOUR = 60.0, 3600.0
PLAN = CanaryPlan(steps=(0.1, 0.5), step_minutes=60, min_requests=100)


def canary(step: int = 0, share: float = 0.1, step_at: float = 0.0) -> dict[str, Any]:
    shadow = step == SHADOW
    return {"step": step, "share": share, "shadow": shadow, "step_at": step_at, "started_at": 0.0}


def arms(ours: int = 100, theirs: int = 900, **more: int) -> Arms:
    """Both arms' requests; `ours_errors`, `theirs_slow` and so on count for one of them."""
    challenger = {k.removeprefix("ours_"): v for k, v in more.items() if k.startswith("ours_")}
    champion = {k.removeprefix("theirs_"): v for k, v in more.items() if k.startswith("theirs_")}
    return Arms(Arm(requests=ours, **challenger), Arm(requests=theirs, **champion))


def traffic(*steps: Arms, ratings: list[Rating] | None = None, **more: Any) -> Traffic:
    return Traffic(dict(enumerate(steps)), ratings or [], **more)


def at(now: float, seen: Traffic, plan: CanaryPlan = PLAN, **state: Any) -> Decision:
    return decide(canary(**state), plan, seen, now)


# --- steps


def test_canary_begins_with_its_first_share_or_with_the_shadow() -> None:
    assert first_step(PLAN) == {"step": 0, "share": 0.1, "shadow": False}
    shadowed = PLAN.model_copy(update={"shadow_minutes": 5.0})
    assert first_step(shadowed) == {"step": SHADOW, "share": 0.0, "shadow": True}


def test_step_is_kept_until_its_time_and_its_requests_are_there() -> None:
    assert isinstance(at(59 * MINUTE, traffic(arms(500, 4500))), Keep)
    assert isinstance(at(60 * MINUTE, traffic(arms(99, 900))), Keep)
    left = at(60 * MINUTE, traffic(arms(100, 900)))
    assert left == Step(0.5, 1, left.why)


def test_step_counts_its_own_requests_alone() -> None:
    seen = traffic(arms(100, 900), arms(99, 100))
    assert isinstance(at(2 * HOUR, seen, step=1, share=0.5, step_at=HOUR), Keep)


def test_last_step_ends_in_the_champions_place() -> None:
    seen = traffic(arms(), arms(100, 100))
    assert isinstance(at(2 * HOUR, seen, step=1, share=0.5, step_at=HOUR), Finish)


def test_shadow_goes_on_to_the_first_share() -> None:
    plan = PLAN.model_copy(update={"shadow_minutes": 10.0})
    seen = Traffic({SHADOW: arms(100, 100)})
    state = {"step": SHADOW, "share": 0.0}
    assert isinstance(at(9 * MINUTE, seen, plan, **state), Keep)
    left = at(10 * MINUTE, seen, plan, **state)
    assert (left.__class__, getattr(left, "share", 0)) == (Step, 0.1)


def test_ratings_that_are_asked_for_are_those_of_the_challenger_in_this_step() -> None:
    plan = PLAN.model_copy(update={"min_ratings": 2})
    early = Rating(HOUR - 1, True, True)
    others = [Rating(HOUR + i, False, True) for i in range(9)]
    state = {"step": 1, "share": 0.5, "step_at": HOUR}
    steps = (arms(), arms(100, 100))
    one = [early, *others, Rating(HOUR + 10, True, True)]
    kept = at(2 * HOUR, traffic(*steps, ratings=one), plan, **state)
    assert isinstance(kept, Keep)
    assert "1 of 2 ratings" in kept.why
    two = [*one, Rating(HOUR + 11, True, False)]
    assert isinstance(at(2 * HOUR, traffic(*steps, ratings=two), plan, **state), Finish)


def test_canary_without_traffic_ends_after_its_hours_and_blames_nobody() -> None:
    assert isinstance(at(71 * HOUR, traffic(arms(7, 60))), Keep)
    assert at(72 * HOUR, traffic(arms(7, 60))) == End(
        "not enough traffic in 72 hours: 7 of 100 requests", harm=False
    )


def test_step_with_its_traffic_goes_on_however_long_the_canary_took() -> None:
    assert isinstance(at(100 * HOUR, traffic(arms(100, 900))), Step)
    long = PLAN.model_copy(update={"step_minutes": 3000.0, "max_hours": 1.0})
    assert isinstance(at(2 * HOUR, traffic(arms(0, 0)), long), Keep), "its time is not over"


@pytest.mark.parametrize(
    ("share", "needed"), [(0.01, 50), (0.1, 50), (0.5, 50), (0.75, 17), (0.9, 6), (0.99, 1)]
)
def test_step_needs_the_champions_requests_too(share: float, needed: int) -> None:
    """Half of what comes beside 100 of the challenger's at this share, and 50 at most."""
    plan = PLAN.model_copy(update={"steps": (share,)})
    kept = at(HOUR, traffic(arms(100, needed - 1)), plan, share=share)
    assert isinstance(kept, Keep)
    assert f"{needed - 1} of {needed} requests of the champion" in kept.why
    assert isinstance(at(HOUR, traffic(arms(100, needed)), plan, share=share), Finish)


def test_shadow_needs_the_champions_requests_too() -> None:
    plan = PLAN.model_copy(update={"shadow_minutes": 10.0})
    state = {"step": SHADOW, "share": 0.0}
    assert isinstance(at(HOUR, Traffic({SHADOW: arms(100, 49)}), plan, **state), Keep)
    assert isinstance(at(HOUR, Traffic({SHADOW: arms(100, 50)}), plan, **state), Step)


def test_failures_bring_no_step_to_its_end() -> None:
    kept = at(HOUR, traffic(arms(101, 900, ours_errors=2, theirs_errors=18)))
    assert isinstance(kept, Keep)
    assert "101 of 100 requests, 99 of 100 answers" in kept.why
    assert isinstance(at(HOUR, traffic(arms(102, 900, ours_errors=2, theirs_errors=18))), Step)


@pytest.mark.parametrize("theirs", [0, 1, 49, 100_000])
@pytest.mark.parametrize("step", [SHADOW, 0, 1])
def test_challenger_that_only_fails_never_goes_on(theirs: int, step: int) -> None:
    """Beside a champion that fails too, and so gives no evidence."""
    seen = Traffic({step: arms(5000, theirs, ours_errors=5000, theirs_errors=theirs)})
    state: dict[str, Any] = {"step": step, "share": 0.0 if step == SHADOW else PLAN.steps[step]}
    for now in (HOUR, 71 * HOUR):
        assert isinstance(at(now, seen, **state), Keep)
    ended = at(72 * HOUR, seen, **state)
    assert isinstance(ended, End)
    assert (ended.harm, "0 of 100 answers" in ended.why) == (False, True)


def test_canary_that_the_champion_sees_nothing_of_ends_and_blames_nobody() -> None:
    ended = at(72 * HOUR, traffic(arms(5000, 3)))
    said = "not enough traffic in 72 hours: 3 of 50 requests of the champion"
    assert ended == End(said, harm=False)


# --- guardrails


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            arms(320, 2900, ours_errors=13, theirs_errors=9),
            r"errors 4.06 % of 320 against 0.31 % of 2,900: e-value [\d,]+",
        ),
        (
            arms(300, 2700, ours_slow=40, theirs_slow=27),
            r"answers over 10 s 13.3 % of 300 against 1 % of 2,700: e-value [\d,]+",
        ),
    ],
)
def test_challenger_that_fails_more_often_is_ended_with_its_numbers(seen: Arms, said: str) -> None:
    ended = at(MINUTE, traffic(seen))
    assert isinstance(ended, End)
    assert ended.harm
    assert re.fullmatch(said, ended.why)


def test_worse_ratings_end_it() -> None:
    ratings = [Rating(i, i % 2 == 0, i % 2 == 1 or i % 8 == 0) for i in range(60)]
    ended = at(MINUTE, traffic(arms(), ratings=ratings))
    assert isinstance(ended, End)
    assert ended.why.startswith("good ratings 26.7 % of 30 against 100 % of 30: e-value")


def test_errors_within_the_tolerance_do_not_end_it() -> None:
    seen = arms(1000, 9000, ours_errors=13, theirs_errors=90)
    assert isinstance(at(MINUTE, traffic(seen)), Keep)


def test_evidence_of_all_steps_counts_together() -> None:
    part = {"ours_errors": 4, "theirs_errors": 7}
    first, second = arms(104, 900, **part), arms(200, 200, ours_errors=11, theirs_errors=1)
    state: dict[str, Any] = {"step": 1, "share": 0.5, "step_at": HOUR}
    assert isinstance(at(HOUR, traffic(first)), Step)
    assert isinstance(at(HOUR, traffic(arms(), second), **state), Keep)
    assert isinstance(at(HOUR, traffic(first, second), **state), End)


def test_answers_that_cost_too_much_end_it_once_there_are_enough() -> None:
    tokens = {"prompt_tokens": 100, "completion_tokens": 900}
    dear = {f"ours_{name}": 100 * n for name, n in tokens.items()}
    cheap = {f"theirs_{name}": 900 * n // 3 for name, n in tokens.items()}
    ended = at(MINUTE, traffic(arms(100, 900, **dear, **cheap)))
    said = "1,000 tokens an answer against 333: 3.0 times, allowed 2"
    assert ended == End(said, harm=False), "a mean is no evidence"
    for few in (arms(99, 900, **dear, **cheap), arms(100, 99, **dear, **cheap)):
        assert isinstance(at(MINUTE, traffic(few)), Keep)


def test_canary_that_does_harm_and_costs_too_much_ends_for_the_harm() -> None:
    tokens = {"ours_completion_tokens": 10**6, "theirs_completion_tokens": 10**5}
    ended = at(MINUTE, traffic(arms(320, 2900, ours_errors=13, theirs_errors=9, **tokens)))
    assert isinstance(ended, End)
    assert ended.harm
    assert ended.why.startswith("errors 4.06 %")
    assert "tokens an answer" in ended.why


def test_failures_make_no_answer_cheaper() -> None:
    tokens = {"ours_completion_tokens": 50_000, "theirs_completion_tokens": 20_000}
    half_fails = arms(200, 200, ours_errors=100, theirs_errors=100, **tokens)
    ended = at(MINUTE, traffic(half_fails))
    said = "500 tokens an answer against 200: 2.5 times, allowed 2"
    assert ended == End(said, harm=False)
    nothing = arms(200, 200, ours_errors=200, theirs_errors=200)
    assert isinstance(at(MINUTE, traffic(nothing)), Keep)


def test_answers_are_priced_where_both_prices_are_known() -> None:
    """The same tokens, but of a model that costs 3.75 times as much."""
    tokens = {"prompt_tokens": 1000, "completion_tokens": 1000}
    same = {f"{arm}_{name}": 100 * n for arm in ("ours", "theirs") for name, n in tokens.items()}
    mini, large, own = "ft:gpt-4.1-mini:a::1", "ft:gpt-4.1:a::2", "adapter-7"

    def with_models(challenger: str, champion: str) -> Decision:
        return at(MINUTE, traffic(arms(100, 100, **same), models=(challenger, champion)))

    said = "$0.01500 an answer against $0.00400: 3.8 times, allowed 2"
    assert with_models(large, mini) == End(said, harm=False)
    assert isinstance(with_models(mini, large), Keep)
    assert isinstance(with_models(large, own), Keep), "without both prices, tokens are compared"


# --- what is said, and when one looks again


def test_summary_tells_how_far_the_step_is() -> None:
    seen = traffic(arms(43, 387))
    assert summary(canary(), PLAN, seen) == (
        "canary 10 %: 43 of 100 requests, errors 0 % of 43 against 0 % of 387, "
        "answers over 10 s 0 % of 43 against 0 % of 387"
    )
    assert summary(canary(SHADOW), PLAN, Traffic()).startswith("shadow: 0 of 100 requests")


@pytest.mark.parametrize(
    ("since", "minutes", "wait"),
    [
        (0, 60, 60),
        (0, 0.1, 6),
        (3590, 60, 10),
        (3599.5, 60, 1),
        (3600, 60, 60),
        (8, 0.1, 2),
        (6, 0.1, 2),
        (0, 0, 1),
    ],
)
def test_next_look_is_at_the_steps_end_or_in_a_minute(
    since: float, minutes: float, wait: int
) -> None:
    plan = PLAN.model_copy(update={"step_minutes": minutes})
    assert wait_seconds(canary(), plan, since) == wait


EVENTS, EVENTS_OF_A_LOOK, EVENTS_OF_A_POLL = 25_000, 10, 16
"""What Step Functions keeps of an execution. A look: two of Wait and of the Choice each, five of
the function's task; rounded up."""
FEW = tuple(number / 100 for number in range(1, 51))


@pytest.mark.parametrize(
    "plan",
    [
        CanaryPlan(),
        CanaryPlan(max_hours=500),
        CanaryPlan(max_hours=500, step_minutes=10_000),
        CanaryPlan(max_hours=500, step_minutes=14_999, shadow_minutes=1),
        CanaryPlan(max_hours=1, step_minutes=40_000),
        CanaryPlan(max_hours=1, shadow_minutes=50_000, step_minutes=0),
        CanaryPlan(max_hours=500, steps=FEW, step_minutes=0),
        CanaryPlan(max_hours=8, steps=FEW, step_minutes=0.05),
        CanaryPlan(max_hours=500, steps=FEW, step_minutes=600),
    ],
)
@pytest.mark.parametrize("patience", [0.0, 60.0, 240.0, 600.0, 3600.0])
def test_events_of_the_longest_run_are_fewer_than_are_kept(
    plan: CanaryPlan, patience: float
) -> None:
    """Traffic comes as late as makes for most looks: each step waits `patience` after its time,
    and the last for as long as the canary may."""
    first = first_step(plan)
    state = {**first, "step_at": 0.0, "started_at": 0.0}
    last, now, looks = len(plan.steps) - 1, 0.0, 0
    while True:
        now += wait_seconds(state, plan, now)
        looks += 1
        seen = now - state["step_at"]
        minutes = plan.shadow_minutes if state["shadow"] else plan.step_minutes
        if state["step"] == last and seen >= minutes * MINUTE and now >= plan.max_hours * HOUR:
            break
        if state["step"] < last and seen >= minutes * MINUTE + patience:
            if patience and now >= plan.max_hours * HOUR:  # it ended while it waited
                break
            state |= {"step": state["step"] + 1, "shadow": False, "step_at": now}
    events = EVENTS_OF_A_LOOK * looks + EVENTS_OF_A_POLL * MAX_POLLS
    assert events < EVENTS - 500, "and the other stages' own"


@pytest.mark.parametrize("latest", [0.9, 0.999])
def test_canary_whose_traffic_comes_at_the_last_moment_fits_too(latest: float) -> None:
    """Nobody asks until `max_hours` are nearly over; then every step takes its time."""
    plan = CanaryPlan(max_hours=500, steps=(0.1, 0.2, 0.3, 0.4, 0.5), step_minutes=6000)
    state = {**first_step(plan), "step_at": 0.0, "started_at": 0.0}
    now, looks = 0.0, 0
    while state["step"] < len(plan.steps):
        now += wait_seconds(state, plan, now)
        looks += 1
        if now >= latest * plan.max_hours * HOUR and now - state["step_at"] >= 6000 * MINUTE:
            state |= {"step": state["step"] + 1, "step_at": now}
    assert now > 1.6 * plan.max_hours * HOUR
    assert EVENTS_OF_A_LOOK * looks + EVENTS_OF_A_POLL * MAX_POLLS < EVENTS - 500


def test_long_steps_are_looked_at_as_rarely_as_long_waits() -> None:
    """The steps may take longer than `max_hours`."""
    plan = CanaryPlan(max_hours=1, step_minutes=30_000)
    assert wait_seconds(canary(), plan, 9 * HOUR) == 60_000 * 60 / 400


# --- properties

counts = st.integers(0, 400).flatmap(
    lambda n: st.builds(
        Arm,
        requests=st.just(n),
        errors=st.integers(0, n),
        slow=st.integers(0, n),
        prompt_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
    )
)
seen = st.builds(
    Traffic,
    steps=st.dictionaries(st.sampled_from([SHADOW, 0, 1]), st.builds(Arms, counts, counts)),
    ratings=st.lists(st.builds(Rating, st.floats(0, 1e4), st.booleans(), st.booleans())),
)


@given(seen=seen, now=st.floats(0, 1e6), step=st.sampled_from([SHADOW, 0, 1]))
def test_every_decision_has_its_reason_and_keeps_to_the_plan(
    seen: Traffic, now: float, step: int
) -> None:
    decision = at(now, seen, step=step)
    assert decision.why
    if isinstance(decision, Step):
        assert decision.share == PLAN.steps[step + 1]
    if isinstance(decision, Finish):
        assert step == 1
    if not isinstance(decision, Keep | End):
        minutes = 0 if step == SHADOW else PLAN.step_minutes
        assert now >= minutes * MINUTE
        assert seen.step(step).challenger.answers >= PLAN.min_requests
        assert seen.step(step).champion.requests >= PLAN.min_requests / 2
    assert wait_seconds(canary(step), PLAN, now) >= 1


@given(seen=seen)
def test_champion_with_more_errors_never_ends_the_challenger(seen: Traffic) -> None:
    """The evidence is one-sided: a challenger that does better is left alone."""
    better = {
        index: Arms(Arm(requests=step.challenger.requests), step.champion)
        for index, step in seen.steps.items()
    }
    decision = at(0.0, Traffic(better))
    assert not isinstance(decision, End)


# --- simulated canaries, seeded


def simulated(
    seed: int, plan: CanaryPlan, *, errors: tuple[float, float], good: tuple[float, float]
) -> tuple[Decision, int]:
    """A whole canary, looked at after every ten requests; (how it ended, challenger's requests).

    Args:
        errors, good: chances of (challenger, champion): an answer fails, a rating is good.
    """
    random = Random(seed)
    steps: dict[int, list[list[int]]] = {}
    ratings: list[Rating] = []
    step, share, step_at, now = 0, plan.steps[0], 0.0, 0.0
    while True:
        tally = steps.setdefault(step, [[0, 0, 0], [0, 0, 0]])
        for _ in range(10):
            now += 1.0
            arm = 0 if random.random() < share else 1
            tally[arm][0] += 1
            tally[arm][1] += random.random() < errors[arm]
            tally[arm][2] += random.random() < 0.05
            if random.random() < 0.1:
                ratings.append(Rating(now, arm == 0, random.random() < good[arm]))
        seen = Traffic(
            {
                i: Arms(*(Arm(requests=r, errors=e, slow=s) for r, e, s in t))
                for i, t in steps.items()
            },
            ratings,
        )
        decision = at(now, seen, plan, step=step, share=share, step_at=step_at)
        if isinstance(decision, Step):
            step, share, step_at = decision.step, decision.share, now
        elif not isinstance(decision, Keep):
            return decision, sum(t[0][0] for t in steps.values())


SIMULATED = 150


def test_equal_arms_are_seldom_ended_whatever_the_looks() -> None:
    """At a tolerance of 1, the hardest; every guardrail has something to count."""
    plan = CanaryPlan(steps=(0.1, 0.5), step_minutes=5, min_requests=100, tolerance=1.0)
    ends = [
        isinstance(simulated(seed, plan, errors=(0.02, 0.02), good=(0.8, 0.8))[0], End)
        for seed in range(SIMULATED)
    ]
    assert sum(ends) / SIMULATED <= 1 / LIMIT


def test_challenger_with_five_times_the_errors_is_stopped_soon() -> None:
    plan = CanaryPlan(steps=(0.1, 0.5), step_minutes=10, min_requests=600)
    found = [simulated(seed, plan, errors=(0.10, 0.02), good=(0.8, 0.8)) for seed in range(100)]
    needed = sorted(requests for decision, requests in found if isinstance(decision, End))
    assert len(needed) >= 95
    assert needed[len(found) // 2] <= 150, "the challenger's requests, in the median"
