"""One synthesis for all tests of this folder: the defaults of cdk.json, assets built for real."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

from infra.app import build
from infra.config import Settings, settings_from
from tests.infra.assembly import Assembly


@pytest.fixture(scope="session")
def settings() -> Settings:
    return settings_from({})


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    folder = tmp_path_factory.mktemp("assembly")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDK_CONTEXT_JSON", raising=False)
        build(str(folder)).synth()
    return Assembly(folder)
