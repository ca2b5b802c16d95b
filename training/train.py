"""LoRA fine-tuning of a causal language model on chat rows: one loop, read it top to bottom.

Follows SageMaker's container contract, so the same file runs on a GPU instance, and on a laptop
with folders named by environment variables:

reads   hyperparameters  $SM_HPS (JSON) or /opt/ml/input/config/hyperparameters.json
        train            $SM_CHANNEL_TRAIN or /opt/ml/input/data/train:
                         *.jsonl of {"messages": [...]} rows
        validation       (optional) likewise: its loss is measured before and after every epoch
        model            (optional) base weights, a Hugging Face directory; without it the
                         hyperparameter `base_model` names a directory, a recipe or a hub id
writes  adapter          $SM_MODEL_DIR or /opt/ml/model:
                         adapter, tokenizer, chat template, training.json
        checkpoints      $SM_CHECKPOINT_DIR or /opt/ml/checkpoints: checkpoint.pt to resume from,
                         and adapters/step-N, a usable adapter after every epoch
        failure          $SM_OUTPUT_DIR/failure or /opt/ml/output/failure: why it failed

The loss is taken on the last assistant message alone. Rows are batched by length and padded on the
left, never packed: no row can attend to another one. Layers below the first adapted one never
change, so each row goes through them once, not once an epoch.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

ROOT = Path("/opt/ml")
INTERRUPTED = 128 + signal.SIGTERM
IGNORED = -100
FROZEN_BYTES = 1 << 30
PROBE = [
    {"role": "system", "content": "You answer for support."},
    {"role": "user", "content": "Where is order 12-345?"},
]


class TrainingError(Exception):
    """Something the caller can put right; its message says what."""


# --- What is asked for ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that may be set, with the defaults of a model that has no recipe."""

    base_model: str = "smollm2-135m-instruct"
    epochs: int = 3
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    warmup_ratio: float = 0.05
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    batch_size: int = 8
    micro_batch_size: int = 0
    max_length: int = 1024
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_layers: int = 0
    lora_targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    gradient_checkpointing: bool = False
    checkpoint_steps: int = 50
    eval_rows: int = 256
    threads: int = 1
    seed: int = 7


# Inclusive limits. A micro batch of 0 is the whole batch; 0 adapted layers are all of them.
LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100),
    "learning_rate": (1e-8, 1.0),
    "warmup_ratio": (0, 1),
    "weight_decay": (0, 1),
    "max_grad_norm": (1e-6, 1e6),
    "batch_size": (1, 4096),
    "micro_batch_size": (0, 4096),
    "max_length": (8, 1 << 20),
    "lora_rank": (1, 1024),
    "lora_alpha": (1, 4096),
    "lora_dropout": (0, 0.9),
    "lora_layers": (0, 1024),
    "checkpoint_steps": (1, 1_000_000),
    "eval_rows": (1, 1_000_000),
    "threads": (1, 256),
    "seed": (0, 2**31 - 1),
}
SCHEDULES = ("cosine", "linear", "constant")


def read_hyperparameters(environ: Mapping[str, str], root: Path) -> Hyperparameters:
    """The job's hyperparameters over its recipe's over the defaults.

    SageMaker hands every value over as a string, its SDK as JSON in a string; numbers are accepted
    as they are. Keys that begin with `sagemaker_` belong to the platform.

    Raises:
        TrainingError: a name is unknown, a value is of another type or out of range, or the JSON is
        broken.
    """
    file = root / "input/config/hyperparameters.json"
    text = environ.get("SM_HPS") or (file.read_text() if file.exists() else "{}")
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrainingError(f"the hyperparameters are not JSON: {error}") from error
    if not isinstance(given, dict):
        raise TrainingError("the hyperparameters must be a JSON object")
    given = {name: value for name, value in given.items() if not name.startswith("sagemaker_")}
    asked = parse_hyperparameters(given)
    recipe = find_recipe(str(asked.get("base_model", Hyperparameters.base_model)))
    values = parse_hyperparameters(recipe.get("hyperparameters", {})) | asked
    return Hyperparameters(**values)


