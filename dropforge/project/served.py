"""What answering needs of a project's configuration: the registry's item `config`."""

from __future__ import annotations

from typing import Any

from dropforge.models import answer_usd
from dropforge.project import ProjectConfig
from dropforge.providers import is_hosted


def config_item(config: ProjectConfig, base_component: str | None) -> dict[str, Any]:
    """The item, without its time.

    Args:
        base_component: the inference component that holds the base model of own GPUs.
    """
    collect = config.collect
    return {
        "hash": config.hash,
        "backend": config.backend,
        "model": config.model,
        "base_model_id": config.model if is_hosted(config.backend) else base_component,
        "system_prompt": config.system_prompt,
        "monthly": config.monthly,
        "extract": config.extract is not None,
        "serve": {**config.serve.model_dump(mode="json", exclude_none=True), **_price(config)},
        "collect": collect.model_dump(mode="json", exclude={"consent"}) if collect else None,
    }


def _price(config: ProjectConfig) -> dict[str, dict[str, float]]:
    """The configured price, or the highest list price among those that may answer."""
    if config.serve.price:
        return {"price": config.serve.price.model_dump()}
    models = [config.model, f"ft:{config.model}"]
    models += [choice.model for choice in config.serve.fallback if not isinstance(choice, str)]
    priced = {}
    for name, tokens in (("input", (1_000_000, 0)), ("output", (0, 1_000_000))):
        known = [usd for model in models if (usd := answer_usd(model, *tokens)) is not None]
        if known:
            priced[name] = max(known)
    return {"price": priced} if priced else {}
