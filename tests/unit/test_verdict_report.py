from __future__ import annotations

from dropforge.artifacts import Decision, Verdict
from dropforge.judge import Judged, Outcome, Sample, evaluate
from dropforge.project import Gate
from dropforge.train import TrainingEvent
from dropforge.verdict_report import SHOWN_PAIRS, verdict_report

ORDER = (Outcome.WIN, Outcome.TIE, Outcome.UNSCORED, Outcome.LOSS)


def sample(number: int, outcome: Outcome, question: str = "") -> Sample:
    return Sample(
        id=str(number),
        question=question or f"question {number}",
        reference="reference",
        answers={"challenger": "tuned", "base": "plain"},
        judged={"base": Judged(outcome, confidence=0.9)},
        recall={"challenger": 1.0, "base": 0.0},
    )


def report(samples: list[Sample], verdict: str = "promote", why: str = "it is better") -> str:
    evaluation = evaluate(
        samples, project="shop", hash="e" * 64, version="v2", dataset="d" * 64, judge="judge-1"
    )
    decision = Decision(verdict, (why,))  # type: ignore[arg-type]
    curve = [TrainingEvent(1, 3.0, 3.1), TrainingEvent(9, 1.0)]
    return verdict_report(Verdict(evaluation, decision), Gate(), samples, curve)


def test_report_names_verdict_reasons_and_numbers() -> None:
    page = report([sample(i, Outcome.WIN) for i in range(30)])
    for word in (
        "Evaluation of shop/v2",
        '<strong class="promote">promote</strong>',
        "it is better.",
        "against base",
        "100% [89%, 100%]",
        "judge judge-1, 30 test tickets, both orders",
        "e" * 64,
        "d" * 64,
    ):
        assert word in page


def test_reasons_and_tickets_are_escaped() -> None:
    page = report([sample(1, Outcome.LOSS, "<img src=x>")], "reject", "<b>no</b>")
    assert "<img" not in page
    assert "<b>no" not in page


def test_pairs_to_read_begin_with_the_losses() -> None:
    page = report([sample(i, outcome) for i, outcome in enumerate(ORDER)])
    heads = [f"{outcome.value}: question" for outcome in ORDER[::-1]]
    assert heads == sorted(heads, key=page.index)
    assert (
        page.index("loss: ") < page.index("unscored: ") < page.index("tie: ") < page.index("win: ")
    )


def test_no_more_pairs_are_shown_than_are_read() -> None:
    page = report([sample(i, Outcome.WIN) for i in range(40)])
    assert page.count("<h3>") == SHOWN_PAIRS


def test_report_of_no_samples_is_still_a_page() -> None:
    page = report([], "not enough evidence", "nothing judged")
    assert '<strong class="unsure">not enough evidence</strong>' in page
