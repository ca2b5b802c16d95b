from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import msgspec
import pytest

from dropforge.artifacts import Agreement, Decision, Interval, Usage, Verdict
from dropforge.golden import GoldenResult
from dropforge.judge import Judged, JudgedBy, Outcome, Sample
from dropforge.project.judging import Gate
from dropforge.reports.verdict import evidence, verdict_report
from dropforge.reports.verdict_answers import LONGEST
from dropforge.reports.verdict_pairs import SHOWN_PAIRS
from dropforge.statistics import power
from dropforge.train import TrainingEvent
from tests.support import evaluations
from tests.support.evaluations import JUDGES, samples, verdict

ORDER = (Outcome.WIN, Outcome.TIE, Outcome.UNSCORED, Outcome.LOSS)
SCORES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0}
NBSP = "\N{NO-BREAK SPACE}"


def sample(number: int, outcome: Outcome, question: str = "", *, flipped: bool = False) -> Sample:
    return Sample(
        id=str(number),
        question=question or f"question {number}",
        reference="reference",
        answers={"challenger": "tuned", "base": "plain"},
        judged={"base": Judged(outcome, flipped, 0.9, "because", SCORES.get(outcome))},
        recall={"challenger": 1.0, "base": 0.0},
    )


def report(judged: list[Sample], gate: Gate | None = None, **more: object) -> str:
    curve = [TrainingEvent(1, 3.0, 3.1), TrainingEvent(9, 1.0)]
    return verdict_report(verdict(judged, gate, **more), gate or Gate(), judged, curve)


def decided(name: str, *reasons: str, judged: list[Sample] | None = None) -> str:
    found = verdict(judged or [])
    decision = Decision(name, reasons)  # type: ignore[arg-type]
    return verdict_report(Verdict(found.evaluation, decision), Gate(), judged or [], [])


def section(page: str, head: str) -> str:
    """The part of a page under the heading that begins so."""
    found = re.search(rf"<h2>{re.escape(head)}[^<]*</h2>(.*?)(?=<h2>|<footer>)", page, re.DOTALL)
    assert found, head
    return found[1]


def text(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup)).split())


