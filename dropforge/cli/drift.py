"""`dropforge golden` and `dropforge drift`: what a model must get right, and whether it still does.

The questions are put beside project.yaml; the looks are read from the registry.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import boto3
import msgspec
import typer
from botocore.config import Config
from rich.console import Console
from rich.table import Table

from dropforge.artifacts import drift_key, error_key, golden_key, golden_snapshot_key
from dropforge.cli.deployment import Deployment, fail, told
from dropforge.drift import Look
from dropforge.errors import ProjectError
from dropforge.golden import GoldenQuestion, decode_golden, golden_hash, parse_golden
from dropforge.reports.drift import Promotion, drift_report

FUNCTION = "dropforge-drift"
FUNCTION_SECONDS = 900
SHOWN = 20
Project = Annotated[
    str | None, typer.Option("--project", "-p", help="Project; may be left out if there is one.")
]


def register_drift(
    app: typer.Typer, here: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    """Add the commands."""

    @app.command()
    def golden(
        file: Annotated[
            Path | None, typer.Argument(help="The questions, see docs/golden.md; else show them.")
        ] = None,
        project: Project = None,
    ) -> None:
        """Put the questions that every model must get right in force, or show them."""
        deployment = here()
        name = deployment.project(project)
        if file:
            put_golden(deployment, console(), name, file)
        else:
            show_golden(deployment, console(), name)

    @app.command()
    def drift(
        project: Project = None,
        now: Annotated[bool, typer.Option("--now", help="Look now, and then show.")] = False,
        out: Annotated[Path | None, typer.Option(help="Write the page about it here.")] = None,
        show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    ) -> None:
        """Show whether the model in production still answers as it did at first."""
        deployment = here()
        name = deployment.project(project)
        if now:
            look_now(console(), name)
        show_drift(deployment, console(), name, out, show=show)


def put_golden(here: Deployment, console: Console, project: str, file: Path) -> None:
    """Check a file of golden questions and put it in place."""
    try:
        data = file.read_bytes()
        questions = parse_golden(data)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except ProjectError as error:
        told(error)
    here.store.write(golden_key(project), data)
    _say(console, f"{len(questions)} golden questions put at {golden_key(project)}")
    _say(console, f"in force in a moment as {golden_hash(questions)[:12]}")


def show_golden(here: Deployment, console: Console, project: str) -> None:
    """Print the golden questions in force, and what is wrong with the file where it is."""
    item = here.registry.get(project, "golden") or {}
    wrong = here.store.find(error_key(golden_key(project)))
    if wrong:
        console.print(wrong.decode().strip(), style="red", highlight=False, soft_wrap=True)
    if not item.get("questions"):
        _say(
            console, f"{project} has no golden questions. docs/golden.md shows what they look like."
        )
        return
    questions = decode_golden(here.store.read(golden_snapshot_key(project, item["hash"])))
    console.print(_questions(questions))
    since = datetime.fromtimestamp(item["at"], UTC).date().isoformat()
    _say(console, f"{len(questions)} questions, {item['hash'][:12]}, in force since {since}")


def _questions(questions: tuple[GoldenQuestion, ...]) -> Table:
    table = Table("id", "question", "an answer must contain", "must not", box=None)
    for one in questions:
        must = ", ".join(one.must) or "the facts of its reference"
        table.add_row(one.id, one.question, must, ", ".join(one.must_not))
    return table


def look_now(console: Console, project: str) -> None:
    """Have the drift function look at the project, and print what it found."""
    with console.status("asking the model in production"):
        said = invoke({"project": project})
    _say(console, str(said[project]))
    if said[project].startswith(("failed", "not looked at")):
        raise typer.Exit(1)


def invoke(event: dict[str, Any]) -> Any:
    """What the drift function returns. Ends with its error where it fails."""
    answer = lambda_client().invoke(FunctionName=FUNCTION, Payload=msgspec.json.encode(event))
    said = msgspec.json.decode(answer["Payload"].read())
    if answer.get("FunctionError"):
        fail(f"The drift function failed: {said.get('errorType', 'unknown error')}. See its log.")
    return said


def lambda_client() -> Any:
    """A client that waits as long as the function may take, and calls it once."""
    limits = Config(read_timeout=FUNCTION_SECONDS + 10, retries={"max_attempts": 0})
    return boto3.client("lambda", config=limits)


def show_drift(
    here: Deployment, console: Console, project: str, out: Path | None, *, show: bool
) -> None:
    """Print the looks of a project and write the page where it is wanted."""
    looks = looks_of(here, project)
    failed = (here.registry.get(project, "drift") or {}).get("failed")
    if failed:
        console.print(f"the last look failed: {failed}", style="red", highlight=False)
    if not looks:
        _say(
            console, f"{project} has not been looked at yet: `dropforge drift -p {project} --now`."
        )
        return
    console.print(_table(looks[-SHOWN:]))
    _say(console, looks[-1].sentence)
    if out or show:
        target = out or Path(f"{project}-drift.html")
        newest = here.store.find_manifest(drift_key(project, looks[-1].day), Look)
        matching = newest if newest and newest.version == looks[-1].version else None
        target.write_text(drift_report(looks, promotions(here, project), matching))
        _say(console, f"{target} written")
        if show:
            webbrowser.open(target.resolve().as_uri())


def looks_of(here: Deployment, project: str) -> list[Look]:
    """Every look, the oldest first, without the answers."""
    found = [msgspec.convert(item, Look) for item in here.registry.items(project, "drift#")]
    return sorted(found, key=lambda look: look.at)


def promotions(here: Deployment, project: str) -> list[Promotion]:
    """When which version became the one that answers."""
    moves = here.registry.items(project, "move#")
    found: list[Promotion] = []
    for move in moves:
        version = str(move["version"])
        if not found or found[-1].version != version:
            found.append(Promotion(version, float(move["at"])))
    return found


def _table(looks: list[Look]) -> Table:
    table = Table("day", "version", "right", "at first", "win rate", "rated", "", box=None)
    for one in looks:
        rate = one.win_rate
        table.add_row(
            one.day,
            one.version,
            f"{one.right}/{one.checked}",
            f"{one.right_then}/{one.checked}",
            f"{rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}]" if rate else "–",
            f"+{one.ratings.up} -{one.ratings.down}",
            "drift" if one.drifted else "",
        )
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
