"""Training against its peer.

training/train.py and TRL's SFTTrainer train SmolLM2-135M-Instruct on the same tickets, with the
adapters and settings of the demo (examples/project.yaml), one thread each, in turns in the same
run. Both adapters are judged by the same code on tickets that neither has seen. A last job is
killed at a random step and resumed: are its weights those of the job that was left alone?
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn import functional

from benchmarks.figures import ROOT, Figure
from benchmarks.training_jobs import (
    CHECKPOINT_STEPS,
    HELD_OUT_ROWS,
    TRAIN_ROWS,
    Job,
    Task,
    environment,
    ours,
    task,
    trl,
)

FEW_ROWS = 48
SEEDS = (7, 8, 9, 10)
LEAST_RATIO = 1.8
TRIAL_STEPS = 8
VARIANTS: dict[str, dict[str, Any]] = {
    "rows grouped by length, SDPA": {"train_sampling_strategy": "group_by_length"},
    "packing": {"packing": True, "max_length": 308, "per_device_train_batch_size": 1},
}
"""Settings of TRL that are tried, the quickest is then measured: 308 tokens hold four of the rows,
so that a step of `packing` sees as many. Eager attention took the same time, autocast (`bf16`) and
`padding_free` took more."""


class Judge:
    """Mean loss of an adapter per token of the held-out answers (nats), a row at a time.

    It goes by transformers alone: neither contestant's code computes the loss. Also counts the
    tokens trained on: all of the rows', every epoch.
    """

    def __init__(self, on: Task) -> None:
        from transformers import AutoTokenizer

        self._task = on
        self._tokenizer = AutoTokenizer.from_pretrained(on.weights)
        self._rows = [self._ids(row) for row in _messages(on.held_out)]
        lengths = [sum(map(len, self._ids(row))) for row in _messages(on.rows)]
        self.tokens = sum(lengths) * on.hyperparameters["epochs"]

    def _ids(self, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        """The prompt's ids, and the answer's up to the token that ends the turn."""
        render = self._tokenizer.apply_chat_template
        prompt = render(messages[:-1], tokenize=False, add_generation_prompt=True)
        answer = render(messages, tokenize=False).removeprefix(prompt).rstrip("\n")
        return self._tokenizer(prompt).input_ids, self._tokenizer(answer).input_ids

    @torch.no_grad()
    def loss(self, adapter: Path | None) -> float:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self._task.weights, dtype=torch.bfloat16)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter)
        model.eval()
        total, count = 0.0, 0
        for prompt, answer in self._rows:
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            wanted = torch.tensor(answer)
            total += functional.cross_entropy(logits.float(), wanted, reduction="sum").item()
            count += len(answer)
        return total / count


def _messages(path: Path) -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in path.read_text("utf-8").splitlines()]


def killed_and_resumed(on: Task, name: str, step: int) -> Path:
    """A job killed by SIGKILL once it has reported `step`, and run again to its end; its adapter.

    Raises:
        SystemExit: it ended before that step, did not resume, or failed.
    """
    command = [sys.executable, str(ROOT / "training/train.py")]
    settings = environment(on, name)
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith(f"step={step} "):
                process.send_signal(signal.SIGKILL)
                break
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"the job was to be killed at step {step}, and ended on its own")
    again = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    if again.returncode or "resuming after step" not in again.stdout:
        raise SystemExit(f"the killed job did not resume:\n{again.stdout}{again.stderr}")
    return on.folder / name / "model"


def same_weights(one: Path, other: Path) -> bool:
    """Whether two adapters are equal in every bit of every tensor."""
    a, b = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def figures() -> Iterator[Figure]:
    """Every figure; about fourteen minutes."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        on = task(Path(folder))
        judge = Judge(on)
        trials = {
            name: trl(on, f"trial-{at}", max_steps=TRIAL_STEPS, **settings)
            for at, (name, settings) in enumerate(VARIANTS.items())
        }
        quickest = min(trials, key=lambda name: trials[name].seconds)
        runs = [
            (ours(turn, f"ours-{at}"), trl(turn, f"trl-{at}"))
            for at, turn in enumerate(on.seeded(seed) for seed in SEEDS)
        ]
        own = min((job for job, _ in runs), key=lambda job: job.seconds)
        peer = trl(on.seeded(SEEDS[0]), "quickest", **VARIANTS[quickest])
        yield from _speed(on, judge, own, peer, trials)
        yield from _losses(judge, runs, peer)
        yield _all_layers(Path(folder) / "all", VARIANTS[quickest])
        yield _resumed(on.seeded(SEEDS[0]), judge, runs[0][0])