class Balance(HTMLParser):
    """Raises where tags are not closed in the order they were opened."""

    VOID = frozenset({"meta", "input", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# --- what was decided, and why


def test_report_names_verdict_reasons_and_numbers() -> None:
    page = report([sample(i, Outcome.WIN) for i in range(30)])
    for word in (
        "Evaluation of shop/1ef300e46bd5",
        '<strong class="promote">promote</strong>',
        "wins 100 %",
        f"100{NBSP}%",
        "30 test tickets, both orders",
        "e" * 64,
        "d" * 64,
    ):
        assert word in page


@pytest.mark.parametrize(
    ("name", "style", "sign"),
    [
        ("promote", "promote", "✓"),
        ("reject", "reject", "✗"),
        ("not enough evidence", "unsure", "?"),
    ],
)
def test_verdict_is_told_by_word_sign_and_colour(name: str, style: str, sign: str) -> None:
    page = decided(name, "so it is")
    assert f'<span class="{style}" aria-hidden="true">{sign}</span>' in page
    assert f'<strong class="{style}">{name}</strong>' in page
    assert "so it is." in page


def test_reasons_warnings_and_tickets_are_escaped() -> None:
    nasty = "<img src=x onerror=alert(1)>"
    page = report([sample(1, Outcome.LOSS, nasty)], warnings=(nasty,))
    page += decided("reject", nasty)
    assert "<img" not in page
    assert page.count("&lt;img") >= 3


def test_every_rule_of_the_gate_is_a_row_with_a_mark() -> None:
    found = verdict(samples(60, 0.6))
    page = verdict_report(found, Gate(), [], [])
    rules = found.decision.rules
    broken = [rule for rule in rules if not rule.held]
    assert len(rules) > 5
    assert broken
    rows = section(page, "The gate, rule by rule")
    assert all(rule.name in text(rows) for rule in rules)
    assert rows.count('class="missed"') == len(broken)
    assert rows.count('class="held"') == len(rules) - len(broken)
    assert f"{len(broken)} of {len(rules)} not held" in page


def test_older_evaluation_without_rules_has_no_table_of_them() -> None:
    assert "rule by rule" not in decided("promote", "wins")


def test_figures_of_the_first_screen_are_those_of_the_evaluation() -> None:
    judged = samples(80, 0.85)
    found = verdict(judged, planned=200)
    figures = text(section(verdict_report(found, Gate(), judged, []), "Why"))
    base = found.evaluation.comparisons["base"]
    assert f"{100 * base.win_rate.point:.0f} % win rate against the base, 95 % interval" in figures
    assert "80 tickets judged of 200" in figures
    assert evidence(base.e_value) in figures


@pytest.mark.parametrize(
    ("value", "said"), [(1.0, "1.0"), (19.96, "20.0"), (412.3, "412"), (1e12, "> 1 million")]
)
def test_evidence_is_written_to_be_read(value: float, said: str) -> None:
    assert evidence(value) == said


# --- how sure


def test_evidence_is_drawn_to_the_value_of_the_evaluation() -> None:
    judged = samples(50, 0.75)
    found = verdict(judged, planned=100)
    page = section(verdict_report(found, Gate(), judged, []), "How sure is the win rate")
    reached = found.evaluation.comparisons["base"].e_value
    label = re.search(r"evidence from 1 to ([\d,.]+)", page)
    assert label
    assert float(label[1].replace(",", "")) == pytest.approx(reached, rel=1e-3)
    assert "20 asked" in page


def test_early_stop_says_how_many_tickets_it_saved() -> None:
    judged = samples(60, 0.9)
    page = report(judged, planned=200)
    assert f"after 60 of 200 tickets, when the answer was clear; 70{NBSP}%" in page
    assert "140 tickets not judged" in page


def test_after_an_early_stop_the_anytime_interval_is_recommended() -> None:
    assert "trust the anytime row" in report(samples(60, 0.9), planned=200)
    assert "trust the anytime row" not in report(samples(60, 0.9))


def test_page_says_what_so_many_tickets_can_show() -> None:
    judged = samples(60, 0.9)
    strict = text(section(report(judged, Gate(lower_bound=0.7), planned=200), "How sure"))
    chance = power(0.8, 200, 0.7)
    assert "What 200 tickets of as many customers can show" in strict
    assert f"80 % in {100 * chance:.0f} %" in strict
    assert "can show" not in report(judged, planned=5000)
    assert "can show" not in report(judged, Gate(lower_bound=0.95))


def test_a_full_evaluation_saved_nothing() -> None:
    page = report(samples(60, 0.9))
    assert "All tickets that were planned were judged: 60." in page
    assert "not judged" not in section(page, "How sure")


def test_every_judge_of_a_panel_has_an_interval_of_its_own() -> None:
    page = section(report(samples(60, 0.8, panel=True)), "How sure")
    assert all(f"judge {judge}" in page for judge in JUDGES)


def test_champion_has_sections_of_its_own() -> None:
    page = report(samples(60, 0.8, champion=True))
    assert "How sure is the win rate against the champion?" in page
    assert "Where it wins against the champion" in page
    assert "champion" not in section(report(samples(60, 0.8)), "How the judge decided")


def test_interval_that_was_not_computed_is_left_out() -> None:
    judged = samples(40, 0.8)
    found = verdict(judged)
    base = msgspec.structs.replace(
        found.evaluation.comparisons["base"],
        anytime=Interval(0.5, 0.0, 1.0),
        length_controlled=None,
    )
    evaluation = msgspec.structs.replace(found.evaluation, comparisons={"base": base})
    page = verdict_report(Verdict(evaluation, found.decision), Gate(), judged, [])
    assert "win rate, by customers" in page
    assert "anytime" not in page
    assert "length-controlled" not in page


# --- where it wins


def test_topics_show_how_many_tickets_they_have_and_few_are_grey() -> None:
    judged = [sample(i, Outcome.WIN) for i in range(20)]
    judged = [msgspec.structs.replace(s, topic="billing" if int(s.id) < 3 else "") for s in judged]
    page = section(report(judged), "Where it wins")
    assert "n 3" in page
    assert "n 17" in page
    assert page.index("no topic") < page.index(">billing<")
    assert 'class="dot faint"' in page


def test_many_topics_share_a_row() -> None:
    judged = [sample(i, Outcome.WIN) for i in range(60)]
    judged = [msgspec.structs.replace(s, topic=f"topic {int(s.id) % 30}") for s in judged]
    assert "19 others" in section(report(judged), "Where it wins")


def test_tickets_of_one_customer_do_not_narrow_a_topic() -> None:
    apart = [sample(i, Outcome.WIN) for i in range(20)]
    siblings = [msgspec.structs.replace(s, cluster="one") for s in apart]
    assert f"[84{NBSP}%, 100{NBSP}%]" in section(report(apart), "Where it wins")
    assert f"[21{NBSP}%, 100{NBSP}%]" in section(report(siblings), "Where it wins")


def test_length_is_told_by_words_and_against_the_opponent() -> None:
    long = msgspec.structs.replace(
        sample(1, Outcome.WIN), answers={"challenger": "word " * 50, "base": "short"}
    )
    page = text(section(report([long]), "Where it wins"))
    assert "41 to 80 words" in page
    assert "much longer" in page


# --- judges


def test_leaning_of_the_judge_is_put_in_words() -> None:
    found = verdict([sample(i, Outcome.WIN) for i in range(30)])
    for bias, said in ((0.12, "12 points for the first"), (-0.2, "20 points for the second")):
        base = msgspec.structs.replace(found.evaluation.comparisons["base"], position_bias=bias)
        evaluation = msgspec.structs.replace(found.evaluation, comparisons={"base": base})
        page = verdict_report(Verdict(evaluation, found.decision), Gate(), [], [])
        assert said in section(page, "How the judge decided")


def test_without_labels_the_page_says_how_to_make_some() -> None:
    page = report(samples(30, 0.8))
    assert "dropforge label -p shop" in section(page, "Does the judge agree with people?")


def test_agreement_stands_for_each_judge_with_its_interval() -> None:
    known = {JUDGES[0]: Agreement(50, Interval(0.82, 0.69, 0.90), 0.71)}
    page = report(samples(30, 0.8, panel=True), agreement=known)
    said = text(section(page, "Does the judge agree with people?")).replace(NBSP, " ")
    assert f"{JUDGES[0]} 50 82 % [69 %, 90 %] 0.71" in said
    assert f"{JUDGES[1]} 0 not known not known" in said


# --- measured without a judge


def test_measures_stand_by_arm() -> None:
    judged = [
        msgspec.structs.replace(
            sample(i, Outcome.WIN),
            scores={"challenger": {"chrf": 0.6}, "base": {"chrf": 0.25}},
            failed={"base": ("pii", "long")},
        )
        for i in range(10)
    ]
    said = text(section(report(judged), "The answers")).replace(NBSP, " ")
    assert "facts right (10 tickets) 100 % 0 %" in said
    assert "(chrF) 60 % 25 %" in said
    assert "answers that fail a check 0 of 10 10 of 10" in said
    assert "with personal data of its own 0 10" in said


def test_golden_questions_that_got_worse_are_shown_side_by_side() -> None:
    score, results = evaluations.golden(worse=2, questions=12)
    found = verdict(samples(40, 0.8), golden=score)
    page = verdict_report(found, Gate(), [], [], results)
    said = section(page, "Golden questions that the base gets right")
    assert "2 of 12" in page
    assert "challenger (wrong)" in said
    assert "base (right)" in said
    assert said.count("How long is the warranty") == 2


def test_golden_questions_without_their_answers_are_named() -> None:
    score, _ = evaluations.golden(worse=2)
    page = verdict_report(verdict(samples(40, 0.8), golden=score), Gate(), [], [])
    assert "g0, g1" in section(page, "Golden questions")


def test_no_golden_question_worse_is_said() -> None:
    score, results = evaluations.golden(worse=0)
    page = verdict_report(verdict(samples(40, 0.8), golden=score), Gate(), [], [], results)
    assert "None of 12." in section(page, "Golden questions")


def test_hostile_golden_answers_are_escaped() -> None:
    score, _ = evaluations.golden(worse=1)
    nasty = GoldenResult(
        "g0", "<b>q</b>", "<b>r</b>", {"challenger": "<b>a</b>"}, {"challenger": False}
    )
    page = verdict_report(verdict(samples(40, 0.8), golden=score), Gate(), [], [], [nasty])
    assert "<b>q" not in page
    assert "<b>a" not in page


def test_costs_stand_by_arm_and_unknown_prices_have_no_row() -> None:
    judged = samples(40, 0.8)
    said = text(section(report(judged), "What answers and judging took"))
    assert "tokens written 40 40 60" in said
    assert "US$" not in said
    priced = evaluations.priced(verdict(judged))
    said = text(section(verdict_report(priced, Gate(), judged, []), "What answers and judging"))
    assert "US$ for 1,000 $0.41 $0.41" in said


def test_price_known_of_one_arm_only_is_said_so() -> None:
    usage = {"challenger": Usage(10, 100, 100, 0.5, 0.9, 0.01), "base": Usage(10, 100, 100)}
    said = text(section(report(samples(30, 0.8), usage=usage), "What answers and judging took"))
    assert "US$ for 1,000 $1.00 not known" in said


def test_nothing_recorded_is_said() -> None:
    page = verdict_report(verdict([]), Gate(), [], [])
    assert "Nobody recorded it." in page
    assert "none recorded" in section(page, "Loss while training")


# --- pairs


def test_pairs_to_read_begin_with_the_losses() -> None:
    page = section(report([sample(i, outcome) for i, outcome in enumerate(ORDER)]), "Pairs")
    body = page[page.index("<article") :]
    said = ("lost to", "not scored", "tied with", "won against")
    assert [body.index(word) for word in said] == sorted(body.index(word) for word in said)


def test_a_judge_that_changed_its_mind_is_a_kind_of_its_own() -> None:
    page = section(report([sample(1, Outcome.TIE, flipped=True)]), "Pairs")
    assert "undecided against the base: 1" in page
    assert 'class="pair flip-0"' in page


def test_no_more_pairs_are_shown_than_are_read() -> None:
    page = report([sample(i, ORDER[i % 4]) for i in range(400)])
    assert 20 <= page.count("<article") <= SHOWN_PAIRS
    assert "lost to the base: 14 of 100" in page


def test_each_judge_says_why() -> None:
    by = (
        JudgedBy("one/pairwise/1", Outcome.WIN, False, 0.9, "states the day", 1),
        JudgedBy("two/reasoned/2", Outcome.TIE, True, 0.5, "cannot <decide>", 2),
    )
    judged = msgspec.structs.replace(
        sample(1, Outcome.WIN), judged={"base": Judged(Outcome.WIN, False, 0.7, "x", 0.75, by)}
    )
    said = section(report([judged]), "Pairs")
    assert f"one/pairwise/1 against the base: win, 90{NBSP}% sure: states the day" in said
    assert "two/reasoned/2 against the base: changed its mind" in said
    assert "cannot &lt;decide&gt;" in said


def test_recorded_answers_and_failed_checks_are_named() -> None:
    judged = msgspec.structs.replace(
        sample(1, Outcome.WIN), recorded={"base": "2026-12-24"}, failed={"challenger": ("pii",)}
    )
    said = section(report([judged]), "Pairs")
    assert "base, recorded on 2026-12-24" in said
    assert "challenger, fails: pii" in said


def test_long_answers_are_cut() -> None:
    judged = msgspec.structs.replace(
        sample(1, Outcome.WIN), answers={"challenger": "x" * (LONGEST + 100), "base": ""}
    )
    said = section(report([judged]), "Pairs")
    assert "x" * LONGEST in said
    assert "x" * (LONGEST + 1) not in said
    assert "(100 more characters)" in said
    assert "(empty)" in said


# --- the whole page


@pytest.mark.parametrize("count", [0, 1, 2, 19, 120])
@pytest.mark.parametrize("champion", [False, True])
def test_page_is_whole_for_any_number_of_tickets(count: int, champion: bool) -> None:
    judged = samples(count, 0.8, champion=champion, panel=True)
    page = verdict_report(verdict(judged), Gate(), judged, [])
    Balance(page)
    assert "nan" not in text(page)
    assert "None" not in text(page)


def test_page_is_whole_where_nothing_could_be_scored() -> None:
    judged = [sample(i, Outcome.UNSCORED) for i in range(30)]
    page = report(judged)
    Balance(page)
    assert "not scored against the base: 4 of 30" in page


def test_page_of_5000_tickets_is_small() -> None:
    judged = samples(5000, 0.8, champion=True, panel=True)
    longest = {"challenger": "<&" * 2500, "base": "word " * 1000, "champion": "x" * 5000}
    judged = [msgspec.structs.replace(s, answers=longest) for s in judged]
    found = verdict(judged[:200], planned=5000)
    evaluation = msgspec.structs.replace(found.evaluation, samples=5000)
    page = verdict_report(Verdict(evaluation, found.decision), Gate(), judged, [])
    assert len(page.encode()) < 2_000_000
