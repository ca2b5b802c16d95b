"""What is known of base models: tokenizer, the longest example they train on, and list prices.

Prices are list prices in US dollars as known on the day of `PRICED`; they decide estimates and a
project's budget, never a bill. A project overrules them with `budget.usd_per_million_tokens`.
Sources: the providers' pricing and fine-tuning pages (OpenAI: platform documentation, "Fine-tuning"
and "Pricing"; Together: "Pricing", LoRA up to 16B parameters), SageMaker's on-demand training
prices for us-east-1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

PRICED = "2026-11-22"

Encoding = Literal["o200k_base", "cl100k_base"]


class Model(NamedTuple):
    """A family of base models, by the beginning of its name.

    Tokens are counted with `encoding` and multiplied by `factor`: 1.0 where it is the model's own
    tokenizer (`exact`), otherwise as measured or, for Mistral, assumed (see docs/project.md).
    `context` is the longest example in tokens, `usd` the price of a million trained tokens,
    `billions` the parameters where the model is trained on own GPUs.
    """

    prefix: str
    encoding: Encoding
    factor: float
    context: int
    provider: str
    usd: float | None = None
    billions: float | None = None

    @property
    def exact(self) -> bool:
        return self.factor == 1.0


# The first that fits counts: longer names stand before their beginnings.
_MODELS = (
    Model("gpt-4.1-nano", "o200k_base", 1.0, 65_536, "OpenAI", 1.50),
    Model("gpt-4.1-mini", "o200k_base", 1.0, 65_536, "OpenAI", 5.00),
    Model("gpt-4.1", "o200k_base", 1.0, 65_536, "OpenAI", 25.00),
    Model("gpt-4o-mini", "o200k_base", 1.0, 65_536, "OpenAI", 3.00),
    Model("gpt-4o", "o200k_base", 1.0, 65_536, "OpenAI", 25.00),
    Model("gpt-3.5-turbo", "cl100k_base", 1.0, 16_385, "OpenAI", 8.00),
    Model("smollm2-135m", "o200k_base", 1.08, 8_192, "this machine", 0.0),  # measured
    Model("llama-3.1-8b", "cl100k_base", 1.02, 131_072, "own GPU", billions=8.0),
    Model("llama-3-8b", "cl100k_base", 1.02, 8_192, "own GPU", billions=8.0),
    Model("mistral-7b", "cl100k_base", 1.2, 32_768, "own GPU", billions=7.2),
    Model("qwen", "cl100k_base", 1.02, 32_768, "own GPU", billions=7.6),
)
_TOGETHER = {"meta-llama/": 0.48, "mistralai/": 0.48, "qwen/": 0.48}


def known_model(name: str) -> Model | None:
    """What is known of a base model by its name; None for a name never heard of."""
    lowered = name.lower()
    for prefix, usd in _TOGETHER.items():
        if lowered.startswith(prefix):
            own = known_model(lowered.removeprefix(prefix).removeprefix("meta-"))
            return own and own._replace(provider="Together", usd=usd, billions=None)
    return next((model for model in _MODELS if lowered.startswith(model.prefix)), None)


class AnswerPrice(NamedTuple):
    """List prices of answers in US dollars for a million tokens, in and out: base and fine-tune."""

    prefix: str
    base: tuple[float, float]
    tuned: tuple[float, float]


_ANSWERS = (
    AnswerPrice("gpt-4.1-nano", (0.10, 0.40), (0.20, 0.80)),
    AnswerPrice("gpt-4.1-mini", (0.40, 1.60), (0.80, 3.20)),
    AnswerPrice("gpt-4.1", (2.00, 8.00), (3.00, 12.00)),
    AnswerPrice("gpt-4o-mini", (0.15, 0.60), (0.30, 1.20)),
    AnswerPrice("gpt-4o", (2.50, 10.00), (3.75, 15.00)),
    AnswerPrice("meta-llama/meta-llama-3", (0.18, 0.18), (0.18, 0.18)),
    AnswerPrice("smollm2-135m", (0.0, 0.0), (0.0, 0.0)),
)


def answer_usd(model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """What answers of so many tokens cost by list price; None for a model without a known one.

    Args:
        model: a base model's name, or a fine-tune's as `ft:<base>:…`.
    """
    tuned = model.lower().startswith("ft:")
    name = model.lower().removeprefix("ft:")
    found = next((price for price in _ANSWERS if name.startswith(price.prefix)), None)
    if found is None:
        return None
    usd_in, usd_out = found.tuned if tuned else found.base
    return (prompt_tokens * usd_in + completion_tokens * usd_out) / 1e6


class Instance(NamedTuple):
    """A SageMaker training instance: on-demand price of an hour, bf16 peak (dense) in FLOP/s."""

    usd_per_hour: float
    peak: float


INSTANCES = {
    "ml.g5.2xlarge": Instance(1.515, 70e12),
    "ml.g6.2xlarge": Instance(1.222, 60.5e12),
    "ml.g6e.2xlarge": Instance(2.803, 181e12),
    "ml.p5.4xlarge": Instance(8.60, 989e12),
}
UTILISATION = 0.3
"""Share of the peak assumed; 0.41 is published for an H100 (NeMo AutoModel, LoRA of 8B)."""

START_HOURS = 0.15
"""Provisioning, image and weights, billed like training."""


def gpu_hours(tokens: int, billions: float, instance: Instance) -> float:
    """Hours a LoRA job takes: 4 FLOP a parameter and token.

    2 for the forward pass and 2 for the gradient of the activations; the frozen weights need none
    of their own (Hu et al., LoRA, 2021; Kaplan et al., 2020, count 2 and 4 for full training).
    """
    return START_HOURS + 4 * billions * 1e9 * tokens / (UTILISATION * instance.peak) / 3600
