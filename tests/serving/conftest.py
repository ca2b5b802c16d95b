"""One model server for these tests, a process of its own, on the tiny model: what is said is no
language but where a test has trained it. What SmolLM2 says is tests/e2e's to ask.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.weights import BASE_MODEL
from tests.training.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model with larger logits: without them all its choices are near ties."""
    return save_tiny_model(tmp_path_factory.mktemp("sharp"), sharpness=20)


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's state folder."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def server(state: Path, sharp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running server whose converted weights are the tiny model's."""
    weights = tmp_path_factory.mktemp("weights")
    (weights / BASE_MODEL).symlink_to(sharp)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--port", str(port), "--state", str(state), "--weights", str(weights)]
    process = subprocess.Popen([sys.executable, "-m", "serving.server", *arguments], cwd=ROOT)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for the model."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the model server did not become ready")


@pytest.fixture
def lifecycle(state: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes lifecycle.json."""
    file = state / "lifecycle.json"
    yield lambda told: (file.write_text(json.dumps(told)), None)[1]
    file.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[openai.OpenAI]:
    """An unmodified SDK client."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="any", max_retries=0) as client:
        yield client
