"""What became of a move: the page to show around, and its short version."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dropforge.artifacts import DatasetManifest, Verdict, dataset_key, evaluation_key
from dropforge.backends.migration import model_ending
from dropforge.backends.registry import Item
from dropforge.cli.deployment import Deployment, fail
from dropforge.cli.move import config_of, say
from dropforge.cli.record import judged_samples
from dropforge.cost import estimate
from dropforge.judge import Sample
from dropforge.lifecycle import days_left
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.reports.migration import Moved, Trained, migration_report, text_report


def write_report(here: Deployment, console: Console, project: str, out: Path | None) -> None:
    """Print the short version and write the page about the newest move."""
    moves = [run for run in here.registry.items(project, "run#") if "migrates" in run]
    if not moves:
        fail(f"{project} was not moved yet: `dropforge migrate start -p {project}` does it.")
    run = max(moves, key=lambda run: run["started_at"])
    config = config_of(here, project)
    moved, samples = _moved(here, project, run, config)
    target = out or Path(f"{project}-migration.html")
    target.write_text(migration_report(moved, config.gate, samples))
    for line in text_report(moved):
        say(console, line)
    say(console, f"{target} written")


def _moved(
    here: Deployment, project: str, run: Item, config: ProjectConfig
) -> tuple[Moved, list[Sample]]:
    old = here.model(project, run["migrates"])
    new_version = run.get("train", {}).get("version")
    new = here.registry.get(project, f"model#{new_version}") if new_version else None
    ends = model_ending(old)
    verdict, samples = _judged(here, project, run)
    started = datetime.fromtimestamp(run["started_at"], UTC).date()
    moved = Moved(
        project=project,
        dataset=old["dataset"],
        old=_trained(here, project, old, config),
        new=_trained(here, project, new, config) if new else None,
        started_at=run["started_at"],
        state=(run["status"], run["stage"]),
        answering=str((here.registry.champion(project) or {}).get("version", "")),
        ends=ends.on.isoformat() if ends else None,
        ends_from=ends.known_from if ends else None,
        days_left=days_left(ends.on, started) if ends else None,
        error=str(run.get("error", "")),
        against=run.get("judge", {}).get("against"),
        verdict=verdict,
    )
    return moved, samples


def _trained(here: Deployment, project: str, model: Item, config: ProjectConfig) -> Trained:
    manifest = here.store.find_manifest(dataset_key(project, model["dataset"]), DatasetManifest)
    choice = Choice(backend=model["backend"], model=model["base_model"])
    usd = estimate(config, choice, manifest.train_tokens).usd if manifest else None
    return Trained(
        version=model["version"],
        backend=model["backend"],
        model=model["base_model"],
        model_id=model["model_id"],
        made_at=model["created_at"],
        usd=usd,
    )


def _judged(here: Deployment, project: str, run: Item) -> tuple[Verdict | None, list[Sample]]:
    """What the judge found in a run, and the tickets it saw; nothing before it has."""
    if "verdict" not in run:
        return None, []
    address = run["verdict"]["hash"]
    verdict = here.store.find_manifest(evaluation_key(project, address), Verdict)
    return verdict, judged_samples(here.store, project, address)
