"""How much a caller may send, and ask for."""

from __future__ import annotations

from typing import Any

from dropforge.serve.options import ServeOptions


def check_limits(fields: dict[str, Any], options: ServeOptions) -> None:
    """Raises InvalidRequestError for more tokens than the project allows, in or out."""
