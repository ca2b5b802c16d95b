"""One synthesis for all tests of this folder, with the defaults of cdk.json."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

from infra.app import build
from infra.config import Settings, settings_from
from tests.infra.assembly import UNBUNDLED, Assembly


@pytest.fixture(scope="session")
def settings() -> Settings:
    return settings_from({})


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Assembly:
    """Made by the first process of the run that asks; the other workers of xdist read it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "assembly"
    with FileLock(f"{folder}.lock"):
        if not (folder / "manifest.json").exists():
            synthesised(folder)
    return Assembly(folder)


def synthesised(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDK_CONTEXT_JSON", raising=False)
        build(str(folder), UNBUNDLED).synth()
