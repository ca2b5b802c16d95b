"""A local default of its own for a measurement: deployed, used, and taken down."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dropforge.backends.pointers import promote
from tests.e2e.conftest import Instance, three_free_ports

PROJECT = "shop"


@contextmanager
def new(context: Mapping[str, object] | None = None) -> Iterator[Instance]:
    """An instance with an empty folder on free ports, not up yet; `context` are CDK's values."""
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        instance = Instance(Path(folder) / "state", three_free_ports(), context)
        try:
            yield instance
        finally:
            instance.local("down", check=False)


@contextmanager
def deployed(context: Mapping[str, object] | None = None) -> Iterator[Instance]:
    """The same, up."""
    with new(context) as instance:
        instance.local("up")
        instance.read_env(instance.state / "env")
        yield instance


def champion(instance: Instance, model_id: str) -> str:
    """Makes a model of the provider `openai` PROJECT's champion, without training; a token."""
    now = time.time()
    about = {"version": "v1", "backend": "openai", "model_id": model_id}
    instance.registry.put_config(
        PROJECT, {"hash": "c0ffee", "backend": "openai", "model": "gpt-4.1-mini", "at": now}
    )
    instance.registry.put(PROJECT, "model#v1", {**about, "created_at": now})
    promote(instance.registry, PROJECT, about, who="bench", why="measured", at=now)
    return instance.token(PROJECT)
