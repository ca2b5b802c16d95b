"""Judged batches -> `judge/…/verdict.json` and the page a person reads before trusting it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from dropforge.artifacts import (
    Decision,
    Evaluation,
    Verdict,
    batch_name,
    evaluation_key,
    to_builtins,
    train_key,
)
from dropforge.golden import prompt_digest
from dropforge.judge import Sample, evaluate
from dropforge.promote import decide
from dropforge.train import TrainingEvent
from dropforge.verdict_report import verdict_report
from lambdas.edge import Edge, Event, Result, stage


@stage("judge")
def handler(edge: Edge, event: Event) -> Result:
    plan, model = event["plan"], event["poll"]["model"]
    project, config = edge.run.project, edge.config
    samples = _samples(edge, plan["hash"], len(plan["batches"]))
    evaluation = evaluate(
        samples,
        project=project,
        hash=plan["hash"],
        version=model["version"],
        dataset=plan["dataset"],
        judge=config.judge.model,
    )
    decision = _with_notes(decide(evaluation, config.gate), evaluation, plan["champion"])
    report = verdict_report(
        Verdict(evaluation, decision), config.gate, samples, _curve(edge, model["spec"])
    )
    edge.store.write(evaluation_key(project, plan["hash"], "report.html"), report)
    edge.store.save(evaluation_key(project, plan["hash"]), Verdict(evaluation, decision))
    return _published(edge, evaluation, decision)


def _with_notes(
    decision: Decision, evaluation: Evaluation, champion: dict[str, Any] | None
) -> Decision:
    """The verdict with what a reader has to know of a champion that could not be asked."""
    notes = [f"the {arm}'s answers recorded on {day}" for arm, day in evaluation.recorded.items()]
    if champion and "champion" not in evaluation.comparisons:
        notes.append(
            f"the champion {champion['version']} does not answer any more and no answers of it "
            "were recorded, so it was not compared"
        )
    return Decision(decision.verdict, (*decision.reasons, *notes))


def _samples(edge: Edge, address: str, batches: int) -> list[Sample]:
    lines = b"".join(
        edge.store.read(evaluation_key(edge.run.project, address, batch_name(index)))
        for index in range(batches)
    )
    return msgspec.json.Decoder(Sample).decode_lines(lines)


def _curve(edge: Edge, spec: str) -> list[TrainingEvent]:
    lines = edge.store.find(train_key(edge.run.project, spec, "events.jsonl")) or b""
    return msgspec.json.Decoder(TrainingEvent).decode_lines(lines)


def _published(edge: Edge, evaluation: Evaluation, decision: Decision) -> Result:
    """Registry, run and metrics learn the verdict; the state machine gets its essence."""
    summary = {
        "hash": evaluation.hash,
        "version": evaluation.version,
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "samples": evaluation.samples,
        "fact_recall": evaluation.fact_recall,
        "comparisons": to_builtins(evaluation.comparisons),
        "recorded": evaluation.recorded,
    }
    item = {
        **summary,
        "dataset": evaluation.dataset,
        "max_tokens": edge.config.judge.max_answer_tokens,
        "prompt": prompt_digest(edge.config.system_prompt),
        "at": time.time(),
    }
    edge.registry.put(evaluation.project, f"evaluation#{evaluation.hash}", item)
    edge.note({"verdict": summary})
    base = evaluation.comparisons.get("base")
    if base:
        edge.count(WinRate=base.win_rate.point)
    if "challenger" in evaluation.fact_recall:
        edge.count(FactRecall=evaluation.fact_recall["challenger"])
    return {"hash": evaluation.hash, "verdict": decision.verdict}
