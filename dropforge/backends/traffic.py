"""What the chat path counted of a canary, as `dropforge.canary` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from boto3.dynamodb.conditions import Attr

from dropforge.backends.pointers import BASE
from dropforge.backends.registry import Item, Registry
from dropforge.canary import SHADOW, Arm, Arms, Rating, Traffic


def read_traffic(registry: Registry, project: str, pointer: Mapping[str, Any]) -> Traffic:
    """The counters of every step of the running canary, and the ratings since it began.

    Args:
        pointer: the project's champion with its canary.
    """
    canary = pointer["canary"]
    steps: dict[int, dict[str, Arm]] = {}
    prefix = f"arm#{canary['id']:06d}#"
    for item in registry.items(project, prefix):
        step, _, arm = str(item["sk"]).removeprefix(prefix).partition("#")
        index = SHADOW if step == "shadow" else int(step)
        steps.setdefault(index, {})[arm] = _arm(item)
    counted = {
        index: Arms(arms.get("challenger", Arm()), arms.get("champion", Arm()))
        for index, arms in steps.items()
    }
    # A fine-tune is dearer than its base by the token, which is no news to who has it trained.
    compared = pointer["version"] != BASE
    models = (str(canary["model_id"]), str(pointer["model_id"])) if compared else None
    return Traffic(counted, _ratings(registry, project, pointer), models)


def _arm(item: Item) -> Arm:
    known = {name: item[name] for name in Arm.__struct_fields__ if name in item}
    return msgspec.convert(known, Arm)


def _ratings(registry: Registry, project: str, pointer: Mapping[str, Any]) -> list[Rating]:
    """Ratings of answers that routing gave to an arm; pinned versions and the base count not.

    DynamoDB leaves out the others: a champion may have been rated for 400 days.
    """
    canary = pointer["canary"]
    versions = {"challenger": canary["version"], "champion": pointer["version"]}
    since = Attr("at").gte(Decimal(str(canary["started_at"])))
    found = [
        Rating(item["at"], arm == "challenger", item["rating"] > 0)
        for arm, version in versions.items()
        for item in registry.items(
            project,
            f"feedback#{version}#",
            where=Attr("arm").eq(arm) & since,
            only=("at", "rating"),
        )
    ]
    return sorted(found)
