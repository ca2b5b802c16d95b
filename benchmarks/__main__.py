"""`make bench`: measures this checkout on this machine and writes docs/benchmarks.md.

Every figure comes from the run that writes it. The demo runs as a newcomer runs it, on an instance
of its own with an empty state folder, after `make setup`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import PAGE, ROOT, SECTIONS, Figure, write
from dropforge.artifacts import Verdict, evaluation_key
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from tests.e2e.conftest import Instance, three_free_ports

TICKETS = ROOT / "examples/tickets.csv"


def main() -> int:
    """Measure, write, and tell; 0 also where a figure falls short, because the page says so."""
    groups = {
        "demo": demo_figures,
        "data": data_figures,
        "training": training_figures,
        "judging": judging_figures,
        "serving": serving_figures,
        "load": load_figures,
        "cache": cache_figures,
        "ensemble": ensemble_figures,
        "cost": cost_figures,
        "test": test_figures,
    }
    chosen = sys.argv[1:] or list(groups)
    if unknown := set(chosen) - set(groups):
        raise SystemExit(f"no such group: {', '.join(unknown)}; there are {', '.join(groups)}")
    for group in chosen:
        print(f"measuring: {SECTIONS[group]}", flush=True)
        write(SECTIONS[group], list(groups[group]()))  # what follows takes minutes, and may fail
    print(PAGE.read_text())
    return 0


def demo_figures() -> Iterator[Figure]:
    """The demo from a warm install: times, and what the model learned."""
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        instance = Instance(Path(folder) / "state", three_free_ports())
        began = time.monotonic()
        try:
            printed = _run(
                [sys.executable, "-m", "local", "demo", str(TICKETS)], instance.environment
            )
            total = time.monotonic() - began
            print(printed)
            instance.read_env(Path(folder) / "state" / "env")
            yield from _times(printed, total)
            yield from _quality(instance)
        finally:
            instance.local("down", check=False)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _times(printed: str, total: float) -> Iterator[Figure]:
    synth, deploy = (float(x) for x in _found(r"synth ([\d.]+) s, deploy ([\d.]+) s", printed))
    [to_verdict] = (float(x) for x in _found(r"from the drop to the promotion (\d+) s", printed))
    yield Figure("`make demo`, warm install", f"{total:.0f} s", "under 300 s", total < 300)
    yield Figure("drop → promoted", f"{to_verdict:.0f} s", "under 180 s", to_verdict < 180)
    yield Figure(
        "synth + deploy", f"{synth:.1f} + {deploy:.1f} s", "under 15 s", synth + deploy < 15
    )


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"the demo did not print {pattern!r}:\n{text}")
    return match.groups()


def _quality(instance: Instance) -> Iterator[Figure]:
    registry: Registry = instance.registry
    store: Store = instance.store
    [run] = [r for r in registry.items("orrinvale", "run#") if "verdict" in r]
    found = store.load(evaluation_key("orrinvale", run["verdict"]["hash"]), Verdict).evaluation
    base, tuned = found.fact_recall["base"], found.fact_recall["challenger"]
    rate = found.comparisons["base"].win_rate
    yield Figure(
        f"facts right on {found.samples_with_facts} held-out tickets, base → tuned",
        f"{base:.0%} → {tuned:.0%}",
        "at least 3×",
        tuned >= 3 * base,
    )
    yield Figure(
        f"win rate against the base on {found.samples} held-out tickets",
        f"{rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}]",
        "lower bound above 50 %",
        rate.low > 0.5,
    )
    yield Figure("verdict", run["verdict"]["verdict"], "promote", run["promoted"])


def data_figures() -> Iterator[Figure]:
    """The data stages against their peers."""
    from benchmarks.data import figures  # needs the peers' environment

    return figures()


def training_figures() -> Iterator[Figure]:
    """Fine-tuning on the CPU against TRL, and a job that is killed and resumed."""
    from benchmarks.training import figures  # needs the peers' environment

    return figures()


def judging_figures() -> Iterator[Figure]:
    """Simulations of the statistics, how long judges are waited for, and attacks on them."""
    from benchmarks import judges, judging  # the embedder takes a second to load

    yield from judges.figures()
    yield from judging.figures()


def serving_figures() -> Iterator[Figure]:
    """The chat function against the servers that do its job."""
    from benchmarks.serving import figures  # needs the peers' environments

    return figures()


def load_figures() -> Iterator[Figure]:
    """Many clients at once through the deployed API of the local default."""
    from benchmarks.serving.deployed import figures  # needs a machine for itself, too

    return figures()


def cache_figures() -> Iterator[Figure]:
    """What a semantic cache serves wrongly, and what looking costs."""
    from benchmarks.semantic import figures

    return figures()


def ensemble_figures() -> Iterator[Figure]:
    """Right answers of several simulated models, against one alone."""
    from benchmarks.ensemble import figures

    return figures()


def cost_figures() -> Iterator[Figure]:
    """List prices: docs/cost.md and its plot."""
    from benchmarks.cost import figures

    return figures()


def test_figures() -> Iterator[Figure]:
    """The whole test suite, the end-to-end tests in it."""
    began = time.monotonic()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DROPFORGE_"))}
    printed = _run(["make", "--silent", "test"], environment)
    seconds = time.monotonic() - began
    last = printed.strip().splitlines()[-1]
    yield Figure(
        f"`make test` ({last.strip(' =').split(' in ')[0]})",
        f"{seconds:.0f} s",
        "under 600 s",
        seconds < 600,
    )


if __name__ == "__main__":
    raise SystemExit(main())
