"""`python -m benchmarks.gpu`: LoRA of an 8B-parameter Llama on one GPU, packed to 4096 tokens.

training/train.py as a platform runs it, and TRL's SFTTrainer where it can be imported, one after
the other on the same random weights and rows; nothing is downloaded. Prints a row of a Markdown
table for each, and where the time of train.py goes. Without CUDA it says so and measures nothing;
`--tiny` tries the whole of it on a model of some thousand parameters, on the CPU as well.

Needs training/requirements.txt only, so it can be copied to a machine with the repository alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.figures import ROOT, output

PEER = Path(__file__).with_name("peers") / "trl_sft.py"
PEAK_FLOPS = 989e12
"""Dense bf16 of an H100 SXM (NVIDIA H100 data sheet: 1,979 TFLOP/s with sparsity)."""
WARMUP_STEPS = 3
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|> ' + message['role'] + ' ' + message['content'] "
    "+ ' <|im_end|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|> assistant ' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """A Llama and the job it is given; the defaults are those of Llama 3 8B (its config.json)."""

    hidden: int = 4096
    layers: int = 32
    heads: int = 32
    key_value_heads: int = 8
    intermediate: int = 14336
    vocabulary: int = 128_256
    length: int = 4096
    rank: int = 16
    steps: int = 16
    step_rows: int = 24
    step_packs: int = 4  # what so many rows fill
    row_tokens: tuple[int, int] = (150, 1200)

    @property
    def layer_weights(self) -> int:
        """Weights of all layers' matrices; norms are left out."""
        kv = self.hidden // self.heads * self.key_value_heads
        attention = 2 * self.hidden**2 + 2 * self.hidden * kv
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def adapter_weights(self) -> int:
        """Weights of the adapters on all seven matrices of every layer."""
        kv = self.hidden // self.heads * self.key_value_heads
        sides = 2 * 2 * self.hidden + 2 * (self.hidden + kv) + 3 * (self.hidden + self.intermediate)
        return self.layers * self.rank * sides

    def flops(self, rows: Sequence[tuple[int, int]]) -> float:
        """What one pass of LoRA training over rows of (tokens, of them in the answer) has to
        compute; train.py's `mfu` counts the same.

        Counted: for each token 2 a weight forward and 2 backward for the frozen matrices, whose own
        gradients nobody needs; 6 a weight for the adapters; the output matrix for the answers'
        tokens only; causal attention within each row, 2 d n^2 a layer forward and twice that
        backward. Not counted: what is computed twice (checkpointing, FlashAttention's backward),
        norms, softmax, the optimiser.
        """
        tokens = sum(row for row, _ in rows)
        answers = sum(answer for _, answer in rows)
        attention = 6 * self.layers * self.hidden * sum(row**2 for row, _ in rows)
        frozen = 4 * (self.layer_weights * tokens + self.hidden * self.vocabulary * answers)
        return frozen + 6 * self.adapter_weights * tokens + attention


TINY = Shape(32, 2, 4, 2, 64, 400, 128, 4, 6, 12, 4, (10, 60))


@dataclass(frozen=True)
class Measured:
    """One contestant, in the steps after the warm-up."""

    name: str
    tokens_per_second: float
    peak_bytes: float
    shares: Mapping[str, float] = field(default_factory=dict)


