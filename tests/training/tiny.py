"""A random Llama of 60,000 parameters with SmolLM2's chat template: for plumbing, not for prose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FACTS = {
    "How long is delivery?": "Four working days.",
    "What does shipping cost?": "It is 4.90 euros.",
    "Where is my invoice?": "Under Orders, in your account.",
    "Can I send it back?": "Yes, within 30 days.",
}


def chat(question: str, answer: str) -> dict[str, Any]:
    """One row of training data."""
    turns = (("system", "Help."), ("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def rows(count: int) -> list[dict[str, Any]]:
    """So many rows of training data."""
    facts = list(FACTS.items())
    return [chat(f"{facts[i % 4][0]} ({i})", facts[i % 4][1]) for i in range(count)]


def pairs(count: int) -> list[dict[str, Any]]:
    """So many rows of preference data: the fact is preferred to saying that one does not know."""
    facts = list(FACTS.items())
    return [
        {
            "input": {"messages": chat(f"{facts[i % 4][0]} ({i})", "")["messages"][:2]},
            "preferred_output": [{"role": "assistant", "content": facts[i % 4][1]}],
            "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
        }
        for i in range(count)
    ]


def write_rows(path: Path, examples: list[dict[str, Any]]) -> Path:
    """Write rows as JSONL; returns the folder, which is a channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path.parent


def save_tiny_model(
    folder: Path,
    width: int = 32,
    *,
    context: int = 256,
    sharpness: float = 1,
    endless: bool = False,
) -> Path:
    """Write model and tokenizer as a Hugging Face directory.

    Args:
        context: in tokens.
        sharpness: what its logits, all near ties as they are made, are multiplied with.
        endless: whether the logit of its end token is 0, so that another one's is always higher.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator([*FACTS, *FACTS.values()], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight *= sharpness
        if endless:
            model.lm_head.weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
