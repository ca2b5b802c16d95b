"""LoRA fine-tuning of a causal language model on chat rows: one loop, read it top to bottom.

Follows SageMaker's container contract, so the same file runs on a GPU instance, and on a laptop
with folders named by environment variables:

reads   hyperparameters  $SM_HPS (JSON) or /opt/ml/input/config/hyperparameters.json;
                         `python train.py --help` lists them
        train            $SM_CHANNEL_TRAIN or /opt/ml/input/data/train:
                         *.jsonl of {"messages": [...]} rows, or for `method` dpo of OpenAI's
                         preference rows {"input", "preferred_output", "non_preferred_output"}
        validation       (optional) likewise: its loss is measured before training, after every
                         epoch or every `eval_steps` steps, and at the end
        model            (optional) base weights, a Hugging Face directory; without it the
                         hyperparameter `base_model` names a directory, a recipe or a hub id
writes  adapter          $SM_MODEL_DIR or /opt/ml/model:
                         adapter, tokenizer, chat template, training.json
        checkpoints      $SM_CHECKPOINT_DIR or /opt/ml/checkpoints: checkpoint.pt to resume from,
                         adapters/step-N, a usable adapter after every epoch, and events.jsonl,
                         the loss curve so far
        parity           $SM_OUTPUT_DATA_DIR, $SM_OUTPUT_DIR/data or /opt/ml/output/data:
                         parity.json, greedy answers that a server must repeat
        failure          $SM_OUTPUT_DIR/failure or /opt/ml/output/failure: why it failed

The loss is taken on the last assistant message alone. No row can attend to another one: rows are
batched by length and padded on the left, or packed one after the other, each with positions of its
own; on a CPU, what all rows of a batch begin with is computed once. Layers below the first adapted
one never change, so each row goes through them once, not once an epoch. A run that was stopped or
killed goes on from its checkpoint to the same weights.

With several GPUs ($SM_NUM_GPUS, or all there are) the script starts itself once for each of them.
Every process holds the adapters and takes its share of each batch; `fsdp` spreads the base model.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib.util
import itertools
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from torch import distributed
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

ROOT = Path("/opt/ml")
INTERRUPTED = 128 + signal.SIGTERM
FROZEN_BYTES = 1 << 30
PROBE = [
    {"role": "system", "content": "You answer for support."},
    {"role": "user", "content": "Where is order 12-345?"},
]
ANSWER = {"role": "assistant", "content": "It is on its way."}


class TrainingError(Exception):
    """Something the caller can put right; its message says what."""


# --- What is asked for ----------------------------------------------------------------------------


def setting(
    default: Any,
    says: str,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A hyperparameter: its default, what it means, and its inclusive limits or its choices."""
    about = {"says": says, "limits": limits, "choices": choices}
    return dataclasses.field(default=default, metadata=about)


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that may be set, with the defaults of a model that has no recipe."""

    base_model: str = setting("smollm2-135m-instruct", "a recipe, a directory or a hub id")
    method: str = setting(
        "sft", "learn answers, or from pairs which is preferred", None, ("sft", "dpo")
    )
    dpo_beta: float = setting(0.1, "how closely dpo stays with the base model", (1e-4, 100))
    epochs: int = setting(3, "passes over the training rows", (1, 100))
    learning_rate: float = setting(2e-4, "the highest rate", (1e-8, 1.0))
    schedule: str = setting(
        "cosine", "how the rate falls to a tenth", None, ("cosine", "linear", "constant")
    )
    warmup_ratio: float = setting(0.05, "share of the steps in which the rate rises", (0, 1))
    weight_decay: float = setting(0.0, "AdamW's", (0, 1))
    max_grad_norm: float = setting(1.0, "longer gradients are scaled down to it", (1e-6, 1e6))
    batch_size: int = setting(8, "rows (dpo: pairs) a step, on all GPUs together", (1, 4096))
    micro_batch_size: int = setting(0, "rows a forward pass when not packed; 0: all", (0, 4096))
    max_length: int = setting(
        1024, "tokens of the longest row, and of a packed sequence", (8, 1 << 20)
    )
    packing: str = setting(
        "auto",
        "rows one after the other, not padded; auto: on a GPU",
        None,
        ("auto", "true", "false"),
    )
    adapter: str = setting(
        "lora", "which kind of LoRA; qlora: a 4-bit base", None, ("lora", "dora", "rslora", "qlora")
    )
    lora_rank: int = setting(8, "rank of the adapters", (1, 1024))
    lora_alpha: int = setting(16, "their scale, over the rank (rslora: over its root)", (1, 4096))
    lora_dropout: float = setting(0.0, "dropout before the adapters", (0, 0.9))
    lora_layers: int = setting(0, "so many top layers are adapted; 0: all", (0, 1024))
    lora_targets: str = setting(
        "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "the matrices adapted"
    )
    dtype: str = setting(
        "auto",
        "of the base model; auto: what the device does",
        None,
        ("auto", "bf16", "fp16", "fp32"),
    )
    loss_chunk: int = setting(
        0, "completion tokens whose logits exist at once; 0: all", (0, 1 << 20)
    )
    gradient_checkpointing: bool = setting(False, "recompute activations: slower, less memory")
    fsdp: bool = setting(False, "with several GPUs, spread the base model over them")
    eval_rows: int = setting(256, "validation rows at most", (1, 1_000_000))
    eval_steps: int = setting(0, "steps between evaluations; 0: an epoch", (0, 1_000_000))
    early_stopping_patience: int = setting(
        0, "evaluations without improvement that end the run; 0: none do", (0, 1000)
    )
    early_stopping_threshold: float = setting(
        0.0, "nats the loss must fall by to have improved", (0, 100)
    )
    keep_best: bool = setting(
        True, "with validation rows, write the adapter of the lowest validation loss, not the last"
    )
    checkpoint_steps: int = setting(50, "steps between checkpoints", (1, 1_000_000))
    parity_prompts: int = setting(3, "validation prompts in parity.json; 0: no file", (0, 1000))
    parity_tokens: int = setting(24, "tokens of each answer in parity.json", (1, 4096))
    threads: int = setting(1, "CPU threads", (1, 256))
    seed: int = setting(7, "of weights, order and dropout", (0, 2**31 - 1))


SETTINGS = {field.name: field for field in dataclasses.fields(Hyperparameters)}


def read_hyperparameters(environ: Mapping[str, str], root: Path) -> Hyperparameters:
    """The job's hyperparameters over its recipe's over the defaults.

    SageMaker hands every value over as a string, its SDK as JSON in a string; numbers are accepted
    as they are. Keys that begin with `sagemaker_` belong to the platform.

    Raises:
        TrainingError: a name is unknown, a value is of another type or out of range, two values
        exclude each other, or the JSON is broken.
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
    hp = Hyperparameters(**(recipe.get("hyperparameters", {}) | asked))
    if hp.adapter == "qlora" and hp.fsdp:
        raise TrainingError("a 4-bit base cannot be spread: choose adapter qlora or fsdp, not both")
    return hp


def parse_hyperparameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Typed and checked values of the names given.

    Raises:
        TrainingError: naming the hyperparameter and what would be right.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in SETTINGS:
            raise TrainingError(unknown("hyperparameter", name, SETTINGS))
        values[name] = parse_value(name, value)
    return values


