"""A trained model -> its evaluation's next look: against whom, on which tickets, in which batches.

Called before every look. The first time it pins the opponents, so that a promotion in
mid-evaluation mixes no two of them; after that it reads what was judged so far, and plans no more
once the evidence is clear. A champion whose provider has shut it down, or that the run does not
want asked (`"recorded": true`), is judged by the answers recorded of it.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from dropforge.artifacts import batch_name, dataset_key, evaluation_key
from dropforge.backends.pointers import BASE
from dropforge.chat import decode_examples
from dropforge.judge import Sample, choose_samples, cluster_of, evaluation_hash, is_clear
from dropforge.lifecycle import shutdown_of
from dropforge.recorded import prompt_digest
from lambdas.edge import Edge, Event, Result, stage

GOLDEN = -1
"""Stands for the first golden questions among the batches of tickets, -2 for the next, and on."""
GOLDEN_CHUNK = 25
"""Golden questions that one task asks of every arm."""


def golden_batches(questions: int) -> list[int]:
    """What stands for so many golden questions among the batches of tickets."""
    return [GOLDEN - place for place in range(-(-questions // GOLDEN_CHUNK))]


def golden_part(index: int) -> slice:
    """The golden questions that such a batch asks."""
    start = (GOLDEN - index) * GOLDEN_CHUNK
    return slice(start, start + GOLDEN_CHUNK)


def golden_name(index: int) -> str:
    """The file with the answers to such a batch: golden-001.jsonl for the first."""
    return f"golden-{-index:03d}.jsonl"


@stage("judge")
def handler(edge: Edge, event: Event) -> Result:
    is_first = "plan" not in event
    plan = _first(edge, event) if is_first else event["plan"]
    judging, judged = edge.config.judge, int(plan["judged"])
    judged = max([judged, *(1 + batch for batch in plan["batches"])])
    left = range(judged, -(-int(plan["samples"]) // judging.batch))
    clear = _clear(edge, plan, judged) if judging.early_stop and judged else None
    look = max(1, -(-judging.look // judging.batch)) if judging.early_stop else len(left)
    batches = [] if clear else list(left[:look])
    golden = golden_batches(int(plan["golden_questions"])) if is_first else []
    if clear:
        edge.note({"judge.clear": clear})
    return {**plan, "judged": judged, "batches": golden + batches, "more": bool(golden or batches)}


def _first(edge: Edge, event: Event) -> dict[str, Any]:
    project, judging = edge.run.project, edge.config.judge
    dataset = event["dataset"]["hash"]
    version = event["poll"]["model"]["version"]
    champion = _opponent(edge, version, recorded=bool(event.get("recorded")))
    golden = edge.registry.get(project, "golden")
    test = decode_examples(edge.store.read(dataset_key(project, dataset, "test.jsonl")))
    samples = choose_samples(test, judging.samples)
    questions = int(golden["questions"]) if golden else 0
    asked = golden["hash"] if golden and questions else None
    prompt = prompt_digest(edge.config.system_prompt)
    address = evaluation_hash(version, _against(champion), dataset, judging, asked, prompt=prompt)
    against = champion["version"] if champion else None
    about = {"hash": address, "samples": len(samples), "against": against}
    edge.note({"judge": about, "judged": {}})
    return {
        "hash": address,
        "dataset": dataset,
        "champion": champion,
        "golden": asked,
        "golden_questions": questions,
        "samples": len(samples),
        "customers": len({cluster_of(ticket) for ticket in samples}),
        "judged": 0,
        "batches": [],
        "concurrency": judging.tasks,
    }


def _clear(edge: Edge, plan: dict[str, Any], batches: int) -> str | None:
    """What the tickets judged so far show for certain, if anything."""
    lines = b"".join(
        edge.store.read(evaluation_key(edge.run.project, plan["hash"], batch_name(index)))
        for index in range(batches)
    )
    samples = msgspec.json.Decoder(Sample).decode_lines(lines)
    return is_clear(samples, edge.config.gate, int(plan["customers"]))


def _opponent(edge: Edge, version: str, *, recorded: bool) -> dict[str, Any] | None:
    """The reigning champion, unless it is the challenger itself or the base, an opponent anyway."""
    champion = edge.registry.champion(edge.run.project)
    if champion is None or champion["version"] in (version, BASE):
        return None
    model = edge.registry.model(edge.run.project, champion["version"]) or {}
    known = {name: champion[name] for name in ("version", "backend", "model_id")}
    known["base_model"] = str(model.get("base_model", ""))
    dark = _is_dark(champion, model)
    return {**known, "recorded": True, "dark": dark} if recorded or dark else known


def _is_dark(champion: dict[str, Any], model: dict[str, Any]) -> bool:
    """Whether the champion is past its shutdown date, as the watch recorded it or by its name."""
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
