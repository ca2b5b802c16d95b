from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.children import Child
from tests.training.conftest import job
from tests.training.tiny import rows, write_rows
from training import train

pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model/adapter_model.safetensors"))


def test_a_run_learns_and_leaves_adapter_tokenizer_template_and_metadata(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.run(job(tmp_path, tiny))
    told = capsys.readouterr().out
    losses = [float(x) for x in re.findall(r"step=\d+ steps=18 train_loss=([\d.]+)", told)]
    evals = [float(x) for x in re.findall(r"eval_loss=([\d.]+)", told)]
    assert len(losses) == 18
    assert len(evals) == 4
    assert evals[-1] < evals[0] - 0.2
    assert re.search(r"lr=[\d.e-]+ tokens_per_second=[\d.e+]+", told)
    made = {path.name for path in (tmp_path / "model").iterdir()}
    assert made >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "training.json",
    }
    metadata = json.loads((tmp_path / "model/training.json").read_text())
    assert metadata["rows"] == {"train": 24, "validation": 4, "too_long": 0}
    assert metadata["trained_tokens"] > 0
    assert str(tmp_path) not in (tmp_path / "model/adapter_config.json").read_text()
    epochs = sorted(path.name for path in (tmp_path / "checkpoints/adapters").iterdir())
    assert epochs == ["step-12", "step-18", "step-6"]


def test_the_template_renders_the_same_ids_in_training_and_from_the_adapters_folder(
    tiny: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    train.run(job(tmp_path, tiny, epochs=1))
    probe = json.loads((tmp_path / "model/training.json").read_text())["prompt_probe"]
    for folder in (tiny, tmp_path / "model"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = tokenizer.apply_chat_template(
            probe["messages"], tokenize=False, add_generation_prompt=True
        )
        assert tokenizer(text, add_special_tokens=False).input_ids == probe["token_ids"]


def test_a_run_stopped_by_sigterm_resumes_to_the_weights_of_an_uninterrupted_one(
    tiny: Path, tmp_path: Path
) -> None:
    hyperparameters: dict[str, Any] = {"epochs": 6, "lora_dropout": 0.1, "checkpoint_steps": 1000}
    straight = job(tmp_path / "straight", tiny, **hyperparameters)
    broken = job(tmp_path / "broken", tiny, **hyperparameters)
    child = Child(broken)
    child.until("step=8 ")
    child.signal(signal.SIGTERM)
    code, rest = child.end()
    assert code == train.INTERRUPTED, rest
    assert "a rerun resumes there" in rest
    assert not (tmp_path / "broken/model").exists()

    assert train.run(broken)
    assert train.run(straight)
    resumed, whole = weights(tmp_path / "broken"), weights(tmp_path / "straight")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_recomputing_activations_changes_no_weight(tiny: Path, tmp_path: Path) -> None:
    for name, recompute in (("kept", False), ("recomputed", True)):
        options: dict[str, Any] = {"epochs": 1, "lora_layers": 0}
        train.run(job(tmp_path / name, tiny, **options, gradient_checkpointing=recompute))
    kept, recomputed = weights(tmp_path / "kept"), weights(tmp_path / "recomputed")
    assert all(torch.allclose(kept[name], recomputed[name], atol=1e-3) for name in kept)


def test_a_checkpoint_of_another_job_is_left_alone(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.run(job(tmp_path, tiny, epochs=1))
    write_rows(tmp_path / "train/train.jsonl", rows(20))
    train.run(job(tmp_path, tiny, epochs=1, count=20))
    told = capsys.readouterr().out
    assert "of another job" in told
    assert "resuming" not in told


def test_a_finished_job_run_again_trains_nothing_and_gives_the_same_weights(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = job(tmp_path, tiny, epochs=1)
    train.run(environment)
    before = weights(tmp_path)
    capsys.readouterr()
    train.run(environment)
    assert "train_loss" not in capsys.readouterr().out
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path).items())


def test_a_failure_is_written_down_for_the_platform(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in job(tmp_path, tiny, epoch=3).items():
        monkeypatch.setenv(name, value)
    assert train.main() == 1
    assert 'unknown hyperparameter "epoch"' in (tmp_path / "output/failure").read_text()


def test_a_job_without_rows_says_so(tiny: Path, tmp_path: Path) -> None:
    environment = job(tmp_path, tiny)
    (tmp_path / "train/train.jsonl").unlink()
    with pytest.raises(train.TrainingError, match=r"no \.jsonl file"):
        train.run(environment)


def test_a_target_that_the_model_lacks_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(train.TrainingError, match="lora_targets"):
        train.run(job(tmp_path, tiny, lora_targets="c_attn"))


def test_the_loss_curve_lies_beside_the_checkpoint_while_the_job_runs(
    tiny: Path, tmp_path: Path
) -> None:
    train.run(job(tmp_path, tiny, epochs=2))
    lines = (tmp_path / "checkpoints/events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    trained = [event["step"] for event in events if "train_loss" in event]
    assert trained == list(range(1, events[0]["steps"] + 1))
    assert [event["step"] for event in events if "eval_loss" in event] == [0, 6, 12]
