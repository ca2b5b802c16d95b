"""Several processes train to what one trains to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.children import Child, ended, group
from tests.training.conftest import job
from training import train

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
OPTIONS: dict[str, Any] = {"dtype": "fp32", "lora_layers": 0, "learning_rate": 0.003}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model/adapter_model.safetensors"))


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model/training.json").read_text())
    return found


def single(folder: Path, tiny: Path, **options: Any) -> None:
    code, output = Child(job(folder, tiny, **options)).end()
    assert code == 0, output


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 2, "count": 23, "micro_batch_size": 2},
        {"epochs": 1, "count": 22, "fsdp": True, "packing": "true", "loss_chunk": 5},
        {"epochs": 1, "count": 22, "fsdp": True, "gradient_checkpointing": True},
        {"epochs": 1, "method": "dpo"},
    ],
    ids=lambda options: "-".join(options),
)
def test_two_processes_train_to_the_weights_of_one(
    tiny: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    options = OPTIONS | options
    single(tmp_path / "one", tiny, **options)
    two = job(tmp_path / "two", tiny, **options)
    ends = list(ended(group(two)))
    assert [code for code, _ in ends] == [0, 0], "\n".join(output for _, output in ends)
    assert "train_loss" in ends[0][1]
    assert "train_loss" not in ends[1][1]

    one, both = told(tmp_path / "one"), told(tmp_path / "two")
    assert (one["processes"], both["processes"]) == (1, 2)
    for name in ("train_losses", "eval_losses", "reward_margins"):
        # Step and loss. Rounding decides which of two equally likely answers counts as preferred,
        # and before the first step all are equally likely.
        found, wanted = (torch.tensor([row[:2] for row in run[name]]) for run in (both, one))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert both["trained_tokens"] == one["trained_tokens"]
    alone, together = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=2e-5)
    parity = [
        json.loads((tmp_path / name / "output/data/parity.json").read_text())["prompts"]
        for name in ("one", "two")
    ]
    assert [p["prompt_token_ids"] for p in parity[0]] == [p["prompt_token_ids"] for p in parity[1]]


def test_sigterm_to_any_process_stops_all_after_the_same_step_and_they_resume(
    tiny: Path, tmp_path: Path
) -> None:
    options = OPTIONS | {"epochs": 3, "lora_dropout": 0.1, "checkpoint_steps": 1000}
    broken = job(tmp_path / "broken", tiny, **options)
    children = group(broken)
    children[0].until("step=4 ")
    children[1].signal(signal.SIGTERM)
    ends = list(ended(children))
    assert [code for code, _ in ends] == [train.INTERRUPTED] * 2, ends
    assert "a rerun resumes there" in ends[0][1]

    again = list(ended(group(broken)))
    assert [code for code, _ in again] == [0, 0], again
    assert "resuming after step" in again[0][1]
    straight = job(tmp_path / "straight", tiny, **options)
    assert [code for code, _ in ended(group(straight))] == [0, 0]
    found, wanted = weights(tmp_path / "broken"), weights(tmp_path / "straight")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.slow
def test_the_script_starts_itself_once_for_each_gpu_and_passes_sigterm_on(
    tiny: Path, tmp_path: Path
) -> None:
    environment = job(tmp_path, tiny, **(OPTIONS | {"epochs": 100})) | {"SM_NUM_GPUS": "2"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(Path(train.__file__))],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("step=2 "):
                process.terminate()
    assert process.returncode == train.INTERRUPTED, lines
    assert "processes=2" in lines[0]
    assert sum(line.startswith("step=1 ") for line in lines) == 1
    assert "a rerun resumes there" in lines[-1]
