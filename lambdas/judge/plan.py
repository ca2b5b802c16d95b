"""A trained model -> the plan of its evaluation: against whom, on which tickets, in which batches.

The champion is pinned here, so that a promotion in mid-evaluation mixes no two opponents. One whose
provider has shut it down, or that the run does not want asked (`"recorded": true`), is judged by
the answers recorded of it.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Any

from dropforge.artifacts import dataset_key
from dropforge.chat import decode_examples
from dropforge.judge import choose_samples, evaluation_hash
from dropforge.lifecycle import shutdown_of
from lambdas.edge import Edge, Event, Result, stage


@stage("judge")
def handler(edge: Edge, event: Event) -> Result:
    project, judging = edge.run.project, edge.config.judge
    dataset = event["dataset"]["hash"]
    version = event["poll"]["model"]["version"]
    champion = _opponent(edge, version, recorded=bool(event.get("recorded")))
    test = decode_examples(edge.store.read(dataset_key(project, dataset, "test.jsonl")))
    samples = len(choose_samples(test, judging.samples))
    address = evaluation_hash(version, _against(champion), dataset, judging)
    against = champion["version"] if champion else None
    about = {"hash": address, "samples": samples, "against": against}
    edge.note({"judge": about, "judged": {}})
    return {
        "hash": address,
        "dataset": dataset,
        "champion": champion,
        "batches": list(range(-(-samples // judging.batch))),
        "concurrency": judging.concurrency,
    }


def _opponent(edge: Edge, version: str, *, recorded: bool) -> dict[str, Any] | None:
    """The reigning champion, unless it is the challenger itself."""
    champion = edge.registry.champion(edge.run.project)
    if champion is None or champion["version"] == version:
        return None
    known = {name: champion[name] for name in ("version", "backend", "model_id")}
    dark = _is_dark(edge, champion)
    return {**known, "recorded": True, "dark": dark} if recorded or dark else known


def _is_dark(edge: Edge, champion: dict[str, Any]) -> bool:
    """Whether the champion is past its shutdown date, as the watch recorded it or by its name."""
    model = edge.registry.get(edge.run.project, f"model#{champion['version']}") or {}
    base = str(model.get("base_model", ""))
    told = model.get("shutdown")
    listed = {base: date.fromisoformat(told)} if told else {}
    end = shutdown_of(champion["backend"], champion["model_id"], base, listed)
    return end is not None and end <= datetime.fromtimestamp(time.time(), UTC).date()


def _against(champion: dict[str, Any] | None) -> str | None:
    """What an evaluation is told by; recorded answers make another one than fresh ones."""
    if champion is None:
        return None
    version = str(champion["version"])
    return f"{version} recorded" if champion.get("recorded") else version
