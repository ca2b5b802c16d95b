"""The stub of DynamoDB with the table `answers` beside the registry."""

from __future__ import annotations

import json
from typing import Any

from http_stub import FakeTable, StubHandler

CACHE_TABLE = "answers"
Key = tuple[str, str]


class CacheTable(FakeTable):
    """Knows the cache's own conditions and updates, and fails on any other.

    Attributes:
        answers: the cache's items, by (pk, sk); everything else is the registry's.
        failing: an error name that the cache's operations answer, to play an outage.
    """

    def __init__(self, registry: FakeTable | None = None) -> None:
        super().__init__()
        if registry:
            self.items = registry.items
        self.answers: dict[Key, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.failing = ""

    def __call__(self, handler: StubHandler) -> None:
        request = handler.request_seen.json()
        operation = handler.request_seen.headers["x-amz-target"].partition(".")[2]
        transacted = operation == "TransactWriteItems"
        if request.get("TableName") != CACHE_TABLE and not transacted:
            super().__call__(handler)
            return
        self.calls.append(operation)
        if self.failing:
            handler.reply(400, {"__type": f"com.amazonaws.dynamodb.v20120810#{self.failing}"})
            return
        status, body = getattr(self, f"_cache_{operation.lower()}")(request)
        handler.reply(status, body)

    def of(self, prefix: str) -> list[dict[str, Any]]:
        """The items whose pk begins so."""
        return [item for (pk, _), item in self.answers.items() if pk.startswith(prefix)]

    def _cache_getitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        item = self.answers.get(_key(request["Key"]))
        return 200, {"Item": item} if item else {}

    def _cache_query(self, request: dict[str, Any]) -> tuple[int, Any]:
        assert request["KeyConditionExpression"] == "pk = :pk"
        assert request["ScanIndexForward"] is False
        pk = request["ExpressionAttributeValues"][":pk"]["S"]
        found = sorted((key for key in self.answers if key[0] == pk), reverse=True)
        return 200, {"Items": [self.answers[key] for key in found[: request["Limit"]]]}

    def _cache_putitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        item, values = request["Item"], request.get("ExpressionAttributeValues", {})
        known = self.answers.get(_key(item))
        match request["ConditionExpression"]:
            case "attribute_not_exists(blocked) OR expires_at < :at":
                at = float(values[":at"]["N"])
                holds = not known or "blocked" not in known or float(known["expires_at"]["N"]) < at
            case "attribute_not_exists(pk) OR entry = :entry":
                holds = not known or known["entry"] == values[":entry"]
            case "attribute_not_exists(pk)":
                holds = not known
            case other:
                raise AssertionError(other)
        if not holds:
            return _failed("ConditionalCheckFailedException")
        self.answers[_key(item)] = item
        return 200, {}

    def _cache_updateitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        key, values = _key(request["Key"]), request["ExpressionAttributeValues"]
        if request["UpdateExpression"] == "SET blocked = :true REMOVE body, code":
            assert request["ConditionExpression"] == "holder = :holder"
            known = self.answers.get(key)
            if not known or known.get("holder") != values[":holder"]:
                return _failed("ConditionalCheckFailedException")
            kept = {name: value for name, value in known.items() if name not in ("body", "code")}
            self.answers[key] = {**kept, "blocked": values[":true"]}
            return 200, {}
        assert request["UpdateExpression"] == "ADD #checks :one, #false :false"
        item = self.answers.setdefault(key, {"pk": {"S": key[0]}, "sk": {"S": key[1]}})
        for name, value in (("checks", ":one"), ("false", ":false")):
            total = int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"])
            item[name] = {"N": str(total)}
        return 200, {}

    def _cache_transactwriteitems(self, request: dict[str, Any]) -> tuple[int, Any]:
        put, update = request["TransactItems"]
        status, _ = self._cache_putitem(put["Put"])
        if status != 200:
            return _failed("TransactionCanceledException")
        return self._cache_updateitem(update["Update"])


def _key(attributes: dict[str, Any]) -> Key:
    return attributes["pk"]["S"], attributes["sk"]["S"]


def _failed(name: str) -> tuple[int, Any]:
    return 400, {"__type": f"com.amazonaws.dynamodb.v20120810#{name}", "message": "no"}


def copied(item: dict[str, Any]) -> dict[str, Any]:
    """An item that can be changed without the original."""
    found: dict[str, Any] = json.loads(json.dumps(item))
    return found