def parse_hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Typed and checked values of the names given.

    Raises:
        TrainingError: naming the hyperparameter and what would be right.
    """
    types = {field.name: type(field.default) for field in dataclasses.fields(Hyperparameters)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            valid = ", ".join(sorted(types))
            raise TrainingError(f'unknown hyperparameter "{name}"{hint}; valid ones: {valid}')
        values[name] = parse_value(name, value, types[name])
    return values


def parse_value(name: str, value: Any, kind: type) -> Any:
    """One hyperparameter's value as its type.

    Raises:
        TrainingError: the value is of another type or out of its limits.
    """
    text = str(value).strip().strip('"')
    low, high = LIMITS.get(name, (0, 0))
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if name == "schedule" and text not in SCHEDULES:
        raise TrainingError(f'hyperparameter "schedule" must be one of {", ".join(SCHEDULES)}')
    if kind is str and text:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    whole = kind is float or number == math.floor(number) if math.isfinite(number) else False
    if kind not in (int, float) or not whole or not low <= number <= high:
        kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        want = kinds[kind]
        between = f" from {low:g} to {high:g}" if name in LIMITS else ""
        raise TrainingError(f'hyperparameter "{name}" must be {want}{between}, not {value!r}')
    return kind(number)


def find_recipe(base_model: str) -> dict[str, Any]:
    """The recipe beside this file for a base model's name or hub id; empty if there is none."""
    folder = Path(__file__).resolve().parent / "recipes"
    for path in sorted(folder.glob("*.yaml")):
        import yaml

        recipe: dict[str, Any] = yaml.safe_load(path.read_text())
        if base_model.lower() in (path.stem, str(recipe["hub_id"]).lower()):
            return recipe
    return {}


def channel(name: str, environ: Mapping[str, str], root: Path) -> Path | None:
    """The folder of a data channel, or None where the job has no such channel."""
    path = Path(environ.get(f"SM_CHANNEL_{name.upper()}") or root / "input/data" / name)
    return path if path.exists() else None


# --- Rows -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One example as token ids; the loss is taken on the `completion` alone."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    states: torch.Tensor | None = None
    """What enters the first adapted layer, (tokens, width); see `keep_frozen_states`."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def read_messages(folder: Path) -> list[list[dict[str, str]]]:
    """The conversations of every .jsonl file in a channel, in file and line order.

    Raises:
        TrainingError: no file, no row, or a row that is not a conversation ending with the
        assistant.
    """
    files = sorted(folder.rglob("*.jsonl"))
    if not files:
        raise TrainingError(f"{folder} holds no .jsonl file")
    rows = []
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(parse_messages(line, f"{file.name} line {number}"))
    if not rows:
        raise TrainingError(f"{folder} holds no rows")
    return rows


def parse_messages(line: str, where: str) -> list[dict[str, str]]:
    """The messages of one line.

    Raises:
        TrainingError: naming the line and what is wrong with it.
    """
    try:
        messages = json.loads(line)["messages"]
        result = [{"role": str(m["role"]), "content": m["content"]} for m in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f'{where}: expected {{"messages": [{{"role", "content"}}]}}') from error
    if len(result) < 2 or result[-1]["role"] != "assistant":
        raise TrainingError(f"{where}: the last of at least two messages must be the assistant's")
    if not all(isinstance(m["content"], str) for m in result) or not result[-1]["content"].strip():
        raise TrainingError(f"{where}: every content must be a text, and the answer not empty")
    return result


def encode(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> Row:
    """Token ids of a conversation under the model's own chat template.

    The prompt is tokenised apart from the completion, so its ids are exactly those a server sends
    when it asks for the answer. The completion ends with the end-of-turn token, which the model
    must learn to say.

    Raises:
        TrainingError: the template refuses the conversation, or renders the answer inside the
        prompt.
    """
    try:
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        prompt = tokenizer.apply_chat_template(
            messages[:-1], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # templates raise jinja2 errors of their own making
        raise TrainingError(f"the chat template refuses a row: {error}") from error
    if not whole.startswith(prompt):
        raise TrainingError("the chat template renders a prompt differently once it is answered")
    completion = tokenizer(whole[len(prompt) :], add_special_tokens=False).input_ids
    ends = [at for at, token in enumerate(completion) if token in end_tokens(tokenizer)]
    completion = completion[: ends[-1] + 1] if ends else [*completion, tokenizer.eos_token_id]
    return Row(tuple(tokenizer(prompt, add_special_tokens=False).input_ids), tuple(completion))


def end_tokens(tokenizer: Any) -> set[int]:
    """Ids that end a turn: the tokenizer's own, and Llama 3's, which is not its eos token."""
    names = {"<|eot_id|>", "<|im_end|>"} & set(tokenizer.all_special_tokens)
    return {tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(sorted(names))}


def encode_rows(tokenizer: Any, folder: Path, max_length: int) -> tuple[list[Row], int]:
    """Rows of a channel, and how many were left out for being longer than `max_length` tokens.

    A long row is left out whole: a cut answer would teach the model to stop in mid-sentence.
    """
    rows = [encode(tokenizer, messages) for messages in read_messages(folder)]
    short = [row for row in rows if len(row) <= max_length]
    if not short:
        raise TrainingError(f"every row of {folder} is longer than max_length={max_length} tokens")
    return short, len(rows) - len(short)


def plan_batches(lengths: Sequence[int], size: int, epoch: int, seed: int) -> list[list[int]]:
    """Row indices of an epoch's batches: neighbours in length, drawn from seed and epoch."""
    draw = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    order = list(range(len(lengths)))
    draw.shuffle(order)
    window = size * 8
    batches = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches += [near[at : at + size] for at in range(0, len(near), size)]
    draw.shuffle(batches)
    return batches