def unknown(kind: str, name: str, valid: Mapping[str, Any]) -> str:
    """What is said of a name that does not exist."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f'unknown {kind} "{name}"{hint}; valid ones: {", ".join(sorted(valid))}'


def parse_value(name: str, value: Any) -> Any:
    """One hyperparameter's value as its type.

    Raises:
        TrainingError: the value is of another type, out of its limits, or none of its choices.
    """
    text = str(value).strip().strip('"')
    kind, about = type(SETTINGS[name].default), SETTINGS[name].metadata
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if about["choices"]:
        text = text.lower()
        if text not in about["choices"]:
            choices = ", ".join(about["choices"])
            raise TrainingError(f'hyperparameter "{name}" must be one of {choices}, not {value!r}')
    if kind is str and text:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    low, high = about["limits"] or (0, 0)
    whole = kind is float or number == math.floor(number) if math.isfinite(number) else False
    if kind not in (int, float) or not whole or not low <= number <= high:
        kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        between = f" from {low:g} to {high:g}" if about["limits"] else ""
        raise TrainingError(
            f'hyperparameter "{name}" must be {kinds[kind]}{between}, not {value!r}'
        )
    return kind(number)


def find_recipe(base_model: str) -> dict[str, Any]:
    """The recipe beside this file for a base model's name or hub id; empty if there is none.

    Raises:
        TrainingError: the recipe has a wrong key or value; its file is named.
    """
    folder = Path(__file__).resolve().parent / "recipes"
    for path in sorted(folder.glob("*.yaml")):
        import yaml

        try:
            recipe = check_recipe(yaml.safe_load(path.read_text()))
        except (TrainingError, yaml.YAMLError) as error:
            raise TrainingError(f"recipes/{path.name}: {error}") from error
        if base_model.lower() in (path.stem, str(recipe["hub_id"]).lower()):
            return recipe
    return {}


def check_recipe(recipe: Any) -> dict[str, Any]:
    """A recipe with its hyperparameters typed and checked.

    Raises:
        TrainingError: naming the key.
    """
    valid: dict[str, None] = dict.fromkeys(("hub_id", "hyperparameters"))
    if not isinstance(recipe, dict) or "hub_id" not in recipe:
        raise TrainingError("a recipe is a mapping with the key hub_id")
    for key in recipe:
        if key not in valid:
            raise TrainingError(unknown("key", str(key), valid))
    return recipe | {"hyperparameters": parse_hyperparameters(recipe.get("hyperparameters") or {})}


def usage() -> str:
    """What `--help` prints."""
    lines = [
        "python train.py: fine-tunes a causal language model with LoRA on chat rows.",
        "",
        "Hyperparameters are a JSON object in $SM_HPS or in the file",
        "/opt/ml/input/config/hyperparameters.json; a recipe (recipes/*.yaml) of the base model",
        "goes before the defaults. Folders are those of SageMaker's container contract, or what",
        "$SM_CHANNEL_TRAIN, $SM_CHANNEL_VALIDATION, $SM_CHANNEL_MODEL, $SM_MODEL_DIR,",
        "$SM_CHECKPOINT_DIR, $SM_OUTPUT_DIR and $SM_OUTPUT_DATA_DIR say:",
        "",
        """  SM_HPS='{"epochs": 2}' SM_CHANNEL_TRAIN=rows SM_MODEL_DIR=out python train.py""",
        "",
        "The same command run again resumes from the checkpoint. With $SM_NUM_GPUS (else all GPUs",
        "there are) over 1 it starts itself under torch.distributed.run.",
        "",
    ]
    for name, field in SETTINGS.items():
        about = field.metadata
        default = str(field.default).lower() if type(field.default) is bool else field.default
        span = ""
        if about["choices"]:
            span = " | ".join(about["choices"])
        elif about["limits"]:
            span = "{:g} to {:g}".format(*about["limits"])
        lines.append(f"  {name} = {default}" + (f"   [{span}]" if span else ""))
        lines.append(f"      {about['says']}")
    return "\n".join(lines)


def channel(name: str, environ: Mapping[str, str], root: Path) -> Path | None:
    """The folder of a data channel, or None where the job has no such channel."""
    path = Path(environ.get(f"SM_CHANNEL_{name.upper()}") or root / "input/data" / name)
    return path if path.exists() else None


# --- Rows -----------------------------------------------------------------------------------------

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Row:
    """One example as token ids; the loss is taken on the `completion` alone."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    states: torch.Tensor | None = None
    """What enters the first adapted layer, (tokens, width); see `keep_frozen_states`."""
    reference: float = 0.0
    """The completion's log-probability under the base model (nats); see `keep_references`."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Itself: an example is a row, or a pair of them."""
        return (self,)


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt: the preferred one, and the other."""

    chosen: Row
    rejected: Row

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Both, the preferred one first."""
        return (self.chosen, self.rejected)


Example = Row | Pair


def rows_of(examples: Sequence[Example]) -> list[Row]:
    """The rows of all examples, in order."""
    return [row for example in examples for row in example.rows]


def regroup(examples: Sequence[Example], rows: Sequence[Row]) -> list[Example]:
    """Examples with these rows in place of their own."""
    left = iter(rows)
    return [Pair(next(left), next(left)) if isinstance(e, Pair) else next(left) for e in examples]


def read_conversations(folder: Path, method: str = "sft") -> list[tuple[Messages, ...]]:
    """The conversations of every .jsonl file in a channel, in file and line order: one for each
    line, or for dpo the one with the preferred answer and the one with the other.

    Raises:
        TrainingError: no file, no row, or a row that is not a conversation ending with the
        assistant.
    """
    files = sorted(folder.rglob("*.jsonl"))
    if not files:
        raise TrainingError(f"{folder} holds no .jsonl file")
    parse = parse_preference if method == "dpo" else parse_messages
    found: list[tuple[Messages, ...]] = []
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    found.append(parse(line, f"{file.name} line {number}"))
    if not found:
        raise TrainingError(f"{folder} holds no rows")
    return found


def parse_messages(line: str, where: str) -> tuple[Messages]:
    """The messages of one line.

    Raises:
        TrainingError: naming the line and what is wrong with it.
    """
    try:
        messages = json.loads(line)["messages"]
        result = [{"role": str(m["role"]), "content": m["content"]} for m in messages]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f'{where}: expected {{"messages": [{{"role", "content"}}]}}') from error
    return (check_messages(result, where),)


def parse_preference(line: str, where: str) -> tuple[Messages, Messages]:
    """The two conversations of one line in OpenAI's preference format.

    Raises:
        TrainingError: naming the line and what is wrong with it.
    """
    try:
        row = json.loads(line)
        prompt = [
            {"role": str(m["role"]), "content": m["content"]} for m in row["input"]["messages"]
        ]
        chosen, rejected = (
            prompt + [{"role": str(m["role"]), "content": m["content"]} for m in row[name]]
            for name in ("preferred_output", "non_preferred_output")
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f'{where}: expected {{"input": {{"messages": [...]}}, "preferred_output": [...], '
            '"non_preferred_output": [...]}'
        ) from error
    if not len(chosen) == len(rejected) == len(prompt) + 1:
        raise TrainingError(f"{where}: each output must be one message")
    return check_messages(chosen, where), check_messages(rejected, where)


def check_messages(messages: Messages, where: str) -> Messages:
    """The messages, if they are texts that end with an answer.

    Raises:
        TrainingError: naming the line and what is wrong with it.
    """
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise TrainingError(f"{where}: the last of at least two messages must be the assistant's")
    texts = all(isinstance(m["content"], str) for m in messages)
    if not texts or not messages[-1]["content"].strip():
        raise TrainingError(f"{where}: every content must be a text, and the answer not empty")
    return messages


# --- Chat templates -------------------------------------------------------------------------------

PINNED_DATE = "{%- macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
PINNED_THINKING = "{%- set enable_thinking = false %}"
FOLDED_SYSTEM = (
    "{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + "
    "messages[1]['content']}] + messages[2:] if messages|length > 1 and "
    "messages[0]['role'] == 'system' else messages %}"
)


def pin_template(tokenizer: Any) -> None:
    """Makes the chat template render the same on every day and every server.

    The template is written with the adapter, so what is put before it holds for whoever serves it.
    A date of today (Llama 3.2's) becomes the one that Llama 3.1's template falls back to; a
    thinking mode (Qwen3's) is off; a system message that the template refuses (Mistral's first
    ones) or forgets once there is an answer (Mistral's v0.3) goes before the first user message.
    Other templates stay as they are.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return
    if "strftime_now" in template:
        template = PINNED_DATE + template
    if "enable_thinking" in template:
        template = PINNED_THINKING + template
    tokenizer.chat_template = template
    if not takes(tokenizer, [*PROBE, ANSWER]) and takes(tokenizer, [*PROBE[1:], ANSWER]):
        tokenizer.chat_template = FOLDED_SYSTEM + template


def takes(tokenizer: Any, messages: Messages) -> bool:
    """Whether the chat template renders the conversation, and its prompt as the beginning of it."""
    try:
        encode(tokenizer, messages)
    except TrainingError:
        return False
    return True


def render_prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a prompt, as a server sends it."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False).input_ids)


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


# --- Channels and batches -------------------------------------------------------------------------


@dataclass(frozen=True)
class Channel:
    """A channel's examples, how many were too long, and the prompts of its shortest ones."""

    examples: list[Example] = dataclasses.field(default_factory=list)
    too_long: int = 0
    prompts: list[Messages] = dataclasses.field(default_factory=list)


