"""Starting a move: a champion's dataset, trained anew by another choice of its project."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import NoReturn

from pydantic import ValidationError
from rich.console import Console

from dropforge.artifacts import DatasetManifest, dataset_key, project_key, recorded_key
from dropforge.backends.migration import Migration, Reigning, current_config
from dropforge.backends.registry import RUNNING
from dropforge.cli.deployment import Deployment, fail
from dropforge.cli.inventory import named
from dropforge.cost import check_budget, estimate
from dropforge.errors import NoDataError
from dropforge.lifecycle import is_unbegun, training_closes
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice


def today() -> date:
    """In UTC, as the watch counts."""
    return datetime.fromtimestamp(time.time(), UTC).date()


def say(console: Console, text: str) -> None:
    """Print one sentence, as it is."""
    console.print(text, highlight=False, soft_wrap=True)


def lines_to_add(here: Deployment, project: str) -> str:
    """What to do where a project's list has nowhere to go."""
    bucket = here.outputs.bucket
    return (
        "Add to project.yaml, with a model of your choice:\n"
        "    fallback:\n"
        "      - {backend: sagemaker, model: llama-3-8b-instruct}\n"
        f"and put the file to s3://{bucket}/{project_key(project)}; `aws s3 cp` will do."
    )


def config_of(here: Deployment, project: str) -> ProjectConfig:
    """The project's configuration; ends the command where it cannot be read."""
    try:
        return current_config(here.store, here.registry, project)[0]
    except ValidationError:
        fail(f"The configuration of {project} is out of date: put its project.yaml again.")


def start_move(
    here: Deployment, console: Console, project: str, to: str | None, *, recorded: bool
) -> str:
    """Start the move, or find the one under way; returns the run's id."""
    migration = Migration(here.store, here.registry, here.outputs.state_machine_arn)
    reigning = _reigning(migration, project)
    place = _choice(here, reigning, to)
    choice = reigning.config.choices[place]
    now = time.time()
    before = migration.attempts(reigning, place)
    if before and before[-1]["status"] == RUNNING and not is_unbegun(before[-1], now):
        say(console, f"run {before[-1]['run_id'][:8]} is doing this already")
        return str(before[-1]["run_id"])
    _say_what_happens(here, console, reigning, choice, recorded=recorded)
    run_id = migration.start(reigning, place, now=now, recorded=recorded)
    if run_id is None:
        fail(f"Somebody started this just now: `dropforge status -p {project}` shows it.")
    say(console, f"started run {run_id[:8]}")
    return run_id


def _reigning(migration: Migration, project: str) -> Reigning:
    try:
        reigning = migration.reigning(project)
    except ValidationError:
        fail(f"The configuration of {project} is out of date: put its project.yaml again.")
    if reigning is None:
        fail(
            f"{project} has no champion yet, so there is nothing to move: "
            f"`dropforge status -p {project}` tells how far it is."
        )
    return reigning


def _choice(here: Deployment, reigning: Reigning, to: str | None) -> int:
    """The place in project.yaml's list; ends the command, saying what to add, where there is none.

    A backend that is named is taken even where the list would not go there by itself.
    """
    choices, own = reigning.config.choices, reigning.model
    if to is None:
        place = reigning.next_choice({}, today())
        if place is None:
            _refuse(here, reigning, "no other backend that still trains")
        return place
    found = [
        i
        for i, choice in enumerate(choices)
        if choice.backend == to and (to, choice.model) != (own["backend"], own["base_model"])
    ]
    if not found:
        _refuse(here, reigning, f"no other model on `{to}`")
    closes = training_closes(to, choices[found[0]].model, {})
    if closes and closes <= today():
        fail(
            f"{named(choices[found[0]])} takes no job since {closes}. "
            "Choose another backend with --to, or leave --to out."
        )
    return found[0]


def _refuse(here: Deployment, reigning: Reigning, what: str) -> NoReturn:
    listed = ", ".join(named(choice) for choice in reigning.config.choices)
    fail(
        f"project.yaml of {reigning.project} lists {what}: it has {listed}; the champion is "
        f"{reigning.model['base_model']} on {reigning.model['backend']}. "
        f"{lines_to_add(here, reigning.project)} Then start again. Nothing was changed."
    )


def _say_what_happens(
    here: Deployment, console: Console, reigning: Reigning, choice: Choice, *, recorded: bool
) -> None:
    """What will be done and cost, before it is. Raises OverBudgetError where it may not be."""
    config, model, project = reigning.config, reigning.model, reigning.project
    try:
        manifest = here.store.load(dataset_key(project, model["dataset"]), DatasetManifest)
    except NoDataError:
        fail(
            f"The dataset {model['dataset'][:12]} of the champion is not in the bucket any more. "
            "Restore the deleted versions of its objects, or drop an export again."
        )
    cost = estimate(config, choice, manifest.train_tokens)
    if cost.usd is not None:  # else the launch decides: it knows the instance
        check_budget(config, cost)
    kept = here.store.find(recorded_key(project, reigning.version, model["dataset"])) is not None
    dark = reigning.ends is not None and reigning.ends.on <= today()
    if recorded and not kept and not dark:
        fail(
            f"No answers of {reigning.version} are recorded. Run `dropforge migrate record -p "
            f"{project}` first, or leave out --recorded."
        )
    say(console, reigning.why(choice))
    if cost.usd is not None:
        say(console, f"training costs about ${cost.usd:,.2f} by list prices")
    if dark and not kept:
        say(
            console,
            f"{reigning.version} does not answer any more and none of its answers were recorded: "
            "the new model is judged against its own base alone.",
        )
    elif dark or recorded:
        say(console, "judged against the recorded answers of the old model")
    say(console, f"{reigning.version} stays the champion until the judge has decided.")
