"""The daily tick -> what the providers have announced, in the registry and as metrics.

Asks every hosted provider for its list of models, records the end of each model version, and where
a project wants it (`shutdown: {retrain: true}`) trains its champion's dataset elsewhere in time. A
provider or project that cannot be looked at is counted and does not stop the others.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from dropforge.backends.migration import Migration, Reigning, current_config, model_ending
from dropforge.backends.registry import FAILED, Item
from dropforge.errors import BackendError, DropforgeError
from dropforge.lifecycle import (
    NO_END_DAYS,
    Ending,
    Listed,
    days_left,
    due,
    may_start,
    training_closes,
)
from dropforge.project import ProjectConfig
from dropforge.settings import WatchSettings
from lambdas import edge
from lambdas.edge import Event, Result, logger
from lambdas.providers import CONTROL_SECONDS, hosted


def handler(event: Event, context: object) -> Result:
    """`event["time"]` is the scheduled time; without it, the day is the clock's."""
    settings = WatchSettings.from_environment()
    today = _day(event) or datetime.fromtimestamp(time.time(), UTC).date()
    watch = Watch(settings, today, _lists(settings))
    projects = watch.registry.projects()
    started = [run for project in projects if (run := watch.look_at(project))]
    return {
        "projects": len(projects),
        "started": started,
        "unanswered": watch.unanswered,
        "failed": watch.failed,
    }


def _day(event: Event) -> date | None:
    try:
        return datetime.fromisoformat(str(event.get("time", ""))).date()
    except ValueError:
        return None


def _lists(settings: WatchSettings) -> dict[str, Listed]:
    """Each provider's list of models; those that did not answer are counted and left out."""
    names = sorted(settings.providers)
    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        found = list(pool.map(lambda name: _list(name, settings), names))
    for name, listed in zip(names, found, strict=True):
        _count_provider(name, ProviderUnanswered=int(listed is None))
    return {n: listed for n, listed in zip(names, found, strict=True) if listed is not None}


def _list(provider: str, settings: WatchSettings) -> Listed | None:
    try:
        models = hosted(provider, settings, CONTROL_SECONDS).models()
    except (BackendError, BotoCoreError, ClientError) as error:
        logger.warning("provider did not answer", provider=provider, error=type(error).__name__)
        return None
    return {model.id: model.shutdown_date for model in models}


def _count_provider(provider: str, **metrics: float) -> None:
    emf = Metrics(service=None)
    emf.add_dimension("provider", provider)
    for name, value in metrics.items():
        emf.add_metric(name, MetricUnit.NoUnit, value)
    emf.flush_metrics()


class Watch:
    """One day's look at all projects.

    Attributes:
        lists: what each provider that answered lists.
        unanswered: the providers that did not.
        failed: the projects that could not be looked at.
    """

    def __init__(self, settings: WatchSettings, today: date, lists: dict[str, Listed]) -> None:
        self.registry = edge.registry(settings.table)
        self.lists = lists
        self.unanswered = sorted(settings.providers.keys() - lists.keys())
        self.failed: list[str] = []
        self._today = today
        self._store = edge.store(settings.bucket)
        self._migration = Migration(self._store, self.registry, settings.state_machine_arn)

    def look_at(self, project: str) -> str | None:
        """Record, publish and, where it is due, retrain; the id of a run that was started."""
        try:
            champion = self.registry.champion(project) or {}
            ends = self._record(project)
            config, _ = current_config(self._store, self.registry, project)
            self._publish(project, config, ends, str(champion.get("version")))
            return self._retrain(project)
        except (DropforgeError, BotoCoreError, ClientError, ValidationError) as error:
            logger.warning("project not watched", project=project, error=type(error).__name__)
            edge.count_metrics(project, {"WatchFailed": 1})
            self.failed.append(project)
            return None

    def _record(self, project: str) -> dict[str, Ending | None]:
        """Write each version's end where it has changed; returns all of them, by version.

        What a provider said earlier holds while it does not answer.
        """
        found = {}
        for model in self.registry.models(project):
            end = model_ending(model, self.lists.get(model["backend"]))
            values = {
                "shutdown": end.on.isoformat() if end else None,
                "shutdown_from": end.known_from if end else None,
            }
            if any(name not in model or model[name] != value for name, value in values.items()):
                self.registry.put(project, f"shutdown#{model['version']}", values)
            found[str(model["version"])] = end
        return found

    def _publish(
        self,
        project: str,
        config: ProjectConfig,
        ends: dict[str, Ending | None],
        champion: str,
    ) -> None:
        """Metrics for the alarms, and the day's summary for `dropforge migrate`."""
        days = {v: days_left(end.on, self._today) for v, end in ends.items() if end}
        others = [left for version, left in days.items() if version != champion and left > 0]
        listed = self.lists.get(config.backend, {})
        closes = training_closes(config.backend, config.model, listed)
        metrics = {
            "DaysUntilShutdown": days.get(champion, NO_END_DAYS),
            "OthersDaysUntilShutdown": min(others, default=NO_END_DAYS),
            "TrainingDaysLeft": days_left(closes, self._today) if closes else NO_END_DAYS,
        }
        edge.count_metrics(project, {name: float(max(n, 0)) for name, n in metrics.items()})
        item = {
            "at": time.time(),
            "day": self._today.isoformat(),
            "champion": champion,
            "days": days.get(champion),
            "training_closes": closes.isoformat() if closes else None,
            "unanswered": self.unanswered,
        }
        self.registry.put(project, "watch", item)

    def _retrain(self, project: str) -> str | None:
        reigning = self._migration.reigning(project)
        if reigning is None or reigning.ends is None:
            return None
        if not due(reigning.config.shutdown, days_left(reigning.ends.on, self._today)):
            return None
        choice = reigning.next_choice(self.lists, self._today)
        if choice is None:
            logger.warning("no other backend left", project=project)
            edge.count_metrics(project, {"MigrationFailed": 1})
            return None
        return self._start(reigning, choice)

    def _start(self, reigning: Reigning, choice: int) -> str | None:
        attempts: list[Item] = self._migration.attempts(reigning, choice)
        if attempts and attempts[-1]["status"] == FAILED:
            edge.count_metrics(reigning.project, {"MigrationFailed": 1})
        now = time.time()
        if not may_start(attempts, now):
            return None
        run_id = self._migration.start(reigning, choice, now=now)
        if run_id:
            logger.info("retraining started", project=reigning.project, run_id=run_id)
            edge.count_metrics(reigning.project, {"RunsStarted": 1})
        return run_id
