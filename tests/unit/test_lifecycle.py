"""When models end, how long that is, and where they go."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from dropforge.lifecycle import (
    ALARM_DAYS,
    KNOWN,
    RETRY_SECONDS,
    Listed,
    alarm,
    days_left,
    due,
    ending,
    is_unbegun,
    may_start,
    migration_id,
    next_choice,
    shutdown_of,
    training_closes,
)
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.project.training import Shutdown

TODAY = date(2026, 11, 22)
FINE_TUNE = "ft:gpt-4.1-mini-2025-04-14:acme::abc"
BASE = "gpt-4.1-mini-2025-04-14"
GONE = date(2027, 1, 14)


def config(*choices: tuple[str, str], **more: Any) -> ProjectConfig:
    listed = [{"backend": backend, "model": model} for backend, model in choices]
    return ProjectConfig.model_validate({**listed[0], "fallback": listed[1:], **more})


# --- when a model ends


@pytest.mark.parametrize("base", ["gpt-4o", "gpt-4o-mini-2024-07-18", BASE, "gpt-4.1-2025-04-14"])
def test_fine_tunes_of_retired_families_are_known_by_name(base: str) -> None:
    assert shutdown_of("openai", "ft:x", base, {}) == GONE


@pytest.mark.parametrize(
    ("backend", "base"),
    [("openai", "gpt-4.10"), ("openai", "gpt-4omni"), ("azure", "gpt-4o"), ("local", "gpt-4o")],
)
def test_other_models_and_other_providers_are_not_meant(backend: str, base: str) -> None:
    assert shutdown_of(backend, "ft:x", base, {}) is None


def test_smaller_models_of_a_family_end_with_it() -> None:
    assert shutdown_of("openai", "ft:x", "gpt-4.1-nano-2025-04-14", {}) == date(2027, 1, 14)


@pytest.mark.parametrize(
    ("listed", "on", "said"),
    [
        ({}, GONE, "OpenAI's deprecations page"),
        ({FINE_TUNE: None, BASE: None}, GONE, "OpenAI's deprecations page"),
        ({FINE_TUNE: date(2026, 12, 1)}, date(2026, 12, 1), f"openai lists it for {FINE_TUNE}"),
        ({BASE: date(2026, 12, 2)}, date(2026, 12, 2), f"openai lists it for {BASE}"),
        (
            {FINE_TUNE: date(2026, 12, 3), BASE: date(2026, 12, 2)},
            date(2026, 12, 2),
            f"openai lists it for {BASE}",
        ),
        ({BASE: date(2028, 1, 1)}, GONE, "OpenAI's deprecations page"),
    ],
)
def test_earliest_date_counts_and_tells_where_it_is_from(
    listed: Listed, on: date, said: str
) -> None:
    found = ending("openai", FINE_TUNE, BASE, listed)
    assert found is not None
    assert found.on == on
    assert found.known_from.startswith(said)


@pytest.mark.parametrize("backend", ["sagemaker", "sagemaker-serverless"])
def test_own_models_never_end(backend: str) -> None:
    assert ending(backend, "c", "gpt-4o", {"gpt-4o": GONE, "c": GONE}) is None


def test_known_dates_have_a_source_and_a_hosted_provider() -> None:
    assert all(known.source and known.backend == "openai" for known in KNOWN)


# --- when training ends


def test_training_on_openai_closes_the_day_after_its_last() -> None:
    assert training_closes("openai", "other", {}) == date(2027, 1, 6)
    assert training_closes("local", "other", {}) is None
    assert training_closes("sagemaker", "other", {}) is None


def test_model_that_ends_first_closes_its_training() -> None:
    assert training_closes("openai", "m", {"m": date(2026, 12, 1)}) == date(2026, 12, 1)
    assert training_closes("local", "m", {"m": date(2026, 12, 1)}) == date(2026, 12, 1)


# --- days, alarms, what is due


def test_days_left_are_zero_on_the_day_it_goes_dark() -> None:
    assert days_left(GONE, GONE) == 0
    assert days_left(GONE, GONE - timedelta(days=1)) == 1
    assert days_left(GONE, GONE + timedelta(days=3)) == -3


@pytest.mark.parametrize(
    ("days", "rings"), [(91, None), (90, 90), (31, 90), (30, 30), (8, 30), (7, 7), (0, 7), (-5, 7)]
)
def test_narrowest_alarm_rings(days: int, rings: int | None) -> None:
    assert alarm(days) == rings
    assert rings is None or rings in ALARM_DAYS


@pytest.mark.parametrize(
    ("retrain", "days", "expected"),
    [(True, 31, False), (True, 30, True), (True, -1, True), (True, None, False), (False, 3, False)],
)
def test_retraining_is_due_once_no_more_days_are_left_than_asked(
    retrain: bool, days: int | None, expected: bool
) -> None:
    assert due(Shutdown(retrain=retrain, days=30), days) is expected


# --- where to


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([("openai", "gpt-4o"), ("local", "m")], 1),
        ([("openai", "gpt-4o")], None),
        ([("openai", "gpt-4o"), ("openai", "gpt-4.1")], None),  # ends the same day
        ([("openai", "gpt-4o"), ("openai", "gpt-9"), ("local", "m")], 1),
        ([("sagemaker", "m"), ("openai", "gpt-4o")], 0),  # nothing after it
        ([("local", "a"), ("openai", "gpt-4o"), ("together", "b")], 2),
        ([("local", "a"), ("together", "b")], 0),  # no longer in the list
    ],
)
def test_next_choice_is_the_first_after_the_champions_that_outlives_it(
    choices: list[tuple[str, str]], expected: int | None
) -> None:
    place = next_choice(config(*choices), "openai", "gpt-4o", until=GONE, listed={}, today=TODAY)
    assert place == expected


def test_provider_that_takes_no_more_jobs_is_no_choice() -> None:
    two = config(("local", "old"), ("openai", "gpt-9"), ("together", "b"))
    ends = date(2027, 2, 1)

    def place(today: date) -> int | None:
        return next_choice(two, "local", "old", until=ends, listed={}, today=today)

    assert place(date(2027, 1, 5)) == 1
    assert place(date(2027, 1, 6)) == 2


def test_choice_that_its_provider_ends_first_is_none() -> None:
    two = config(("openai", "gpt-4o"), ("local", "a"), ("together", "b"))
    listed = {"local": {"a": date(2026, 12, 24)}}
    place = next_choice(two, "openai", "gpt-4o", until=GONE, listed=listed, today=TODAY)
    assert place == 2


def test_champion_without_an_end_moves_to_another_provider_only() -> None:
    three = config(("local", "a"), ("local", "b"), ("together", "c"))
    assert next_choice(three, "local", "a", until=None, listed={}, today=TODAY) == 2


# --- when a retraining starts


def attempt(status: str, started_at: float = 0.0, updated_at: float = 5.0) -> dict[str, Any]:
    return {"status": status, "started_at": started_at, "updated_at": updated_at}


@pytest.mark.parametrize(
    ("attempts", "now", "expected"),
    [
        ([], 0.0, True),
        ([attempt("running")], 10 * RETRY_SECONDS, False),
        ([attempt("succeeded")], 10 * RETRY_SECONDS, False),
        ([attempt("failed")], RETRY_SECONDS - 1.0, False),
        ([attempt("failed")], RETRY_SECONDS, True),
        ([attempt("failed"), attempt("failed", RETRY_SECONDS)], RETRY_SECONDS + 60.0, False),
        ([attempt("running", 0.0, 0.0)], 3599.0, False),
        ([attempt("running", 0.0, 0.0)], 3600.0, True),
    ],
)
def test_retraining_starts_once_and_after_a_failure_a_week_later(
    attempts: list[dict[str, Any]], now: float, expected: bool
) -> None:
    assert may_start(attempts, now) is expected


def test_run_that_was_noted_but_not_seen_since_has_not_begun() -> None:
    assert is_unbegun(attempt("running", 0.0, 0.0), 3600.0)
    assert not is_unbegun(attempt("running", 0.0, 1.0), 3600.0)
    assert not is_unbegun(attempt("failed", 0.0, 0.0), 3600.0)


def test_every_move_has_a_name_of_its_own() -> None:
    here, there = Choice(backend="local", model="m"), Choice(backend="together", model="m")
    names = [
        migration_id("shop", "v1", here),
        migration_id("shop", "v1", here, 2),
        migration_id("shop", "v1", there),
        migration_id("shop", "v2", here),
        migration_id("bank", "v1", here),
    ]
    assert len(set(names)) == len(names)
    assert names[0] == migration_id("shop", "v1", here, 1)
    assert all(len(name) == 32 for name in names)
