"""Who fine-tunes: the names that project.yaml gives them, and how they differ.

A hosted provider speaks OpenAI's fine-tuning protocol, told apart by its base URL and the few ways
in which it departs from OpenAI (a `Preset`). On SageMaker the account's own GPUs train, by the
project's container or by AWS's (`sagemaker-serverless`). Imports nothing but msgspec: the chat
function reads this too.
"""

from __future__ import annotations

from datetime import date
from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")

SAGEMAKER, SERVERLESS = "sagemaker", "sagemaker-serverless"

_STANDARD = frozenset({"epochs", "batch_size", "learning_rate_multiplier", "seed"})
_LORA = frozenset({"epochs", "batch_size", "learning_rate", "lora_rank", "lora_alpha", "seed"})
_OURS = _LORA | {"lora_layers", "lora_dropout", "max_length", "adapter", "early_stopping_patience"}
"""What training/train.py takes of project.yaml's `training` section."""


class Preset(msgspec.Struct, frozen=True):
    """A hosted provider, as far as it differs from the others.

    Attributes:
        base_url: where it answers, unless the deployment says otherwise; may hold `{region}`.
            Empty: the deployment has to say.
        takes: the hyperparameters of project.yaml that it takes; the others are not sent.
        dialect: how fine-tuning jobs are asked for. Chat is OpenAI's everywhere.
        suffix: whether a job may name its model.
        metadata: whether it keeps a job's metadata, and finds jobs by them.
        probe: whether it refuses a job whose file it does not know, at no cost, so that asking for
            one tells whether the account may train.
        lists_models: whether every model that can be trained is in its list of models.
        training_ends: the last day on which it takes jobs.
    """

    base_url: str = ""
    takes: frozenset[str] = _STANDARD
    dialect: Literal["openai", "together"] = "openai"
    suffix: bool = True
    metadata: bool = True
    probe: bool = True
    lists_models: bool = True
    training_ends: date | None = None


PRESETS: dict[str, Preset] = {
    # No new jobs for anyone from 6 January 2027 (OpenAI's deprecations page, November 2026).
    "openai": Preset("https://api.openai.com/v1", training_ends=date(2027, 1, 5)),
    "azure": Preset(metadata=False, lists_models=False),
    "bedrock": Preset(
        "https://bedrock-mantle.{region}.api.aws/v1",
        suffix=False,
        metadata=False,
        probe=False,
        lists_models=False,
    ),
    "together": Preset(
        "https://api.together.ai/v1",
        takes=_LORA,
        dialect="together",
        metadata=False,
        probe=False,
    ),
    # Any server of one's own, such as serving/: it takes what training/train.py takes.
    "local": Preset(takes=_STANDARD | _OURS),
}
Hosted = Literal["openai", "azure", "bedrock", "together", "local"]
Backend = Literal[Hosted, "sagemaker", "sagemaker-serverless"]
SERVES_ON_SAGEMAKER = (SAGEMAKER, SERVERLESS)


class Access(msgspec.Struct, frozen=True):
    """How a deployment reaches a hosted provider; without a secret it asks for no key."""

    base_url: str
    secret_arn: str = ""


def is_hosted(backend: str) -> bool:
    """Whether a provider's own servers train and answer, rather than the account's SageMaker."""
    return backend in PRESETS


def taken(backend: str, hyperparameters: dict[str, T]) -> dict[str, T]:
    """The hyperparameters that a backend takes. SageMaker's container leaves out OpenAI's own."""
    if backend in PRESETS:
        accepted = PRESETS[backend].takes
    elif backend == SERVERLESS:
        accepted = _LORA
    else:
        accepted = _OURS
    return {name: value for name, value in hyperparameters.items() if name in accepted}
