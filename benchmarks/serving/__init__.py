"""The chat function against its peers: `python -m benchmarks serving`.

Two cores: one for what is measured, one for the stub upstream and for who asks (processes.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure


def figures() -> Iterator[Figure]:
    """Cold answers, warm ones, streams, requests a CPU-second; takes about three minutes."""
    from benchmarks.serving import cold, functions, gateways, processes, warm

    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as name:
        folder = Path(name)
        asset = functions.built(folder)
        with processes.upstream() as upstream:
            yield from cold.figures(upstream, asset)
            yield from warm.figures(upstream, asset)
            yield from gateways.figures(upstream, asset, folder)
