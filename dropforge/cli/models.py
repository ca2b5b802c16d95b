"""`dropforge models`, and what moves the pointer: promote, rollback, approve and canary."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dropforge.approval import decided
from dropforge.backends import pointers
from dropforge.backends.approvals import Approvals
from dropforge.backends.migration import current_config
from dropforge.backends.model_packages import approve as approve_package
from dropforge.backends.registry import Item
from dropforge.backends.traffic import read_traffic
from dropforge.canary import Arm, guards, summary
from dropforge.cli.deployment import Deployment, fail, told
from dropforge.errors import DropforgeError
from dropforge.project.judging import CanaryPlan

Project = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; may be left out if there is one.")
]
Why = Annotated[str, typer.Option(help="The reason, kept with the move.")]
Here = Callable[[], Deployment]
Print = Callable[[], Console]


def register_models(app: typer.Typer, here: Here, console: Print) -> None:
    """Add the commands."""
    _register_moves(app, here, console)

    @app.command()
    def models(project: Project = None) -> None:
        """List a project's model versions, their scores, and which one answers."""
        show_models(here(), console(), here().project(project))

    @app.command()
    def canary(
        project: Project = None,
        stop: Annotated[
            bool, typer.Option("--stop", help="Give all traffic back to the champion.")
        ] = False,
        promote: Annotated[
            bool, typer.Option("--promote", help="Make the challenger the champion now.")
        ] = False,
        why: Why = "by hand",
    ) -> None:
        """Show how a challenger does beside the champion, or end its canary by hand."""
        name = here().project(project)
        pointer = here().registry.champion(name) or {}
        if not pointer.get("canary"):
            fail(f"No canary of {name} runs. {answering(pointer)}")
        if stop and promote:
            fail("Choose one of --stop and --promote.")
        if stop:
            end_canary(here(), console(), name, pointer, why)
        elif promote:
            version = str(pointer["canary"]["version"])
            promote_version(here(), console(), name, version, why, from_canary=True)
        else:
            show_canary(here(), console(), name, pointer)

    @app.command()
    def approve(
        version: Annotated[
            str, typer.Argument(help="The model version; without one, lists what waits.")
        ] = "",
        project: Project = None,
        decline: Annotated[bool, typer.Option("--decline", help="Say no instead.")] = False,
        why: Why = "",
    ) -> None:
        """Approve a model that passed the gate, or decline it; the run that waits goes on."""
        if not version:
            show_waiting(here(), console(), project)
            return
        decide_approval(here(), console(), version, project, approved=not decline, why=why)


def _register_moves(app: typer.Typer, here: Here, console: Print) -> None:
    @app.command()
    def promote(
        version: Annotated[str, typer.Argument(help="The model version.")],
        project: Project = None,
        why: Why = "by hand",
    ) -> None:
        """Make a model version the champion, by hand; ends a canary."""
        promote_version(here(), console(), here().project(project), version, why)

    @app.command()
    def rollback(project: Project = None, why: Why = "rolled back") -> None:
        """Put the previous champion back; while a canary runs, end the canary alone.

        The pipeline will not promote what was taken away again by itself.
        """
        name = here().project(project)
        pointer = here().registry.champion(name) or {}
        if pointer.get("canary"):
            end_canary(here(), console(), name, pointer, why)
            return
        try:
            moved = pointers.roll_back(
                here().registry, name, who=getpass.getuser(), why=why, at=time.time()
            )
        except DropforgeError as error:
            told(error)
        say(console(), name, moved)