def encode_channel(tokenizer: Any, folder: Path | None, hp: Hyperparameters) -> Channel:
    """The examples of a channel; none where there is no such channel.

    A row over `max_length` tokens is left out whole: a cut answer would teach the model to stop in
    mid-sentence.

    Raises:
        TrainingError: the channel is empty, or holds what cannot be trained on.
    """
    if folder is None:
        return Channel()
    kept: list[tuple[Example, Messages]] = []
    conversations = read_conversations(folder, hp.method)
    for conversation in conversations:
        rows = [encode(tokenizer, messages) for messages in conversation]
        if max(map(len, rows)) <= hp.max_length:
            kept.append((Pair(*rows) if len(rows) == 2 else rows[0], conversation[0][:-1]))
    if not kept:
        raise TrainingError(
            f"every row of {folder} is longer than max_length={hp.max_length} tokens"
        )
    shortest = sorted(kept, key=lambda example: len(example[0]))[: hp.parity_prompts]
    examples = [example for example, _ in kept]
    return Channel(examples, len(conversations) - len(kept), [prompt for _, prompt in shortest])


def plan_batches(
    lengths: Sequence[int], size: int, epoch: int, seed: int, *, near: bool = True
) -> list[list[int]]:
    """Row indices of an epoch's batches, drawn from seed and epoch; `near`: neighbours in length,
    which packed rows need not be."""
    draw = random.Random(f"{seed}/{epoch}")  # noqa: S311 - an order, not a secret
    order = list(range(len(lengths)))
    draw.shuffle(order)
    window = size * 8 if near else size
    batches = []
    for start in range(0, len(order), window):
        ordered = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches += [ordered[at : at + size] for at in range(0, len(ordered), size)]
    draw.shuffle(batches)
    return batches


def pack(lengths: Mapping[int, int], room: int) -> list[list[int]]:
    """Rows in sequences of at most `room` tokens: each, the longest first, in the first sequence
    that has room for it (first-fit decreasing, within 11/9 of the fewest sequences possible).

    Where a row stands in a batch follows from its length alone, so packing is repeatable.
    """
    packs: list[list[int]] = []
    left: list[int] = []
    for row in sorted(lengths, key=lambda at: -lengths[at]):
        fits = (at for at, free in enumerate(left) if free >= lengths[row])
        at = next(fits, len(packs))
        if at == len(packs):
            packs.append([])
            left.append(room)
        packs[at].append(row)
        left[at] -= lengths[row]
    return packs


def collate(
    rows: Sequence[Row], pad: int, device: torch.device, *, packed: bool = False
) -> dict[str, torch.Tensor]:
    """Rows as one batch: padded on the left, or packed into one sequence.

    Packed rows are told apart by `position_ids`, which begin anew with each; there must be no
    attention mask then. In place of input_ids come inputs_embeds where the rows' frozen states are
    kept.

    Shapes: input_ids, position_ids and, padded only, attention_mask (rows, longest row), packed
    (1, all tokens); inputs_embeds (…, width). `labels` are the completions' tokens, row after row,
    and `predicted_at` where in the flattened batch each is predicted from, one token earlier.
    """
    width = sum(map(len, rows)) if packed else max(map(len, rows))
    height = 1 if packed else len(rows)
    ids = torch.full((height, width), pad)
    mask = torch.zeros((height, width), dtype=torch.long)
    positions = torch.zeros((height, width), dtype=torch.long)
    labels: list[int] = []
    predicted_at: list[int] = []
    end = 0
    for at, row in enumerate(rows):
        end = end + len(row) if packed else width
        line, start = (0, end - len(row)) if packed else (at, width - len(row))
        ids[line, start:end] = torch.tensor(row.prompt + row.completion)
        mask[line, start:end] = 1
        positions[line, start:end] = torch.arange(len(row))
        labels += row.completion
        last = line * width + end - 1
        predicted_at += range(last - len(row.completion), last)
    batch = {
        "input_ids": ids,
        "position_ids": positions,
        "labels": torch.tensor(labels),
        "predicted_at": torch.tensor(predicted_at),
    }
    if not packed:
        batch["attention_mask"] = mask
    states = [row.states for row in rows if row.states is not None]
    if len(states) == len(rows):
        del batch["input_ids"]
        padded = pad_sequence(states, batch_first=True, padding_side="left")
        batch["inputs_embeds"] = torch.cat(states)[None] if packed else padded
    return {name: tensor.to(device) for name, tensor in batch.items()}


GRAFTED = ("llama", "qwen2", "qwen3")
"""Architectures whose every layer attends as the mask that it is given says."""


def arrange(
    model: Any, rows: Sequence[Row], pad: int, *, packed: bool = False
) -> dict[str, torch.Tensor]:
    """Rows as the batch that costs this model least: see `collate` and `graft`."""
    shared = 0 if packed else worth_sharing(model, rows)
    return graft(model, rows, shared) if shared else collate(rows, pad, model.device, packed=packed)


def worth_sharing(model: Any, rows: Sequence[Row]) -> int:
    """How many tokens all rows begin with, where computing them but once saves time; else 0.

    On a CPU alone, whose attention takes any mask. A layer's products cost about 24·width² a token
    and attention 4·width for each pair of tokens, seen or not: together 4·width times
    n·(6·width + n) for a sequence of n tokens.
    """
    config = model.config
    if model.device.type != "cpu" or config.model_type not in GRAFTED or len(rows) < 2:
        return 0
    shared = common_beginning(rows)
    total = shared + sum(len(row) - shared for row in rows)
    longest, width = max(map(len, rows)), 6 * config.hidden_size
    padded = len(rows) * longest * (width + longest)
    return shared if total * (width + total) < padded else 0


def common_beginning(rows: Sequence[Row]) -> int:
    """How many tokens all prompts begin with alike, such as a system prompt's; their last tokens,
    after which each row goes its own way, are not among them."""
    prompts = [row.prompt[:-1] for row in rows]
    alike = zip(min(prompts), max(prompts), strict=False)  # whatever lies between begins as both
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], alike))


def own_parts(rows: Sequence[Row], shared: int) -> list[slice]:
    """Where each row's own tokens stand in a grafted sequence, after the `shared` ones."""
    ends = [shared]
    for row in rows:
        ends.append(ends[-1] + len(row) - shared)
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def graft(model: Any, rows: Sequence[Row], shared: int) -> dict[str, torch.Tensor]:
    """Rows as one sequence: what all begin with once, then each row's rest, which sees that and
    itself alone. The results are those of rows one by one.

    Shapes: as `collate` packed, and attention_mask (1, 1, all tokens, all tokens), which is added
    to the attention's logits.
    """
    parts = own_parts(rows, shared)
    owner = torch.zeros(parts[-1].stop, dtype=torch.long)
    positions = torch.arange(parts[-1].stop)
    labels: list[int] = []
    predicted_at: list[int] = []
    for number, (row, part) in enumerate(zip(rows, parts, strict=True), 1):
        owner[part] = number
        positions[part] = torch.arange(shared, len(row))
        labels += row.completion
        predicted_at += range(part.stop - len(row.completion) - 1, part.stop - 1)
    seen = ((owner == 0) | (owner[:, None] == owner)).tril()
    hidden = torch.finfo(model.dtype).min
    mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, hidden)
    batch = {
        "attention_mask": mask[None, None],
        "position_ids": positions[None],
        "labels": torch.tensor(labels),
        "predicted_at": torch.tensor(predicted_at),
    }
    states = [row.states for row in rows if row.states is not None]
    if len(states) == len(rows):
        own = [state[shared:] for state in states]
        batch["inputs_embeds"] = torch.cat([states[0][:shared], *own])[None]
    else:
        tokens = [row.prompt + row.completion for row in rows]
        ids = itertools.chain(tokens[0][:shared], *(each[shared:] for each in tokens))
        batch["input_ids"] = torch.tensor([list(ids)])
    return batch