def collate(rows: Sequence[Row], pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Rows padded on the left, so that all completions end together; labels cover the completions'
    columns only.

    Shapes: input_ids, attention_mask, position_ids (rows, longest row); labels (rows, longest
    completion); inputs_embeds (rows, longest row, width) in place of input_ids where the rows'
    frozen states are kept.
    """
    width = max(map(len, rows))
    tail = max(len(row.completion) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), tail), IGNORED)
    for at, row in enumerate(rows):
        ids[at, width - len(row) :] = torch.tensor(row.prompt + row.completion)
        mask[at, width - len(row) :] = 1
        labels[at, tail - len(row.completion) :] = torch.tensor(row.completion)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    batch = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "labels": labels}
    states = [row.states for row in rows if row.states is not None]
    if len(states) == len(rows):
        del batch["input_ids"]
        batch["inputs_embeds"] = pad_sequence(states, batch_first=True, padding_side="left")
    return {name: tensor.to(device) for name, tensor in batch.items()}


# --- Model ----------------------------------------------------------------------------------------


def pick_device() -> tuple[torch.device, torch.dtype]:
    """A GPU in bf16, or the CPU: in bf16 where it has instructions for it, else in fp32."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.bfloat16
    fast = "avx512_bf16" in cpu_flags()
    return torch.device("cpu"), torch.bfloat16 if fast else torch.float32


def cpu_flags() -> str:
    """The CPU's feature flags as Linux lists them; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def load_model(weights: str, hp: Hyperparameters, device: torch.device, dtype: torch.dtype) -> Any:
    """The base model with fresh adapters, in fp32, on its top `lora_layers` layers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(hp.seed)
    attention = "sdpa" if device.type == "cuda" else "eager"  # short rows on a CPU: a fifth faster
    base = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype, attn_implementation=attention)
    base.get_output_embeddings().register_forward_pre_hook(contiguous)
    depth = base.config.num_hidden_layers
    top = list(range(depth - min(hp.lora_layers or depth, depth), depth))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=hp.lora_rank,
        lora_alpha=hp.lora_alpha,
        lora_dropout=hp.lora_dropout,
        target_modules=[name.strip() for name in hp.lora_targets.split(",")],
        layers_to_transform=top,
    )
    try:
        model = get_peft_model(base.to(device), config)
    except ValueError as error:
        raise TrainingError(f'hyperparameter "lora_targets" does not fit: {error}') from error
    config.base_model_name_or_path = hp.base_model
    if hp.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def contiguous(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Packs the slice of hidden states that logits are computed from.

    On an unpacked slice, torch multiplies by a copy of the whole vocabulary matrix for every row of
    the batch.
    """
    return (inputs[0].contiguous(),)


def completion_loss(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy over the completions' tokens (nats), and how many of them the model had
    right.

    Logits are computed for the completions' columns and the one before them, not for the prompt.
    """
    labels = batch["labels"]
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    keep = labels.shape[1] + 1
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits[:, :-1]
    logits, labels = logits.flatten(0, 1), labels.flatten()
    wanted = labels != IGNORED
    logits, labels = logits[wanted].float(), labels[wanted]
    right = int((logits.detach().argmax(-1) == labels).sum())
    return functional.cross_entropy(logits, labels, reduction="sum"), right


@torch.no_grad()
def evaluate(model: Any, rows: Sequence[Row], hp: Hyperparameters, pad: int) -> float:
    """Mean cross-entropy per completion token over `rows` (nats)."""
    model.eval()
    size = hp.micro_batch_size or hp.batch_size
    ordered = sorted(rows, key=len)
    total = 0.0
    for start in range(0, len(ordered), size):
        loss, _ = completion_loss(model, collate(ordered[start : start + size], pad, model.device))
        total += loss.item()
    model.train()
    return total / sum(len(row.completion) for row in rows)


class LayerReached(Exception):  # noqa: N818 - no error: it ends a pass that needs no more
    """Ends a forward pass early; carries what would have entered the layer."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class Passthrough(torch.nn.Module):
    """Stands where a frozen layer stood."""

    def forward(self, states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return states


def keep_frozen_states(model: Any, rows: Sequence[Row], hp: Hyperparameters, pad: int) -> list[Row]:
    """Rows with what enters the first adapted layer, and the model without the layers below it.

    With the top 10 of 30 layers adapted, an epoch takes two thirds of the time. Rows come back as
    they are where that is of no use (all layers adapted), would take over `FROZEN_BYTES`, or
    changes the loss of the first batch by more than rounding does (an architecture that treats
    embeddings in another way than Llama's).
    """
    layers = getattr(model.get_base_model().get_decoder(), "layers", [])
    frozen = len(layers) - min(hp.lora_layers or len(layers), len(layers))
    width = model.config.hidden_size * model.dtype.itemsize
    if not frozen or not rows or sum(map(len, rows)) * width > FROZEN_BYTES:
        return list(rows)
    size = hp.micro_batch_size or hp.batch_size
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    kept = list(rows)
    for start in range(0, len(order), size):
        piece = order[start : start + size]
        states = enter_layer(
            model, layers[frozen], collate([rows[at] for at in piece], pad, model.device)
        )
        for at, state in zip(piece, states, strict=True):
            kept[at] = dataclasses.replace(rows[at], states=state[-len(rows[at]) :].clone())
    below = [layers[at] for at in range(frozen)]
    expected = evaluate(model, rows[:size], hp, pad)
    for at in range(frozen):
        layers[at] = Passthrough()
    if not math.isclose(evaluate(model, kept[:size], hp, pad), expected, rel_tol=0.01):
        for at in range(frozen):
            layers[at] = below[at]
        return list(rows)
    return kept


@torch.no_grad()
def enter_layer(
    model: Any, layer: torch.nn.Module, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The hidden states that enter `layer` for a batch: (rows, longest row, width)."""

    def stop(_module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise LayerReached(inputs[0] if inputs else named["hidden_states"])

    hook = layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**{name: batch[name] for name in batch if name != "labels"}, use_cache=False)
    except LayerReached as reached:
        return reached.states
    finally:
        hook.remove()
    raise AssertionError("the forward pass did not reach the layer")


def learning_rate(step: int, steps: int, hp: Hyperparameters) -> float:
    """The rate of a step, counted from 0: warm-up, then the schedule, down to a tenth."""
    warmup = round(steps * hp.warmup_ratio)
    if step < warmup:
        return hp.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    shape = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "linear": 1 - done,
        "constant": 1.0,
    }
    return hp.learning_rate * (0.1 + 0.9 * shape[hp.schedule])


# --- Checkpoints ----------------------------------------------------------------------------------


def fingerprint(hp: Hyperparameters, rows: Sequence[Row]) -> str:
    """Says whether a checkpoint belongs to this job: same hyperparameters, same rows."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(hp), sort_keys=True).encode())
    for row in rows:
        digest.update(repr((row.prompt, row.completion)).encode())
    return digest.hexdigest()


def adapter_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_checkpoint(folder: Path, progress: Progress, model: Any, optimizer: Any, key: str) -> None:
    """Write all that a resumed run needs to one file, replaced atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "fingerprint": key,
        "progress": dataclasses.asdict(progress),
        "adapter": {name: p.detach().cpu() for name, p in adapter_parameters(model).items()},
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all(),
    }
    scratch = folder / "checkpoint.pt.partial"
    torch.save(state, scratch)
    scratch.replace(folder / "checkpoint.pt")


