"""One instance of the local default for all end-to-end tests, beside any that a person runs.

Most of them are about the way and not about the answer, so its base model is a tiny one, made on
the spot; `smollm2` puts the real one in its place for tests/e2e/test_pipeline.py, which run last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
import msgspec
import pytest

from dropforge.artifacts import dataset_key
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.backends.tokens import Plans, Tokens, Wish
from dropforge.chat import decode_examples
from local import processes, up
from local.customers import Customers
from local.settings import BASE_MODEL, Settings
from tests.support.provider import Provider, running_provider
from tests.training.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
TICKETS = ROOT / "examples/tickets.csv"
CONFIG = ROOT / "examples/project.yaml"
SPARK_FROM = 1 << 20
"""Bytes from which on these tests' exports are Spark's."""
WEIGHTS = ROOT / ".local/serving/weights"
"""Shared with a person's own instance, so that SmolLM2 is converted once in a checkout."""
PATIENCE_SECONDS = 600
"""What a test waits for the end of a run, on a machine that may be busy."""
ENDING = ("local", "bedrock")
"""Backends that are no model server in these tests, but providers that end."""


class Instance:
    """A running, deployed Dropforge, used as its users use it."""

    def __init__(self, state: Path, port: int, context: Mapping[str, object] | None = None) -> None:
        self.state = state
        self.settings = Settings(port, state)
        self.model_url = self.settings.model_url
        self.environment = {
            **os.environ,
            "DROPFORGE_STATE": str(state),
            "DROPFORGE_PORT": str(port),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DROPFORGE_CONTEXT": json.dumps(context or {}),
            "COLUMNS": "200",
        }

    def local(self, command: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "local", command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read_env(self, file: Path) -> None:
        """What `source .local/env` would set."""
        for name, value in re.findall(r"^export (\w+)=(\S+)$", file.read_text(), re.MULTILINE):
            if name != "PATH":
                self.environment[name] = os.environ[name] = value.strip("'\"")
        parameter = boto3.client("ssm").get_parameter(Name="/dropforge/deployment")
        self.outputs = msgspec.json.decode(parameter["Parameter"]["Value"])
        self.registry = Registry(self.outputs["table"])
        plans = msgspec.convert(self.outputs["plans"], Plans)
        self.tokens = Tokens(self.outputs["table"], plans)
        self.store = Store(self.outputs["bucket"])
        self.api_url = self.environment["DROPFORGE_API_URL"]

    def dropforge(self, *arguments: object, fails: bool = False) -> str:
        """Run the command; returns what it printed to both streams."""
        done = subprocess.run(
            ["dropforge", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def executions(self, status: str | None = None) -> list[str]:
        client = boto3.client("stepfunctions")
        arn = self.outputs["state_machine_arn"]
        listed = client.list_executions(stateMachineArn=arn)["executions"]
        return [e["name"] for e in listed if status in (None, e["status"])]

    def token(self, project: str) -> str:
        return self.dropforge("tokens", "create", project, "--quiet").strip()

    def token_of(self, project: str) -> str:
        """A token of a project that need not be there yet."""
        return self.tokens.create(Wish(projects=(project,), name="customers"), time.time())[1]


def three_free_ports() -> int:
    for first in range(21000, 32000, 7):
        taken = []
        for port in range(first, first + 3):
            with socket.socket() as probe:
                taken.append(probe.connect_ex(("127.0.0.1", port)) == 0)
        if not any(taken):
            return first
    raise RuntimeError("no three free ports in a row")


@pytest.fixture(scope="session")
def ending() -> Iterator[dict[str, Provider]]:
    """Providers that take jobs and can be made to fail, by the name of their backend."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_provider()) for name in ENDING}


@pytest.fixture(scope="package")
def instance(
    tmp_path_factory: pytest.TempPathFactory, ending: dict[str, Provider]
) -> Iterator[Instance]:
    # It ends with the folder's last test: clients of the tests after it would be led to it.
    before = dict(os.environ)
    state = tmp_path_factory.mktemp("instance")
    tiny = state / "serving/weights" / BASE_MODEL
    tiny.mkdir(parents=True)
    save_tiny_model(tiny, context=2048, sharpness=20, endless=True)
    context = {
        "max_bytes": SPARK_FROM,
        "poll_seconds": 1,
        **{f"providers.{name}": provider.url for name, provider in ending.items()},
    }
    running = Instance(state, three_free_ports(), context)
    try:
        running.local("up")
        running.read_env(state / "env")
        yield running
    finally:
        running.local("down", check=False)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module")
def smollm2(instance: Instance) -> Instance:
    """The instance, whose model server has got SmolLM2 instead of the tiny base model."""
    service = up.model_server(instance.settings)
    process = processes.running(instance.settings, service.name)
    assert process is not None
    process.terminate()
    process.wait(60)
    weights = instance.state / "serving/weights"
    shutil.rmtree(weights)
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    weights.symlink_to(WEIGHTS)
    up.start(instance.settings, [service], lambda _: None, lambda _: None)
    return instance


def small_config(path: Path, **changes: str) -> Path:
    """The example's configuration with some lines changed, and without its canary."""
    text = CONFIG.read_text().partition("canary:")[0]
    for name, value in changes.items():
        lines = [line for line in text.splitlines() if line.strip().startswith(f"{name}:")]
        assert len(lines) == 1, name
        indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
        text = text.replace(lines[0], f"{indent}{name}: {value}")
    path.write_text(text)
    return path


@contextmanager
def customers(instance: Instance, project: str) -> Iterator[Customers]:
    """People who ask and rate while a canary of the project runs."""
    people = Customers(instance.api_url, instance.token_of(project), project)
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.3):
            if (instance.registry.champion(project) or {}).get("canary"):
                [dataset] = {
                    r["validate"]["hash"] for r in instance.registry.items(project, "run#")
                }
                data = instance.store.read(dataset_key(project, dataset, "test.jsonl"))
                people.run(list(decode_examples(data)), over)
                return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield people
    finally:
        over.set()
        thread.join()


def wait_for_run(instance: Instance, project: str, key: str, run_id: str | None = None) -> dict:
    """The run of a dropped key, or the one with an id, once it has ended."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        for run in instance.registry.items(project, "run#"):
            meant = run["key"] == key and run_id in (None, run["run_id"])
            if meant and run["status"] != "running":
                return run
        time.sleep(0.3)
    raise AssertionError(f"no run of {key} ended within {PATIENCE_SECONDS} s")
