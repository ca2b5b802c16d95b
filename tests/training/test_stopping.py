"""Which step ends a run, and which step's adapter is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import job
from tests.training.tiny import FACTS, chat, write_rows
from training import train
from training.train import Hyperparameters, Progress

pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
LEARNING: dict[str, Any] = {"schedule": "constant", "dtype": "fp32", "parity_prompts": 0}


def contradicted(folder: Path, tiny: Path, **options: Any) -> dict[str, str]:
    """A job whose validation answers belong to other questions: their loss falls, then rises."""
    environment = job(folder, tiny, **(LEARNING | options))
    facts = list(FACTS.items())
    wrong = [chat(f"{facts[i % 4][0]} ({i})", facts[(i + 1) % 4][1]) for i in range(8)]
    write_rows(folder / "validation/validation.jsonl", wrong)
    return environment


def metadata(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "model/training.json").read_text())
    return found


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(path / "adapter_model.safetensors"))


def test_a_run_ends_after_so_many_evaluations_without_improvement_and_stays_ended(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = contradicted(tmp_path, tiny, epochs=12, eval_steps=2, early_stopping_patience=2)
    assert train.run(environment)
    told = capsys.readouterr().out
    found = metadata(tmp_path)
    losses = dict(found["eval_losses"])
    del losses[0]
    best = min(losses, key=lambda step: losses[step])
    assert found["trained_steps"] < found["steps"] == 72
    assert found["trained_steps"] == best + 2 * 2
    assert found["adapter_step"] == best
    assert f"ended early after step {best + 4} of 72, best was {best}" in told
    before = weights(tmp_path / "model")

    assert train.run(environment)
    assert "train_loss" not in capsys.readouterr().out
    again = weights(tmp_path / "model")
    assert all(torch.equal(again[name], tensor) for name, tensor in before.items())


def test_the_adapter_of_the_lowest_validation_loss_is_written_unless_the_last_is_asked_for(
    tiny: Path, tmp_path: Path
) -> None:
    for name, best in (("best", True), ("last", False)):  # each epoch's adapter is left as well
        assert train.run(contradicted(tmp_path / name, tiny, epochs=10, keep_best=best))
    found = metadata(tmp_path / "best")
    losses = {step: loss for step, loss in found["eval_losses"] if step}
    step = min(losses, key=lambda at: losses[at])
    assert step < 60, "these answers are meant to become less likely in the end"
    for name, at in (("best", step), ("last", 60)):
        assert metadata(tmp_path / name)["adapter_step"] == at
        saved = weights(tmp_path / name / f"checkpoints/adapters/step-{at}")
        written = weights(tmp_path / name / "model")
        assert all(torch.equal(written[key], tensor) for key, tensor in saved.items())


def test_without_validation_rows_the_last_adapter_is_written(tiny: Path, tmp_path: Path) -> None:
    environment = job(tmp_path, tiny, epochs=1, early_stopping_patience=1)
    del environment["SM_CHANNEL_VALIDATION"]
    assert train.run(environment)
    found = metadata(tmp_path)
    assert (found["eval_losses"], found["adapter_step"]) == ([], 6)


@pytest.mark.parametrize(
    ("patience", "stale", "ends"), [(0, 9, False), (2, 1, False), (2, 2, True)]
)
def test_patience_counts_evaluations_and_none_is_endless(
    patience: int, stale: int, ends: bool
) -> None:
    hp = Hyperparameters(early_stopping_patience=patience)
    assert train.gives_up(Progress(stale=stale), hp) is ends
