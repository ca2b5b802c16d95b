"""TRL's SFTTrainer as documented: prompt-completion rows, so the loss is on the completion alone.

Reads {"weights": folder, "rows": JSONL of messages, "out": folder, "threads": n, "lora": of
peft.LoraConfig, "settings": of trl.SFTConfig} from standard input. Writes the adapter to `out` and
one JSON object to standard output: CPU-seconds of everything but the imports, and of `train` alone;
optimiser steps, wall seconds of each, and peak memory of the GPU.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from transformers.models.llama.modeling_llama import LlamaForCausalLM  # noqa: F401 - imported now
from trl import SFTConfig, SFTTrainer


def cpu_seconds() -> float:
    """User and system time of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def prompt_completion(path: Path) -> Dataset:
    """The rows in TRL's conversational prompt-completion format."""
    rows = [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]
    return Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])


class StepWalls(TrainerCallback):  # type: ignore[misc] - transformers is not typed
    """Wall seconds of each step, the device's work included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_args: object, **_named: object) -> None:
        self._began = self._now()

    def on_step_end(self, *_args: object, **_named: object) -> None:
        self.seconds.append(self._now() - self._began)

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic()


def main() -> None:
    asked = json.load(sys.stdin)
    torch.set_num_threads(asked["threads"])
    began = cpu_seconds()
    trainer = SFTTrainer(
        model=asked["weights"],
        args=SFTConfig(**asked["settings"]),
        train_dataset=prompt_completion(Path(asked["rows"])),
        processing_class=AutoTokenizer.from_pretrained(asked["weights"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **asked["lora"]),
        callbacks=[walls := StepWalls()],
    )
    before = cpu_seconds()
    trainer.train()
    after = cpu_seconds()
    trainer.save_model(asked["out"])
    told = {
        "seconds": cpu_seconds() - began,
        "train_seconds": after - before,
        "steps": trainer.state.global_step,
        "step_walls": walls.seconds,
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
