"""A provider's models: when they end, and whether they can be trained.

OpenAI says `shutdown_date` (developers.openai.com/api/docs/deprecations), Azure has `deprecation`
and `capabilities` (learn.microsoft.com/rest/api/azureopenai/models/list).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import msgspec


class ListedModel(msgspec.Struct, frozen=True):
    """A model in a provider's list; `shutdown_date` is the day from which it does not answer."""

    id: str
    shutdown_date: date | None
    owned_by: str = ""


def listed(model: dict[str, Any]) -> ListedModel:
    """A model object of any dialect."""
    owner = model.get("owned_by") or model.get("organization") or ""
    return ListedModel(str(model["id"]), shutdown_date(model), str(owner))


def shutdown_date(model: object) -> date | None:
    """The day from which a model does not answer any more; None where none is announced.

    OpenAI's `shutdown_date` ("YYYY-MM-DD"), or Azure's `deprecation.inference` (seconds since the
    epoch). An ISO datetime is understood too; what cannot be read counts as not announced.
    """
    deprecation = _field(model, "deprecation")
    return _day(_field(model, "shutdown_date")) or _day(_field(deprecation, "inference"))


def training_ends(model: object) -> date | None:
    """The day from which a model cannot be trained: Azure's `deprecation.fine_tune`, or its end."""
    days = (_day(_field(_field(model, "deprecation"), "fine_tune")), shutdown_date(model))
    return min((day for day in days if day), default=None)


def can_be_trained(model: object) -> bool:
    """Whether a model's `capabilities`, where it has any (Azure), include fine-tuning."""
    return _field(_field(model, "capabilities"), "fine_tune") is not False


def _field(model: object, name: str) -> object:
    return model.get(name) if isinstance(model, dict) else getattr(model, name, None)


def _day(value: object) -> date | None:
    try:
        match value:
            case bool() | None:
                return None
            case int() | float():
                return datetime.fromtimestamp(value, UTC).date()
            case str() if value.strip().isdigit() and len(value.strip()) > 8:
                return datetime.fromtimestamp(int(value), UTC).date()
            case str():
                return datetime.fromisoformat(value.strip()).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None
