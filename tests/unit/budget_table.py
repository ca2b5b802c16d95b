"""The registry's stand-in with the conditional updates of budgets, one after the other."""

from __future__ import annotations

import re
import threading
from typing import Any

from http_stub import FakeTable

FAILED = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"


class BudgetTable(FakeTable):
    """Knows `ADD` of several attributes, and the two conditions that budgets have."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def _updateitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        if not request["Key"]["pk"]["S"].startswith("budget#"):
            return super()._updateitem(request)
        with self._lock:
            return self._spend(request)

    def _spend(self, request: dict[str, Any]) -> tuple[int, Any]:
        values = {k: int(v["N"]) for k, v in request["ExpressionAttributeValues"].items()}
        key = request["Key"]["pk"]["S"], request["Key"]["sk"]["S"]
        item = self.items.get(key, {})
        if not _holds(request.get("ConditionExpression", ""), item, values):
            return 400, {"__type": FAILED, "message": "The conditional request failed"}
        item = self.items.setdefault(key, {"pk": {"S": key[0]}, "sk": {"S": key[1]}})
        verb, _, pairs = request["UpdateExpression"].partition(" ")
        assert verb == "ADD"
        for pair in pairs.split(", "):
            name, value = pair.split(" ")
            item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + values[value])}
        return 200, {}


def _holds(condition: str, item: dict[str, Any], values: dict[str, int]) -> bool:
    if not condition:
        return True
    if condition == "attribute_not_exists(used_nano) OR used_nano <= :room":
        return "used_nano" not in item or int(item["used_nano"]["N"]) <= values[":room"]
    found = re.fullmatch(r"(held_\d) = :left", condition)
    assert found, condition
    return found[1] in item and int(item[found[1]]["N"]) == values[":left"]
