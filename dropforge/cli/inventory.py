"""Which models depend on a hosted provider, until when, and where they would go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import NamedTuple

import msgspec
from rich.table import Table
from rich.text import Text

from dropforge.artifacts import recorded_key
from dropforge.backends.migration import current_config, model_ending
from dropforge.backends.registry import Item
from dropforge.cli.deployment import Deployment
from dropforge.errors import ProjectError
from dropforge.lifecycle import Ending, alarm, days_left, next_choice, training_closes
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.providers import is_hosted
from dropforge.recorded import decode_recorded

_STYLES = {90: "yellow", 30: "red", 7: "bold red", None: "green"}
"""By the alarm that rings."""


class Dependence(NamedTuple):
    """A fine-tuned model on a hosted provider; `next` is where it would be trained anew."""

    project: str
    model: Item
    role: str
    ends: Ending | None
    days: int | None
    next: str

    @property
    def answers(self) -> bool:
        return self.days is None or self.days > 0


def dependences(here: Deployment, projects: list[str], today: date) -> list[Dependence]:
    """Every one of them: champions first, then by the days left."""
    found = [one for project in projects for one in _of_project(here, project, today)]
    return sorted(found, key=lambda d: (d.role != "champion", d.days is None, d.days or 0))


def _of_project(here: Deployment, project: str, today: date) -> Iterator[Dependence]:
    champion = here.registry.champion(project) or {}
    roles = {champion.get("previous"): "previous", champion.get("version"): "champion"}
    try:
        config, _ = current_config(here.store, here.registry, project)
    except ProjectError:
        config = None
    for model in here.registry.models(project):
        if not is_hosted(model["backend"]):
            continue
        ends = model_ending(model)
        rolled_back = "rolled back" if model["standing"] == "rolled back" else ""
        yield Dependence(
            project,
            model,
            roles.get(model["version"], rolled_back),
            ends,
            days_left(ends.on, today) if ends else None,
            _next(config, model, ends, today),
        )


def _next(config: ProjectConfig | None, model: Item, ends: Ending | None, today: date) -> str:
    """ "" for a model that may stay; "none" where the project's list has nowhere to go."""
    if ends is None:
        return ""
    if config is None:
        return "no valid project.yaml"
    until = ends.on
    place = next_choice(
        config, model["backend"], model["base_model"], until=until, listed={}, today=today
    )
    return "none" if place is None else named(config.choices[place])


def named(choice: Choice) -> str:
    """A choice as people say it."""
    return f"{choice.model} on {choice.backend}"


def table(found: list[Dependence]) -> Table:
    """The inventory, coloured by the alarms at 90, 30 and 7 days."""
    drawn = Table(box=None, pad_edge=False)
    for column in ("project", "version", "role"):
        drawn.add_column(column, no_wrap=True)
    drawn.add_column("model", overflow="fold")
    for column in ("ends", "days left"):
        drawn.add_column(column, no_wrap=True)
    for column in ("known from", "next choice"):
        drawn.add_column(column, overflow="fold")
    for one in found:
        style = "dim" if one.days is None else _STYLES[alarm(one.days)]
        drawn.add_row(
            one.project,
            str(one.model["version"]),
            one.role,
            f"{one.model['base_model']} on {one.model['backend']}",
            Text(one.ends.on.isoformat() if one.ends else "no end known", style=style),
            Text(_days(one), style=style),
            one.ends.known_from if one.ends else "",
            one.next,
        )
    return drawn


def _days(one: Dependence) -> str:
    if one.days is None:
        return ""
    return str(one.days) if one.answers else "dark"


def remarks(here: Deployment, project: str, today: date) -> Iterator[str]:
    """What there is to say of a project beside its models, a sentence each."""
    watch = here.registry.get(project, "watch")
    if watch is None:
        yield (
            f"{project}: the daily watch has not looked yet; these dates are those known by name"
        )
    else:
        silent = ", ".join(watch["unanswered"])
        answered = f"{silent} did not answer: its dates may be old" if silent else "all answered"
        at = datetime.fromtimestamp(watch["at"]).astimezone().strftime("%Y-%m-%d %H:%M")
        yield f"{project}: the watch last looked on {at}; {answered}"
    yield from _training(here, project, watch, today)
    yield from _recorded(here, project)


def _training(here: Deployment, project: str, watch: Item | None, today: date) -> Iterator[str]:
    item = here.registry.get(project, "config")
    if item is None:
        return
    closes = training_closes(item["backend"], item["model"], {})
    told = watch and watch.get("training_closes")
    days = [day for day in (closes, date.fromisoformat(told) if told else None) if day]
    if days:
        left = days_left(min(days), today)
        when = f"in {left} days" if left > 0 else "already"
        yield (
            f"{project}: {item['backend']} takes no more jobs for {item['model']} from "
            f"{min(days)} on ({when})"
        )


def _recorded(here: Deployment, project: str) -> Iterator[str]:
    """Whether the champion's answers are kept, where it will stop giving them."""
    champion = here.registry.champion(project)
    model = champion and here.registry.model(project, champion["version"])
    if not model or model_ending(model) is None:
        return
    data = here.store.find(recorded_key(project, model["version"], model["dataset"]))
    if data is None:
        yield (
            f"{project}: no answers of {model['version']} are recorded: "
            f"`dropforge migrate record -p {project}` while it answers"
        )
        return
    try:
        kept = decode_recorded(data)
    except msgspec.DecodeError:
        yield f"{project}: the recorded answers of {model['version']} cannot be read"
        return
    count, day = len(kept.answers), kept.recording.recorded
    yield f"{project}: {count} answers of {model['version']} are recorded, the last on {day}"