# --- Processes ------------------------------------------------------------------------------------


def rank() -> int:
    """This process's number; 0 reports and writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes share each batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def summed(values: Any, device: torch.device) -> Any:
    """Numbers, as a list or a tensor, added up over all processes: a list of the same shape."""
    tensor = torch.as_tensor(values, dtype=torch.float64, device=device)
    if world() > 1:
        distributed.all_reduce(tensor)
    return tensor.tolist()


def share_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Adds every parameter's gradient up over all processes, in one message."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    totals = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, total in zip(gradients, totals, strict=True):
        gradient.copy_(total.view_as(gradient))


@contextmanager
def process_group(environ: Mapping[str, str]) -> Iterator[None]:
    """Joins the processes that torch.distributed.run started; nothing where it is but one."""
    if int(environ.get("WORLD_SIZE") or 1) == 1:
        yield
        return
    if torch.cuda.is_available():
        device = torch.device("cuda", int(environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def my_pieces(
    examples: Sequence[Example], hp: Hyperparameters, *, packed: bool
) -> list[tuple[list[int], bool]]:
    """The forward passes of this process over a batch: indices of examples, and whether they count.

    Every process makes equally many, as spreading the base model asks for: one that would have
    fewer repeats an example, which does not count.
    """

    def cut(process: int) -> list[list[int]]:
        mine = range(process, len(examples), world())
        if packed:
            room = hp.max_length * len(examples[0].rows)
            return pack({at: len(examples[at]) for at in mine}, room)
        size = hp.micro_batch_size or max(1, len(mine))
        return [list(mine[start : start + size]) for start in range(0, len(mine), size)]

    own = cut(rank())
    most = max(len(cut(process)) for process in range(world())) if world() > 1 else len(own)
    return [(piece, True) for piece in own] + [([0], False)] * (most - len(own))


# --- Model ----------------------------------------------------------------------------------------

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def pick_device(hp: Hyperparameters | None = None) -> tuple[torch.device, torch.dtype]:
    """A GPU, or the CPU; and the base model's number format, asked for or what the device is fast
    in: bf16 on a GPU of compute capability 8.0 (Ampere) on, fp16 before; see `cpu_dtype`."""
    asked = DTYPES.get(hp.dtype) if hp else None
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # the adapters' products in TF32
        bf16 = torch.cuda.get_device_capability() >= (8, 0)
        device = torch.device("cuda", torch.cuda.current_device())
        return device, asked or (torch.bfloat16 if bf16 else torch.float16)
    return torch.device("cpu"), asked or cpu_dtype()


def cpu_dtype() -> torch.dtype:
    """The number format that this CPU multiplies fastest: bf16 only where it has instructions for
    it; elsewhere bf16 takes several times as long as fp32."""
    return torch.bfloat16 if "avx512_bf16" in cpu_flags() else torch.float32


def cpu_flags() -> str:
    """The CPU's feature flags as Linux lists them; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def packs(hp: Hyperparameters, device: torch.device) -> bool:
    """Whether rows are packed: as asked for; by itself on a GPU, where padding costs most."""
    return hp.packing == "true" or (hp.packing == "auto" and device.type == "cuda")


def pick_attention(device: torch.device, dtype: torch.dtype) -> str:
    """The attention kernel: FlashAttention where it is installed, which goes over packed rows one
    by one; SDPA on another GPU; plain products for the short rows of a CPU, a fifth faster."""
    if device.type != "cuda":
        return "eager"
    flash = importlib.util.find_spec("flash_attn") and dtype != torch.float32
    return "flash_attention_2" if flash else "sdpa"


def load_model(weights: str, hp: Hyperparameters, device: torch.device, dtype: torch.dtype) -> Any:
    """The base model with fresh adapters, in fp32, on its top `lora_layers` layers.

    Raises:
        TrainingError: the adapters do not fit the model, or something is not installed.
    """
    from transformers import AutoModelForCausalLM

    torch.manual_seed(hp.seed)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": pick_attention(device, dtype)}
    if hp.adapter == "qlora":
        options |= {"quantization_config": four_bits(dtype), "device_map": {"": device}}
    base = AutoModelForCausalLM.from_pretrained(weights, **options)
    for module in base.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes on a CPU would repack the weights at the first evaluation, and what is
            # repacked has no gradient any more.
            module.support_avx512bf16_for_cpu = False
    if not (hp.adapter == "qlora" or spreads(hp)):
        base = base.to(device)
    return add_adapter(base, hp, device)


def four_bits(dtype: torch.dtype) -> Any:
    """QLoRA's number format (Dettmers et al. 2023, arXiv:2305.14314): nf4, its scales quantised
    again, products in `dtype`.

    What peft's prepare_model_for_kbit_training does beside is not needed here: the base is frozen
    anyway, and norms and head stay in `dtype` as they do for plain LoRA.

    Raises:
        TrainingError: bitsandbytes is not installed.
    """
    if not importlib.util.find_spec("bitsandbytes"):
        raise TrainingError("adapter qlora needs bitsandbytes: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def add_adapter(base: Any, hp: Hyperparameters, device: torch.device) -> Any:
    """The base model with adapters as asked for, ready to be trained on `device`.

    Raises:
        TrainingError: `lora_targets` names no matrix of the model, or `loss_chunk` does not fit.
    """
    from peft import LoraConfig, get_peft_model

    if hp.loss_chunk and scales_logits(base.config):
        raise TrainingError("loss_chunk must be 0 for a model that scales its logits")
    depth = base.config.num_hidden_layers
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=hp.lora_rank,
        lora_alpha=hp.lora_alpha,
        lora_dropout=hp.lora_dropout,
        use_dora=hp.adapter == "dora",
        use_rslora=hp.adapter == "rslora",
        target_modules=[name.strip() for name in hp.lora_targets.split(",")],
        layers_to_transform=list(range(depth - min(hp.lora_layers or depth, depth), depth)),
    )
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise TrainingError(f'hyperparameter "lora_targets" does not fit: {error}') from error
    config.base_model_name_or_path = hp.base_model
    if hp.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if spreads(hp):
        spread(model, device)
    return model


def scales_logits(config: Any) -> bool:
    """Whether the model does more than a product to make its logits (Gemma 2, Cohere, Granite)."""
    names = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    return any(getattr(config, name, None) not in (None, 1, 1.0) for name in names)


def spreads(hp: Hyperparameters) -> bool:
    """Whether the base model is spread over several processes."""
    return hp.fsdp and world() > 1


def spread(model: Any, device: torch.device) -> None:
    """Shards the base model's weights over the processes, layer by layer (FSDP2): each is gathered
    when its turn comes. The adapters are small: every process keeps them whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    adapters = set(adapter_parameters(model).values())
    for parameter in adapters:
        parameter.data = parameter.data.to(device)
    mesh = init_device_mesh(device.type, (world(),))
    base = model.get_base_model()
    for layer in base.get_decoder().layers:
        fully_shard(layer, mesh=mesh, ignored_params=adapters)
    fully_shard(base, mesh=mesh, ignored_params=adapters)


# --- Loss -----------------------------------------------------------------------------------------


def token_losses(
    model: Any, batch: Mapping[str, torch.Tensor], chunk: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of each completion token (nats), in the order of `labels`, and how many of
    them the model had right.

    Logits are computed for the completions alone; with `chunk`, for so many tokens at a time, and
    once more in the backward pass, so that they never exist all at once.
    """
    labels, at = batch["labels"], batch["predicted_at"]
    names = batch.keys() - {"labels", "predicted_at"}
    inputs = {name: batch[name] for name in sorted(names)}
    head = model.get_base_model().get_output_embeddings()
    if not chunk:
        with head_on(head, at):
            logits = model(**inputs, use_cache=False).logits
        return cross_entropy(logits, labels)
    with head_on(head, at, bare=True):
        states = model(**inputs, use_cache=False).logits

    def loss(states: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return cross_entropy(head(states), labels)

    pieces = [
        checkpoint(loss, *piece, use_reentrant=False)
        for piece in zip(torch.split(states, chunk), torch.split(labels, chunk), strict=True)
    ]
    return torch.cat([piece[0] for piece in pieces]), torch.stack([p[1] for p in pieces]).sum()


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's cross-entropy, and how many tokens had the highest logit."""
    right = (logits.detach().argmax(-1) == labels).sum()
    return functional.cross_entropy(logits.float(), labels, reduction="none"), right


@contextmanager
def head_on(head: Any, at: torch.Tensor, *, bare: bool = False) -> Iterator[None]:
    """Has the model make logits of the positions `at` of the flattened batch alone: (tokens,
    vocabulary). `bare`: has it return these positions' hidden states in their place."""

    def select(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1)[at],)

    hook = head.register_forward_pre_hook(select)
    forward = vars(head).get("forward")
    if bare:
        head.forward = lambda states: states
    try:
        yield
    finally:
        hook.remove()
        if forward:
            head.forward = forward
        elif bare:
            del head.forward