def load_checkpoint(folder: Path, model: Any, optimizer: Any, key: str) -> Progress | None:
    """Restore the run that `folder` holds; None if it holds none of this job."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["fingerprint"] != key:
        print(
            f"{path} is of another job (other rows or hyperparameters): starting anew", flush=True
        )
        return None
    with torch.no_grad():
        for name, parameter in adapter_parameters(model).items():
            parameter.copy_(state["adapter"][name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return Progress(**state["progress"])


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the adapter with the tokenizer and chat template it was trained under."""
    model.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)


# --- The loop -------------------------------------------------------------------------------------


@dataclass
class Progress:
    """Where a run stands; part of its checkpoint."""

    step: int = 0
    trained_tokens: int = 0
    seconds: float = 0.0
    train_loss: float = math.nan
    losses: list[list[float]] = dataclasses.field(default_factory=list)
    eval_losses: list[list[float]] = dataclasses.field(default_factory=list)


class Interruption:
    """Whether the platform has asked the process to stop, as when it takes a spot instance back."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _signal: int, _frame: object) -> None:
        self.asked = True


def report(**values: float) -> None:
    """One progress line on stdout, in the form that SageMaker's metric definitions match."""
    print(" ".join(f"{k}={v:.6g}" for k, v in values.items()), flush=True)


