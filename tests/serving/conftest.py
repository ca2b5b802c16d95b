"""One model server on SmolLM2 for these tests, and the tiny model for what needs no prose."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.training.tiny import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / ".local/serving/weights"
"""Shared with the local default, so that weights are converted once in a checkout."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    state = tmp_path_factory.mktemp("state")
    arguments = ["--port", str(port), "--state", str(state), "--weights", str(WEIGHTS)]
    log = (state / "server.log").open("w+")
    command = [sys.executable, "-m", "serving.server", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        log.close()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for the model, which on the first run in a checkout is converted."""
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


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[openai.OpenAI]:
    """An unmodified SDK client."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="any", max_retries=0) as client:
        yield client
