"""`dropforge compare`: which of a project's model versions, at what quality, cost and latency."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from dropforge.artifacts import DatasetManifest, Verdict, dataset_key, evaluation_key
from dropforge.backends.migration import model_ending
from dropforge.backends.registry import Item
from dropforge.cli.deployment import Deployment
from dropforge.cli.models import role
from dropforge.cli.move import config_of, say
from dropforge.cost import estimate
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.reports.comparison import Candidate, Move
from dropforge.reports.comparison_page import comparison_report, judged_in, text_rows

T = TypeVar("T")
PARALLEL = 16
"""Objects fetched at the same time."""
SHOWN = 30
"""Versions that the terminal shows; the page has all."""
WIDE = 140
"""Columns of a terminal from which on everything is shown, and not only `NARROW`."""
NARROW = ("version", "win rate", "facts", "p50", "verdict", "role")


def register_compare(
    app: typer.Typer, here: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    """Add the command."""

    @app.command()
    def compare(
        project: Annotated[
            str | None,
            typer.Option("--project", "-p", help="Project; may be left out if there is one."),
        ] = None,
        out: Annotated[Path | None, typer.Option(help="Where to write the page.")] = None,
        show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    ) -> None:
        """Compare all model versions: quality, cost and latency, on a page and in short."""
        deployment = here()
        name = deployment.project(project)
        candidates = collect(deployment, name)
        if not candidates:
            say(console(), f"{name} has no model yet.")
            return
        _print(console(), candidates)
        target = out or Path(f"{name}-models.html")
        target.write_text(comparison_report(name, candidates, _moves(deployment, name)))
        say(console(), f"{target} written")
        if show:
            webbrowser.open(target.resolve().as_uri())


def collect(here: Deployment, project: str) -> list[Candidate]:
    """Every version of a project, with what is known of it."""
    config = config_of(here, project)
    evaluations = here.evaluations(project)
    models = here.registry.models(project)
    pointer = here.registry.champion(project) or {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        datasets = _fetched(
            pool,
            {str(model["dataset"]) for model in models if "dataset" in model},
            lambda address: here.store.find(dataset_key(project, address)),
            DatasetManifest,
        )
        verdicts = _fetched(
            pool,
            {str(evaluation["hash"]) for evaluation in evaluations.values()},
            lambda address: here.store.find(evaluation_key(project, address)),
            Verdict,
        )
    return [
        _candidate(
            model,
            config,
            datasets.get(str(model.get("dataset"))),
            evaluations.get(str(model["version"])),
            verdicts,
            role(pointer, model),
        )
        for model in models
    ]


def _fetched(
    pool: ThreadPoolExecutor,
    addresses: Iterable[str],
    find: Callable[[str], bytes | None],
    kind: type[T],
) -> dict[str, T]:
    """The manifests that are there and can be read; an older layout counts as not there."""
    listed = sorted(addresses)
    found: dict[str, T] = {}
    for address, data in zip(listed, pool.map(find, listed), strict=True):
        try:
            if data is not None:
                found[address] = msgspec.json.decode(data, type=kind)
        except msgspec.DecodeError:
            continue
    return found


def _candidate(
    model: Item,
    config: ProjectConfig,
    dataset: DatasetManifest | None,
    evaluation: Item | None,
    verdicts: dict[str, Verdict],
    standing: str,
) -> Candidate:
    ends = model_ending(model)
    choice = Choice(backend=model["backend"], model=model["base_model"])
    usd = estimate(config, choice, dataset.train_tokens).usd if dataset else None
    return Candidate(
        version=str(model["version"]),
        backend=model["backend"],
        base_model=model["base_model"],
        made_at=model["created_at"],
        rows=dataset.examples.get("train") if dataset else None,
        training_usd=usd,
        standing=standing,
        verdict=verdicts.get(str(evaluation["hash"])) if evaluation else None,
        judged_at=evaluation["at"] if evaluation else None,
        ends=ends.on.isoformat() if ends else "",
    )


def _moves(here: Deployment, project: str) -> list[Move]:
    """When which version began to answer all customers."""
    return [
        Move(str(item["version"]), item["at"])
        for item in here.registry.items(project, "move#")
        if item.get("action", "promote") in ("promote", "rollback")
    ]


def _print(console: Console, candidates: list[Candidate]) -> None:
    header, *rows = text_rows(candidates)
    wide = console.width >= WIDE
    places = [at for at, name in enumerate(header) if wide or name in NARROW]
    table = Table(box=None)
    for at in places:
        table.add_column(header[at], no_wrap=header[at] in NARROW, overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*(row[at] for at in places))
    console.print(table)
    if len(rows) > SHOWN:
        say(console, f"and {len(rows) - SHOWN} more, on the page")
    for line in judged_in(candidates):
        say(console, line)