def all_batches(rows: Sequence[Row], hp: Hyperparameters) -> list[list[list[int]]]:
    """The batches of every epoch, as row indices."""
    lengths = [len(row) for row in rows]
    return [plan_batches(lengths, hp.batch_size, e, hp.seed) for e in range(hp.epochs)]


def micro_batches(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """A batch in pieces of at most `size` rows; 0 is one piece."""
    size = size or len(rows)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def train_step(
    model: Any, optimizer: Any, rows: Sequence[Row], hp: Hyperparameters, pad: int
) -> tuple[float, float]:
    """One optimiser step on a batch; its mean loss per completion token (nats) and its token
    accuracy.

    Pieces are weighted by their tokens, so that splitting a batch does not change its gradient.
    """
    tokens = sum(len(row.completion) for row in rows)
    total, right = 0.0, 0
    for piece in micro_batches(rows, hp.micro_batch_size):
        loss, hits = completion_loss(model, collate(piece, pad, model.device))
        torch.autograd.backward(loss / tokens)
        total, right = total + loss.item(), right + hits
    torch.nn.utils.clip_grad_norm_(adapter_parameters(model).values(), hp.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if not math.isfinite(total):
        raise TrainingError("the loss is not finite any more; try a lower learning_rate")
    return total / tokens, right / tokens


def run(environ: Mapping[str, str], root: Path = ROOT) -> bool:
    """Train to the end, or until SIGTERM; whether it came to the end.

    Raises:
        TrainingError: the job cannot be run as it was asked for.
    """
    interruption = Interruption()
    started = time.monotonic()
    hp = read_hyperparameters(environ, root)
    model_dir = Path(environ.get("SM_MODEL_DIR") or root / "model")
    checkpoint_dir = Path(environ.get("SM_CHECKPOINT_DIR") or root / "checkpoints")
    train_dir = channel("train", environ, root)
    if train_dir is None:
        raise TrainingError("the job has no `train` channel")
    weights_dir = channel("model", environ, root)
    weights = str(weights_dir or find_recipe(hp.base_model).get("hub_id") or hp.base_model)

    device, dtype = pick_device()
    torch.set_num_threads(hp.threads)
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(weights)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    rows, too_long = encode_rows(tokenizer, train_dir, hp.max_length)
    validation_dir = channel("validation", environ, root)
    held_out = (
        encode_rows(tokenizer, validation_dir, hp.max_length)[0][: hp.eval_rows]
        if validation_dir
        else []
    )
    epochs = all_batches(rows, hp)
    batches = [batch for epoch in epochs for batch in epoch]
    steps, epoch_steps = len(batches), len(epochs[0])
    print(
        f"rows={len(rows)} rows_too_long={too_long} validation_rows={len(held_out)} steps={steps} "
        f"epochs={hp.epochs} device={device.type} dtype={str(dtype).removeprefix('torch.')}",
        flush=True,
    )

    model = load_model(weights, hp, device, dtype)
    optimizer = torch.optim.AdamW(
        adapter_parameters(model).values(), lr=hp.learning_rate, weight_decay=hp.weight_decay
    )
    key = fingerprint(hp, rows)
    kept = keep_frozen_states(model, [*rows, *held_out], hp, pad)
    rows, held_out = kept[: len(rows)], kept[len(rows) :]
    progress = load_checkpoint(checkpoint_dir, model, optimizer, key) or Progress()
    if progress.step:
        print(f"resuming after step {progress.step} of {steps}", flush=True)
    elif held_out:
        progress.eval_losses.append([0, evaluate(model, held_out, hp, pad)])
        report(step=0, steps=steps, eval_loss=progress.eval_losses[-1][1])
    model.train()

    while progress.step < steps:
        before = time.monotonic()
        batch = [rows[at] for at in batches[progress.step]]
        rate = learning_rate(progress.step, steps, hp)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, accuracy = train_step(model, optimizer, batch, hp, pad)
        took = time.monotonic() - before
        tokens = sum(map(len, batch))
        progress.step += 1
        progress.seconds += took
        progress.trained_tokens += tokens
        progress.train_loss = loss
        progress.losses.append([progress.step, loss, accuracy])
        report(
            step=progress.step,
            steps=steps,
            train_loss=loss,
            train_accuracy=accuracy,
            lr=rate,
            tokens_per_second=tokens / took,
        )
        ends_epoch = progress.step % epoch_steps == 0
        if ends_epoch and held_out:
            progress.eval_losses.append([progress.step, evaluate(model, held_out, hp, pad)])
            report(step=progress.step, steps=steps, eval_loss=progress.eval_losses[-1][1])
        if ends_epoch:
            save_adapter(model, tokenizer, checkpoint_dir / "adapters" / f"step-{progress.step}")
        if ends_epoch or interruption.asked or progress.step % hp.checkpoint_steps == 0:
            save_checkpoint(checkpoint_dir, progress, model, optimizer, key)
        if interruption.asked and progress.step < steps:
            print(
                f"stopped after step {progress.step} of {steps}; a rerun resumes there", flush=True
            )
            return False

    save_adapter(model, tokenizer, model_dir)
    metadata = {
        "base_model": hp.base_model,
        "hyperparameters": dataclasses.asdict(hp),
        "rows": {"train": len(rows), "validation": len(held_out), "too_long": too_long},
        "steps": steps,
        "trained_tokens": progress.trained_tokens,
        "train_loss": progress.train_loss,
        "train_losses": progress.losses,
        "eval_losses": progress.eval_losses,
        "training_seconds": round(progress.seconds, 3),
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "versions": versions(),
        "prompt_probe": {"messages": PROBE, "token_ids": probe_ids(tokenizer)},
    }
    (model_dir / "training.json").write_text(json.dumps(metadata, indent=2) + "\n")
    print(
        f"finished steps={steps} trained_tokens={progress.trained_tokens} "
        f"training_seconds={progress.seconds:.1f} total_seconds={time.monotonic() - started:.1f}",
        flush=True,
    )
    return True


def probe_ids(tokenizer: Any) -> list[int]:
    """The ids of a fixed prompt: a server that renders it otherwise would serve worse answers."""
    text = tokenizer.apply_chat_template(PROBE, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def versions() -> dict[str, str]:
    """Versions of what the weights depend on."""
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "tokenizers")
    return {name: version(name) for name in names}


def main() -> int:
    """The exit code: 0 finished, 143 interrupted and resumable, 1 failed (see the failure file)."""
    output = Path(os.environ.get("SM_OUTPUT_DIR") or ROOT / "output")
    try:
        return 0 if run(os.environ) else INTERRUPTED
    except Exception as error:
        if not isinstance(error, TrainingError):
            traceback.print_exc()
        reason = (
            str(error) if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"
        )
        print(f"failed: {reason}", file=sys.stderr, flush=True)
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").write_text(reason[:1024])
        return 1


if __name__ == "__main__":
    sys.exit(main())
