from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dropforge.chat import (
    ChatExample,
    Message,
    chat_messages,
    decode_examples,
    encode_lines,
    training_line,
)

LONG = ChatExample(
    id="a1",
    group="g",
    position=3,
    messages=(
        Message("user", "Hello"),
        Message("assistant", "Hi, how can I help?"),
        Message("user", "Where is my parcel?"),
        Message("assistant", "On its way."),
    ),
)
words = st.text(st.characters(exclude_categories=["Cs"]))
examples = st.builds(
    ChatExample,
    id=words,
    group=words,
    position=st.integers(1, 2**40),
    messages=st.lists(
        st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=words), min_size=1
    ).map(tuple),
)


def test_example_divides_into_prompt_question_and_reference() -> None:
    assert LONG.reference == "On its way."
    assert LONG.question == "Where is my parcel?"
    assert LONG.prompt == LONG.messages[:3]


def test_question_is_empty_without_a_customer_turn() -> None:
    alone = msgspec.structs.replace(LONG, messages=(Message("assistant", "Hi"),))
    assert alone.question == ""


@given(st.lists(examples, max_size=5))
def test_examples_come_back_as_they_were_encoded(rows: list[ChatExample]) -> None:
    assert list(decode_examples(encode_lines(rows))) == rows


def test_separators_inside_a_text_make_no_new_line() -> None:
    row = msgspec.structs.replace(LONG, messages=(Message("user", "a\u2028b\x85c\nd"),))
    data = encode_lines([row])
    assert data.count(b"\n") == 1
    assert list(decode_examples(data)) == [row]


def test_no_rows_encode_to_nothing() -> None:
    assert encode_lines([]) == b""


def test_training_line_opens_with_the_system_prompt() -> None:
    line = training_line(LONG, "Be brief.")
    assert line["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [m["role"] for m in line["messages"][1:]] == ["user", "assistant"] * 2


def test_empty_system_prompt_is_left_out() -> None:
    assert chat_messages(LONG.prompt, "")[0] == {"role": "user", "content": "Hello"}
