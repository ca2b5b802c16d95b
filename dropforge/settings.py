"""Settings of each function, read once from its environment, on first use."""

from __future__ import annotations

import os
from typing import Self

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """What every pipeline function knows. Field `table` is read from DROPFORGE_TABLE, and so on."""

    model_config = ConfigDict(frozen=True)

    bucket: str
    table: str

    @classmethod
    def from_environment(cls) -> Self:
        """Raises pydantic.ValidationError that names each missing variable's field."""
        prefix = "DROPFORGE_"
        found = {k[len(prefix) :].lower(): v for k, v in os.environ.items() if k.startswith(prefix)}
        return cls.model_validate(found)


class StarterSettings(Settings):
    """Functions that start runs: drop and schedule."""

    state_machine_arn: str


class DropSettings(StarterSettings):
    base_component: str


class CleanSettings(Settings):
    """clean: `max_bytes` is the largest export that the function reads itself."""

    max_bytes: int = 2 << 30


class ValidateSettings(CleanSettings):
    """validate: `max_bytes` holds for all parts together.

    `training_instance` is what SageMaker projects train on, for the cost.
    """

    training_instance: str = ""


class ProviderSettings(Settings):
    """Functions that talk to a training or chat provider."""

    openai_base_url: str
    openai_secret_arn: str
    endpoint_name: str


class TrainSettings(ProviderSettings):
    """launch and poll."""

    poll_seconds: int = 60
    base_component: str


class JudgeSettings(ProviderSettings):
    judge_base_url: str
    judge_secret_arn: str
