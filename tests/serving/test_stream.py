from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.stream import TextStream


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def pieces(tokenizer: Any, text: str, *stops: str) -> list[str]:
    """What a client is sent, a piece for each token and the rest."""
    stream, sent = TextStream(tokenizer, list(stops)), []
    for token in tokenizer(text, add_special_tokens=False).input_ids:
        sent.append(stream.add(token))
        if stream.stopped:
            return sent
    return [*sent, stream.finish()]


@pytest.mark.parametrize("text", ["How long is delivery?", "naïve café ☕ 🌱", "", "a\n\nb "])
def test_the_pieces_make_up_the_text_and_break_no_character(tokenizer: Any, text: str) -> None:
    sent = pieces(tokenizer, text)
    assert "".join(sent) == text
    assert not any("\ufffd" in piece for piece in sent)


def test_a_stop_that_spans_tokens_is_never_sent_in_part(tokenizer: Any) -> None:
    text = "Four working days. STOP and more"
    assert "".join(pieces(tokenizer, text, "STOP", "never")) == "Four working days. "
    assert "".join(pieces(tokenizer, text, "working days. STOX")) == text


def test_the_earliest_of_several_stops_ends_the_text(tokenizer: Any) -> None:
    assert "".join(pieces(tokenizer, "one two three", "three", "two")) == "one "


def test_what_is_held_back_comes_when_no_more_does(tokenizer: Any) -> None:
    assert "".join(pieces(tokenizer, "ends in ST", "STOP")) == "ends in ST"