def batch_loss(
    model: Any, examples: Sequence[Example], hp: Hyperparameters, pad: int, *, packed: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of one forward pass, summed over completion tokens, or for dpo over pairs; and what
    is reported of it: [loss, tokens right or pairs won, margins], summed likewise."""
    rows = rows_of(examples)
    batch = arrange(model, rows, pad, packed=packed)
    losses, right = token_losses(model, batch, hp.loss_chunk)
    if hp.method == "dpo":
        scores = -sum_by_row(losses, rows)
        reference = torch.tensor([row.reference for row in rows], device=scores.device)
        margins = reward_margins(scores, reference, hp.dpo_beta)
        loss = -functional.logsigmoid(margins).sum()
        told = (loss.detach(), (margins > 0).sum(), margins.detach().sum())
    else:
        loss = losses.sum()
        told = (loss.detach(), right, torch.zeros_like(right))
    return loss, torch.stack([value.double() for value in told])


def sum_by_row(losses: torch.Tensor, rows: Sequence[Row]) -> torch.Tensor:
    """Tokens' losses added up to one for each row."""
    parts = torch.split(losses, [len(row.completion) for row in rows])
    return torch.stack([part.sum() for part in parts])


def reward_margins(scores: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """By how much each preferred answer's reward leads; the loss is -log sigmoid of it.

    A reward is beta times how much likelier (nats) the answer has become than under the base model:
    Rafailov et al. 2023, "Direct Preference Optimization", equation 7 (arXiv:2305.18290).
    `scores` and `reference` are the answers' log-probabilities, preferred ones and others by turns.
    """
    rewards = beta * (scores - reference)
    return rewards[0::2] - rewards[1::2]


def count_units(examples: Sequence[Example], hp: Hyperparameters) -> int:
    """What a mean loss is a mean over: completion tokens, or for dpo pairs."""
    if hp.method == "dpo":
        return len(examples)
    return sum(len(row.completion) for row in rows_of(examples))


class Measured(NamedTuple):
    """Means over a batch or a set of rows."""

    loss: float
    """Nats per completion token, or for dpo per pair."""
    accuracy: float
    """Share of completion tokens, or for dpo of pairs, that the model has right."""
    margin: float
    """For dpo, the mean difference in reward between the two answers; else 0."""


@torch.no_grad()
def measure(model: Any, examples: Sequence[Example], hp: Hyperparameters, pad: int) -> Measured:
    """Loss, accuracy and margin over examples, each process taking its share."""
    model.eval()
    packed = packs(hp, model.device)
    size = (hp.micro_batch_size or hp.batch_size) * world()
    ordered = sorted(examples, key=len)
    total = torch.zeros(3, dtype=torch.float64, device=model.device)
    for start in range(0, len(ordered), size):
        window = ordered[start : start + size]
        for piece, counts in my_pieces(window, hp, packed=packed):
            _, told = batch_loss(model, [window[at] for at in piece], hp, pad, packed=packed)
            total += told * counts
    model.train()
    units = count_units(examples, hp)
    return Measured(*(value / units for value in summed(total, model.device)))


def evaluate(model: Any, rows: Sequence[Example], hp: Hyperparameters, pad: int) -> float:
    """Mean loss (nats) per completion token, or for dpo per pair, over `rows`."""
    return measure(model, rows, hp, pad).loss


@torch.no_grad()
def keep_references(
    model: Any, pairs: Sequence[Example], hp: Hyperparameters, pad: int
) -> list[Example]:
    """Pairs with each answer's log-probability under the base model, that is the model with its
    adapters switched off: computed once, since it never changes."""
    model.eval()
    packed = packs(hp, model.device)
    size = (hp.micro_batch_size or hp.batch_size) * world()
    order = sorted(range(len(pairs)), key=lambda at: len(pairs[at]))
    scores = torch.zeros(len(pairs), 2, dtype=torch.float64, device=model.device)
    with model.disable_adapter():
        for start in range(0, len(order), size):
            window = order[start : start + size]
            for piece, counts in my_pieces([pairs[at] for at in window], hp, packed=packed):
                rows = rows_of([pairs[window[at]] for at in piece])
                batch = arrange(model, rows, pad, packed=packed)
                losses, _ = token_losses(model, batch, hp.loss_chunk)
                if counts:
                    chosen = [window[at] for at in piece]
                    scores[chosen] = -sum_by_row(losses, rows).view(-1, 2).double()
    model.train()
    known = [score for both in summed(scores, model.device) for score in both]
    rows = rows_of(pairs)
    return regroup(
        pairs, [dataclasses.replace(r, reference=s) for r, s in zip(rows, known, strict=True)]
    )


# --- Frozen layers --------------------------------------------------------------------------------


class LayerReached(Exception):  # noqa: N818 - no error: it ends a pass that needs no more
    """Ends a forward pass early; carries what would have entered the layer."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class Passthrough(torch.nn.Module):
    """Stands where a frozen layer stood; in a tuple, that layer is no part of the model."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = (layer,)

    def forward(self, states: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return states


def keep_frozen_states(
    model: Any, examples: Sequence[Example], hp: Hyperparameters, pad: int
) -> list[Example]:
    """Examples with what enters the first adapted layer, and the model without the layers below it.

    With the top 10 of 30 layers adapted, an epoch takes two thirds of the time. Examples come back
    as they are where that is of no use (all layers adapted), would take over `FROZEN_BYTES`, or
    changes the loss of the first batch by more than rounding does (an architecture that treats
    embeddings in another way than Llama's).
    """
    layers = getattr(model.get_base_model().get_decoder(), "layers", [])
    rows = rows_of(examples)
    frozen = len(layers) - min(hp.lora_layers or len(layers), len(layers))
    width = model.config.hidden_size * model.dtype.itemsize
    if not frozen or not rows or spreads(hp) or sum(map(len, rows)) * width > FROZEN_BYTES:
        return list(examples)
    size = hp.micro_batch_size or hp.batch_size
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    kept = list(rows)
    for start in range(0, len(order), size):
        piece = [rows[at] for at in order[start : start + size]]
        states = enter_layer(model, layers[frozen], arrange(model, piece, pad))
        for at, own in zip(order[start:], split_states(states, piece), strict=False):
            kept[at] = dataclasses.replace(rows[at], states=own)
    plain = dataclasses.replace(hp, method="sft")
    expected = evaluate(model, rows[:size], plain, pad)
    for at in range(frozen):
        layers[at] = Passthrough(layers[at])
    if not math.isclose(evaluate(model, kept[:size], plain, pad), expected, rel_tol=0.01):
        restore_layers(model)
        return list(examples)
    return regroup(examples, kept)


def split_states(states: torch.Tensor, rows: Sequence[Row]) -> list[torch.Tensor]:
    """Each row's own hidden states, (tokens, width), out of those of an arranged batch."""
    if len(states) == len(rows):
        return [s[-len(row) :].clone() for s, row in zip(states, rows, strict=True)]
    shared = common_beginning(rows)
    parts = own_parts(rows, shared)
    return [torch.cat([states[0, :shared], states[0, part]]) for part in parts]


def restore_layers(model: Any) -> None:
    """Puts back the layers that `keep_frozen_states` took out."""
    layers = getattr(model.get_base_model().get_decoder(), "layers", [])
    for at, layer in enumerate(layers):
        if isinstance(layer, Passthrough):
            layers[at] = layer.layer[0]


@torch.no_grad()
def enter_layer(
    model: Any, layer: torch.nn.Module, batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """The hidden states that enter `layer` for a batch: (rows, longest row, width)."""

    def stop(_module: torch.nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        raise LayerReached(inputs[0] if inputs else named["hidden_states"])

    hook = layer.register_forward_pre_hook(stop, with_kwargs=True)
    names = batch.keys() - {"labels", "predicted_at"}
    try:
        model(**{name: batch[name] for name in sorted(names)}, use_cache=False)
    except LayerReached as reached:
        return reached.states
    finally:
        hook.remove()
    raise AssertionError("the forward pass did not reach the layer")


# --- Speed ----------------------------------------------------------------------------------------

PEAK_TFLOPS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "A10G": 70,
    "L4": 121,
    "T4": 65,
    "V100": 125,
}
"""Peak of dense bf16 products (T4, V100: fp16), 10^12 a second, from NVIDIA's data sheets; where
they give it with sparsity alone, half of that. A name that is part of another one comes later."""


@dataclass(frozen=True)
class Arithmetic:
    """What a model's products cost, to tell how much of a GPU is used.

    Counted are 2 operations for each weight and token forward; in the backward pass the same for
    the gradient of the activations, from the first adapted layer on, and for the adapters' own
    gradient once more. The head counts for completion tokens alone. Causal attention is 2·n²·width
    forward for each layer and row of n tokens, twice that backward (FlashAttention-2's counting,
    arXiv:2307.08691). Recomputed activations and layers that `keep_frozen_states` took out do not
    count.
    """

    frozen: int
    adapted: int
    adapters: int
    head: int
    frozen_width: int
    adapted_width: int

    def of(self, rows: Sequence[Row]) -> float:
        """Operations of a training step on the rows."""
        tokens = sum(map(len, rows))
        completion = sum(len(row.completion) for row in rows)
        squares = sum(len(row) ** 2 for row in rows)
        products = 2 * self.frozen + 4 * self.adapted + 6 * self.adapters
        attention = 2 * self.frozen_width + 6 * self.adapted_width
        return products * tokens + 4 * self.head * completion + attention * squares


def count_arithmetic(model: Any) -> Arithmetic:
    """The sizes of a model's matrices, 4-bit ones as what they stand for."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width *= config.num_attention_heads
    sizes = {"frozen": 0, "adapted": 0, "adapters": 0, "frozen_width": 0, "adapted_width": 0}
    for layer in model.get_base_model().get_decoder().layers:
        trained = any(parameter.requires_grad for parameter in layer.parameters())
        kind = "adapted" if trained or sizes["adapted"] else "frozen"
        for name, module in layer.named_modules():
            if isinstance(module, torch.nn.Linear):
                part = "adapters" if "lora_" in name else kind
                sizes[part] += module.in_features * module.out_features
        sizes[f"{kind}_width"] += 0 if isinstance(layer, Passthrough) else width
    head = model.get_base_model().get_output_embeddings()
    return Arithmetic(head=head.in_features * head.out_features, **sizes)


def gpu_figures(operations: float, seconds: float) -> dict[str, float]:
    """For a GPU, the highest memory use (10^9 bytes) and, where its peak is known, the share of it
    that a step used: operations / seconds / peak, each process on its own share."""
    if not torch.cuda.is_available():
        return {}
    figures = {"max_memory_gb": torch.cuda.max_memory_allocated() / 1e9}
    name = torch.cuda.get_device_name()
    peak = next((peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    if peak:
        figures["mfu"] = operations / world() / seconds / (peak * 1e12)
    return figures


# --- Checkpoints ----------------------------------------------------------------------------------


def fingerprint(hp: Hyperparameters, rows: Sequence[Row], dtype: torch.dtype) -> str:
    """Says whether a checkpoint belongs to this job: the same hyperparameters, rows, processes and
    number format."""
    job = dataclasses.asdict(hp) | {"processes": world(), "dtype": plain(dtype)}
    digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode())
    for row in rows:
        digest.update(repr((row.prompt, row.completion)).encode())
    return digest.hexdigest()


def adapter_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the parameters that are trained, by name, on the CPU."""
    return {name: p.detach().cpu().clone() for name, p in adapter_parameters(model).items()}


@torch.no_grad()
def set_adapter_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """The opposite of `adapter_weights`."""
    for name, parameter in adapter_parameters(model).items():
        parameter.copy_(weights[name])


def random_states() -> list[list[torch.Tensor]]:
    """Every process's generators: the CPU's and, where there is one, the GPU's."""
    own = [torch.get_rng_state()]
    if torch.cuda.is_available():
        own.append(torch.cuda.get_rng_state())
    if world() == 1:
        return [own]
    states: list[Any] = [None] * world()
    distributed.all_gather_object(states, own)
    return states


def save_checkpoint(run: Run) -> None:
    """Write all that a resumed run needs to one file, replaced atomically: a process killed at any
    moment leaves the one before or the new one, whole."""
    state = {
        "fingerprint": run.key,
        "progress": dataclasses.asdict(run.progress),
        "adapter": adapter_weights(run.model),
        "best": run.best,
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "random": random_states(),
    }
    if rank() == 0:
        folder = run.job.checkpoint_dir
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / "checkpoint.pt.partial"
        torch.save(state, scratch)
        scratch.replace(folder / "checkpoint.pt")


def load_checkpoint(run: Run) -> bool:
    """Bring the run to where its checkpoint left it; whether there is one of this job."""
    path = run.job.checkpoint_dir / "checkpoint.pt"
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        say(f"{path} cannot be read ({error}): starting anew")
        return False
    if state["fingerprint"] != run.key:
        say(f"{path} is of another job (other rows or hyperparameters): starting anew")
        return False
    set_adapter_weights(run.model, state["adapter"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.scaler.load_state_dict(state["scaler"])
    run.progress, run.best = Progress(**state["progress"]), state["best"]
    own = state["random"][rank()]
    torch.set_rng_state(own[0])
    if len(own) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state(own[1])
    return True


def save_adapter(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the adapter with the tokenizer and chat template it was trained under."""
    if rank() == 0:
        # Without state_dict, a spread base would be asked for its own by this process alone.
        weights = adapter_weights(model)
        model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
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
    """[step, loss, accuracy]"""
    margins: list[list[float]] = dataclasses.field(default_factory=list)
    """dpo: [step, mean reward margin]"""
    eval_losses: list[list[float]] = dataclasses.field(default_factory=list)
    best_loss: float = math.inf
    best_step: int = 0
    stale: int = 0
    """Evaluations since the last that improved by more than the threshold."""
    operations: float = 0.0
    """For a GPU's use; see `Arithmetic`."""


class Interruption:
    """Whether the platform has asked the process to stop, as when it takes a spot instance back."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _signal: int, _frame: object) -> None:
        self.asked = True

    def agreed(self, device: torch.device) -> bool:
        """Whether any process was asked: all stop after the same step."""
        return self.asked if world() == 1 else bool(summed(self.asked, device))


def say(text: str) -> None:
    """One line on stdout, from the first process alone."""
    if rank() == 0:
        print(text, flush=True)


def report(folder: Path, **values: float) -> None:
    """One progress line on stdout, in the form that SageMaker's metric definitions match, and the
    same as JSON in events.jsonl of the checkpoint folder, which is copied while the job runs."""
    say(" ".join(f"{k}={v:.6g}" for k, v in values.items()))
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "events.jsonl").open("a") as events:
            events.write(json.dumps(values) + "\n")


def all_batches(
    rows: Sequence[Example], hp: Hyperparameters, *, packed: bool
) -> list[list[list[int]]]:
    """The batches of every epoch, as row indices."""
    lengths = [len(row) for row in rows]
    return [
        plan_batches(lengths, hp.batch_size, epoch, hp.seed, near=not packed)
        for epoch in range(hp.epochs)
    ]


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


def make_optimizer(model: Any, hp: Hyperparameters) -> torch.optim.Optimizer:
    """AdamW over the adapters."""
    return torch.optim.AdamW(
        adapter_parameters(model).values(), lr=hp.learning_rate, weight_decay=hp.weight_decay
    )


def train_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    rows: Sequence[Example],
    hp: Hyperparameters,
    pad: int,
    scaler: torch.amp.GradScaler | None = None,
) -> Measured:
    """One optimiser step on a batch, of which each process takes its share; the batch's means.

    Pieces are weighted by their tokens (for dpo, by their pairs), so that neither splitting a batch
    nor sharing it changes its gradient. `scaler` keeps fp16 gradients from vanishing.

    Raises:
        TrainingError: the loss is not finite.
    """
    units = count_units(rows, hp)
    packed = packs(hp, model.device)
    total = torch.zeros(3, dtype=torch.float64, device=model.device)
    for piece, counts in my_pieces(rows, hp, packed=packed):
        loss, told = batch_loss(model, [rows[at] for at in piece], hp, pad, packed=packed)
        loss = loss / units if counts else loss * 0
        torch.autograd.backward(scaler.scale(loss) if scaler else loss)
        total += told * counts
    parameters = list(adapter_parameters(model).values())
    share_gradients(parameters)
    if scaler:
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(parameters, hp.max_grad_norm)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    found = Measured(*(value / units for value in summed(total, model.device)))
    if not math.isfinite(found.loss):
        raise TrainingError("the loss is not finite any more; try a lower learning_rate")
    return found


@dataclass(frozen=True)
class Job:
    """All that a run is made from, read from the platform's contract."""

    hp: Hyperparameters
    weights: str
    train_dir: Path
    validation_dir: Path | None
    model_dir: Path
    checkpoint_dir: Path
    parity_dir: Path


def read_job(environ: Mapping[str, str], root: Path) -> Job:
    """The job that hyperparameters, channels and folders describe.

    Raises:
        TrainingError: the job cannot be run as it was asked for.
    """
    hp = read_hyperparameters(environ, root)
    train_dir = channel("train", environ, root)
    if train_dir is None:
        raise TrainingError("the job has no `train` channel")
    weights = channel("model", environ, root) or find_recipe(hp.base_model).get("hub_id")
    output = Path(environ.get("SM_OUTPUT_DIR") or root / "output")
    return Job(
        hp=hp,
        weights=str(weights or hp.base_model),
        train_dir=train_dir,
        validation_dir=channel("validation", environ, root),
        model_dir=Path(environ.get("SM_MODEL_DIR") or root / "model"),
        checkpoint_dir=Path(environ.get("SM_CHECKPOINT_DIR") or root / "checkpoints"),
        parity_dir=Path(environ.get("SM_OUTPUT_DATA_DIR") or output / "data"),
    )


@dataclass
class Run:
    """A run under way: what it works on, and what of it a checkpoint holds."""

    job: Job
    key: str
    tokenizer: Any
    pad: int
    rows: list[Example]
    held_out: list[Example]
    too_long: int
    prompts: list[Messages]
    batches: list[list[int]]
    epoch_steps: int
    model: Any
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress = dataclasses.field(default_factory=Progress)
    best: dict[str, torch.Tensor] | None = None
    """The adapter of the lowest validation loss so far, where the best is kept."""


def run(environ: Mapping[str, str], root: Path = ROOT) -> bool:
    """Train to the end, or until SIGTERM; whether it came to the end.

    Raises:
        TrainingError: the job cannot be run as it was asked for.
    """
    interruption = Interruption()
    started = time.monotonic()
    job = read_job(environ, root)
    torch.set_num_threads(job.hp.threads)
    with process_group(environ):
        run = prepare(job)
        if not fit(run, interruption):
            return False
        finish(run)
        say(
            f"finished steps={run.progress.step} trained_tokens={run.progress.trained_tokens} "
            f"training_seconds={run.progress.seconds:.1f} "
            f"total_seconds={time.monotonic() - started:.1f}"
        )
    return True


def prepare(job: Job) -> Run:
    """The run at its start, or where its checkpoint left it."""
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    hp = job.hp
    device, dtype = pick_device(hp)
    tokenizer = AutoTokenizer.from_pretrained(job.weights)
    pin_template(tokenizer)
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    data = encode_channel(tokenizer, job.train_dir, hp)
    validation = encode_channel(tokenizer, job.validation_dir, hp)
    rows, held_out = data.examples, validation.examples[: hp.eval_rows]
    epochs = all_batches(rows, hp, packed=packs(hp, device))
    batches = [batch for epoch in epochs for batch in epoch]
    say(
        f"rows={len(rows)} rows_too_long={data.too_long} validation_rows={len(held_out)} "
        f"steps={len(batches)} epochs={hp.epochs} device={device.type} dtype={plain(dtype)} "
        f"packed={packs(hp, device)} processes={world()}".lower()
    )
    model = load_model(job.weights, hp, device, dtype)
    kept = keep_frozen_states(model, [*rows, *held_out], hp, pad)
    if hp.method == "dpo":
        kept = keep_references(model, kept, hp, pad)
    run = Run(
        job=job,
        key=fingerprint(hp, rows_of(rows), dtype),
        tokenizer=tokenizer,
        pad=pad,
        rows=kept[: len(rows)],
        held_out=kept[len(rows) :],
        too_long=data.too_long,
        prompts=validation.prompts or data.prompts,
        batches=batches,
        epoch_steps=len(epochs[0]),
        model=model,
        optimizer=make_optimizer(model, hp),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype == torch.float16),
    )
    if world() > 1:
        torch.manual_seed(hp.seed + rank())  # dropout of each process's own
    if load_checkpoint(run):
        say(f"resuming after step {run.progress.step} of {len(batches)}")
    return run


def fit(run: Run, interruption: Interruption) -> bool:
    """Train from where the run stands; whether it came to the end, and was not interrupted."""
    hp, progress, steps = run.job.hp, run.progress, len(run.batches)
    arithmetic = count_arithmetic(run.model) if run.model.device.type == "cuda" else None
    if run.held_out and not progress.step:
        validate(run)
    run.model.train()
    while progress.step < steps and not gives_up(progress, hp):
        advance(run, arithmetic)
        ends_epoch = progress.step % run.epoch_steps == 0
        due = progress.step % hp.eval_steps == 0 if hp.eval_steps else ends_epoch
        if run.held_out and (due or progress.step == steps):
            validate(run)
        if ends_epoch:
            folder = run.job.checkpoint_dir / "adapters" / f"step-{progress.step}"
            save_adapter(run.model, run.tokenizer, folder)
        stops = interruption.agreed(run.model.device)
        last = progress.step == steps or gives_up(progress, hp)
        if last or stops or ends_epoch or progress.step % hp.checkpoint_steps == 0:
            save_checkpoint(run)
        if stops and not last:
            say(f"stopped after step {progress.step} of {steps}; a rerun resumes there")
            return False
    if progress.step < steps:
        say(f"ended early after step {progress.step} of {steps}, best was {progress.best_step}")
    return True


def advance(run: Run, arithmetic: Arithmetic | None) -> None:
    """Take the next step, and tell of it."""
    hp, progress, steps = run.job.hp, run.progress, len(run.batches)
    before = time.monotonic()
    batch = [run.rows[at] for at in run.batches[progress.step]]
    rate = learning_rate(progress.step, steps, hp)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    found = train_step(run.model, run.optimizer, batch, hp, run.pad, run.scaler)
    took = time.monotonic() - before
    tokens = sum(map(len, batch))
    operations = arithmetic.of(rows_of(batch)) if arithmetic else 0.0
    progress.step += 1
    progress.seconds += took
    progress.trained_tokens += tokens
    progress.operations += operations
    progress.train_loss = found.loss
    progress.losses.append([progress.step, found.loss, found.accuracy])
    if hp.method == "dpo":
        progress.margins.append([progress.step, found.margin])
    report(
        run.job.checkpoint_dir,
        step=progress.step,
        steps=steps,
        train_loss=found.loss,
        train_accuracy=found.accuracy,
        **rewards(found, hp),
        lr=rate,
        tokens_per_second=tokens / took,
        **gpu_figures(operations, took),
    )


def validate(run: Run) -> None:
    """Measures the validation rows, and keeps the adapter if it is the best so far.

    The base model itself, measured before the first step, is not among those to be kept.
    """
    hp, progress = run.job.hp, run.progress
    found = measure(run.model, run.held_out, hp, run.pad)
    progress.eval_losses.append([progress.step, found.loss])
    told = {f"eval_{name}": value for name, value in rewards(found, hp).items()}
    at = {"step": progress.step, "steps": len(run.batches)}
    report(run.job.checkpoint_dir, **at, eval_loss=found.loss, **told)
    if not progress.step:
        return
    improved = found.loss < progress.best_loss - hp.early_stopping_threshold
    progress.stale = 0 if improved else progress.stale + 1
    if found.loss < progress.best_loss:
        progress.best_loss, progress.best_step = found.loss, progress.step
        run.best = adapter_weights(run.model) if hp.keep_best else None


def gives_up(progress: Progress, hp: Hyperparameters) -> bool:
    """Whether as many evaluations as are waited for have brought no improvement."""
    return 0 < hp.early_stopping_patience <= progress.stale


def rewards(found: Measured, hp: Hyperparameters) -> dict[str, float]:
    """What is told of a preference model beside its loss."""
    if hp.method != "dpo":
        return {}
    return {"reward_accuracy": found.accuracy, "reward_margin": found.margin}


def finish(run: Run) -> None:
    """Writes the adapter, training.json and parity.json."""
    hp, progress, device = run.job.hp, run.progress, run.model.device
    if run.best:
        set_adapter_weights(run.model, run.best)
    save_adapter(run.model, run.tokenizer, run.job.model_dir)
    probe = probe_messages(run.tokenizer)
    metadata = {
        "base_model": hp.base_model,
        "method": hp.method,
        "adapter": hp.adapter,
        "hyperparameters": dataclasses.asdict(hp),
        "rows": {
            "train": len(run.rows),
            "validation": len(run.held_out),
            "too_long": run.too_long,
        },
        "steps": len(run.batches),
        "trained_steps": progress.step,
        "adapter_step": progress.best_step if run.best else progress.step,
        "trained_tokens": progress.trained_tokens,
        "train_loss": progress.train_loss,
        "train_losses": progress.losses,
        "reward_margins": progress.margins,
        "eval_losses": progress.eval_losses,
        "training_seconds": round(progress.seconds, 3),
        "device": device.type,
        "dtype": plain(run.model.dtype),
        "packed": packs(hp, device),
        "processes": world(),
        **gpu_figures(progress.operations, progress.seconds),
        "versions": versions(),
        "prompt_probe": {"messages": probe, "token_ids": render_prompt(run.tokenizer, probe)},
    }
    if rank() == 0:
        (run.job.model_dir / "training.json").write_text(json.dumps(metadata, indent=2) + "\n")
    if hp.parity_prompts:
        write_parity(run)


# --- Parity with the server -----------------------------------------------------------------------


def probe_messages(tokenizer: Any) -> Messages:
    """A fixed prompt: a server that renders it otherwise would serve worse answers."""
    return PROBE if takes(tokenizer, [*PROBE, ANSWER]) else PROBE[1:]


def write_parity(run: Run) -> None:
    """Writes parity.json: prompts' ids and the trained model's greedy answers, by which a server is
    known to run the same model in the same way.

    It holds {"base_model", "prompts": [{"messages", "prompt_token_ids", "output_token_ids",
    "margins", "text"}]} for the probe and the shortest validation rows (train rows where there are
    none). `margins` are the best logit's leads over the second at each token (nats): where a server
    differs at a lead near 0, it is rounding.
    """
    hp, tokenizer = run.job.hp, run.tokenizer
    restore_layers(run.model)
    asked = [probe_messages(tokenizer), *run.prompts]
    ids = [render_prompt(tokenizer, messages) for messages in asked]
    answers = greedy(run.model, ids, end_tokens(tokenizer), hp.parity_tokens, run.pad)
    prompts = [
        {
            "messages": messages,
            "prompt_token_ids": prompt,
            "output_token_ids": tokens,
            "margins": margins,
            "text": tokenizer.decode(tokens, skip_special_tokens=True),
        }
        for messages, prompt, (tokens, margins) in zip(asked, ids, answers, strict=True)
    ]
    if rank() == 0:
        run.job.parity_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"base_model": hp.base_model, "prompts": prompts}, indent=2)
        (run.job.parity_dir / "parity.json").write_text(text + "\n")


@torch.inference_mode()
def greedy(
    model: Any, prompts: Sequence[Sequence[int]], ends: set[int], limit: int, pad: int
) -> list[tuple[list[int], list[float]]]:
    """For each prompt, up to `limit` most likely tokens, an end token included, and each one's lead
    in logits over the second best (nats)."""
    model.eval()
    batch = collate([Row(tuple(prompt), ()) for prompt in prompts], pad, model.device)
    ids, mask, positions = (batch[name] for name in ("input_ids", "attention_mask", "position_ids"))
    answers: list[tuple[list[int], list[float]]] = [([], []) for _ in prompts]
    cache = None
    for _ in range(limit):
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        best = out.logits[:, -1].float().topk(2)
        leads = (best.values[:, 0] - best.values[:, 1]).tolist()
        for (tokens, margins), token, lead in zip(
            answers, best.indices[:, 0].tolist(), leads, strict=True
        ):
            if not ends.intersection(tokens[-1:]):
                tokens.append(token)
                margins.append(round(lead, 6))
        if all(ends.intersection(tokens[-1:]) for tokens, _ in answers):
            break
        cache, ids = out.past_key_values, best.indices[:, :1]
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        positions = positions[:, -1:] + 1
    return answers


def plain(dtype: torch.dtype) -> str:
    """A number format's name."""
    return str(dtype).removeprefix("torch.")


def versions() -> dict[str, str]:
    """Versions of what the weights depend on."""
    from importlib.metadata import version

    names = ["torch", "transformers", "peft", "tokenizers"]
    if importlib.util.find_spec("bitsandbytes"):
        names.append("bitsandbytes")
    return {name: version(name) for name in names}


# --- Command --------------------------------------------------------------------------------------


def relaunch(processes: int) -> int:
    """Runs this file once for each GPU, under torch.distributed.run; its exit code.

    The launcher's own code does not tell an interrupted run, so it is told here.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(Path(__file__).resolve())]
    asked = []
    process = subprocess.Popen(command)  # noqa: S603 - this very file

    def pass_on(number: int, _frame: object) -> None:
        asked.append(number)
        process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    code = process.wait()
    if code and not asked and not (output_dir() / "failure").exists():
        write_failure(f"the training processes ended with code {code}")
    return INTERRUPTED if code and asked else code


def main(arguments: Sequence[str] = ()) -> int:
    """The exit code: 0 finished, 143 interrupted and resumable, 1 failed (see the failure file)."""
    if "--help" in arguments or "-h" in arguments:
        print(usage())
        return 0
    gpus = int(os.environ.get("SM_NUM_GPUS") or torch.cuda.device_count())
    if gpus > 1 and "WORLD_SIZE" not in os.environ:
        return relaunch(gpus)
    try:
        if read_hyperparameters(os.environ, ROOT).adapter != "qlora":
            leave_out_bitsandbytes()
        return 0 if run(os.environ) else INTERRUPTED
    except Exception as error:
        if not isinstance(error, TrainingError):
            traceback.print_exc()
        write_failure(
            str(error) if isinstance(error, TrainingError) else f"{type(error).__name__}: {error}"
        )
        return 1


def leave_out_bitsandbytes() -> None:
    """Has this process not find bitsandbytes, which only qlora needs and peft imports for nothing:
    a quarter of the seconds before the first step, and its memory."""
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # to importlib: not installed


def write_failure(reason: str) -> None:
    """Says why the job failed, on stderr and to the platform."""
    print(f"failed: {reason}", file=sys.stderr, flush=True)
    output_dir().mkdir(parents=True, exist_ok=True)
    (output_dir() / "failure").write_text(reason[:1024])


def output_dir() -> Path:
    """Where the platform looks for the reason of a failure."""
    return Path(os.environ.get("SM_OUTPUT_DIR") or ROOT / "output")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
