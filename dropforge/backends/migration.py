"""A champion's dataset -> a run that trains it by another choice of its project.

Started by the watch function when the champion's end is near, or by `dropforge migrate start`. The
run begins at training: its dataset is the very one that the champion was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import msgspec

from dropforge.artifacts import (
    DatasetManifest,
    Run,
    dataset_key,
    export_prefix,
    project_snapshot_key,
)
from dropforge.backends.pointers import BASE
from dropforge.backends.registry import Item, Registry
from dropforge.backends.runs import Runs
from dropforge.backends.store import Store
from dropforge.errors import NoDataError, ProjectError, PromotionError
from dropforge.lifecycle import Ending, Listed, ending, is_unbegun, migration_id, next_choice
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice

MAX_ATTEMPTS = 100


class Reigning(msgspec.Struct, frozen=True):
    """A project's champion and the configuration that the project has now.

    Attributes:
        model: the champion as the registry has it (`Registry.model`).
        ends: when its provider shuts it down, as far as known.
    """

    project: str
    config: ProjectConfig
    config_hash: str
    model: Item
    ends: Ending | None

    @property
    def version(self) -> str:
        return str(self.model["version"])

    def next_choice(self, listed: Mapping[str, Listed], today: date) -> int | None:
        """Where it is to be trained anew; see `lifecycle.next_choice`."""
        return next_choice(
            self.config,
            self.model["backend"],
            self.model["base_model"],
            until=self.ends.on if self.ends else None,
            listed=listed,
            today=today,
        )

    def why(self, choice: Choice) -> str:
        """One sentence for people: what is done, and because of what."""
        name = f"{self.model['base_model']} on {self.model['backend']}"
        reason = f"{name} is shut down on {self.ends.on}" if self.ends else f"away from {name}"
        return f"{self.version} trained anew as {choice.model} on {choice.backend}: {reason}"


def current_config(store: Store, registry: Registry, project: str) -> tuple[ProjectConfig, str]:
    """The project's configuration and its hash, as the last valid project.yaml gave it.

    Raises:
        ProjectError: there is none, or its snapshot is not in the bucket.
        pydantic.ValidationError: the snapshot is of a form that is not read any more.
    """
    item = registry.get(project, "config")
    if item is None:
        raise ProjectError(f"{project} has no configuration.", hint="Drop its project.yaml.")
    try:
        data = store.read(project_snapshot_key(project, item["hash"]))
    except NoDataError as error:
        raise ProjectError(
            f"The configuration of {project} is not in the bucket.",
            hint="Change its project.yaml and drop it again.",
        ) from error
    return ProjectConfig.model_validate_json(data), str(item["hash"])


def recorded_listing(model: Item) -> dict[str, date | None]:
    """What the watch last recorded of a model, in the form of its provider's list."""
    told = model.get("shutdown")
    return {str(model["model_id"]): date.fromisoformat(told)} if told else {}


def model_ending(model: Item, listed: Listed | None = None) -> Ending | None:
    """A model's end by its provider's list; without the list, by what the watch recorded."""
    known = recorded_listing(model) if listed is None else listed
    found = ending(model["backend"], model["model_id"], model["base_model"], known)
    told = model.get("shutdown_from")
    if listed is None and found and told and found.on.isoformat() == model["shutdown"]:
        return Ending(found.on, told)
    return found


class Migration:
    """Moves champions. Times are seconds since the epoch."""

    def __init__(self, store: Store, registry: Registry, state_machine_arn: str) -> None:
        self._store = store
        self._registry = registry
        self._runs = Runs(registry, state_machine_arn)

    def reigning(self, project: str, listed: Listed | None = None) -> Reigning | None:
        """The champion and what is known of its end; None where nothing was promoted yet.

        Args:
            listed: what its provider lists now; without it, what the watch recorded.

        Raises:
            ProjectError: see `current_config`.
            PromotionError: the champion is no model that the registry knows.
        """
        champion = self._registry.champion(project)
        if champion is None or champion["version"] == BASE:
            return None
        config, address = current_config(self._store, self._registry, project)
        model = self._registry.model(project, str(champion["version"]))
        if model is None:
            raise PromotionError(
                f"The champion {champion['version']} of {project} is no known model.",
                hint=f"Promote another: `dropforge models -p {project}`.",
            )
        return Reigning(project, config, address, model, model_ending(model, listed))

    def attempts(self, reigning: Reigning, choice: int) -> list[Item]:
        """The runs so far that moved this champion to this choice, the first one first."""
        found, chosen = [], reigning.config.choices[choice]
        for number in range(1, MAX_ATTEMPTS):
            run_id = migration_id(reigning.project, reigning.version, chosen, number)
            run = self._registry.get(reigning.project, f"run#{run_id}")
            if run is None:
                break
            found.append(run)
        return found

    def start(
        self, reigning: Reigning, choice: int, *, now: float, recorded: bool = False
    ) -> str | None:
        """Start the next attempt; returns its run's id, None where somebody else has just done so.

        Args:
            recorded: the champion is to be judged by its recorded answers.

        Raises:
            NoDataError: the champion's dataset is not in the bucket any more.
        """
        project, model = reigning.project, reigning.model
        dataset = self._store.load(dataset_key(project, model["dataset"]), DatasetManifest)
        before = self.attempts(reigning, choice)
        again = bool(before) and is_unbegun(before[-1], now)
        chosen = reigning.config.choices[choice]
        run_id = migration_id(project, reigning.version, chosen, len(before) + (not again))
        dropped = self._registry.get(project, f"run#{model.get('run_id')}") or {}
        run = Run(
            run_id,
            project,
            self._store.bucket,
            dropped.get("key") or f"{export_prefix(project)}migration",
            dropped.get("version_id") or "",
            reigning.config_hash,
        )
        summary = {"hash": dataset.hash, "examples": dataset.examples}
        about = {
            "why": reigning.why(chosen),
            "migrates": reigning.version,
            "choice": choice,
            "validate": summary,
            **({"shutdown": reigning.ends.on.isoformat()} if reigning.ends else {}),
        }
        state = {"dataset": summary, "fallback": {"choice": choice}}
        more = {"recorded": True} if recorded else {}
        started = self._runs.start(
            run, stage="train", now=now, about=about, state={**state, **more}
        )
        return run_id if started else None
