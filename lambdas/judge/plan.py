"""A trained model -> the plan of its evaluation: against whom, on which tickets, in which batches.

The champion is pinned here, so that a promotion in mid-evaluation mixes no two opponents.
"""

from __future__ import annotations

from typing import Any

from dropforge.artifacts import dataset_key
from dropforge.chat import decode_examples
from dropforge.judge import choose_samples, evaluation_hash
from lambdas.edge import Edge, Event, Result, stage


@stage("judge")
def handler(edge: Edge, event: Event) -> Result:
    project, judging = edge.run.project, edge.config.judge
    dataset = event["dataset"]["hash"]
    version = event["poll"]["model"]["version"]
    champion = _opponent(edge, version)
    test = decode_examples(edge.store.read(dataset_key(project, dataset, "test.jsonl")))
    samples = len(choose_samples(test, judging.samples))
    against = champion["version"] if champion else None
    address = evaluation_hash(version, against, dataset, judging)
    edge.note({"judge": {"hash": address, "samples": samples}, "judged": {}})
    return {
        "hash": address,
        "dataset": dataset,
        "champion": champion,
        "batches": list(range(-(-samples // judging.batch))),
        "concurrency": judging.concurrency,
    }


def _opponent(edge: Edge, version: str) -> dict[str, Any] | None:
    """The reigning champion, unless it is the challenger itself."""
    champion = edge.registry.champion(edge.run.project)
    if champion is None or champion["version"] == version:
        return None
    return {name: champion[name] for name in ("version", "backend", "model_id")}
