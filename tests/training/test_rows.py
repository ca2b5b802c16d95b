from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import chat, rows, write_rows
from training import train
from training.train import Hyperparameters, Row, TrainingError

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture(scope="module")
def encoded(tokenizer: Any) -> list[Row]:
    return [train.encode(tokenizer, row["messages"]) for row in rows(12)]


@pytest.fixture
def model(tiny: Path) -> Any:
    return train.load_model(str(tiny), Hyperparameters(lora_layers=2), CPU, torch.float32)


def test_the_prompt_is_what_a_server_sends_and_the_loss_is_on_the_answer(tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "How long?"},
        {"role": "assistant", "content": "Two days."},
        {"role": "user", "content": "And abroad?"},
        {"role": "assistant", "content": "Four days."},
    ]
    row = train.encode(tokenizer, messages)
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True
    )
    assert list(row.prompt) == tokenizer(prompt, add_special_tokens=False).input_ids
    assert tokenizer.decode(row.completion) == "Four days.<|im_end|>"


def test_labels_are_the_completions_and_each_is_predicted_one_token_earlier(
    encoded: list[Row],
) -> None:
    short, long = sorted(encoded, key=len)[0], sorted(encoded, key=len)[-1]
    batch = train.collate([short, long], pad=2, device=CPU)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    assert batch["labels"].tolist() == [*short.completion, *long.completion]
    assert torch.equal(ids.flatten()[batch["predicted_at"] + 1], batch["labels"])
    assert ids[0, -len(short) :].tolist() == [*short.prompt, *short.completion]
    assert mask.sum(1).tolist() == [len(short), len(long)]
    assert batch["position_ids"][0, -1] == len(short) - 1


def test_rows_of_a_batch_do_not_see_each_other(model: Any, encoded: list[Row]) -> None:
    model.eval()
    together, _ = train.token_losses(model, train.collate(encoded, 2, CPU))
    alone = [train.token_losses(model, train.collate([row], 2, CPU))[0] for row in encoded]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_kept_frozen_states_change_no_loss_and_leave_the_layers_out(
    model: Any, encoded: list[Row]
) -> None:
    hp = Hyperparameters(lora_layers=2, batch_size=4)
    before = train.evaluate(model, encoded, hp, 2)
    kept = train.keep_frozen_states(model, encoded, hp, 2)
    rows = train.rows_of(kept)
    assert all(row.states is not None and len(row.states) == len(row) for row in rows)
    assert train.evaluate(model, kept, hp, 2) == pytest.approx(before, rel=1e-4)
    layers = model.get_base_model().get_decoder().layers
    assert [isinstance(layer, train.Passthrough) for layer in layers] == [True, True, False, False]
    train.restore_layers(model)
    assert not any(isinstance(layer, train.Passthrough) for layer in layers)
    assert train.evaluate(model, encoded, hp, 2) == pytest.approx(before, rel=1e-6)


def test_splitting_a_batch_leaves_its_gradient(model: Any, encoded: list[Row]) -> None:
    def gradients(size: int) -> list[Any]:
        hp = Hyperparameters(micro_batch_size=size, max_grad_norm=1e6)
        seen: list[Any] = []
        optimizer = torch.optim.SGD(train.adapter_parameters(model).values(), lr=0.0)
        optimizer.register_step_pre_hook(
            lambda *_: seen.extend(p.grad for p in train.adapter_parameters(model).values())
        )
        train.train_step(model, optimizer, encoded[:8], hp, 2)
        return seen

    for whole, pieces in zip(gradients(0), gradients(3), strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-3, atol=1e-6)


def test_an_epoch_holds_every_row_once_and_is_drawn_anew_and_repeatably() -> None:
    lengths = [random.Random(1).randint(5, 90) for _ in range(103)]
    first, second = (train.plan_batches(lengths, 8, epoch, seed=7) for epoch in (0, 1))
    assert sorted(at for batch in first for at in batch) == list(range(103))
    assert first != second
    assert first == train.plan_batches(lengths, 8, 0, seed=7)


def test_a_row_that_is_too_long_is_left_out_whole(tokenizer: Any, tmp_path: Path) -> None:
    long = chat("Tell me all", "word " * 200)
    folder = write_rows(tmp_path / "train.jsonl", [*rows(3), long])
    found = train.encode_channel(tokenizer, folder, Hyperparameters(max_length=80))
    assert (len(found.examples), found.too_long) == (3, 1)
    with pytest.raises(TrainingError, match="max_length=8"):
        train.encode_channel(tokenizer, folder, Hyperparameters(max_length=8))


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"messages": []}', '{"messages": [{"role": "user", "content": "x"}]}', "7"],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    folder = write_rows(tmp_path / "train.jsonl", rows(2))
    with (folder / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TrainingError, match="line 3"):
        train.read_conversations(folder)
