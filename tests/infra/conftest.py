"""Two syntheses for all tests of this folder: the defaults of cdk.json, and the other way."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

from infra.app import build
from infra.config import Settings, settings_from
from tests.infra.assembly import OPTIONS, UNBUNDLED, Assembly


@pytest.fixture(scope="session")
def settings() -> Settings:
    return settings_from({})


Synthesise = Callable[[str, dict[str, Any]], Assembly]


@pytest.fixture(scope="session")
def synthesise(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Synthesise:
    """Synthesises under a name, once a run: for all workers of xdist, the first that asks does.

    A finding of cdk-nag is an error.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def synthesised(name: str, context: dict[str, Any]) -> Assembly:
        folder = shared / name
        with FileLock(f"{folder}.lock"), pytest.MonkeyPatch.context() as patch:
            patch.delenv("CDK_CONTEXT_JSON", raising=False)
            if not (folder / "manifest.json").exists():
                build(str(folder), {**UNBUNDLED, **context}).synth()
        return Assembly(folder)

    return synthesised


@pytest.fixture(scope="session")
def assembly(synthesise: Synthesise) -> Assembly:
    """The defaults."""
    return synthesise("assembly", {})


@pytest.fixture(scope="session")
def with_options(synthesise: Synthesise) -> Assembly:
    """What can be switched on is on, and what can be switched off is off: see OPTIONS."""
    return synthesise("with-options", OPTIONS)
