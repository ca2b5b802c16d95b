"""What holds for every test: no host but this one, no AWS account, nothing from the shell."""

from __future__ import annotations

import os
import ssl
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import typer.main
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from tests.support.memory_aws import MemoryAws
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
    "OMP_NUM_THREADS": "1",  # a model's threads and the other worker's would share the cores
}

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
settings.register_profile("dropforge", deadline=None, derandomize=True, max_examples=_EXAMPLES)
settings.load_profile("dropforge")


class OneInstance(LoadFileScheduling):
    """A file's tests on one worker; a folder's where they share an instance or a server."""

    def _split_scope(self, nodeid: str) -> str:
        folder = "/".join(nodeid.split("/")[:2])
        shares = folder in ("tests/e2e", "tests/serving", "tests/training")
        return folder if shares else super()._split_scope(nodeid)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each folder took: seconds of its tests and fixtures, added up over the workers."""
    seconds, tests = Counter[str](), Counter[str]()
    for report in (one for kind in terminalreporter.stats.values() for one in kind):
        if isinstance(report, pytest.TestReport):
            folder = "/".join(report.nodeid.partition("::")[0].split("/")[:2])
            seconds[folder] += report.duration
            tests[folder] += report.when == "call"
    if not seconds:
        return
    terminalreporter.section("seconds by folder")
    for folder, spent in seconds.most_common():
        terminalreporter.write_line(f"{spent:8.1f}  {folder:<18} {tests[folder]:5} tests")


def _without_authorities(**_: Any) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider on a port of this machine; to load TLS's authorities takes 20 ms a client."""
    from tests.support.provider import running_provider

    monkeypatch.setattr("httpcore2.default_ssl_context", _without_authorities)
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="session", autouse=True)
def _command_is_built_once() -> Iterator[None]:
    """Its tree of options is always the same, and building it takes longer than most commands."""
    with patch("typer.testing._get_command", cache(typer.main.get_command)):
        yield


@pytest.fixture(scope="module")
def aws() -> Iterator[MemoryAws]:
    """AWS in memory, a new one for each file."""
    from tests.support.memory_aws import memory_aws

    with memory_aws() as memory:
        yield memory


@pytest.fixture(scope="module")
def moto() -> Iterator[None]:
    """moto's AWS, where its way of answering is the point."""
    from moto import mock_aws
    from moto.core.models import botocore_stubber

    assert not botocore_stubber.enabled, "another test's AWS has not ended"
    with mock_aws():
        yield


@pytest.fixture
def world(aws: MemoryAws, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[World]:
    """The pipeline with a project `shop` whose models live at `provider`."""
    from tests.support.beginnings import once
    from tests.support.world import running_world

    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with running_world(monkeypatch, provider, aws) as world:

        def made() -> dict[str, Any]:
            world.put_project()
            return {}

        world.begin()
        once(world, provider, "a project", made)
        world.begin()
        yield world
