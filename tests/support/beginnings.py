"""What many tests begin with, made once a process and copied for each of them."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from typing import Any

from tests.support.provider import Provider
from tests.support.world import World

State = dict[str, Any]
_made: dict[tuple[str, ...], tuple[str, bytes]] = {}


def once(world: World, provider: Provider, what: str, make: Callable[[], State]) -> State:
    """The state that `make` returns, with all that it does to a new world and its provider.

    `what` names what is made; it may depend on the environment and the day besides. Where the
    world is not AWS in memory, or not new any more, it is made as ever.
    """
    memory = world.memory
    if memory is None or not provider.is_new or memory.saved(world.bucket) != world.beginning:
        return make()
    day = str(int(time.time() // 86_400))
    key = (what, day, *_environment(world, provider))
    if key not in _made:
        state = make()
        _made[key] = (
            world.bucket,
            pickle.dumps((state, provider.kept, memory.saved(world.bucket))),
        )
        return state
    name, made = _made[key]
    state, kept, saved = pickle.loads(made.replace(name.encode(), world.bucket.encode()))  # noqa: S301
    memory.restore(saved)
    vars(provider).update(kept)
    return dict(state)


def _environment(world: World, provider: Provider) -> list[str]:
    ours = (f"{k}={v}" for k, v in os.environ.items() if k.startswith("DROPFORGE_"))
    return sorted(one.replace(world.bucket, "").replace(provider.url, "") for one in ours)
