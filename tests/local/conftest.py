"""An instance of the local default: emulator, stand-in and a fake model server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_parts import AWS, FakeModelServer, free_ports

from local import processes, up
from local.deploy import client_config, session
from local.settings import Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.enable_socket)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(free_ports(), tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="session")
def models(settings: Settings) -> Iterator[FakeModelServer]:
    server = FakeModelServer(settings.port + 1)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def instance(settings: Settings, models: FakeModelServer) -> Iterator[Settings]:
    """The settings of a running instance; nothing of it is left running afterwards."""
    wanted = [up.emulator(settings), up.stand_in(settings)]
    up.start(settings, wanted, lambda _: None, lambda _: None)
    yield settings
    assert set(up.down(settings)) == {"emulator", "SageMaker stand-in"}
    assert processes.ours(settings) == []


@pytest.fixture(scope="session")
def aws(instance: Settings) -> AWS:
    """Makes boto3 clients for the instance."""
    made: boto3.session.Session = session()

    def client(service: str) -> Any:
        url = instance.sagemaker_url if "sagemaker" in service else instance.emulator_url
        return made.client(service, endpoint_url=url, config=client_config())  # type: ignore[call-overload]

    return client
