"""The stub of DynamoDB with the table `answers` beside the registry."""

from __future__ import annotations

from typing import Any

from http_stub import FakeTable, Rows

CACHE_TABLE = "answers"
Key = tuple[str, str]


class CacheTable(FakeTable):
    """
    Attributes:
        answers: the cache's items, by (pk, sk); everything else is the registry's.
        failing: an error name that the cache's operations answer, to play an outage.
    """

    def __init__(self, registry: FakeTable | None = None) -> None:
        super().__init__(registry.items if registry else None)
        self.answers: dict[Key, dict[str, Any]] = {}
        self.tables.add(CACHE_TABLE, Rows(self.answers))
        self.calls: list[str] = []
        self.failing = ""

    def answer(self, operation: str, request: Any) -> tuple[int, Any]:
        if request.get("TableName") != CACHE_TABLE and operation != "TransactWriteItems":
            return super().answer(operation, request)
        self.calls.append(operation)
        if self.failing:
            return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{self.failing}"}
        return self.dynamodb(operation, request)

    def of(self, prefix: str) -> list[dict[str, Any]]:
        """The items whose pk begins so."""
        return [item for (pk, _), item in self.answers.items() if pk.startswith(prefix)]
