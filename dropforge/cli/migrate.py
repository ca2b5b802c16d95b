"""`dropforge migrate`: leave a provider before it leaves, with the dataset and the gate in hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dropforge.backends.tokens import Wish
from dropforge.cli.deployment import Deployment, fail
from dropforge.cli.inventory import dependences, remarks, table
from dropforge.cli.move import config_of, lines_to_add, say, start_move, today
from dropforge.cli.move_report import write_report
from dropforge.cli.record import Recorder
from dropforge.errors import NoDataError

HELP = """Leave a provider before it leaves: which models go dark when, and how to move them.

First `inventory` shows what ends when, and `record` keeps the old model's answers while it still
gives them; then `start` trains the same dataset on the next backend of project.yaml and judges the
new model against the old one. `report` tells whether to switch: until the judge has decided, the
old model goes on answering customers.
"""

Project = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; may be left out if there is one.")
]
Follow = Callable[[str, str], None]


def register(
    app: typer.Typer,
    deployment: Callable[[], Deployment],
    console: Callable[[], Console],
    follow: Follow,
) -> None:
    """Add the commands; `follow` shows a project's run to its end."""
    migrate = typer.Typer(help=HELP, rich_markup_mode=None)
    app.add_typer(migrate, name="migrate", invoke_without_command=True)

    @migrate.callback(help=HELP)
    def alone(context: typer.Context, project: Project = None) -> None:
        if context.invoked_subcommand is None:
            show_inventory(deployment(), console(), project)
        else:
            context.obj = project

    @migrate.command()
    def inventory(context: typer.Context, project: Project = None) -> None:
        """List the models on hosted providers: when each goes dark, and where it would go."""
        show_inventory(deployment(), console(), project or context.obj)

    @migrate.command()
    def record(
        context: typer.Context,
        project: Project = None,
        version: Annotated[
            str | None, typer.Option(help="A model version; else the champion.")
        ] = None,
        dataset: Annotated[
            str | None, typer.Option(help="A dataset's hash; else the one it was trained on.")
        ] = None,
        parallel: Annotated[
            int, typer.Option(min=1, max=64, help="Questions asked at the same time.")
        ] = 4,
        token: Annotated[
            str,
            typer.Option(
                envvar="DROPFORGE_TOKEN", help="API token; else one is made for the recording."
            ),
        ] = "",
    ) -> None:
        """Keep a model's answers to the judge's test tickets, for when it is shut down."""
        here = deployment()
        name = here.project(project or context.obj)
        record_answers(here, console(), name, version, dataset, parallel, token)

    @migrate.command()
    def start(
        context: typer.Context,
        project: Project = None,
        to: Annotated[
            str | None, typer.Option(help="A backend of project.yaml; else the next one.")
        ] = None,
        recorded: Annotated[
            bool,
            typer.Option("--recorded", help="Judge by the recorded answers; ask the old no more."),
        ] = False,
        watch: Annotated[
            bool, typer.Option("--watch/--no-watch", help="Show the run live.")
        ] = True,
    ) -> None:
        """Train the champion's dataset on another backend and judge it against the champion."""
        here = deployment()
        name = here.project(project or context.obj)
        run_id = start_move(here, console(), name, to, recorded=recorded)
        if watch:
            follow(name, run_id)
            console().print(f"then: dropforge migrate report -p {name}", highlight=False)

    @migrate.command()
    def report(
        context: typer.Context,
        project: Project = None,
        out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
    ) -> None:
        """Tell whether the new model is ready, and write a page to show around."""
        here = deployment()
        write_report(here, console(), here.project(project or context.obj), out)


def show_inventory(here: Deployment, console: Console, project: str | None) -> None:
    """Print what depends on hosted providers."""
    projects = [here.project(project)] if project else here.registry.projects()
    found = dependences(here, projects, today())
    if not found:
        say(console, "No model depends on a hosted provider: nothing can be shut down.")
        return
    console.print(table(found))
    for name in dict.fromkeys(sorted(one.project for one in found)):
        for remark in remarks(here, name, today()):
            say(console, remark)
    champions = [one for one in found if one.role == "champion"]
    stuck = sorted({one.project for one in champions if one.ends and one.next == "none"})
    for name in stuck:
        say(console, f"{name}: there is nowhere to go. {lines_to_add(here, name)}")


def record_answers(
    here: Deployment,
    console: Console,
    project: str,
    version: str | None,
    dataset: str | None,
    parallel: int,
    token: str,
) -> None:
    """Record what is missing; ends with status 1 where answers are missing still."""
    champion = here.registry.champion(project)
    if version is None and champion is None:
        fail(f"{project} has no champion yet. Name a version of `dropforge models -p {project}`.")
    model = here.model(project, version or str((champion or {})["version"]))
    config = config_of(here, project)
    try:
        recorder = Recorder(here.store, project, model, config, dataset or model["dataset"])
    except NoDataError as error:
        fail(f"{error} Name another dataset with --dataset.")
    known = len(recorder.answers)
    taken = recorder.take(here.registry.items(project, "evaluation#"))
    missing = len(recorder.missing)
    errors = _asked(here, console, recorder, project, parallel, token) if missing else []
    left = len(recorder.missing)
    say(
        console,
        f"{len(recorder.tickets) - left} of {len(recorder.tickets)} answers of {model['version']}: "
        f"{known} recorded before, {taken} taken from its evaluation, {missing - left} asked now",
    )
    say(console, f"s3://{here.outputs.bucket}/{recorder.key}")
    if left:
        why = f" {errors[-1]}" if errors else ""
        fail(
            f"{left} answers are missing.{why} The others are kept: run the same command again, "
            "and it asks for these alone."
        )


def _asked(
    here: Deployment,
    console: Console,
    recorder: Recorder,
    project: str,
    parallel: int,
    token: str,
) -> list[Exception]:
    """Ask for what is missing; a token made for it is revoked at the end, come what may."""
    made = token
    if not token:
        wish = Wish(projects=(project,), name="migrate record", ends_at=int(time.time()) + 86400)
        _, made = here.tokens.create(wish, time.time())
    columns = (TextColumn("asking"), BarColumn(), MofNCompleteColumn())
    try:
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as progress:
            task = progress.add_task("", total=len(recorder.missing))
            return list(
                recorder.ask(
                    here.api_url,
                    made,
                    parallel=parallel,
                    progress=lambda: progress.advance(task),
                )
            )
    finally:
        if not token:
            here.tokens.revoke(made, time.time())
