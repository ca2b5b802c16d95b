"""Number formats, kinds of adapters, and the loss in chunks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import job
from tests.training.tiny import rows, save_tiny_model
from training import train
from training.train import Hyperparameters, Row

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def encoded(tiny: Path) -> list[Row]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    return [train.encode(tokenizer, row["messages"]) for row in rows(8)]


def gradients(model: Any, batch: dict[str, torch.Tensor], chunk: int) -> tuple[Any, Any, Any]:
    model.zero_grad()
    losses, right = train.token_losses(model, batch, chunk)
    torch.autograd.backward(losses.sum())
    found = [p.grad for p in train.adapter_parameters(model).values() if p.grad is not None]
    return losses.detach(), right, [gradient.clone() for gradient in found]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_loss_in_chunks_has_the_same_value_and_gradient(
    tiny: Path, encoded: list[Row], chunk: int, packed: bool
) -> None:
    hp = Hyperparameters(lora_layers=2, loss_chunk=chunk, lora_targets="q_proj,up_proj,lm_head")
    model = train.load_model(str(tiny), hp, CPU, torch.float32)
    batch = train.collate(encoded, 2, CPU, packed=packed)
    whole, pieces = gradients(model, batch, 0), gradients(model, batch, chunk)
    torch.testing.assert_close(pieces[0], whole[0], rtol=1e-4, atol=1e-5)
    assert int(pieces[1]) == int(whole[1])
    for one, other in zip(pieces[2], whole[2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_logits_never_exist_for_more_tokens_than_a_chunk(tiny: Path, encoded: list[Row]) -> None:
    model = train.load_model(str(tiny), Hyperparameters(lora_layers=2), CPU, torch.float32)
    head = model.get_base_model().get_output_embeddings()
    seen: list[int] = []
    true_forward = type(head).forward

    def forward(self: Any, states: torch.Tensor) -> Any:
        seen.append(states.shape[0])
        return true_forward(self, states)

    head.__class__ = type("Head", (type(head),), {"forward": forward})
    batch = train.collate(encoded, 2, CPU)
    gradients(model, batch, 5)
    pieces = -(-len(batch["labels"]) // 5)
    assert max(seen) == 5
    assert len(seen) == 2 * pieces  # once forward, once more in the backward pass


def test_a_model_that_scales_its_logits_refuses_chunks(tiny: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny)
    base.config.final_logit_softcapping = 30.0
    with pytest.raises(train.TrainingError, match="loss_chunk must be 0"):
        train.add_adapter(base, Hyperparameters(loss_chunk=8), CPU)


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_every_number_format_learns(
    tiny: Path, tmp_path: Path, dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.run(job(tmp_path, tiny, dtype=dtype, parity_prompts=0))
    told = capsys.readouterr().out
    assert f"dtype={train.plain(train.DTYPES[dtype])}" in told
    evals = [
        float(line.split("eval_loss=")[1]) for line in told.splitlines() if "eval_loss" in line
    ]
    assert evals[-1] < evals[0] - 0.2


def test_fp16_gradients_are_scaled_and_a_step_that_overflows_is_left_out(
    tiny: Path, encoded: list[Row]
) -> None:
    hp = Hyperparameters(lora_layers=2)
    model = train.load_model(str(tiny), hp, CPU, torch.float16)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    optimizer = train.make_optimizer(model, hp)
    before = train.adapter_weights(model)
    train.train_step(model, optimizer, encoded, hp, 2, scaler)
    assert scaler.get_scale() < 2.0**40
    same = train.adapter_weights(model)
    assert all(torch.equal(same[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("adapter", ["lora", "dora", "rslora"])
def test_every_kind_of_adapter_starts_as_the_base_and_is_named_in_its_configuration(
    tiny: Path, encoded: list[Row], adapter: str
) -> None:
    hp = Hyperparameters(adapter=adapter, lora_rank=4, lora_alpha=8)
    model = train.load_model(str(tiny), hp, CPU, torch.float32)
    tuned = train.evaluate(model, encoded, hp, 2)
    with model.disable_adapter():
        assert train.evaluate(model, encoded, hp, 2) == pytest.approx(tuned, rel=1e-4)
    config = model.peft_config["default"]
    assert (config.use_dora, config.use_rslora) == (adapter == "dora", adapter == "rslora")
    scale = model.get_base_model().model.layers[0].self_attn.q_proj.scaling["default"]
    assert scale == pytest.approx(4.0 if adapter == "rslora" else 2.0)


@pytest.mark.parametrize("layers", [0, 2])
def test_qlora_learns_on_a_4_bit_base(
    tmp_path: Path, layers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = save_tiny_model(tmp_path / "base", width=128)  # 4-bit scales stand for 64 weights each
    assert train.run(job(tmp_path, wide, adapter="qlora", lora_layers=layers))
    told = capsys.readouterr().out
    evals = [
        float(line.split("eval_loss=")[1]) for line in told.splitlines() if "eval_loss" in line
    ]
    assert evals[-1] < evals[0] - 0.2
    hp = Hyperparameters(adapter="qlora")
    model = train.load_model(str(wide), hp, CPU, torch.bfloat16)
    weight = model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight
    assert (weight.dtype, weight.quant_type) == (torch.uint8, "nf4")
    assert weight.quant_state.nested


def test_qlora_without_bitsandbytes_says_what_to_install(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    with pytest.raises(train.TrainingError, match="pip install bitsandbytes"):
        train.run(job(tmp_path, tiny, adapter="qlora"))


def test_operations_are_counted_for_what_a_step_really_does(tiny: Path, encoded: list[Row]) -> None:
    hp = Hyperparameters(lora_layers=2, lora_rank=4, lora_targets="q_proj")
    model = train.load_model(str(tiny), hp, CPU, torch.float32)
    # Per layer: q and o 32x32, k and v 32x16, three of 32x64; adapters 4x32 and 32x4.
    layer, head = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64, 32 * 400
    vocabulary = model.config.vocab_size
    found = train.count_arithmetic(model)
    assert found == train.Arithmetic(
        2 * layer, 2 * layer, 2 * 2 * 4 * 32, head // 400 * vocabulary, 2 * 32, 2 * 32
    )
    row = encoded[0]
    products = (2 * 2 * layer + 4 * 2 * layer + 6 * 512) * len(row)
    attention = (2 * 64 + 6 * 64) * len(row) ** 2
    head_cost = 4 * 32 * vocabulary * len(row.completion)
    assert found.of([row]) == products + attention + head_cost
    train.keep_frozen_states(model, encoded, hp, 2)
    assert train.count_arithmetic(model).frozen == 0
