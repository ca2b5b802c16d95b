"""One synthesis for all tests of this folder: the defaults of cdk.json, assets built for real."""

from __future__ import annotations

import os
from pathlib import Path

import aws_cdk as cdk
import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

from infra.app import build
from infra.config import Settings, settings_from
from tests.infra.assembly import Assembly


@pytest.fixture(scope="session")
def settings() -> Settings:
    return settings_from({})


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> cdk.App:
    folder = tmp_path_factory.mktemp("assembly")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDK_CONTEXT_JSON", raising=False)
        return build(str(folder))


@pytest.fixture(scope="session")
def assembly(app: cdk.App) -> Assembly:
    return Assembly(Path(app.synth().directory))
