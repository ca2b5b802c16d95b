from __future__ import annotations

import re
from html import unescape
from typing import Any

import msgspec
import pytest

from dropforge.artifacts import Agreement, Interval, Usage, Verdict
from dropforge.reports.comparison import (
    LATENCY,
    Candidate,
    Move,
    agreement_of,
    expense,
    facts_right,
    front,
    groups,
    ordered,
    quality,
    win_rate,
)
from dropforge.reports.comparison_page import comparison_report, judged_in, text_rows
from dropforge.reports.comparison_table import letters
from tests.support.evaluations import JUDGES, samples, verdict

DAY = 86_400.0
NBSP = "\N{NO-BREAK SPACE}"


def candidate(
    number: int,
    rate: float = 0.8,
    *,
    usd: float | None = None,
    seconds: float = 1.0,
    judged: bool = True,
    standing: str = "",
    base: str = "gpt-4.1-mini",
    **about: Any,
) -> Candidate:
    """A version made on day `number`, judged on 40 tickets of which it won about `rate`."""
    version = f"{number:012x}"
    found = None
    if judged:
        found = verdict(samples(40, rate, seed=number), **about)
        usage = {"challenger": Usage(40, 8000, 1600, seconds, 2 * seconds, usd and usd * 40 / 1000)}
        interval = Interval(rate, max(0, rate - 0.1), min(1, rate + 0.1))
        comparison = msgspec.structs.replace(
            found.evaluation.comparisons["base"], win_rate=interval
        )
        found = Verdict(
            msgspec.structs.replace(
                found.evaluation, usage=usage, comparisons={"base": comparison}, version=version
            ),
            found.decision,
        )
    return Candidate(
        version,
        "openai",
        base,
        number * DAY,
        380,
        3.2,
        standing,
        found,
        number * DAY + 3600 if judged else None,
    )


def text(markup: str) -> str:
    plain = " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup)).split())
    return plain.replace(NBSP, " ")


def rows(page: str) -> list[str]:
    """The versions of the table, in the order of the document."""
    return re.findall(r'<tr role="row"[^>]*style="[^"]*"><td role="cell">([0-9a-f]{12})', page)


def in_order(page: str, name: str) -> list[str]:
    """The versions as the button `name` sorts them."""
    found = re.findall(rf'style="[^"]*--{name}:(\d+);[^"]*"><td role="cell">([0-9a-f]{{12}})', page)
    return [version for _, version in sorted((int(place), version) for place, version in found)]


# --- what can be compared


def test_champion_stands_first_then_the_newest() -> None:
    found = ordered([candidate(1), candidate(2, standing="champion"), candidate(4), candidate(3)])
    assert [int(c.version, 16) for c in found] == [2, 4, 3, 1]


def test_other_judges_or_another_dataset_are_another_group() -> None:
    one, other = candidate(1), candidate(2, dataset="f" * 64)
    panel, same = candidate(3, judges=JUDGES), candidate(4)
    listed = [one, other, panel, same, candidate(5, judged=False)]
    assert [len(alike) for alike in groups(listed).values()] == [2, 1, 1]
    assert letters(listed) == {
        same.version: "A",
        one.version: "A",
        panel.version: "B",
        other.version: "C",
    }


def test_the_champions_group_is_a_even_where_another_is_newer() -> None:
    listed = [candidate(1, standing="champion"), candidate(9, dataset="f" * 64)]
    assert letters(listed)[listed[0].version] == "A"


def test_quality_is_the_win_rate_among_models_of_one_base() -> None:
    assert quality([candidate(1), candidate(2)]).of is win_rate


def test_quality_is_facts_right_where_the_bases_differ() -> None:
    assert quality([candidate(1), candidate(2, base="llama-3-8b-instruct")]).of is facts_right


def test_cost_is_in_tokens_where_nobody_knows_a_price() -> None:
    assert expense([candidate(1), candidate(2)]).name == "tokens written for an answer"
    assert expense([candidate(1), candidate(2, usd=0.5)]).name == "US$ for 1,000 answers"


def test_front_holds_those_that_nobody_beats_for_less() -> None:
    cheap, dear = candidate(1, 0.6, usd=0.1), candidate(3, 0.9, usd=0.9)
    beaten, unpriced = candidate(2, 0.55, usd=0.5), candidate(4, 0.99)
    listed = [dear, beaten, cheap, unpriced]
    best = front(listed, quality(listed), expense(listed))
    assert [c.version for _, _, c in best] == [cheap.version, dear.version]


def test_of_equal_cost_only_the_better_is_on_the_front() -> None:
    listed = [candidate(1, 0.6, seconds=1), candidate(2, 0.9, seconds=1)]
    assert [c.version for *_, c in front(listed, quality(listed), LATENCY)] == [listed[1].version]


def test_agreement_of_a_panel_is_that_of_its_worst_judge() -> None:
    known = {
        JUDGES[0]: Agreement(50, Interval(0.9, 0.8, 0.95), 0.8),
        JUDGES[1]: Agreement(40, Interval(0.6, 0.4, 0.8), 0.3),
    }
    found = agreement_of(candidate(1, judges=JUDGES, agreement=known))
    assert found
    assert found.agreement.point == 0.6
    assert agreement_of(candidate(2)) is None
    assert agreement_of(candidate(3, judged=False)) is None


