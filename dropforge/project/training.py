"""The sections of project.yaml about training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dropforge.artifacts import Hyperparameters
from dropforge.project.section import Section


class Training(Section):
    """How a model is trained. Hyperparameters left out take the recipe's or provider's value."""

    epochs: Annotated[int, Field(ge=1, le=50)] = 3
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_alpha: Annotated[int, Field(ge=1, le=1024)] | None = None
    lora_layers: Annotated[int, Field(ge=0)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, le=0.9)] | None = None
    adapter: Literal["lora", "rslora", "dora", "qlora"] | None = None
    early_stopping_patience: Annotated[int, Field(ge=1, le=100)] | None = None
    max_length: Annotated[int, Field(ge=64, le=131072)] | None = None
    seed: int = 7
    max_rows: Annotated[int, Field(ge=10)] | None = None
    validation_rows: Annotated[int, Field(ge=1)] = 200
    timeout_hours: Annotated[float, Field(gt=0, le=120)] = 24
    patience_minutes: Annotated[float, Field(gt=0, le=7200)] = 60

    def hyperparameters(self) -> Hyperparameters:
        """The chosen hyperparameters, without those left to the recipe."""
        ours = {"max_rows", "validation_rows", "timeout_hours", "patience_minutes"}
        return self.model_dump(exclude_none=True, exclude=ours)


class Shutdown(Section):
    """What happens before the model that answers goes dark at its provider.

    With `retrain`, the same dataset is trained on the next backend of the list once no more than
    `days` are left; without it, only the alarms ring.
    """

    retrain: bool = False
    days: Annotated[int, Field(ge=1, le=365)] = 30
