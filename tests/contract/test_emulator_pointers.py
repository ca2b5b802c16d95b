"""The champion pointer among many movers at once, on a DynamoDB with transactions of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest

from dropforge.backends import pointers
from dropforge.backends.registry import Registry
from dropforge.errors import PromotionError

MOVERS, ROUNDS = 64, 3


@pytest.fixture(scope="module")
def registry(emulator: str, aws: Callable[[str], Any]) -> Registry:
    names = ("pk", "sk")
    aws("dynamodb").create_table(
        TableName="pointers",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in names],
        KeySchema=[
            {"AttributeName": n, "KeyType": kind}
            for n, kind in zip(names, ("HASH", "RANGE"), strict=True)
        ],
    )
    resource = boto3.resource(
        "dynamodb",
        endpoint_url=emulator,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    return Registry("pointers", resource)


def test_of_many_movers_at_once_one_wins_each_revision(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them read the same pointer first, so that all move from the same revision."""

    def move(version: str) -> str | None:
        model = {"version": version, "backend": "openai", "model_id": f"ft:{version}"}
        try:
            pointers.promote(registry, "shop", model, who="ann", why="race", at=1.0)
        except PromotionError:
            return None
        return version

    read = registry.champion
    for turn in range(1, ROUNDS + 1):
        seen = read("shop")
        with monkeypatch.context() as patch, ThreadPoolExecutor(MOVERS) as pool:
            patch.setattr(registry, "champion", lambda project, seen=seen: seen)
            versions = [f"v{turn}-{mover}" for mover in range(MOVERS)]
            winners = [won for won in pool.map(move, versions) if won]
        pointer = read("shop") or {}
        assert winners == [pointer["version"]]
        assert pointer["revision"] == turn
    moves = registry.items("shop", "move#")
    assert [(m["revision"], m["action"]) for m in moves] == [
        (turn, "promote") for turn in range(1, ROUNDS + 1)
    ]
    standing = registry.items("shop", "standing#")
    assert {item["sk"] for item in standing} == {f"standing#{m['version']}" for m in moves}
