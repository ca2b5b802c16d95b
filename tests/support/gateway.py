"""API Gateway's usage plans and keys in memory, for what tokens do with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError


class Gateway:
    """Stands in for boto3's client; tests/contract holds the same calls against the emulator.

    Attributes:
        keys: by id.
        plans: the ids of the keys in each plan.
        flushed: the stages whose authorizers' answers were forgotten.
        denies: operations that are not allowed.
    """

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self.plans: dict[str, list[str]] = {}
        self.flushed: list[tuple[str, str]] = []
        self.denies: set[str] = set()

    def names_in(self, plan: str) -> list[str]:
        return [self.keys[key]["name"] for key in self.plans[plan] if key in self.keys]

    def create_api_key(self, *, name: str, enabled: bool, value: str) -> dict[str, Any]:
        self._allow("CreateApiKey")
        key = {"id": f"key{len(self.keys)}", "name": name, "enabled": enabled, "value": value}
        self.keys[key["id"]] = key
        return key

    def create_usage_plan_key(self, *, usagePlanId: str, keyId: str, keyType: str) -> None:  # noqa: N803
        self._allow("CreateUsagePlanKey")
        assert keyType == "API_KEY"
        self.plans[usagePlanId].append(keyId)

    def get_paginator(self, operation: str) -> Gateway:
        assert operation == "get_api_keys"
        return self

    def paginate(self, *, nameQuery: str) -> Iterator[dict[str, Any]]:  # noqa: N803
        """One key a page; API Gateway finds names by their beginning."""
        for key in [k for k in self.keys.values() if k["name"].startswith(nameQuery)]:
            yield {"items": [key]}

    def delete_api_key(self, *, apiKey: str) -> None:  # noqa: N803
        self._allow("DeleteApiKey")
        del self.keys[apiKey]

    def flush_stage_authorizers_cache(self, *, restApiId: str, stageName: str) -> None:  # noqa: N803
        self._allow("FlushStageAuthorizersCache")
        self.flushed.append((restApiId, stageName))

    def _allow(self, operation: str) -> None:
        if operation in self.denies:
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)
