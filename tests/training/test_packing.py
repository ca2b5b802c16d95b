"""Packed rows are as alone as unpacked ones, and train to the same weights."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import rows
from training import train
from training.train import Hyperparameters, Row

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def encoded(tiny: Path) -> list[Row]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    return [train.encode(tokenizer, row["messages"]) for row in rows(7)]


@pytest.fixture(params=["eager", "sdpa"])
def model(tiny: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tiny model with adapters that do something, under either kind of attention."""
    monkeypatch.setattr(train, "pick_attention", lambda *_: request.param)
    made = train.load_model(str(tiny), Hyperparameters(lora_layers=2), CPU, torch.float32)
    for name, parameter in train.adapter_parameters(made).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = {name: batch[name] for name in batch if name not in ("labels", "predicted_at")}
    with torch.no_grad():
        found: torch.Tensor = model(**inputs, use_cache=False).logits
    return found


def alone(model: Any, encoded: list[Row]) -> torch.Tensor:
    return torch.cat([logits(model, train.collate([row], 2, CPU))[0] for row in encoded])


def test_packed_rows_have_the_logits_they_have_alone(model: Any, encoded: list[Row]) -> None:
    packed = train.collate(encoded, 2, CPU, packed=True)
    assert packed["input_ids"].shape == (1, sum(map(len, encoded)))
    assert "attention_mask" not in packed
    torch.testing.assert_close(
        logits(model, packed)[0], alone(model, encoded), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("mistake", ["running positions", "attention mask", "no positions"])
def test_the_comparison_finds_rows_that_see_each_other(
    model: Any, encoded: list[Row], mistake: str
) -> None:
    packed = train.collate(encoded, 2, CPU, packed=True)
    if mistake == "running positions":
        packed["position_ids"] = torch.arange(packed["input_ids"].shape[1])[None]
    elif mistake == "attention mask":
        packed["attention_mask"] = torch.ones_like(packed["input_ids"])
    else:
        del packed["position_ids"]
    apart = (logits(model, packed)[0] - alone(model, encoded)).abs().max()
    assert apart > 0.01


def test_a_row_keeps_its_logits_whatever_is_packed_before_it(
    model: Any, encoded: list[Row]
) -> None:
    last = encoded[-1]
    for others in (encoded[:2], encoded[2:6]):
        found = logits(model, train.collate([*others, last], 2, CPU, packed=True))[0, -len(last) :]
        torch.testing.assert_close(found, alone(model, [last]), rtol=1e-4, atol=1e-5)


def test_the_loss_of_packed_rows_is_on_completions_alone_and_the_same(
    model: Any, encoded: list[Row]
) -> None:
    packed = train.collate(encoded, 2, CPU, packed=True)
    assert packed["labels"].tolist() == [token for row in encoded for token in row.completion]
    assert torch.equal(packed["input_ids"][0, packed["predicted_at"] + 1], packed["labels"])
    found, _ = train.token_losses(model, packed)
    wanted, _ = train.token_losses(model, train.collate(encoded, 2, CPU))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_kept_frozen_states_are_packed_too(model: Any, encoded: list[Row]) -> None:
    hp = Hyperparameters(lora_layers=2, batch_size=4, packing="true")
    before = train.evaluate(model, encoded, hp, 2)
    kept = train.rows_of(train.keep_frozen_states(model, encoded, hp, 2))
    assert "inputs_embeds" in train.collate(kept, 2, CPU, packed=True)
    assert train.evaluate(model, kept, hp, 2) == pytest.approx(before, rel=1e-4)


def test_packing_changes_neither_gradient_nor_step(tiny: Path, encoded: list[Row]) -> None:
    after = []
    for packing in ("false", "true"):
        hp = Hyperparameters(packing=packing, max_length=80, learning_rate=0.01)
        model = train.load_model(str(tiny), hp, CPU, torch.float32)
        optimizer = torch.optim.SGD(train.adapter_parameters(model).values(), lr=0.1)
        assert len(train.my_pieces(encoded, hp, packed=True)) > 1
        loss = [train.train_step(model, optimizer, encoded, hp, 2).loss for _ in range(3)]
        after.append((loss, train.adapter_weights(model)))
    assert after[0][0] == pytest.approx(after[1][0], rel=1e-4)
    for name, tensor in after[0][1].items():
        torch.testing.assert_close(after[1][1][name], tensor, rtol=1e-3, atol=1e-5)


def test_grafted_rows_have_the_logits_they_have_alone(model: Any, encoded: list[Row]) -> None:
    shared = train.common_beginning(encoded)
    assert shared > 5
    assert encoded[0].prompt[:shared] == encoded[-1].prompt[:shared]
    grafted = train.graft(model, encoded, shared)
    assert grafted["input_ids"].shape == (1, sum(map(len, encoded)) - 6 * shared)
    found = logits(model, grafted)[0]
    parts = train.own_parts(encoded, shared)
    each = torch.cat([torch.cat([found[:shared], found[part]]) for part in parts])
    torch.testing.assert_close(each, alone(model, encoded), rtol=1e-4, atol=1e-5)


def test_grafted_rows_train_to_the_weights_of_padded_ones(
    tiny: Path, encoded: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    hp = Hyperparameters(packing="false", lora_layers=1, batch_size=4)
    after = []
    for share in (lambda *_: 0, lambda _, rows: train.common_beginning(rows)):
        monkeypatch.setattr(train, "worth_sharing", share)
        model = train.load_model(str(tiny), hp, CPU, torch.float32)
        kept = train.keep_frozen_states(model, encoded, hp, 2)
        assert all(row.states is not None for row in train.rows_of(kept))
        optimizer = torch.optim.SGD(train.adapter_parameters(model).values(), lr=0.1)
        loss = [train.train_step(model, optimizer, kept, hp, 2).loss for _ in range(3)]
        after.append((loss, train.evaluate(model, kept, hp, 2), train.adapter_weights(model)))
    padded, grafted = after
    assert grafted[0] == pytest.approx(padded[0], rel=1e-4)
    assert grafted[1] == pytest.approx(padded[1], rel=1e-4)
    for name, tensor in padded[2].items():
        torch.testing.assert_close(grafted[2][name], tensor, rtol=1e-3, atol=1e-5)


def test_only_what_costs_less_is_grafted(model: Any, encoded: list[Row]) -> None:
    first = encoded[0]
    assert not train.worth_sharing(model, [first])
    apart = [Row((9, *first.prompt), first.completion), Row((8, *first.prompt), first.completion)]
    assert not train.worth_sharing(model, apart)
    long = [Row((*first.prompt, *[7] * 2000, end), first.completion) for end in (3, 4)]
    assert train.worth_sharing(model, long) == len(long[0].prompt) - 1
    few = [Row((5, end, *[7] * 2000), first.completion) for end in (3, 4)]
    assert not train.worth_sharing(model, few)


@pytest.mark.parametrize("seed", range(5))
def test_packs_hold_every_row_once_within_the_room_and_are_few(seed: int) -> None:
    draw = random.Random(seed)
    lengths = {at: draw.randint(5, 300) for at in range(200)}
    packs = train.pack(lengths, 512)
    assert sorted(at for rows in packs for at in rows) == list(range(200))
    assert max(sum(lengths[at] for at in rows) for rows in packs) <= 512
    assert len(packs) <= 11 / 9 * math.ceil(sum(lengths.values()) / 512) + 1
    assert packs == train.pack(lengths, 512)


def test_a_row_longer_than_the_room_has_a_sequence_of_its_own() -> None:
    assert train.pack({0: 5, 1: 20, 2: 4}, 10) == [[1], [0, 2]]
