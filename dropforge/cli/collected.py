"""`dropforge collected`: what answers wait to be trained on; export them now, or forget some."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dropforge.artifacts import Run, digest
from dropforge.cli.deployment import Deployment, fail

ProjectOption = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; else all, or the only one.")
]


def register_collected(
    app: typer.Typer, deployment: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    """Add the command."""

    @app.command()
    def collected(
        project: ProjectOption = None,
        export: Annotated[
            bool, typer.Option("--export", help="Write the export now and start a run with it.")
        ] = False,
        forget: Annotated[
            str | None, typer.Option(help="Delete the answer of this id, and what quotes it.")
        ] = None,
        forget_user: Annotated[
            str | None, typer.Option(help="Delete all answers to this user (`user` of requests).")
        ] = None,
    ) -> None:
        """Show how many answers were collected (docs/collecting.md), export them, or forget some.

        Without an option nothing is written anywhere.
        """
        here, screen = deployment(), console()
        if export and (forget or forget_user):
            fail("--export and forgetting are two commands.")
        if forget or forget_user:
            _forget(here, screen, here.project(project), forget, forget_user)
        elif export:
            _export(here, screen, here.project(project))
        else:
            _show(here, screen, [here.project(project)] if project else here.registry.projects())


def _collection(here: Deployment) -> Any:
    from dropforge.backends.collected import Answers, Collection  # with boto3: not for every --help

    return Collection(here.store, here.registry, Answers(here.outputs.table))


def _forget(
    here: Deployment, console: Console, project: str, answer: str | None, user: str | None
) -> None:
    count = _collection(here).forget(project, answer=answer, user=user)
    if not count:
        fail(f"{project} has no such answer.")
    console.print(f"{count} answer{'s' if count > 1 else ''} forgotten", highlight=False)


def _export(here: Deployment, console: Console, project: str) -> None:
    export = _collection(here).export(project)
    if export is None:
        console.print(f"{project} has collected nothing to train on")
        return
    if not export.changed:
        console.print("nothing is new since the last export")
        return
    where = f"s3://{here.outputs.bucket}/{export.key}"
    console.print(
        f"{export.rows} conversations written to {where}", highlight=False, soft_wrap=True
    )
    _run(here, project, export.key, export.version_id)
    console.print(f"next: dropforge status -p {project} --follow")


def _run(here: Deployment, project: str, key: str, version_id: str) -> None:
    from dropforge.backends.runs import Runs

    config = here.registry.get(project, "config") or {}
    run_id = digest("collected/1", project, version_id)[:32]
    run = Run(run_id, project, here.outputs.bucket, key, version_id, str(config["hash"]))
    Runs(here.registry, here.outputs.state_machine_arn).start(run, stage="drop", now=time.time())


def _show(here: Deployment, console: Console, projects: list[str]) -> None:
    table = Table(box=None)
    for column in ("project", "answers", "rated well", "rated badly", "next export", "last export"):
        table.add_column(column, no_wrap=True)
    collection = _collection(here)
    for project in projects:
        found = collection.waiting(project)
        if not found.answers:
            continue
        last = here.registry.get(project, "collected")
        when = time.strftime("%Y-%m-%d", time.gmtime(last["at"])) if last else ""
        told = f"{when}, {last['rows']} rows" if last else "no export"
        counts = (found.answers, found.good, found.bad, found.chosen)
        table.add_row(project, *map(str, counts), told)
    if not table.row_count:
        console.print("Nothing was collected. `collect:` in project.yaml turns it on.")
        return
    console.print(table)
