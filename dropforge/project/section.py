"""What every section of project.yaml is built of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dropforge.providers import Backend

Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=20_000)]
"""A length makes pydantic refuse lone surrogates too, which no JSON can carry."""


class Section(BaseModel):
    """Keys that are not known are refused, so that a typo is no silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Choice(Section):
    """A backend, and the model there."""

    backend: Backend
    model: Annotated[str, Field(min_length=1, max_length=500)]
