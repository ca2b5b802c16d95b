from __future__ import annotations

import json

import pytest

from dropforge.errors import BackendError, ParityError
from dropforge.parity import NEAR_TIE, Parity, Prompt, Served, compare, read_recording

CHAT = [{"role": "user", "content": "Where is my parcel, Ann?"}]
SURE = [9.0, 4.0, 2.0, 8.0]
TRAINED = Prompt(CHAT, [1, 20, 21, 5], [30, 31, 32, 2], SURE, "Under Orders")
SAME = Served("Under Orders", 4, [1, 20, 21, 5], [30, 31, 32, 2])


def served(*tokens: int) -> Served:
    return Served("…", 4, TRAINED.prompt_token_ids, list(tokens))


def close(at: int) -> Prompt:
    """The recording with a near tie at a position."""
    margins = [*SURE[:at], NEAR_TIE / 2, *SURE[at + 1 :]]
    return Prompt(CHAT, TRAINED.prompt_token_ids, TRAINED.output_token_ids, margins, "Under Orders")


def test_equal_models_are_at_parity() -> None:
    assert compare([TRAINED, TRAINED], [SAME, SAME]) == Parity("token ids", prompts=2, tokens=8)


def test_another_token_where_the_model_was_sure_is_an_error_with_its_position() -> None:
    with pytest.raises(ParityError) as error:
        compare([TRAINED, TRAINED], [SAME, served(30, 31, 99, 2)])
    assert "Prompt 2: output position 2 is token 32 in training and token 99 served" in str(
        error.value
    )
    assert "parcel" not in str(error.value)
    assert "Orders" not in str(error.value)


@pytest.mark.parametrize("at", [0, 2, 3])
def test_outputs_may_part_at_a_near_tie_and_after_it(at: int) -> None:
    tokens = [*TRAINED.output_token_ids[:at], 90, 91, 92]
    found = compare([close(at)], [served(*tokens)])
    assert found == Parity("token ids", prompts=1, tokens=at, near_ties=1)


def test_outputs_that_part_before_a_near_tie_are_an_error() -> None:
    with pytest.raises(ParityError, match="output position 1 is token 31"):
        compare([close(2)], [served(30, 99, 32, 2)])


def test_margin_of_exactly_a_near_tie_counts_as_sure() -> None:
    sure = Prompt(CHAT, [1], [30], [NEAR_TIE])
    with pytest.raises(ParityError):
        compare([sure], [Served("", 1, [1], [31])])


def test_answer_that_ends_early_is_an_error_and_one_that_goes_on_is_not() -> None:
    with pytest.raises(ParityError, match="output position 2 is token 32 in training and no token"):
        compare([TRAINED], [served(30, 31)])
    assert compare([TRAINED], [served(30, 31, 32, 2, 40)]).tokens == 4


def test_template_that_renders_otherwise_is_named_by_its_first_token() -> None:
    other = Served("Under Orders", 5, [1, 20, 77, 21, 5], TRAINED.output_token_ids)
    with pytest.raises(ParityError) as error:
        compare([TRAINED], [other])
    assert "Prompt 1: prompt position 2 is token 21 in training and token 77" in str(error.value)
    assert "template" in (error.value.hint or "")


def test_template_that_adds_tokens_at_the_end_is_found() -> None:
    longer = Served("", 5, [*TRAINED.prompt_token_ids, 8], TRAINED.output_token_ids)
    with pytest.raises(ParityError, match="prompt position 4 is no token in training and token 8"):
        compare([TRAINED], [longer])


def test_text_is_compared_where_the_server_tells_no_ids() -> None:
    assert compare([TRAINED], [Served(" Under Orders\n", 4)]) == Parity("text", 1, 4)
    with pytest.raises(ParityError, match="Prompt 1 is answered otherwise"):
        compare([TRAINED], [Served("No idea", 4)])
    with pytest.raises(ParityError, match="Prompt 1 has 4 tokens in training and 6 served"):
        compare([TRAINED], [Served("Under Orders", 6)])


def test_text_with_a_near_tie_in_it_cannot_be_compared() -> None:
    assert compare([close(1)], [Served("Under it", 4)]) == Parity("text", 1, 0, near_ties=1)


def test_one_answer_without_ids_is_said() -> None:
    found = compare([TRAINED, TRAINED], [SAME, Served("Under Orders", 4)])
    assert found.compared == "text"


def test_recording_is_read_as_training_writes_it() -> None:
    written = {
        "base_model": "m",
        "prompts": [
            {
                "messages": CHAT,
                "prompt_token_ids": [1],
                "output_token_ids": [2],
                "margins": [1.5],
                "text": "x",
            }
        ],
    }
    recording = read_recording(json.dumps(written).encode())
    assert recording.prompts == [Prompt(CHAT, [1], [2], [1.5], "x")]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"base_model": "m", "prompts": [{}]}'])
def test_recording_in_another_form_is_an_error(data: bytes) -> None:
    with pytest.raises(BackendError, match="cannot be read"):
        read_recording(data)
