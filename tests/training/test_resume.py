"""A run that was killed, at any moment, goes on to the weights of one that was not."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.children import Child
from tests.training.conftest import job
from training import train

pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
KINDS: list[dict[str, Any]] = [
    {"adapter": "lora", "lora_dropout": 0.1},
    {"adapter": "lora", "packing": "true", "lora_dropout": 0.1, "dtype": "fp16"},
    {"adapter": "dora"},
    {"adapter": "dora", "method": "dpo", "packing": "true"},
    {"adapter": "rslora", "packing": "true", "eval_steps": 4, "early_stopping_patience": 3},
    {"adapter": "rslora", "method": "dpo", "lora_dropout": 0.1},
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model/adapter_model.safetensors"))


def losses(told: str) -> list[str]:
    return [" ".join(line.split()[:3]) for line in told.splitlines() if "_loss=" in line]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_a_run_killed_at_a_random_step_resumes_to_the_weights_of_an_unbroken_one(
    tiny: Path, tmp_path: Path, kind: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    seed = time.time_ns() % 100_000
    step = random.Random(seed).randint(1, 17)
    options = {"checkpoint_steps": 2, "parity_prompts": 0, **kind}
    unbroken = job(tmp_path / "unbroken", tiny, **options)
    broken = job(tmp_path / "broken", tiny, **options)

    child = Child(broken)
    child.until(f"step={step} ")
    time.sleep(random.Random(seed).random() * 0.05)
    child.signal(signal.SIGKILL)
    code, _ = child.end()
    assert code in (-signal.SIGKILL, 0)

    capsys.readouterr()
    assert train.run(broken)
    resumed = losses(capsys.readouterr().out)
    assert train.run(unbroken)
    straight = losses(capsys.readouterr().out)
    print(f"killed after step {step} (seed {seed}); resumed with {len(resumed)} lines")
    assert len(resumed) < len(straight) or step < 3
    assert straight[-len(resumed) :] == resumed or not resumed
    found, wanted = weights(tmp_path / "broken"), weights(tmp_path / "unbroken")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert any(tensor.abs().sum() > 0 for name, tensor in wanted.items() if "lora_B" in name)


def test_a_checkpoint_half_written_is_never_read(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = job(tmp_path, tiny, epochs=1, parity_prompts=0)
    assert train.run(environment)
    wanted = weights(tmp_path)
    whole = tmp_path / "checkpoints/checkpoint.pt"
    half = whole.read_bytes()[: whole.stat().st_size // 2]
    whole.with_name("checkpoint.pt.partial").write_bytes(half)
    capsys.readouterr()
    train.run(environment)
    assert "resuming after step 6 of 6" in capsys.readouterr().out
    whole.write_bytes(half)
    train.run(environment)
    assert "cannot be read" in capsys.readouterr().out
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(tmp_path).items())
