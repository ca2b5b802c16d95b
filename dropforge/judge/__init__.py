"""Judge: which of two models answers held-out tickets better, and how sure is that?

Reads the test split of a dataset; what it finds is kept as one JSONL of judged samples a batch and
summed up as an `Evaluation` in `judge/<project>/<hash>/verdict.json`. Prompts and parsers of the
judges stand in `dropforge/judges/`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dropforge.artifacts import digest
from dropforge.chat import ChatExample
from dropforge.judge.checks import failed_checks
from dropforge.judge.evaluate import compare_arm, evaluate, usage, warnings
from dropforge.judge.facts import fact_recall, facts
from dropforge.judge.questions import (
    AskAll,
    Juror,
    Pair,
    Question,
    judge_pairs,
    judge_prompt,
    judge_version,
    jurors,
    nonce_of,
    questions,
    ticket_name,
)
from dropforge.judge.samples import AnswerUsage, Judged, JudgedBy, Outcome, Sample
from dropforge.judge.sampling import MIN_SCORED, choose_samples, cluster_of, is_clear
from dropforge.judge.scores import chrf, cosine
from dropforge.judges.opinion import Opinion
from dropforge.project.judging import Judging

__all__ = [
    "MIN_SCORED",
    "AnswerUsage",
    "AskAll",
    "Judged",
    "JudgedBy",
    "Juror",
    "Opinion",
    "Outcome",
    "Pair",
    "Question",
    "Sample",
    "choose_samples",
    "chrf",
    "cluster_of",
    "compare_arm",
    "cosine",
    "evaluate",
    "evaluation_hash",
    "fact_recall",
    "facts",
    "failed_checks",
    "is_clear",
    "judge_pairs",
    "judge_prompt",
    "judge_version",
    "jurors",
    "make_sample",
    "nonce_of",
    "questions",
    "ticket_name",
    "usage",
    "warnings",
]

KERNEL = "judge/2"
"""Part of every evaluation hash: raise it when the same answers would be judged differently."""

_HOW = {"batch", "concurrency", "requests_per_minute", "look"}
"""Settings that decide how fast tickets are judged, and nothing about the outcome of one."""


def evaluation_hash(
    version: str,
    champion: str | None,
    dataset: str,
    judging: Judging,
    golden: str | None = None,
    *,
    prompt: str,
) -> str:
    """The address of an evaluation: who is compared with whom, on what, asked how, by whom.

    Args:
        golden: hash of the golden questions.
        prompt: digest of the project's system prompt.
    """
    judges = [juror.version for juror in jurors(judging)]
    asked = judging.model_dump(mode="json", exclude=_HOW)
    return digest(KERNEL, version, champion, dataset, asked, judging.batch, judges, golden, prompt)


def make_sample(
    example: ChatExample,
    answers: Mapping[str, str],
    judged: Mapping[str, Judged],
    judging: Judging,
    *,
    recorded: Mapping[str, str] | None = None,
    usage: Mapping[str, AnswerUsage] | None = None,
    similarity: Mapping[str, float] | None = None,
) -> Sample:
    """All about one ticket: what the judges said, and what can be told without them.

    Args:
        judged: by opponent.
        similarity: by arm, of the answer's embedding to the reference's.
    """
    meant = {arm: {"similarity": value} for arm, value in (similarity or {}).items()}
    return Sample(
        id=example.id,
        question=example.question,
        reference=example.reference,
        answers=dict(answers),
        judged=dict(judged),
        recall={arm: fact_recall(example.reference, text) for arm, text in answers.items()},
        recorded=dict(recorded or {}),
        cluster=cluster_of(example),
        topic=example.topic,
        scores={
            arm: {"chrf": chrf(text, example.reference), **meant.get(arm, {})}
            for arm, text in answers.items()
        },
        failed={
            arm: failed
            for arm, text in answers.items()
            if (failed := failed_checks(example, text, judging.checks))
        },
        usage=dict(usage or {}),
    )
