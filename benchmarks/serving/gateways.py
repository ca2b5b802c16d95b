"""Requests per CPU-second: the chat function as Lambda drives it, and gateways behind HTTP.

Every subject has one core, one process (LiteLLM and FastAPI one worker) and the same stub, and is
asked the same question. The function answers one request at a time, because Lambda never gives it
another; the servers are asked by CLIENTS at once, which suits them best. Counted is the CPU time of
the process and its children, HTTP on both sides included; nobody logs but the function, and nobody
but the function and the FastAPI proxy looks into a registry or checks whose request it is.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import ROOT, Figure
from benchmarks.serving import clients, functions
from benchmarks.serving.processes import (
    OTHERS,
    Upstream,
    await_port,
    cpu_seconds,
    free_port,
    on_core,
    start,
    stop,
)

CLIENTS, SECONDS, ROUNDS = 16, 4.0, 3
QUESTION = json.dumps(
    {"model": "shop", "messages": [{"role": "user", "content": "Where is order LU-4711?"}]}
).encode()
PORTKEY = ".venv-peers-portkey/node_modules/@portkey-ai/gateway"
KEYS = {"OPENAI_API_KEY": "sk-upstream"}


@dataclass(frozen=True)
class Gateway:
    """A server to be measured.

    Attributes:
        command: `{port}` and `{url}` (the stub's) are filled in.
        headers: what it wants of each request.
        port_file: where it writes the port that it chose itself.
    """

    name: str
    command: tuple[str, ...]
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    question: bytes = QUESTION
    environment: Mapping[str, str] = field(default_factory=dict)
    port_file: bool = False

    @contextmanager
    def started(self, upstream: Upstream, folder: Path) -> Iterator[tuple[str, int]]:
        """Its URL and process id, once it answers."""
        port, told = free_port(), folder / f"{self.name.split()[0]}.port"
        filled = {"port": str(port), "url": upstream.url, "told": str(told), "folder": str(folder)}
        command = [part.format(**filled) for part in self.command]
        env = {**os.environ, **KEYS, **{k: v.format(**filled) for k, v in self.environment.items()}}
        process = start(command, env, folder / f"{self.name.split()[0]}.log")
        try:
            if self.port_file:
                port = _told(told)
            await_port(port, process)
            yield f"http://127.0.0.1:{port}{self.path}", process.pid
        finally:
            stop(process)


def _told(place: Path, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while not (place.exists() and place.read_text()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody wrote {place}")
        time.sleep(0.1)
    return int(place.read_text())


def gateways(upstream: Upstream, folder: Path) -> list[Gateway]:
    """FastAPI with the openai SDK, LiteLLM, Portkey and TensorZero, as their manuals start them."""
    _litellm_config(upstream, folder)
    proxy = {
        "PYTHONPATH": str(functions.PEERS),
        "AWS_ENDPOINT_URL": "{url}",
        "DROPFORGE_TABLE": "registry",
        "DROPFORGE_PROVIDERS": '{{"openai": {{"base_url": "{url}/v1", "secret_arn": "key"}}}}',
    }
    master = f"sk-{secrets.token_hex(24)}"
    model = QUESTION.replace(b'"shop"', b'"tensorzero::model_name::shop"')
    return [
        Gateway(
            "FastAPI + uvicorn + openai",
            (
                *(f"{ROOT}/.venv-peers-serving/bin/python", "-m", "uvicorn", "fastapi_proxy:app"),
                *("--port", "{port}", "--log-level", "warning", "--no-access-log"),
            ),
            headers={"Authorization": "Bearer df-example-token"},
            environment=proxy,
        ),
        Gateway(
            "LiteLLM proxy",
            (
                *(f"{ROOT}/.venv-peers-litellm/bin/litellm", "--config", "{folder}/litellm.yaml"),
                *("--host", "127.0.0.1", "--port", "{port}", "--num_workers", "1"),
            ),
            headers={"Authorization": f"Bearer {master}"},  # it does not start without a master key
            environment={
                "LITELLM_LOG": "ERROR",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MASTER_KEY": master,
            },
        ),
        Gateway(
            "Portkey gateway",
            (
                *("node", "--require", str(functions.PEERS / "loopback.cjs")),
                *(f"{ROOT}/{PORTKEY}/build/start-server.js", "--port={port}", "--headless"),
            ),
            headers={
                "Authorization": "Bearer sk-upstream",
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": f"{upstream.url}/v1",
            },
        ),
        Gateway(
            "TensorZero gateway",
            (
                f"{ROOT}/.venv-peers-tensorzero/bin/python",
                *(str(functions.PEERS / "tensorzero_gateway.py"), "{url}/v1/", "{told}"),
            ),
            path="/openai/v1/chat/completions",
            question=model,
            port_file=True,
        ),
    ]


def _litellm_config(upstream: Upstream, folder: Path) -> None:
    params = f"{{model: openai/ft:shop:2, api_base: '{upstream.url}/v1', api_key: sk-upstream}}"
    (folder / "litellm.yaml").write_text(
        f"model_list:\n- {{model_name: shop, litellm_params: {params}}}\n"
        "litellm_settings: {telemetry: false}\n"
    )


@dataclass
class Rate:
    """Requests and CPU seconds, by round."""

    name: str
    a_cpu_second: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The round that neighbours disturbed least."""
        return max(self.a_cpu_second)


def figures(upstream: Upstream, asset: Path, folder: Path) -> Iterator[Figure]:
    """Ours, the peers, and the ratios that were asked for."""
    upstream.set()
    own = Rate("Dropforge's chat function")
    with functions.ours(asset).started(upstream, asset) as function:
        function.run([functions.event()] * 200)
        for _ in range(ROUNDS):
            done, cpu = function.run([functions.event()] * 2000)
            own.a_cpu_second.append(len(done) / cpu)
    yield _rate(own)
    peers = []
    for gateway in gateways(upstream, folder):
        rate = _measured(gateway, upstream, folder)
        peers.append(rate)
        yield _rate(rate)
    for peer, asked in zip(peers, (4.0, 25.0, 1.0, None), strict=True):
        ratio = own.best / peer.best
        yield Figure(
            f"requests a CPU-second: Dropforge / {peer.name}",
            f"{ratio:.2g}×" if ratio < 10 else f"{ratio:.0f}×",
            f"{'at least' if asked > 1 else 'above'} {asked:g}×" if asked else "–",
            ratio >= asked if asked else None,
        )


def _measured(gateway: Gateway, upstream: Upstream, folder: Path) -> Rate:
    rate = Rate(gateway.name)
    with gateway.started(upstream, folder) as (url, pid), on_core(OTHERS):
        _ask(gateway, url, 2 * SECONDS)  # compilers that work while a program runs need it
        for _ in range(ROUNDS):
            before = cpu_seconds(pid)
            found = _ask(gateway, url, SECONDS)
            rate.a_cpu_second.append(len(found.whole) / (cpu_seconds(pid) - before))
    return rate


def _ask(gateway: Gateway, url: str, seconds: float) -> clients.Load:
    found = clients.run(url, gateway.question, gateway.headers, clients=CLIENTS, seconds=seconds)
    if found.failures or b"It ships on Monday" not in found.sample:
        raise RuntimeError(f"{gateway.name}: {found.failures} {found.sample[:500]!r}")
    return found


def _rate(rate: Rate) -> Figure:
    told: Sequence[str] = [f"{value:,.0f}" for value in rate.a_cpu_second]
    return Figure(
        f"requests a CPU-second of one process, best of {len(told)} rounds ({', '.join(told)}): "
        f"{rate.name}",
        f"{rate.best:,.0f} ({1e6 / rate.best:,.0f} µs each)",
    )
