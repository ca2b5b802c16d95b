"""Judged batches -> `judge/…/verdict.json` and the page a person reads before trusting it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from dropforge.artifacts import (
    Decision,
    Evaluation,
    Usage,
    Verdict,
    batch_name,
    evaluation_key,
    golden_snapshot_key,
    to_builtins,
    train_key,
)
from dropforge.backends.labels import Labels
from dropforge.families import family, same_family
from dropforge.golden import GoldenResult, decode_golden, decode_results, score
from dropforge.judge import Sample, evaluate, jurors, warnings
from dropforge.models import answer_usd
from dropforge.promote import decide
from dropforge.recorded import prompt_digest
from dropforge.reports.verdict import verdict_report
from dropforge.train import TrainingEvent
from lambdas.edge import Edge, Event, Result, stage
from lambdas.judge.plan import golden_batches, golden_name


@stage("judge")
def handler(edge: Edge, event: Event) -> Result:
    plan, model = event["plan"], event["poll"]["model"]
    project, config = edge.run.project, edge.config
    samples = _samples(edge, plan["hash"], int(plan["judged"]))
    golden = _golden(edge, plan)
    evaluation = _evaluation(edge, plan, model, samples, golden)
    decision = _with_notes(decide(evaluation, config.gate), evaluation, plan["champion"])
    verdict = Verdict(evaluation, decision)
    report = verdict_report(
        verdict, config.gate, samples, _curve(edge, model["spec"]), golden=golden
    )
    edge.store.write(evaluation_key(project, plan["hash"], "report.html"), report)
    edge.store.save(evaluation_key(project, plan["hash"]), verdict)
    return _published(edge, evaluation, decision)


def _evaluation(
    edge: Edge,
    plan: dict[str, Any],
    model: dict[str, Any],
    samples: list[Sample],
    golden: list[GoldenResult],
) -> Evaluation:
    config, project = edge.config, edge.run.project
    panel = jurors(config.judge)
    known = Labels(edge.store, edge.registry).recompute(project, also=samples)
    against = "champion" if any("champion" in result.right for result in golden) else "base"
    asked = golden and decode_golden(edge.store.read(golden_snapshot_key(project, plan["golden"])))
    found = evaluate(
        samples,
        config.gate,
        planned=int(plan["samples"]),
        customers=int(plan["customers"]),
        project=project,
        hash=plan["hash"],
        version=model["version"],
        dataset=plan["dataset"],
        judge=config.judge.model,
        judges=tuple(juror.version for juror in panel),
        agreement={j.version: known[j.version] for j in panel if j.version in known},
        golden=score(asked, golden, against) if asked else None,
    )
    related = {
        juror.version: family(juror.choice.model)
        for juror in panel
        if same_family(juror.choice.model, str(model["base_model"]))
    }
    priced = _priced(found, model, plan)
    return msgspec.structs.replace(found, usage=priced, warnings=warnings(found, related))


def _priced(
    evaluation: Evaluation, model: dict[str, Any], plan: dict[str, Any]
) -> dict[str, Usage]:
    """The usage of every arm with its list price, where that is known."""
    names = {
        "challenger": model["model_id"],
        "base": model["base_model_id"],
        "champion": plan["champion"]["model_id"] if plan["champion"] else "",
        "judge": evaluation.judge,
    }
    priced = {}
    for arm, used in evaluation.usage.items():
        usd = answer_usd(names.get(arm, ""), used.prompt_tokens, used.completion_tokens)
        priced[arm] = msgspec.structs.replace(used, usd=usd)
    return priced


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
    return msgspec.structs.replace(decision, reasons=(*decision.reasons, *notes))


def _samples(edge: Edge, address: str, batches: int) -> list[Sample]:
    lines = b"".join(
        edge.store.read(evaluation_key(edge.run.project, address, batch_name(index)))
        for index in range(batches)
    )
    return msgspec.json.Decoder(Sample).decode_lines(lines)


def _golden(edge: Edge, plan: dict[str, Any]) -> list[GoldenResult]:
    """How every arm answered the golden questions; nothing for a project without any."""
    if not plan["golden"]:
        return []
    keys = (
        evaluation_key(edge.run.project, plan["hash"], golden_name(index))
        for index in golden_batches(int(plan["golden_questions"]))
    )
    return [result for key in keys for result in decode_results(edge.store.read(key))]


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
        "planned": evaluation.planned,
        "fact_recall": evaluation.fact_recall,
        "comparisons": to_builtins(evaluation.comparisons),
        "recorded": evaluation.recorded,
    }
    item = {
        **summary,
        "dataset": evaluation.dataset,
        "judges": list(evaluation.judges),
        "batches": -(-evaluation.samples // edge.config.judge.batch),
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
    promotes = decision.verdict == "promote"
    return {
        "hash": evaluation.hash,
        "verdict": decision.verdict,
        "approval": promotes and edge.config.approval,
    }
