"""A scheduled tick, or a project's name -> exports of what is new in the projects' databases.

What goes wrong with one project keeps none of the others from theirs; it is written into the
project's registry item `extract`, counted as `ExtractFailed`, and raised when all had their turn.
Lambda's own repeats are harmless: see dropforge/backends/extraction.py.
"""

from __future__ import annotations

from typing import Any

from dropforge.backends.extraction import Extractor
from dropforge.backends.registry import Registry
from dropforge.errors import DatabaseError
from dropforge.settings import Settings
from lambdas import edge


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """What became of each project, in words: `event["project"]`, or all that have `extract:`.

    Raises:
        DatabaseError: names the projects that failed.
    """
    settings = Settings.from_environment()
    registry = edge.registry(settings.table)
    extractor = Extractor(edge.store(settings.bucket), registry)
    due = [str(event["project"])] if event.get("project") else _due(registry)
    ended = {project: _extract(extractor, project) for project in due}
    if failed := sorted(project for project, said in ended.items() if not said):
        raise DatabaseError(
            f"The extraction failed for: {', '.join(failed)}.",
            hint="`dropforge extract -p PROJECT --dry-run` says why.",
        )
    return ended


def _due(registry: Registry) -> list[str]:
    """Projects that extract; the one that was begun last is the last, in case it takes all time."""
    found = [p for p in registry.projects() if (registry.get(p, "config") or {}).get("extract")]
    return sorted(found, key=lambda p: registry.extraction(p).get("started_at", 0))


def _extract(extractor: Extractor, project: str) -> str:
    """What became of one project; "" where it failed."""
    try:
        outcome = extractor.run(project)
    except Exception as error:  # whatever it is, the other projects have their turn
        edge.logger.warning("extraction failed", project=project, error=type(error).__name__)
        edge.count_metrics(project, {"ExtractFailed": 1})
        return ""
    rows = outcome.found.rows if outcome.version_id else 0
    edge.count_metrics(project, {"ExtractFailed": 0, "RowsExtracted": rows})
    edge.logger.info("extraction done", project=project, key=outcome.key, rows=rows)
    return outcome.sentence
