"""How a project is served: the part of the registry's `config` item that the chat function reads.

Written from project.yaml's `serve` and `collect` (dropforge/project/serving.py, where each field is
explained); what is missing there has the defaults here. Pure, and imports nothing but msgspec.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dropforge.providers import Backend


class ServedModel(msgspec.Struct, frozen=True):
    """A model under its server's own name for it."""

    backend: Backend
    model: str


class Price(msgspec.Struct, frozen=True):
    """US dollars per million tokens; of the dearest model that may answer."""

    input: float
    output: float


class Semantic(msgspec.Struct, frozen=True):
    similarity: float = 0.93
    max_false_hits: float = 0.02
    check_share: float = 0.1


class Cache(msgspec.Struct, frozen=True):
    exact: bool = True
    hours: float = 24.0
    semantic: Semantic | None = None


class Ensemble(msgspec.Struct, frozen=True):
    models: tuple[str, ...] = ("champion",)
    n: int = 3
    by: Literal["vote", "judge"] = "vote"
    judge: ServedModel | None = None


class ServeOptions(msgspec.Struct, frozen=True):
    fallback: tuple[Literal["previous", "base"] | ServedModel, ...] = ("previous", "base")
    max_input_tokens: int = 16_000
    max_output_tokens: int = 4_096
    cache: Cache = Cache()
    ensemble: Ensemble | None = None
    embeddings: ServedModel | None = None
    price: Price | None = None


class CollectOptions(msgspec.Struct, frozen=True):
    """Present only where the project's customers consented."""

    share: float = 1.0
    unrated: bool = False
