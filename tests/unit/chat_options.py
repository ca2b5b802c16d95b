"""What a project's `serve` section puts into the registry, for the tests of what it turns on."""

from __future__ import annotations

from typing import Any

from http_stub import FakeTable


def typed(value: Any) -> dict[str, Any]:
    """A value as DynamoDB writes it."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": str(value)}
    if isinstance(value, dict):
        return {"M": {name: typed(inner) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [typed(inner) for inner in value]}
    return {"NULL": True} if value is None else {"S": value}


def serve(rows: FakeTable, **options: Any) -> None:
    """Turns options of `shop` on."""
    rows.items["project#shop", "config"]["serve"] = typed(options)
