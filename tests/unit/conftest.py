"""The chat function's shop behind its server, and the command: what many tests here begin with."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

import pytest
from chat_front import Invoke, invoked, served, shop
from click.testing import Result
from http_stub import FakeTable, Stub
from rich.console import Console
from typer.testing import CliRunner

from dropforge.cli import app
from dropforge.cli.deployment import Deployment
from tests.support.world import World


@pytest.fixture
def rows() -> FakeTable:
    return shop()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        yield server


@pytest.fixture
def invoke(stub: Stub) -> Invoke:
    return invoked


@pytest.fixture
def dropforge(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command; each call is a process of its own."""
    module = importlib.import_module("dropforge.cli.app")
    monkeypatch.setattr(module, "console", Console(markup=False, emoji=False, width=300))

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(module, "here", Deployment())
        return CliRunner().invoke(app, list(arguments))

    return run
