"""What the engine works on: one request, and the batch of requests that share an adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Generation:
    """One request, as the engine sees it.

    `on_token` is called from the engine's thread with each token id, then once with None when the
    request is over: at an end token, which is not passed on but kept as `ended`, or after
    `max_tokens`. `on_error` is called instead if it fails.
    """

    adapter: Path | None
    prompt: Sequence[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    on_token: Callable[[int | None], None]
    on_error: Callable[[Exception], None]
    cancelled: bool = False
    produced: int = 0
    ended: int | None = None
    random: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(self.seed)


@dataclass
class Batch:
    """Requests of one adapter that are generated together.

    `mask` is (rows, cached tokens), 0 where a shorter row is padded on the left; `lengths` counts
    each row's real tokens; `logits` (rows, vocabulary) are what the next token is drawn from.
    """

    rows: list[Generation]
    cache: Any
    mask: torch.Tensor
    lengths: torch.Tensor
    logits: torch.Tensor

    def join(self, other: Batch) -> None:
        """Take over the rows of another batch."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([_widen(mine.keys, width), _widen(theirs.keys, width)])
            mine.values = torch.cat([_widen(mine.values, width), _widen(theirs.values, width)])
        masks = [self.mask, other.mask]
        padded = [torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks]
        self.mask = torch.cat(padded)
        self.lengths = torch.cat([self.lengths, other.lengths])
        self.logits = torch.cat([self.logits, other.logits])
        self.rows += other.rows

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these, and the padding that only the dropped ones needed."""
        index = torch.tensor(rows)
        self.rows = [self.rows[at] for at in rows]
        self.lengths, self.logits = self.lengths[index], self.logits[index]
        start = self.mask.shape[1] - int(self.lengths.max())
        self.mask = self.mask[index, start:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[index, :, start:]
            layer.values = layer.values[index, :, start:]


def _widen(states: torch.Tensor, width: int) -> torch.Tensor:
    """Keys or values (rows, heads, tokens, size) padded on the left to `width` tokens."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


def draw(row: Generation, logits: torch.Tensor) -> int:
    """The next token of a row: the likeliest at temperature 0, else drawn by the row's own seed."""
    if row.temperature == 0:
        return int(logits.argmax())
    chances = torch.softmax(logits / row.temperature, dim=-1)
    if row.top_p < 1:
        ordered, index = chances.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered > row.top_p] = 0
        return int(index[torch.multinomial(ordered, 1, generator=row.random)])
    return int(torch.multinomial(chances, 1, generator=row.random))
