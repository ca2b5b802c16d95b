"""The commands: each reads the registry or the bucket, or calls the API, and prints the result."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dropforge.artifacts import (
    dataset_key,
    error_key,
    evaluation_key,
    export_prefix,
    project_key,
)
from dropforge.backends.registry import FAILED, Item
from dropforge.cli.api import ask
from dropforge.cli.collected import register_collected
from dropforge.cli.compare import register_compare
from dropforge.cli.deployment import Deployment, fail, told
from dropforge.cli.drift import register_drift
from dropforge.cli.extract import register as register_extract
from dropforge.cli.label import register_label
from dropforge.cli.lineage import lineage_of_file, lineage_of_model
from dropforge.cli.migrate import register as register_migrate
from dropforge.cli.models import register_models, when
from dropforge.cli.tokens import register_tokens
from dropforge.cli.watch import describe, watch
from dropforge.drop import Drop
from dropforge.errors import DropforgeError, ProjectError
from dropforge.project import NAME, parse_project

app = typer.Typer(
    help="Drop a support-chat export, get a fine-tuned and judged model behind an HTTPS API.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Keys, messages and answers may hold anything in brackets or between colons.
console = Console(markup=False, emoji=False)
unbroken = Console(markup=False, emoji=False, width=240)  # keys and hashes are copied whole
here = Deployment()
Project = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; may be left out if there is one.")
]


@app.callback()
def common(
    profile: Annotated[str | None, typer.Option(help="AWS profile.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region.")] = None,
) -> None:
    """Which account and region: as for every AWS tool, or by these options."""
    if profile:
        os.environ["AWS_PROFILE"] = profile
    if region:
        os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = region


@app.command()
def drop(
    file: Annotated[Path, typer.Argument(help="The export, see docs/exports.md.")],
    project: Project = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="project.yaml to put in place first.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch/--no-watch", help="Show the run live.")] = True,
) -> None:
    """Drop an export into the bucket and show its way through the pipeline."""
    if not file.is_file():
        fail(f"There is no file {file}.")
    if config:
        name = project or file.stem.lower().replace("_", "-")
        _put_project(name, config)
    else:
        name = here.project(project)
    found = _put_export(name, file)
    console.print(f"dropped s3://{found.bucket}/{found.key}", highlight=False, soft_wrap=True)
    if follow:
        _end(_watch(found.project, found.run_id), found.project)


def _put_project(name: str, config: Path) -> None:
    try:
        text = config.read_bytes()
        parse_project(name, text)
    except OSError as error:
        fail(f"{config} cannot be read: {error.strerror}.")
    except ProjectError as error:
        told(error)
    here.store.write(project_key(name), text)


def _put_export(project: str, file: Path) -> Drop:
    if not NAME.fullmatch(project):
        fail(f"{project!r} is no project name: use lower-case letters, digits and dashes.")
    key = export_prefix(project) + file.name
    with console.status(f"uploading {file.name}"):
        version = here.store.upload_version(key, file)
    return Drop(here.outputs.bucket, key, version, project, is_project_file=False)


def _watch(project: str, run_id: str) -> Item:
    run = watch(console, lambda: here.registry.get(project, f"run#{run_id}"))
    if run is None:
        fail(
            "The run has not begun after a minute. Look at the alarm on the drop queue's "
            "dead-letter queue (docs/operations.md)."
        )
    return run


def _end(run: Item, project: str) -> None:
    if run["status"] == FAILED:
        console.print(str(run.get("error", "")), style="red", highlight=False, soft_wrap=True)
        console.print(f"message beside the file: {error_key(run['key'])}", highlight=False)
        raise typer.Exit(1)
    if run["status"] == "repeated":
        return
    console.print(f"next: dropforge report -p {project}, dropforge models -p {project}")


register_extract(app, lambda: here, console, lambda d: _end(_watch(d.project, d.run_id), d.project))
register_migrate(app, lambda: here, lambda: console, lambda p, r: _end(_watch(p, r), p))
register_label(app, lambda: here, lambda: console)
register_compare(app, lambda: here, lambda: console)
register_drift(app, lambda: here, lambda: console)
register_collected(app, lambda: here, lambda: console)
register_tokens(app, lambda: here, lambda: console)


@app.command()
def status(
    project: Project = None,
    run: Annotated[str | None, typer.Option(help="One run, by the beginning of its id.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends.")] = False,
) -> None:
    """Show the runs, the newest first, and what went wrong with the failed ones."""
    projects = [here.project(project)] if project else here.registry.projects()
    runs = [(name, item) for name in projects for item in here.registry.items(name, "run#")]
    runs = [(n, r) for n, r in runs if run is None or str(r["run_id"]).startswith(run)]
    runs.sort(key=lambda pair: pair[1]["started_at"], reverse=True)
    if not runs:
        console.print("No runs yet. Start one with `dropforge drop FILE`.")
        return
    if follow:
        _end(_watch(runs[0][0], runs[0][1]["run_id"]), runs[0][0])
        return
    table = Table(box=None)
    for column in ("run", "project", "file", "status", "stage"):
        table.add_column(column, no_wrap=True)
    table.add_column("what", overflow="fold", min_width=24)
    table.add_column("started")
    for name, item in runs[:20]:
        said = item.get("error") or describe(item, item["stage"]) or ""
        given_up = [
            f"{t['backend']} ({t['error'].partition(':')[0]})" for t in item.get("tried", [])
        ]
        said += f"; given up: {', '.join(given_up)}" if given_up else ""
        table.add_row(
            str(item["run_id"])[:8],
            name,
            str(item["key"]).split("/", 2)[-1],
            item["status"],
            item["stage"],
            said,
            when(item["started_at"]),
        )
    console.print(table)


register_models(app, lambda: here, lambda: console)


@app.command()
def chat(
    message: Annotated[str, typer.Argument(help="What a customer would ask.")],
    project: Project = None,
    model: Annotated[str, typer.Option(help="champion, base, or a version.")] = "champion",
    token: Annotated[
        str, typer.Option(envvar="DROPFORGE_TOKEN", help="API token (`dropforge tokens create`).")
    ] = "",
) -> None:
    """Ask the deployed HTTPS API a question."""
    if not token:
        fail(
            "There is no token."
            " `export DROPFORGE_TOKEN=$(dropforge tokens create PROJECT)` makes one."
        )
    name = here.project(project)
    answer = ask(here.api_url, token, f"{name}/{model}", message)
    console.print(answer.text, highlight=False)
    console.print(
        f"{answer.model} ({answer.arm}), {answer.seconds:.1f} s", style="dim", highlight=False
    )


@app.command()
def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="x-dropforge-model of an answer (PROJECT/VERSION), or an export's key."
        ),
    ],
) -> None:
    """Walk from an answer's model back to the dropped file, or from a file to its models."""
    try:
        forward = what.startswith("exports/")
        tree = lineage_of_file(here, what) if forward else lineage_of_model(here, what)
        unbroken.print(tree, highlight=False)
    except DropforgeError as error:
        told(error)


