"""What holds for every test: no host but this one, no AWS account, nothing from the shell."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from tests.support.provider import Provider
    from tests.support.world import World

_OURS = ("AWS_", "DROPFORGE_", "OPENAI_", "POWERTOOLS_")
_INSTEAD = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "POWERTOOLS_METRICS_NAMESPACE": "Dropforge",
    "POWERTOOLS_SERVICE_NAME": "test",
}

settings.register_profile("dropforge", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("dropforge")


class OneInstance(LoadFileScheduling):
    """A file's tests on one worker; all end-to-end tests on the same one, with one instance."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneInstance:
    return OneInstance(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-socket reads its options; a command line that names hosts goes first."""
    config.option.allow_hosts = config.option.allow_hosts or "127.0.0.1,::1,localhost"
    config.option.allow_unix_socket = True
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]
    os.environ.update(_INSTEAD)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider on a port of this machine."""
    from tests.support.provider import running_provider

    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def aws() -> Iterator[None]:
    """AWS in memory; one for a module, since it forgets what boto3 has loaded when it ends."""
    from moto import mock_aws

    with mock_aws():
        yield


@pytest.fixture
def world(aws: None, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[World]:
    """The pipeline with a project `shop` whose models live at `provider`."""
    from tests.support.world import running_world

    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with running_world(monkeypatch, provider) as world:
        world.put_project()
        yield world