def save_base(folder: Path, shape: Shape, device: str) -> None:
    """Random weights in bf16, made on `device`, and a tokenizer of made-up words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|im_end|>", "<|im_start|>", "<unk>"]
    words = [*special, "user", "assistant"]
    words += [f"w{number}" for number in range(shape.vocabulary - len(words))]
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, "<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens(special)
    names = {"eos_token": special[0], "pad_token": special[0], "unk_token": special[2]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, chat_template=TEMPLATE, **names)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=2 * shape.length,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        eos_token_id=0,
        pad_token_id=0,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_rows(path: Path, shape: Shape) -> list[tuple[int, int]]:
    """Conversations enough for the steps, half question and half answer; (tokens, of them in the
    answer) of each."""
    draw, rows = random.Random(1), list[tuple[int, int]]()
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(shape.steps * shape.step_rows):
            size = draw.randint(*shape.row_tokens)
            words = [f"w{draw.randrange(shape.vocabulary // 2)}" for _ in range(size)]
            question, answer = " ".join(words[: size // 2]), " ".join(words[size // 2 :])
            turns = (
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            )
            file.write(json.dumps({"messages": turns}) + "\n")
            rows.append((size + 6, size - size // 2 + 1))  # both turns' start, role and end
    return rows


def environment(folder: Path, name: str, shape: Shape, checkpointing: bool) -> dict[str, str]:
    """What a platform sets for the job `name` of training/train.py."""
    hyperparameters = {
        "base_model": "random-llama",
        "epochs": 1,
        "batch_size": shape.step_rows,
        "packing": "true",
        "max_length": shape.length,
        "lora_rank": shape.rank,
        "lora_alpha": 2 * shape.rank,
        "lora_layers": 0,
        "lora_targets": ",".join(TARGETS),
        "learning_rate": 1e-4,
        "gradient_checkpointing": checkpointing,
        "checkpoint_steps": 100_000,
        "parity_prompts": 0,
    }
    return {
        "HF_HUB_OFFLINE": "1",
        "SM_HPS": json.dumps(hyperparameters),
        "SM_CHANNEL_TRAIN": str(folder / "rows"),
        "SM_CHANNEL_MODEL": str(folder / "base"),
        "SM_MODEL_DIR": str(folder / name / "model"),
        "SM_CHECKPOINT_DIR": str(folder / name / "checkpoints"),
        "SM_OUTPUT_DIR": str(folder / name / "output"),
    }


def ours(folder: Path, shape: Shape, checkpointing: bool) -> Measured:
    """train.py in a process of its own for the speed, in another under a profiler for the shares.

    Raises:
        SystemExit: a run failed; its output is printed.
    """
    settings = environment(folder, "speed", shape, checkpointing)
    printed = output([sys.executable, ROOT / "training/train.py"], environment=settings)
    rates = [float(x) for x in re.findall(r"^step=.*\btokens_per_second=(\S+)", printed, re.M)]
    peaks = [float(x) for x in re.findall(r"\bmax_memory_gb=(\S+)", printed)]
    settings = environment(folder, "profile", shape, checkpointing)
    told = output([sys.executable, "-m", "benchmarks.gpu", "--profile"], environment=settings)
    speed = statistics.harmonic_mean(rates[WARMUP_STEPS:])
    return Measured(
        "training/train.py", speed, max(peaks, default=0) * 1e9, json.loads(told.splitlines()[-1])
    )


def trl(folder: Path, shape: Shape, checkpointing: bool, tokens: int) -> Measured:
    """The same job by TRL's SFTTrainer, packed best-fit as its documentation has it."""
    cuda, attention = torch.cuda.is_available(), quickest_attention()
    settings = {
        "output_dir": str(folder / "trl"),
        "use_cpu": not cuda,
        "bf16": True,
        "model_init_kwargs": {"dtype": "bfloat16", "attn_implementation": attention},
        "packing": True,
        "max_length": shape.length,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": shape.step_packs,
        "gradient_checkpointing": checkpointing,
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    lora = {"r": shape.rank, "lora_alpha": 2 * shape.rank, "target_modules": list(TARGETS)}
    asked = {
        "weights": str(folder / "base"),
        "rows": str(folder / "rows/rows.jsonl"),
        "out": str(folder / "trl/model"),
        "threads": torch.get_num_threads(),
        "settings": settings,
        "lora": lora,
    }
    told = json.loads(output([sys.executable, PEER], told=json.dumps(asked)).splitlines()[-1])
    steady = statistics.mean(told["step_walls"][WARMUP_STEPS:])
    return Measured(f"TRL, {attention}", tokens / told["steps"] / steady, told["peak_bytes"])


def quickest_attention() -> str:
    """What the machine has, as train.py chooses it on a GPU as well."""
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if flash else "sdpa"


def profile() -> dict[str, float]:
    """Shares of train.py's time on the device (the CPU where there is no other), by kind of work.

    Kernels are told apart by their names; the output matrix counts as a matrix product.
    """
    from torch.profiler import ProfilerActivity

    from training import train

    cuda = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profiler:
        train.run(os.environ)
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        own = event.self_device_time_total if cuda else event.self_cpu_time_total
        spent[kind(event.key)] += own
    return {name: own / sum(spent.values()) for name, own in spent.most_common()}


def kind(name: str) -> str:
    """The kind of work that a kernel's or an operator's name tells of."""
    kinds = {
        "attention": r"flash|fmha|attention",
        "matmul": r"gemm|nvjet|cutlass|xmma|cublas|::(b|add)?mm$|::addmm|::linear$|matmul",
        "loss": r"softmax|nll_loss|cross_entropy",
        "copies": r"memcpy|memset|copy_",
    }
    found = (one for one, pattern in kinds.items() if re.search(pattern, name, re.IGNORECASE))
    return next(found, "the rest")


def table(measured: Sequence[Measured], shape: Shape, rows: Sequence[tuple[int, int]]) -> str:
    """A Markdown table; MFU is `Shape.flops` a second over `PEAK_FLOPS`."""
    lines = ["| | tokens/s | MFU | peak memory | time on |", "|---|---|---|---|---|"]
    a_token = shape.flops(rows) / sum(row for row, _ in rows)
    for one in measured:
        mfu = one.tokens_per_second * a_token / PEAK_FLOPS
        shares = ", ".join(f"{name} {share:.0%}" for name, share in one.shares.items()) or "–"
        peak = f"{one.peak_bytes / 1e9:.1f} GB" if one.peak_bytes else "–"
        lines.append(
            f"| {one.name} | {one.tokens_per_second:,.0f} | {mfu:.1%} | {peak} | {shares} |"
        )
    return "\n".join(lines)


def contestants(
    folder: Path, shape: Shape, checkpointing: bool, rows: Sequence[tuple[int, int]]
) -> Iterator[Measured]:
    yield ours(folder, shape, checkpointing)
    if importlib.util.find_spec("trl") is None:
        print("TRL is not installed here: train.py alone")
    else:
        yield trl(folder, shape, checkpointing, sum(row for row, _ in rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on the CPU as well")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.profile:
        print(json.dumps(profile()))
        return 0
    cuda = torch.cuda.is_available()
    if not cuda and not asked.tiny:
        print("skipped: torch finds no CUDA device here; --tiny tries the script on the CPU")
        return 0
    shape = TINY if asked.tiny else Shape()
    with tempfile.TemporaryDirectory(prefix="dropforge-gpu-") as name:
        folder = Path(name)
        save_base(folder / "base", shape, "cuda" if cuda else "cpu")
        torch.cuda.empty_cache()
        rows = save_rows(folder / "rows/rows.jsonl", shape)
        print(torch.cuda.get_device_name() if cuda else "CPU: no speed worth telling")
        print(table(list(contestants(folder, shape, asked.checkpointing, rows)), shape, rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
