"""The chat function as Lambda runs it, an empty one, and FastAPI behind Mangum: built, started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT
from benchmarks.serving.processes import Upstream, cpu_seconds, start, stop
from benchmarks.serving.runtime_api import Invocation, RuntimeApi
from infra.asset import CHAT, Target, bundle

PEERS = ROOT / "benchmarks/peers"
PEER_VENV = ROOT / ".venv-peers-serving"
EVENT = json.loads((ROOT / "tests/events/apigateway_chat_completions.json").read_text())
HANDLER = "lambdas.chat.handler.handler"
EMPTY = "empty_handler.handler"
_PEER_MAIN = (
    "import sys; sys.path[:0] = {paths!r}; sys.argv[1:] = ['fastapi_proxy.handler'];"
    " from lambda_loop import main; main()"
)


def built(folder: Path) -> Path:
    """The asset of the chat function for this interpreter, byte code included, with an empty one.

    `infra.asset.bundle` builds it as for a deployment.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    asset = folder / "asset"
    asset.mkdir()
    bundle(CHAT, Target(version, f"{os.uname().machine}-manylinux_2_28"), asset)
    shutil.copyfile(PEERS / "empty_handler.py", asset / "empty_handler.py")
    return asset


def event(*, stream: bool = False, question: str = "Where is order LU-4711?") -> dict[str, Any]:
    """A proxy event of API Gateway with a chat request, behind the authorizer."""
    asked = {"model": "shop", "messages": [{"role": "user", "content": question}]}
    return {**EVENT, "body": json.dumps({**asked, "stream": True} if stream else asked)}


def environment(upstream: Upstream, api: RuntimeApi, asset: Path) -> dict[str, str]:
    """What Lambda and the stack set. No profile, no proxy and no path of this shell."""
    access = {"base_url": f"{upstream.url}/v1", "secret_arn": "arn:aws:secretsmanager:::key"}
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "LAMBDA_TASK_ROOT": str(asset),
        "_HANDLER": HANDLER,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": upstream.url,
        "DROPFORGE_TABLE": "registry",
        "DROPFORGE_CACHE_TABLE": "cache",
        "DROPFORGE_PROVIDERS": json.dumps({"openai": access}),
    }


class FunctionProcess:
    """One container of a function, from its start on."""

    def __init__(self, api: RuntimeApi, command: Sequence[str], env: dict[str, str], log: Path):
        self.api = api
        self.began = time.perf_counter()
        self.process = start(command, env, log)

    def run(self, events: Sequence[dict[str, Any]]) -> tuple[list[Invocation], float]:
        """Answers them one after the other; what became of each, and the CPU seconds in all."""
        self.api.idle()
        before = cpu_seconds(self.process.pid)
        self.api.offer(events)
        done = self.api.results()
        self.api.idle()
        return done, cpu_seconds(self.process.pid) - before


@dataclass(frozen=True)
class Subject:
    """How one function's process is started."""

    name: str
    command: tuple[str, ...]
    handler: str = HANDLER

    @contextmanager
    def started(
        self, upstream: Upstream, asset: Path, *, first: dict[str, Any] | None = None
    ) -> Iterator[FunctionProcess]:
        """Its process, beside a Runtime API of its own that offers the first event at once."""
        api = RuntimeApi()
        if first:
            api.offer([first])
        env = {**environment(upstream, api, asset), "_HANDLER": self.handler}
        function = FunctionProcess(api, self.command, env, asset.parent / "function.log")
        try:
            yield function
        finally:
            stop(function.process)
            api.close()


def ours(asset: Path, handler: str = HANDLER, name: str = "Dropforge") -> Subject:
    """By the bootstrap that Lambda executes."""
    bootstrap = str(asset / "lambdas/chat/bootstrap")
    return Subject(name, (bootstrap, str(Path(sys.executable).resolve())), handler)


def mangum() -> Subject:
    """The peer by the same interpreter with the same flags, and the least of runtime clients."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = PEER_VENV / "lib" / version / "site-packages"
    compiled = [sys.executable, "-m", "compileall", "-q", str(PEERS / "fastapi_proxy.py")]
    subprocess.run([*compiled, str(PEERS / "lambda_loop.py")], check=True)
    main = _PEER_MAIN.format(paths=[str(PEERS), str(site)])
    python = str(Path(sys.executable).resolve())
    return Subject("FastAPI + Mangum + openai", (python, "-I", "-S", "-c", main))


def interpreter() -> tuple[str, ...]:
    """What starting Python costs: the same flags, and nothing done."""
    return (str(Path(sys.executable).resolve()), "-I", "-S", "-c", "pass")