def when(seconds: float) -> str:
    """A time as people here read it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def answering(pointer: Item) -> str:
    """Who answers now, in a sentence."""
    if not pointer:
        return "Nothing was promoted yet."
    base = pointer["version"] == pointers.BASE
    holder = "the base model" if base else str(pointer["version"])
    canary = pointer.get("canary")
    if not canary:
        return f"{holder} answers now"
    if canary["shadow"]:
        return f"{holder} answers now; {canary['version']} is asked beside it and answers nobody"
    return f"{holder} answers now, {canary['version']} {canary['share']:.0%} of the chats"


def say(console: Console, project: str, pointer: Item) -> None:
    """Print who answers now."""
    console.print(f"{project}: {answering(pointer)}", highlight=False, soft_wrap=True)


def show_models(here: Deployment, console: Console, project: str) -> None:
    """Print the table of versions."""
    pointer = here.registry.champion(project) or {}
    found = here.evaluations(project)
    table = Table(box=None)
    for column in ("version", "win rate", "facts", "verdict", "role"):
        table.add_column(column, no_wrap=True)
    for column in ("backend", "made"):
        table.add_column(column)
    listed = sorted(here.registry.models(project), key=lambda m: m["created_at"])
    for model in reversed(listed):
        evaluation = found.get(model["version"], {})
        base = evaluation.get("comparisons", {}).get("base", {}).get("win_rate")
        facts = evaluation.get("fact_recall", {}).get("challenger")
        table.add_row(
            model["version"],
            f"{base['point']:.0%} [{base['low']:.0%}, {base['high']:.0%}]" if base else "",
            f"{facts:.0%}" if facts is not None else "",
            evaluation.get("verdict", ""),
            role(pointer, model),
            f"{model['base_model']} on {model['backend']}",
            when(model["created_at"]),
        )
    console.print(table if listed else f"{project} has no model yet.")
    if listed:
        say(console, project, pointer)


def role(pointer: Item, model: Item) -> str:
    """What a version is to its project now."""
    canary = pointer.get("canary") or {}
    if canary.get("version") == model["version"]:
        return "shadow" if canary["shadow"] else f"canary {canary['share']:.0%}"
    roles = {pointer.get("previous"): "previous", pointer.get("version"): "champion"}
    known = roles.get(model["version"], "")
    rolled_back = model["standing"] == pointers.ROLLED_BACK
    return pointers.ROLLED_BACK if rolled_back and known != "champion" else known


def promote_version(
    here: Deployment,
    console: Console,
    project: str,
    version: str,
    why: str,
    *,
    from_canary: bool = False,
) -> None:
    """Make a version the champion, and say so; `from_canary`: only while its canary runs."""
    model = here.model(project, version)
    about: dict[str, Any] = {"who": getpass.getuser(), "why": why, "at": time.time()}
    try:
        approve_package(model, why)
        moved = pointers.promote(here.registry, project, model, **about, from_canary=from_canary)
    except DropforgeError as error:
        told(error)
    say(console, project, moved)


def end_canary(here: Deployment, console: Console, project: str, pointer: Item, why: str) -> None:
    """End the canary that runs, and say who answers."""
    version = str(pointer["canary"]["version"])
    about: dict[str, Any] = {"who": getpass.getuser(), "why": why, "at": time.time()}
    try:
        ended = pointers.end_canary(here.registry, project, version, **about)
    except DropforgeError as error:
        told(error)
    if not ended:
        now = answering(here.registry.champion(project) or {})
        fail(f"Nothing was ended: the canary of {version} was over already. {now}")
    console.print(f"{project}: the canary of {version} is over", highlight=False)
    say(console, project, here.registry.champion(project) or {})


def show_canary(here: Deployment, console: Console, project: str, pointer: Item) -> None:
    """Print both arms' numbers, and how near each guardrail is."""
    canary = pointer["canary"]
    plan = current_config(here.store, here.registry, project)[0].canary or CanaryPlan()
    traffic = read_traffic(here.registry, project, pointer)
    console.print(f"{project}: {summary(canary, plan, traffic)}", highlight=False, soft_wrap=True)
    table = Table(box=None)
    for column in ("arm", "version", "requests", "errors", "slow", "mean s", "tokens an answer"):
        table.add_column(column)
    names = {"challenger": canary["version"], "champion": pointer["version"]}
    for (arm, version), seen in zip(names.items(), traffic.total, strict=True):
        table.add_row(arm, version, *_row(seen))
    console.print(table)
    for guard in guards(plan, traffic):
        said = f"{guard.name} {guard.said}: e-value {guard.evidence:,.1f}; 20 ends the canary"
        console.print(said, highlight=False, soft_wrap=True)
    since = f"begun {when(canary['started_at'])}, this share since {when(canary['step_at'])}"
    console.print(since, style="dim", highlight=False)


def _row(arm: Arm) -> list[str]:
    answers = max(arm.answers, 1)
    tokens = (arm.prompt_tokens + arm.completion_tokens) / answers
    mean = f"{arm.milliseconds / answers / 1000:.2f}"
    return [f"{arm.requests:,}", f"{arm.errors:,}", f"{arm.slow:,}", mean, f"{tokens:,.0f}"]


def show_waiting(here: Deployment, console: Console, project: str | None) -> None:
    """Print what waits for a person."""
    waiting = list(_waiting(here, project))
    if not waiting:
        console.print("Nothing waits for approval.")
        return
    for name, item in waiting:
        console.print(f"{name} {item['version']}", highlight=False)
        for what, value in item["numbers"]:
            console.print(f"  {what}: {value}", highlight=False, soft_wrap=True)
        console.print(f"  until: {when(item['expires_at'])}", highlight=False)
        command = f"dropforge approve {item['version']} -p {name}"
        console.print(f"  {command}, or with --decline", highlight=False, soft_wrap=True)


def decide_approval(
    here: Deployment,
    console: Console,
    version: str,
    project: str | None,
    *,
    approved: bool,
    why: str,
) -> None:
    """Decide about the one question that waits about this version."""
    found = [p for p in _waiting(here, project) if str(p[1]["version"]).startswith(version)]
    if len(found) != 1:
        known = ", ".join(f"{name} {item['version']}" for name, item in _waiting(here, project))
        fail(f"{version!r} names {len(found)} models that wait; there are: {known or 'none'}.")
    [(name, item)] = found
    about: dict[str, Any] = {"who": getpass.getuser(), "why": why, "at": time.time()}
    settled, waits = Approvals(here.registry).decide(
        name, item["run_id"], approved=approved, **about
    )
    console.print(f"{name}: {decided(settled)}", highlight=False, soft_wrap=True)
    if not waits:
        fail(f"Its run does not wait any more: `dropforge status -p {name}` tells why.")
    console.print(f"the run goes on: dropforge status -p {name}", highlight=False)


def _waiting(here: Deployment, project: str | None) -> list[tuple[str, Item]]:
    names = [here.project(project)] if project else here.registry.projects()
    approvals, now = Approvals(here.registry), time.time()
    return [(name, item) for name in names for item in approvals.waiting(name, now)]
