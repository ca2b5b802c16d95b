"""parity.json repeats what the written adapter says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import job
from training import train

pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "output/data/parity.json").read_text())
    return found


def served(tiny: Path, folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer as a server loads them: the base with the adapter from its folder."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(folder / "model")).eval()
    return model, AutoTokenizer.from_pretrained(folder / "model")


@pytest.mark.parametrize("adapter", ["lora", "dora"])
def test_a_server_of_the_written_adapter_gives_the_same_tokens_and_leads(
    tiny: Path, tmp_path: Path, adapter: str
) -> None:
    options: dict[str, Any] = {"adapter": adapter, "epochs": 4, "dtype": "fp32"}
    assert train.run(job(tmp_path, tiny, **options, parity_tokens=6, learning_rate=0.03))
    found = written(tmp_path)
    assert found["base_model"] == "smollm2-135m-instruct"
    assert len(found["prompts"]) == 4
    assert found["prompts"][0]["messages"] == train.PROBE
    model, tokenizer = served(tiny, tmp_path)
    for prompt in found["prompts"]:
        ids = train.render_prompt(tokenizer, prompt["messages"])
        assert ids == prompt["prompt_token_ids"]
        assert 0 < len(prompt["output_token_ids"]) == len(prompt["margins"]) <= 6
        assert prompt["text"] == tokenizer.decode(
            prompt["output_token_ids"], skip_special_tokens=True
        )
        for token, margin in zip(prompt["output_token_ids"], prompt["margins"], strict=True):
            with torch.no_grad():  # each token anew, without a cache
                best = model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2)
            assert float(best.values[0] - best.values[1]) == pytest.approx(margin, abs=1e-3)
            assert token == int(best.indices[0]) or margin < 1e-3
            ids = [*ids, token]


def test_an_answer_ends_with_its_end_token_and_others_go_on(tiny: Path) -> None:
    model = train.load_model(str(tiny), train.Hyperparameters(), torch.device("cpu"), torch.float32)
    prompts = [[5, 6, 7], [8, 9, 10, 11]]
    free = train.greedy(model, prompts, set(), 5, pad=2)
    assert [len(tokens) for tokens, _ in free] == [5, 5]
    end = free[0][0][0]
    ended = train.greedy(model, prompts, {end}, 5, pad=2)
    assert ended[0][0] == [end]
    first = free[1][0]
    cut = first.index(end) + 1 if end in first else 5
    assert ended[1][0] == first[:cut]


def test_the_prompts_are_the_shortest_of_validation_else_of_training(
    tiny: Path, tmp_path: Path
) -> None:
    environment = job(tmp_path, tiny, epochs=1, parity_prompts=2, parity_tokens=1)
    assert train.run(environment)
    asked = [prompt["messages"] for prompt in written(tmp_path)["prompts"][1:]]
    rows = [
        json.loads(line)["messages"]
        for line in (tmp_path / "validation/validation.jsonl").read_text().splitlines()
    ]
    assert len(asked) == 2
    assert all(messages in [row[:-1] for row in rows] for messages in asked)

    del environment["SM_CHANNEL_VALIDATION"]
    environment["SM_OUTPUT_DATA_DIR"] = str(tmp_path / "elsewhere")
    assert train.run(environment)
    assert len(json.loads((tmp_path / "elsewhere/parity.json").read_text())["prompts"]) == 3


def test_no_prompts_no_file(tiny: Path, tmp_path: Path) -> None:
    assert train.run(job(tmp_path, tiny, epochs=1, parity_prompts=0))
    assert not (tmp_path / "output/data").exists()
