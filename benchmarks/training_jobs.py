"""The jobs that `benchmarks.training` compares: the same rows and settings on both sides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import ROOT
from dropforge.chat import ChatExample
from dropforge.clean import Cleaning
from dropforge.export import read
from serving.weights import base_weights

WEIGHTS = ROOT / "build/bench"
PEERS = ROOT / "benchmarks/peers"
PEER_PYTHON = ROOT / ".venv-peers/bin/python"
TRAIN_ROWS, HELD_OUT_ROWS = 128, 40
CHECKPOINT_STEPS = 10
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Job:
    """One training run: the folder of its adapter, and what it took."""

    adapter: Path
    seconds: float  # CPU, all but the imports
    process_seconds: float  # CPU, the whole process
    steps: int = 0


@dataclass(frozen=True)
class Task:
    """What both sides are asked to do: weights, rows and settings."""

    weights: Path
    folder: Path
    hyperparameters: dict[str, Any]

    @property
    def rows(self) -> Path:
        return self.folder / "train/train.jsonl"

    @property
    def held_out(self) -> Path:
        return self.folder / "held-out/held-out.jsonl"

    def seeded(self, seed: int) -> Task:
        """The same with other weights to begin with and another order of the rows."""
        return replace(self, hyperparameters=self.hyperparameters | {"seed": seed})


def task(folder: Path, rows: int = TRAIN_ROWS, **changed: Any) -> Task:
    """Cleaned sample tickets, every ninth of them held out, and the demo's hyperparameters but for
    what is `changed`."""
    project = yaml.safe_load((ROOT / "examples/project.yaml").read_text())
    recipe = yaml.safe_load((ROOT / f"training/recipes/{project['model']}.yaml").read_text())
    names = ("epochs", "learning_rate", "lora_rank", "lora_alpha", "lora_layers", "batch_size")
    asked = recipe["hyperparameters"] | {name: project["training"][name] for name in names}
    made = Task(base_weights(WEIGHTS), folder, asked | {"seed": 7} | changed)
    with (ROOT / "examples/tickets.csv").open("rb") as file:
        kept = [row for batch in Cleaning().batches(read(file)) for row in batch.kept]
    learned = [row for at, row in enumerate(kept) if at % 9]
    _write(made.rows, learned[:rows], project["system_prompt"])
    _write(made.held_out, kept[::9][:HELD_OUT_ROWS], project["system_prompt"])
    return made


def _write(path: Path, examples: Sequence[ChatExample], system: str) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            said = [{"role": turn.role, "content": turn.content} for turn in example.messages]
            row = {"messages": [{"role": "system", "content": system}, *said]}
            file.write(json.dumps(row) + "\n")


def ours(on: Task, name: str) -> Job:
    """A job of training/train.py."""
    began = subprocess.Popen(
        [sys.executable, str(PEERS / "dropforge_train.py")],
        env=environment(on, name),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    return _finished(began, on.folder / name / "model")


def environment(on: Task, name: str) -> dict[str, str]:
    """What SageMaker would set for the job `name`: no validation rows, no parity file, for the
    peer has neither."""
    folder = on.folder / name
    asked = on.hyperparameters | {"checkpoint_steps": CHECKPOINT_STEPS, "parity_prompts": 0}
    return {
        **_one_thread(),
        "PYTHONPATH": str(ROOT),
        "SM_HPS": json.dumps(asked),
        "SM_CHANNEL_TRAIN": str(on.rows.parent),
        "SM_CHANNEL_MODEL": str(on.weights),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "SM_OUTPUT_DIR": str(folder / "output"),
    }


def _one_thread() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SM_")}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def trl(on: Task, name: str, **settings: Any) -> Job:
    """The same job by TRL, gradient checkpointing off: this model needs no memory saved."""
    asked = {
        "weights": str(on.weights),
        "rows": str(on.rows),
        "out": str(on.folder / name / "model"),
        "threads": 1,
        "settings": trl_settings(on.hyperparameters)
        | {"output_dir": str(on.folder / name)}
        | settings,
        "lora": lora_settings(on),
    }
    began = subprocess.Popen(
        [str(PEER_PYTHON), str(PEERS / "trl_sft.py")],
        env=_one_thread(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert began.stdin is not None
    with began.stdin as stdin:
        json.dump(asked, stdin)
    return _finished(began, on.folder / name / "model")


def trl_settings(hp: Mapping[str, Any]) -> dict[str, Any]:
    """train.py's hyperparameters in `SFTConfig`'s words; its optimiser is AdamW as well.

    The base is in bf16 and the adapters in fp32 on both sides; autocast (`bf16=True`) is slower.
    """
    return {
        "use_cpu": True,
        "bf16": False,
        "model_init_kwargs": {"dtype": "bfloat16"},
        "gradient_checkpointing": False,
        "num_train_epochs": hp["epochs"],
        "learning_rate": hp["learning_rate"],
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "warmup_steps": hp["warmup_ratio"],
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": hp["batch_size"],
        "max_length": hp["max_length"],
        "seed": hp["seed"],
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def lora_settings(on: Task) -> dict[str, Any]:
    """The adapters in `LoraConfig`'s words, on the top layers only; `lora_layers` 0 is all."""
    hp = on.hyperparameters
    depth = json.loads((on.weights / "config.json").read_text())["num_hidden_layers"]
    first = depth - (hp["lora_layers"] or depth)
    return {
        "r": hp["lora_rank"],
        "lora_alpha": hp["lora_alpha"],
        "lora_dropout": 0.0,
        "target_modules": list(TARGETS),
        "layers_to_transform": list(range(first, depth)),
    }


def _finished(process: subprocess.Popen[str], adapter: Path) -> Job:
    """Wait for a job; raises SystemExit where it fails."""
    assert process.stdout is not None
    with process.stdout as stdout:
        printed = stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed:\n{printed}")
    told = json.loads(printed.splitlines()[-1])
    whole = used.ru_utime + used.ru_stime
    return Job(adapter, told["seconds"], whole, told.get("steps", 0))