@app.command()
def report(
    project: Project = None,
    version: Annotated[str | None, typer.Option(help="A model version; else the newest.")] = None,
    data: Annotated[bool, typer.Option("--data", help="The data report instead.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Fetch the page about an evaluation, or with --data about the data it was trained on.

    The data report is there as soon as a run is past validation; without a version, the newest.
    """
    name = here.project(project)
    if data and version is None:
        address = _newest_dataset(name)
        key, title = dataset_key(name, address, "report.html"), "data"
    else:
        evaluation = _evaluation(name, version)
        title = "data" if data else str(evaluation["version"])
        key = (
            dataset_key(name, evaluation["dataset"], "report.html")
            if data
            else evaluation_key(name, evaluation["hash"], "report.html")
        )
    target = out or Path(f"{name}-{title}.html")
    target.write_bytes(here.store.read(key))
    console.print(f"{target} written", highlight=False)
    if show:
        webbrowser.open(target.resolve().as_uri())


def _newest_dataset(project: str) -> str:
    runs = [run for run in here.registry.items(project, "run#") if "validate" in run]
    if not runs:
        fail(f"{project} has no dataset yet: `dropforge status -p {project}` tells how far it is.")
    newest = max(runs, key=lambda run: run["updated_at"])
    return str(newest["validate"]["hash"])


def _evaluation(project: str, version: str | None) -> Item:
    found = here.evaluations(project)
    if not found:
        fail(
            f"{project} has no evaluation yet: `dropforge status -p {project}` tells how far it is."
        )
    if version is None:
        return max(found.values(), key=lambda evaluation: evaluation["at"])
    chosen = here.model(project, version)["version"]
    if chosen not in found:
        fail(f"{chosen} has not been evaluated.")
    return found[chosen]