def _speed(
    on: Task, judge: Judge, own: Job, peer: Job, trials: Mapping[str, Job]
) -> Iterator[Figure]:
    hp = on.hyperparameters
    what = (
        f"SmolLM2-135M, {TRAIN_ROWS} tickets, {hp['epochs']} epochs, LoRA of rank "
        f"{hp['lora_rank']} on the top {hp['lora_layers']} layers, batches of {hp['batch_size']}"
    )
    quickest = min(trials, key=lambda name: trials[name].seconds)
    for name, job in (("Dropforge", own), (f"TRL, {quickest}", peer)):
        yield Figure(
            f"{what}: {name}",
            f"{judge.tokens / job.seconds:,.0f} tokens/CPU-s ({job.seconds:.1f} s without the "
            f"imports, {job.process_seconds:.1f} s with them)",
        )
    yield Figure(
        f"settings tried for TRL, CPU-seconds of {TRIAL_STEPS} steps",
        ", ".join(f"{name} {job.seconds:.1f}" for name, job in trials.items()),
    )
    ratio = peer.seconds / own.seconds
    yield Figure(
        "training: Dropforge / TRL, imports left out",
        f"{ratio:.2f}×",
        f"at least {LEAST_RATIO}×",
        ratio >= LEAST_RATIO,
    )
    whole = peer.process_seconds / own.process_seconds
    yield Figure("training: Dropforge / TRL, the whole process", f"{whole:.2f}×")


def _losses(judge: Judge, runs: Sequence[tuple[Job, Job]], quickest: Job) -> Iterator[Figure]:
    """TRL without packing has our batches' size and number; seeds differ more than the two do."""
    losses = [[judge.loss(job.adapter) for job in turn] for turn in runs]
    own, peer = zip(*losses, strict=True)
    yield Figure(
        f"loss on {HELD_OUT_ROWS} held-out tickets (nats a token), mean of {len(runs)} seeds: "
        "Dropforge, TRL with batches of the same size",
        f"{fmean(own):.3f}, {fmean(peer):.3f}",
        f"at most a standard deviation of TRL's seeds ({stdev(peer):.3f}) over TRL's",
        fmean(own) <= fmean(peer) + stdev(peer),
    )
    yield Figure(
        "the same, each seed: Dropforge; TRL; TRL's quickest setting, first seed; base model",
        f"{_listed(own)}; {_listed(peer)}; {judge.loss(quickest.adapter):.3f}; "
        f"{judge.loss(None):.3f}",
    )


def _listed(losses: Sequence[float]) -> str:
    return ", ".join(f"{loss:.3f}" for loss in losses)


def _all_layers(folder: Path, settings: Mapping[str, Any]) -> Figure:
    """Where every layer is adapted, nothing below the first adapted one can be kept."""
    on = task(folder, FEW_ROWS, lora_layers=0, epochs=1)
    own, peer = ours(on, "ours"), trl(on, "trl", **settings)
    return Figure(
        f"the same with all layers adapted, {FEW_ROWS} tickets, 1 epoch: Dropforge / TRL",
        f"{peer.seconds / own.seconds:.2f}×",
    )


def _resumed(on: Task, judge: Judge, alone: Job) -> Figure:
    steps = json.loads((alone.adapter / "training.json").read_text())["steps"]
    step = random.SystemRandom().randrange(CHECKPOINT_STEPS + 1, steps)
    adapter = killed_and_resumed(on, "killed", step)
    equal = same_weights(alone.adapter, adapter)
    return Figure(
        f"killed by SIGKILL after step {step} of {steps} and resumed: weights equal bit for bit",
        "yes" if equal else f"no; held-out loss {judge.loss(adapter):.4f}",
        "yes",
        equal,
    )
