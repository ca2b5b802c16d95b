"""Golden questions: what a line may hold, and when an answer is right."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import GoldenScore
from dropforge.chat import Message
from dropforge.errors import ProjectError
from dropforge.golden import (
    MOST_BYTES,
    MOST_QUESTIONS,
    NAMED_LINES,
    GoldenQuestion,
    GoldenResult,
    decode_golden,
    decode_results,
    encode_golden,
    encode_results,
    golden_hash,
    graded,
    is_right,
    parse_golden,
    score,
)

LINE = {"question": "How long may I send it back?", "reference": "You have 30 days."}


def file(*lines: Any) -> bytes:
    return b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines)


def one(**values: Any) -> GoldenQuestion:
    (question,) = parse_golden(file({**LINE, **values}))
    return question


def refused(*lines: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        parse_golden(file(*lines))
    return caught.value.message


# --- a file


def test_line_is_a_question_with_a_name_of_its_own() -> None:
    question = one()
    assert question.messages == (Message("user", LINE["question"]),)
    assert question.question == LINE["question"]
    assert len(question.id) == 12
    assert question == one()


def test_line_may_hold_a_chat_an_id_rules_and_a_topic() -> None:
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "How long?"},
    ]
    line = {
        "id": 7,
        "messages": chat,
        "reference": "A month",
        "must": ["month"],
        "must_not": ["/[0-9]/"],
        "topic": "returns",
    }
    (question,) = parse_golden(file(line))
    assert (question.id, question.topic) == ("7", "returns")
    assert [m.role for m in question.messages] == ["user", "assistant", "user"]
    example = question.example
    assert (example.reference, example.question) == ("A month", "How long?")
    assert example.prompt == question.messages


def test_byte_order_mark_blank_lines_and_line_ends_do_not_matter() -> None:
    other = {**LINE, "question": "And shoes?"}
    plain = parse_golden(file(LINE, other))
    told = b"\xef\xbb\xbf" + file(LINE, b"", b"  \r", other) + b"\r\n\n"
    assert parse_golden(told) == plain


def test_line_separator_inside_a_text_ends_no_line() -> None:
    text = "Line\u2028one\x85two"
    (question,) = parse_golden(json.dumps({**LINE, "question": text}, ensure_ascii=False).encode())
    assert question.question == text


def test_file_without_a_line_has_no_questions() -> None:
    assert parse_golden(b"") == parse_golden(b"\xef\xbb\xbf\n \n") == ()


def test_every_wrong_line_is_named_and_none_is_quoted() -> None:
    said = refused({**LINE, "reference": "secret 1 ", "must": ["hidden"]}, LINE, b"{", b"[]", LINE)
    assert "line 1: `reference` itself would be wrong" in said
    assert "line 3: not valid JSON" in said
    assert "line 4: Expected `object`" in said
    assert "line 5: the same id or question as line 2" in said
    assert "line 2:" not in said
    for text in ("secret", "hidden", LINE["question"], "30 days"):
        assert text not in said


def test_names_of_unknown_fields_and_roles_are_not_quoted() -> None:
    said = refused(
        {**LINE, "How do I return it?": "hidden"},
        {"messages": [{"role": "Anna", "content": "x"}], "reference": "30 days"},
        {"messages": [{"role": "user", "content": "x", "Anna": 1}], "reference": "30 days"},
    )
    for text in ("return it", "hidden", "Anna"):
        assert text not in said
    assert "of one of `messages` `role`, `content`" in said


def test_beyond_fifty_wrong_lines_are_numbered_only() -> None:
    said = refused(*[b"{"] * (NAMED_LINES + 3))
    assert said.count("not valid JSON") == NAMED_LINES
    assert said.endswith("and 3 more: lines 51, 52, 53.")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"question": None}, "needs `question` or `messages`"),
        ({"messages": [{"role": "user", "content": "x"}]}, "one of the two"),
        ({"question": " "}, "is empty"),
        ({"question": "x" * 20_001}, "longer than 20,000"),
        ({"question": 3}, "Expected `str | null`, got `int`"),
        ({"reference": " "}, "`reference` is empty"),
        ({"reference": "Gladly."}, "say in `must`"),
        ({"reference": "Write to [EMAIL_1]"}, "say in `must`"),
        ({"id": ""}, "`id`"),
        ({"id": "a\nb"}, "`id`"),
        ({"must": "30"}, "Expected `array`"),
        ({"must": [" "]}, "`must` 1 is empty"),
        ({"must": ["days", "<b></b>"]}, "`must` 2 is empty"),
        ({"must": ["x" * 501]}, "`must` 1 is longer than 500"),
        ({"must": ["/(/"]}, "`must` 1 is no regular expression"),
        ({"must": ["/(?=a)b/"]}, "no look-around"),
        ({"must": ["/(d)\\1/"]}, "no back-references"),
        ({"must_not": ["/(x{1000}){1000}/"]}, "`must_not` 1 is no regular expression"),
        ({"must": ["/.*/"]}, "would occur in every answer"),
        ({"must_not": ["DAYS"]}, "`reference` itself would be wrong"),
        (
            {"must_nots": ["x"]},
            "unknown field; known are `reference`, `question`, ",
        ),
        (
            {"question": None, "messages": [{"role": "Anna asks", "content": "x"}]},
            "the `role` of a message has to be `user` or `assistant`",
        ),
    ],
)
def test_wrong_line_is_told_what_is_wrong(change: dict[str, Any], why: str) -> None:
    assert why in refused({**LINE, **change})


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "x"}],
        [{"role": "user", "content": ""}],
        [{"role": "system", "content": "x"}, {"role": "user", "content": "x"}],
    ],
)
def test_chat_that_no_answer_follows_is_refused(messages: list[dict[str, str]]) -> None:
    assert "line 1: " in refused({"messages": messages, "reference": "30 days"})


def test_same_id_twice_is_refused() -> None:
    assert "line 2" in refused({**LINE, "id": "a"}, {**LINE, "question": "Other?", "id": "a"})


@pytest.mark.parametrize("line", [b"\xff\xfe{", b'{"question":"\xff"}', b'{"question":"\\ud800"}'])
def test_text_that_is_no_utf8_is_refused(line: bytes) -> None:
    assert "UTF-" in refused(line)


def test_too_large_a_file_and_too_many_questions_are_refused() -> None:
    with pytest.raises(ProjectError, match="1,048,577 bytes"):
        parse_golden(b" " * (MOST_BYTES + 1))
    many = [{**LINE, "question": f"q{n}"} for n in range(MOST_QUESTIONS + 1)]
    assert len(parse_golden(file(*many[:-1]))) == MOST_QUESTIONS
    assert "501 questions" in refused(*many)


def test_nesting_without_end_is_refused() -> None:
    assert "line 1" in refused(b'{"question":' + b"[" * 100_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_questions_or_refused(data: bytes) -> None:
    try:
        questions = parse_golden(data)
    except ProjectError:
        return
    assert parse_golden(encode_golden(questions)) == questions


def test_questions_come_back_as_they_were_written() -> None:
    questions = parse_golden(file(LINE, {**LINE, "id": 3, "must": ["/3./"], "topic": "x"}))
    assert parse_golden(encode_golden(questions)) == questions


def test_kept_questions_are_read_however_large_they_became() -> None:
    """Escaped as JSON, a file of the largest size grows."""
    text = '"' * 19_000
    questions = tuple(
        GoldenQuestion(str(n), (Message("user", text),), "30 days", must=("30",)) for n in range(40)
    )
    kept = encode_golden(questions)
    assert len(kept) > MOST_BYTES
    assert decode_golden(kept) == questions
    assert decode_golden(b"") == ()


def test_hash_stands_for_the_set_whatever_its_order() -> None:
    first, second = one(), one(question="Other?")
    assert golden_hash([first, second]) == golden_hash([second, first])
    changes: list[dict[str, Any]] = [{"must": ["30"]}, {"must_not": ["x"]}, {"topic": "x"}]
    hashes = {golden_hash([one(id="a", **change)]) for change in changes}
    assert len({*hashes, golden_hash([one(id="a")]), golden_hash([])}) == 5


# --- right or wrong


@pytest.mark.parametrize(
    ("must", "answer", "right"),
    [
        (["30 days"], "Within 30 days.", True),
        (["30 days"], "Within 30\n  DAYS.", True),
        (["30 days"], "Within 130 days.", False),
        (["30"], "3,30 or 30.5", False),
        (["30"], "It is 30.", True),
        (["30"], "30, or so", True),
        (["30 days", "free"], "30 days", False),
        (["return"], "Returns are free", True),
        (["STRASSE"], "In der Straße", True),
        (["cafe\u0301"], "Our CAFÉ", True),
        (["/30 days|a month/"], "You have A  month.", True),
        (["/^30/"], "about 30", False),
        (["/ref[0-9]{2}/"], "REF42", True),
        (["1/2"], "take 1/2", True),
    ],
)
def test_must_occurs_or_not(must: list[str], answer: str, right: bool) -> None:
    question = GoldenQuestion("a", (Message("user", "?"),), "x", must=tuple(must))
    assert is_right(question, answer) is right


def test_must_not_makes_an_answer_wrong() -> None:
    question = one(must_not=["call us", "/1[0-9] days/"])
    assert is_right(question, "30 days")
    assert not is_right(question, "30 days, but Call  us")
    assert not is_right(question, "30 days, not 14 days")


def test_without_must_every_fact_of_the_reference_is_wanted() -> None:
    question = one(reference="30 days, then $5 a day")
    assert is_right(question, "Keep it 30 days; later it is $5")
    assert not is_right(question, "Keep it 30 days")
    assert not is_right(question, "")


def test_pattern_that_is_catastrophic_elsewhere_takes_no_time() -> None:
    question = one(must=["/30|(x+)+y/"])
    start = time.process_time()
    assert not is_right(question, "x" * 50_000)
    assert time.process_time() - start < 1


@given(st.text(max_size=200))
def test_any_answer_is_right_or_wrong(answer: str) -> None:
    question = one(must=["30", "/day|week/"], must_not=["later"])
    assert is_right(question, answer) in (True, False)


# --- results


def test_results_are_graded_and_come_back_as_they_were_written() -> None:
    result = graded(one(id="a"), {"challenger": "30 days", "base": "no"})
    assert result.right == {"challenger": True, "base": False}
    assert (result.id, result.reference) == ("a", LINE["reference"])
    assert decode_results(encode_results([result, result])) == (result, result)
    assert decode_results(b"") == ()


def test_score_counts_each_arm_and_names_what_the_challenger_alone_got_wrong() -> None:
    def result(name: str, **right: bool) -> GoldenResult:
        return GoldenResult(name, "q", "r", dict.fromkeys(right, "text"), dict(right))

    questions = [one(id=name, question=name) for name in "abcd"]
    results = [
        result("a", challenger=True, champion=True),
        result("b", challenger=False, champion=True),
        result("c", challenger=False, champion=False),
        result("d", champion=True),
    ]
    found = score(questions, results, "champion")
    right = {"challenger": 1, "champion": 3}
    assert found == GoldenScore(golden_hash(questions), 4, right, "champion", ("b",))
    assert score(questions, [], "base").right == {}
