"""The chat templates of the models with recipes, and of their near relatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.training import templates
from training import train

DIALOGUE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "How long?"},
    {"role": "assistant", "content": "Two days."},
    {"role": "user", "content": "And abroad?"},
    {"role": "assistant", "content": "Four days."},
]
LLAMA = ("<|begin_of_text|>", "<|eot_id|>", "<|end_of_text|>")
MISTRAL = ("<s>", "</s>")
QWEN = ("<|endoftext|>", "<|im_end|>", "<|im_start|>")


def tokenizer(template: str, special: tuple[str, ...]) -> Any:
    """A tokenizer of bytes and these special tokens: the first begins a text, the second ends a
    turn (Llama 3's own end token is its third)."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: at for at, token in enumerate([*special, *sorted(alphabet)])}
    raw = Tokenizer(models.BPE(vocabulary, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(list(special))
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=special[0],
        eos_token=special[-1] if special == LLAMA else special[1],
        additional_special_tokens=list(special),
    )
    made.chat_template = template
    return made


CASES = {
    "llama 3": (templates.LLAMA_3, LLAMA, "Four days.<|eot_id|>"),
    "llama 3.1": (templates.LLAMA_3_1, LLAMA, "Four days.<|eot_id|>"),
    "llama 3.2": (templates.LLAMA_3_2, LLAMA, "Four days.<|eot_id|>"),
    "mistral, old": (templates.MISTRAL_OLD, MISTRAL, "Four days.</s>"),
    "mistral, v0.3": (templates.MISTRAL_V3, MISTRAL, " Four days.</s>"),
    "qwen 2.5": (templates.QWEN_2_5, QWEN, "Four days.<|im_end|>"),
    "qwen 3": (templates.QWEN_3, QWEN, "Four days.<|im_end|>"),
}


@pytest.mark.parametrize(("template", "special", "completion"), CASES.values(), ids=CASES)
def test_the_completion_is_the_answer_and_its_end_token(
    template: str, special: tuple[str, ...], completion: str, tmp_path: Path
) -> None:
    made = tokenizer(template, special)
    train.pin_template(made)
    row = train.encode(made, DIALOGUE)
    assert made.decode(row.completion) == completion
    assert list(row.prompt) == train.render_prompt(made, DIALOGUE[:-1])
    assert "Be brief." in made.decode(row.prompt)
    assert row.completion[-1] in train.end_tokens(made)

    made.save_pretrained(tmp_path)  # what a server reads renders the same
    served = AutoTokenizer.from_pretrained(tmp_path)
    assert train.render_prompt(served, DIALOGUE[:-1]) == list(row.prompt)


def test_a_template_that_forgets_the_system_message_once_answered_keeps_it() -> None:
    made = tokenizer(templates.MISTRAL_V3, MISTRAL)
    before = made.apply_chat_template([DIALOGUE[0], DIALOGUE[3]], tokenize=False)
    train.pin_template(made)
    row = train.encode(made, [DIALOGUE[0], *DIALOGUE[3:]])
    assert made.decode(row.prompt) == before == "<s>[INST] Be brief.\n\nAnd abroad?[/INST]"
    assert made.decode(row.completion) == " Four days.</s>"


def test_a_template_that_refuses_a_system_message_has_it_before_the_first_question() -> None:
    made = tokenizer(templates.MISTRAL_OLD, MISTRAL)
    with pytest.raises(train.TrainingError, match="roles must alternate"):
        train.encode(made, DIALOGUE)
    train.pin_template(made)
    text = made.apply_chat_template(DIALOGUE[:2], tokenize=False)
    assert text == "<s>[INST] Be brief.\n\nHow long? [/INST]"
    plain = made.apply_chat_template(DIALOGUE[1:2], tokenize=False)
    assert plain == "<s>[INST] How long? [/INST]"


def test_a_template_that_asks_for_todays_date_gets_a_fixed_one() -> None:
    made = tokenizer(templates.LLAMA_3_2, LLAMA)
    today = made.apply_chat_template(DIALOGUE[:2], tokenize=False)
    assert "26 Jul 2024" not in today
    train.pin_template(made)
    assert "Today Date: 26 Jul 2024" in made.apply_chat_template(DIALOGUE[:2], tokenize=False)


def test_a_thinking_model_is_prompted_not_to_think_and_learns_the_answer_alone() -> None:
    made = tokenizer(templates.QWEN_3, QWEN)
    train.pin_template(made)
    row = train.encode(made, DIALOGUE)
    assert made.decode(row.prompt).endswith("assistant\n<think>\n\n</think>\n\n")


def test_other_templates_stay_as_they_are() -> None:
    for template, special in ((templates.LLAMA_3, LLAMA), (templates.QWEN_2_5, QWEN)):
        made = tokenizer(template, special)
        train.pin_template(made)
        assert made.chat_template == template
