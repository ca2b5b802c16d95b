"""What an evaluation measured without the judge: facts, scores, checks, golden questions, costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dropforge.artifacts import Evaluation, Usage
from dropforge.golden import GoldenResult
from dropforge.page import Block, Markup, Table, scrolling, side_by_side
from dropforge.plots import percent

SHOWN_GOLDEN = 20
LONGEST = 1500
"""Characters of a text that a page shows."""

_SCORES = {
    "chrf": "characters shared with the agent's answer (chrF)",
    "similarity": "likeness of meaning to the agent's answer",
}
_CHECKS = {
    "empty": "empty",
    "long": "too long",
    "format": "in another format",
    "banned": "with a banned phrase",
    "pii": "with personal data of its own",
}


def clipped(text: str) -> str:
    """The text, or its beginning with a word on how much there is more."""
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST].rstrip()} … ({len(text) - LONGEST:,} more characters)"


def arms(evaluation: Evaluation) -> tuple[str, ...]:
    """Who answered, the challenger first."""
    return ("challenger", *evaluation.comparisons)


def answers_by_arm(evaluation: Evaluation) -> Block:
    """A row for each measure, a column for each arm."""
    rows = list(_measures(evaluation))
    if not rows:
        return "Nothing but the judge's opinion was measured."
    return scrolling(Table(("", *arms(evaluation)), rows), "answers by arm")


Row = tuple[str, ...]


def _measures(evaluation: Evaluation) -> Iterator[Row]:
    found, answered = arms(evaluation), evaluation.samples
    if evaluation.fact_recall:
        recall = evaluation.fact_recall
        yield (
            f"facts right ({evaluation.samples_with_facts} tickets)",
            *(_share(recall.get(arm)) for arm in found),
        )
    names = sorted({name for scores in evaluation.scores.values() for name in scores})
    for name in names:
        scores = [evaluation.scores.get(arm, {}).get(name) for arm in found]
        yield (_SCORES.get(name, name), *(_share(value) for value in scores))
    if evaluation.golden is not None:
        of, right = evaluation.golden.questions, evaluation.golden.right
        yield (
            "golden questions right",
            *(f"{right[arm]} of {of}" if arm in right else "–" for arm in found),
        )
    if evaluation.failing:
        failing = evaluation.failing
        yield (
            "answers that fail a check",
            *(
                f"{failing.get(arm, 0)} of {evaluation.answered.get(arm, answered)}"
                for arm in found
            ),
        )
    for check in sorted({name for failed in evaluation.failed.values() for name in failed}):
        counts = [evaluation.failed.get(arm, {}).get(check, 0) for arm in found]
        yield (f"– {_CHECKS.get(check, check)}", *map(str, counts))


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def golden_worse(
    evaluation: Evaluation, results: Sequence[GoldenResult]
) -> Iterator[tuple[str, Block]]:
    """The golden questions that only the challenger got wrong, side by side."""
    golden = evaluation.golden
    if golden is None:
        return
    head = f"Golden questions that the {golden.against} gets right and the challenger does not"
    if not golden.worse:
        yield head, f"None of {golden.questions}."
        return
    known = {result.id: result for result in results}
    shown = [known[name] for name in golden.worse if name in known][:SHOWN_GOLDEN]
    if not shown:
        yield head, ", ".join(golden.worse[:100])
        return
    count = len(golden.worse)
    more = f" ({len(shown)} shown)" if len(shown) < count else ""
    blocks = side_by_side((clipped(result.question), _said(result)) for result in shown)
    yield f"{head}: {count} of {golden.questions}{more}", blocks


def _said(result: GoldenResult) -> dict[str, str]:
    said = {
        f"{arm} ({'right' if result.right.get(arm) else 'wrong'})": clipped(result.answers[arm])
        for arm in sorted(result.answers, key=lambda arm: (arm != "challenger", arm))
    }
    return {"reference": clipped(result.reference), **said}


def costs(evaluation: Evaluation) -> Block:
    """What one answer took, by arm, and what judging took in all."""
    usage = evaluation.usage
    found = [arm for arm in (*arms(evaluation), "judge") if arm in usage and usage[arm].answers]
    if not found:
        return "Nobody recorded it."
    named = ["the judges, a ticket" if arm == "judge" else arm for arm in found]
    rows: list[Row] = [
        (name, *(say(usage[arm]) for arm in found)) for name, say in _AMOUNTS.items()
    ]
    if all(usage[arm].usd is None for arm in found):
        rows = [row for row in rows if not row[0].startswith("US$")]
    note = "Tokens are the mean of an answer, where the provider told them."
    return Markup(
        f'{scrolling(Table(("", *named), rows), "what answers took")}<p class="note">{note}</p>'
    )


def _mean(tokens: int, usage: Usage) -> str:
    return f"{tokens / usage.answers:,.0f}" if tokens else "–"


def _seconds(value: float) -> str:
    return f"{value:,.2f} s" if value else "–"


def per_thousand(usage: Usage) -> float | None:
    """US dollars for 1,000 answers like these; None where no price is known."""
    if usage.usd is None or not usage.answers:
        return None
    return 1000 * usage.usd / usage.answers


def _per_thousand(usage: Usage) -> str:
    usd = per_thousand(usage)
    return "not known" if usd is None else f"${usd:,.2f}"


_AMOUNTS: dict[str, Callable[[Usage], str]] = {
    "answers": lambda usage: f"{usage.answers:,}",
    "tokens read": lambda usage: _mean(usage.prompt_tokens, usage),
    "tokens written": lambda usage: _mean(usage.completion_tokens, usage),
    "time, half of them within": lambda usage: _seconds(usage.seconds_p50),
    "time, 95 % within": lambda usage: _seconds(usage.seconds_p95),
    "US$ in all": lambda usage: "not known" if usage.usd is None else f"${usage.usd:,.4f}",
    "US$ for 1,000": _per_thousand,
}
