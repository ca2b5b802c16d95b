"""When a provider's model stops answering, how long that is, and where its project goes then.

A model stops on the earliest day known for it: the one its provider lists for the fine-tune itself,
the one listed for the model it was made of, or one that is known by name. Pure: lists, dates and
runs come in, decisions go out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from dropforge.artifacts import digest
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.project.training import Shutdown
from dropforge.providers import PRESETS, is_hosted

ALARM_DAYS = (90, 30, 7)
NO_END_DAYS = 3650
"""What the metrics say where no end is known: an alarm that rang must be able to fall silent."""
RETRY_SECONDS = 7 * 24 * 3600
"""A retraining that failed is started again by itself after a week, not every day."""

Listed = Mapping[str, date | None]
"""A provider's list of models: id -> its `shutdown_date`, None where none is announced."""


class Retirement(msgspec.Struct, frozen=True):
    """What a provider has announced for a family of models and all fine-tunes of it.

    Attributes:
        family: a model's name; `gpt-4o` stands for `gpt-4o-2024-08-06` and `gpt-4o-mini` too.
        on: the first day without answers.
    """

    backend: str
    family: str
    on: date
    source: str


_OPENAI = "OpenAI's deprecations page, October 2026"
KNOWN = (
    Retirement("openai", "gpt-4o", date(2027, 1, 14), _OPENAI),
    Retirement("openai", "gpt-4.1", date(2027, 1, 14), _OPENAI),
)
"""Announced for models that could be fine-tuned (developers.openai.com/api/docs/deprecations)."""


class Ending(msgspec.Struct, frozen=True):
    """The first day on which a model does not answer, and who says so."""

    on: date
    known_from: str


def ending(backend: str, model_id: str, base_model: str, listed: Listed) -> Ending | None:
    """The earliest end known for a model; None where none is, and for the account's own models.

    Args:
        model_id: the provider's name of the fine-tune; "" for a model that is yet to be trained.
        listed: what the provider says now; empty where it did not answer.
    """
    if not is_hosted(backend):
        return None
    known = [
        Ending(r.on, r.source)
        for r in KNOWN
        if r.backend == backend and _of_family(base_model, r.family)
    ]
    known += [
        Ending(on, f"{backend} lists it for {name}")
        for name in (model_id, base_model)
        if (on := listed.get(name))
    ]
    return min(known, key=lambda end: end.on, default=None)


def _of_family(model: str, family: str) -> bool:
    return model == family or model.startswith(f"{family}-")


def shutdown_of(backend: str, model_id: str, base_model: str, listed: Listed) -> date | None:
    """The first day on which a model does not answer; see `ending`."""
    found = ending(backend, model_id, base_model, listed)
    return found.on if found else None


def training_closes(backend: str, model: str, listed: Listed) -> date | None:
    """The first day on which a backend takes no job for a model (any more), as far as known."""
    preset = PRESETS.get(backend)
    last = preset.training_ends if preset else None
    days = (last + timedelta(days=1) if last else None, shutdown_of(backend, "", model, listed))
    return min((day for day in days if day), default=None)


def days_left(on: date, today: date) -> int:
    """Days on which it still answers, or takes jobs; 0 and less: it is over."""
    return (on - today).days


def alarm(days: int) -> int | None:
    """The alarm that rings with so many days left: 90, 30 or 7; None while none does."""
    return min((limit for limit in ALARM_DAYS if days <= limit), default=None)


def due(shutdown: Shutdown, days: int | None) -> bool:
    """Whether the project wants its champion retrained elsewhere by now."""
    return shutdown.retrain and days is not None and days <= shutdown.days


def next_choice(
    config: ProjectConfig,
    backend: str,
    model: str,
    *,
    until: date | None,
    listed: Mapping[str, Listed],
    today: date,
) -> int | None:
    """Where in the project's list a model is to be trained anew; None where nothing is left.

    The choices after the model's own come first, then those before it, which an edited list may
    have put in front. Another model of the same provider will do, if it outlives this one.

    Args:
        backend, model: the champion's, its base model.
        until: the first day on which the champion does not answer, if one is known.
        listed: what each provider says now, by backend.
    """
    places = [i for i, c in enumerate(config.choices) if (c.backend, c.model) == (backend, model)]
    places += [i for i, c in enumerate(config.choices) if c.backend == backend]
    after = places[0] + 1 if places else 0
    order: list[int] = [*range(after, len(config.choices)), *range(after)]
    for place in order:
        choice = config.choices[place]
        if choice.backend == backend and until is None:
            continue
        known = listed.get(choice.backend, {})
        closes = training_closes(choice.backend, choice.model, known)
        ends = shutdown_of(choice.backend, "", choice.model, known)
        outlives = ends is None or (until is not None and ends > until)
        if outlives and (closes is None or closes > today):
            return place
    return None


def migration_id(project: str, version: str, choice: Choice, attempt: int = 1) -> str:
    """The run that trains a champion's dataset by another choice: named so that it starts once."""
    again = (attempt,) if attempt > 1 else ()
    return digest("migrate/1", project, version, choice.backend, choice.model, *again)[:32]


def is_unbegun(run: Mapping[str, Any], now: float) -> bool:
    """Whether a run was noted an hour ago and nothing of it was seen since: its starter died."""
    untouched: bool = run["updated_at"] == run["started_at"] <= now - 3600
    return run["status"] == "running" and untouched


def may_start(attempts: Sequence[Mapping[str, Any]], now: float) -> bool:
    """Whether a retraining may be started by itself: it never was, or it failed a week ago.

    Args:
        attempts: the run items so far, the newest last.
        now: seconds since the epoch.
    """
    if not attempts:
        return True
    last = attempts[-1]
    rested: bool = now - last["started_at"] >= RETRY_SECONDS
    return is_unbegun(last, now) or (last["status"] == "failed" and rested)
