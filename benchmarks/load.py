"""Many clients at once through the deployed API of the local default, the stub as its champion.

The emulator plays API Gateway, Lambda and DynamoDB in one process of Python, so the rate is its
rate; what counts is that nobody gets an error, streamed or not. Rate limits are out of the way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import quantiles

from benchmarks.figures import Figure
from benchmarks.instance import PROJECT, champion, deployed
from benchmarks.serving import clients
from benchmarks.serving.processes import CORES, Upstream, cpu_seconds, upstream
from tests.e2e.conftest import Instance

CLIENTS, SECONDS, DELAY = 32, 60.0, 0.05
PLENTY = {"rate_per_second": 10_000, "burst": 5_000}


def figures(seconds: float = SECONDS) -> Iterator[Figure]:
    """Whole answers, then streamed ones; takes three minutes."""
    with upstream() as stub, deployed(_context(stub)) as instance:
        stub.set(delay=DELAY, pace=0.005)
        token = champion(instance, "ft:shop:2")
        yield from _figures("whole answers", instance, token, seconds, stream=False)
        yield from _figures("streams", instance, token, seconds, stream=True)


def _context(stub: Upstream) -> dict[str, object]:
    """The stub in place of the providers, and no rate limit in the way."""
    return {
        "providers": dict.fromkeys(("openai", "local"), f"{stub.url}/v1"),
        "plans": {"standard": PLENTY},
        "api.rate_per_second": PLENTY["rate_per_second"],
        "api.burst": PLENTY["burst"],
    }


def _figures(
    kind: str, instance: Instance, token: str, seconds: float, *, stream: bool
) -> Iterator[Figure]:
    asked = {"model": PROJECT, "messages": [{"role": "user", "content": "Where is order LU-4711?"}]}
    body = json.dumps({**asked, "stream": stream}).encode()
    url = f"{instance.api_url}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {token}", "Cache-Control": "no-store"}
    clients.run(url, body, headers, clients=CLIENTS, seconds=5)  # containers start
    before = _busy(instance)
    found = clients.run(url, body, headers, clients=CLIENTS, seconds=seconds)
    emulator = (_busy(instance) - before) / found.seconds
    if found.bad:
        print(f"the first failure: {found.bad[:1000]!r}", flush=True)
    failures = ", ".join(f"{count} × {what}" for what, count in found.failures.items()) or "none"
    total = len(found.whole) + sum(found.failures.values())
    yield Figure(
        f"{kind}, {CLIENTS} clients, {found.seconds:.0f} s, upstream after {DELAY * 1e3:.0f} ms: "
        f"errors of {total:,} requests, by class",
        failures,
        "none",
        not found.failures and total > 0,
    )
    if not found.whole:
        return
    yield Figure(
        f"{kind}: requests a second; p50, p95, p99 until the last byte; the same until the first",
        f"{found.a_second:.0f}; {_told(found.whole)}; {_told(found.first)} (the emulator and the "
        f"functions that it runs took {emulator:.1f} of {len(CORES)} cores)",
    )


def _busy(instance: Instance) -> float:
    """CPU seconds of the emulator and of the functions that it runs."""
    [file] = (instance.state / "run").glob("emulator*.pid")
    return cpu_seconds(int(file.read_text()))


def _told(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=100)
    return ", ".join(f"{cuts[place] * 1e3:,.0f} ms" for place in (49, 94, 98))