# --- the page


def test_page_says_who_answers_and_how_good_it_is() -> None:
    page = comparison_report("shop", [candidate(1), candidate(2, 0.9, standing="champion")])
    lead = text(page[page.index('class="lead"') :])
    assert "000000000002 answers customers, which wins 90 % [80 %, 100 %] against its base" in lead
    assert "2 versions, 2 judged" in lead


def test_table_has_every_number_of_a_version() -> None:
    page = comparison_report("shop", [candidate(1, 0.8, usd=0.5, standing="previous")])
    found = text(page)
    for said in (
        "000000000001 previous",
        "gpt-4.1-mini openai",
        "1970-01-02 380 rows",
        "80 % 70 % to 90 %",
        "1.00 / 2.00 s",
        "$0.50",
        "$3.20",
        "no labels",
    ):
        assert said in found


def test_each_button_has_its_own_order() -> None:
    page = comparison_report(
        "shop",
        [
            candidate(1, 0.9, usd=0.9, seconds=2),
            candidate(2, 0.6, usd=0.1, seconds=3, standing="champion"),
            candidate(3, 0.7, usd=0.5, seconds=1),
            candidate(4, judged=False),
        ],
    )

    def numbers(name: str) -> list[int]:
        return [int(version, 16) for version in in_order(page, name)]

    assert [int(version, 16) for version in rows(page)] == numbers("newest") == [2, 4, 3, 1]
    assert numbers("best") == [1, 3, 2, 4]
    assert numbers("cheapest") == [2, 3, 1, 4]
    assert numbers("fastest") == [3, 1, 2, 4]
    for name in ("newest", "best", "facts", "cheapest", "fastest"):
        assert f"#by-{name}:checked~.scroll .versions tr{{order:var(--{name})}}" in page
        assert f'id="by-{name}"' in page


def test_versions_judged_otherwise_are_marked() -> None:
    page = comparison_report("shop", [candidate(1), candidate(2, dataset="f" * 64)])
    assert "Compare only versions of the same letter" in page
    assert "Groups cannot be compared with each other" in page
    assert "B: 1 version, judged by" in text(page)
    alone = comparison_report("shop", [candidate(1), candidate(2)])
    assert "Compare only versions" not in alone
    assert "cannot be compared" not in alone


def test_promotions_are_marked_over_time() -> None:
    listed = [candidate(1), candidate(5, 0.9, standing="champion")]
    page = comparison_report("shop", listed, [Move(listed[1].version, 5 * DAY + 9000)])
    part = page[page.index("<h2>Over time") :]
    assert part.count('class="mark dash1"') == 1
    assert part.count(">0000000<") >= 2


def test_plots_leave_out_versions_without_numbers_and_say_so() -> None:
    page = comparison_report("shop", [candidate(1, usd=0.2), candidate(2, judged=False)])
    assert "1 without these numbers are not drawn." in page


def test_page_of_a_project_without_models() -> None:
    assert "shop has no model yet." in comparison_report("shop", [])


def test_page_of_versions_that_were_never_judged() -> None:
    page = comparison_report("shop", [candidate(1, judged=False), candidate(2, judged=False)])
    assert "2 versions, 0 judged; none of them answers customers yet." in text(page)
    assert "no version was judged yet" in page
    assert "<svg" not in page


def test_champion_that_was_never_judged_is_named() -> None:
    page = comparison_report("shop", [candidate(1, judged=False, standing="champion")])
    assert "which was never judged" in page


@pytest.mark.parametrize("count", [1, 26, 200])
def test_page_holds_any_number_of_versions(count: int) -> None:
    one = candidate(1, usd=0.2)
    listed = [
        msgspec.structs.replace(one, version=f"{n:012x}", made_at=n * DAY) for n in range(count)
    ]
    page = comparison_report("shop", listed)
    assert len(rows(page)) == count
    assert len(page.encode()) < 1_000_000


def test_more_groups_than_letters_are_no_error() -> None:
    listed = [candidate(n, dataset=f"{n:064x}") for n in range(30)]
    assert set(letters(listed).values()) == {chr(65 + n) for n in range(26)}
    assert "and 25 other groups" in comparison_report("shop", listed)


def test_hostile_names_are_escaped() -> None:
    nasty = msgspec.structs.replace(
        candidate(1), base_model="<img src=x>", standing="<s>", version="<i>x"
    )
    page = comparison_report("<u>", [nasty])
    assert not re.search(r"<(img|s|i|u)>|<img", page)


# --- the terminal


def test_terminal_has_a_row_for_each_version() -> None:
    header, first, second = text_rows([candidate(1, judged=False), candidate(2, 0.9, usd=0.5)])
    assert header[:2] == ("version", "win rate")
    assert first[:2] == ("000000000002", f"90{NBSP}% [80{NBSP}%, 100{NBSP}%]")
    assert "0.5" in first
    assert second[0] == "000000000001"
    assert "not judged" in second


def test_terminal_tells_what_the_letters_mean_where_there_are_several() -> None:
    assert judged_in([candidate(1), candidate(2)]) == []
    said = judged_in([candidate(1), candidate(2, dataset="f" * 64)])
    assert said == [
        f"A: judged by {JUDGES[0]} on dataset {'f' * 12}",
        f"B: judged by {JUDGES[0]} on dataset {'d' * 12}",
    ]
