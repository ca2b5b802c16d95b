"""The demo from a warm install, once for each seed of the training: what its models learned.

Each is run as a newcomer runs it, on an instance of its own with an empty folder; only
`training.seed` in its project file is another. How long it takes is in `benchmarks.loop`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks import instance
from benchmarks.figures import ROOT, Figure, output
from dropforge.artifacts import Evaluation, Verdict, evaluation_key
from local.bad_exports import FEW, SHUFFLED
from tests.e2e.conftest import Instance

GOOD = "orrinvale"
EXPECTED = {GOOD: "promote", SHUFFLED: "reject", FEW: "not enough evidence"}


class Outcome(NamedTuple):
    """What one demo came to.

    Attributes:
        verdicts: by project, in the words of the gate.
    """

    evaluation: Evaluation
    verdicts: dict[str, str]

    @property
    def facts(self) -> tuple[float, float]:
        """Shares of the facts that are right: base, tuned."""
        recall = self.evaluation.fact_recall
        return recall["base"], recall["challenger"]


def figures(seeds: Sequence[int]) -> Iterator[Figure]:
    """The spread over the seeds; four minutes each."""
    found = [_demo(seed) for seed in seeds]
    which = f"seeds {', '.join(map(str, seeds))}"
    samples = found[0].evaluation.samples
    rates = [one.evaluation.comparisons["base"].win_rate for one in found]
    yield Figure(
        f"win rate against the base on {samples} held-out tickets, {which}",
        "; ".join(f"{rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}]" for rate in rates),
        "lower bound above 50 %",
        all(rate.low > 0.5 for rate in rates),
    )
    facts = [one.facts for one in found]
    yield Figure(
        f"facts right on {found[0].evaluation.samples_with_facts} held-out tickets, base → tuned",
        "; ".join(f"{base:.0%} → {tuned:.0%}" for base, tuned in facts),
        "at least 3×",
        all(tuned >= 3 * base for base, tuned in facts),
    )
    for project, expected in EXPECTED.items():
        verdicts = [one.verdicts[project] for one in found]
        yield Figure(
            f"verdict on {project}", ", ".join(verdicts), expected, set(verdicts) == {expected}
        )


def _demo(seed: int) -> Outcome:
    """Raises SystemExit where the demo fails."""
    with instance.new() as running:
        here = running.state.parent
        _examples(here, seed)
        command = [sys.executable, "-m", "local", "demo"]
        print(output(command, environment=running.environment, folder=here), flush=True)
        running.read_env(running.state / "env")
        return _outcome(running)


def _examples(folder: Path, seed: int) -> None:
    """The repository's examples with another seed, where the demo looks for them."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    file = folder / "examples/project.yaml"
    project = yaml.safe_load(file.read_text())
    project["training"]["seed"] = seed
    file.write_text(yaml.safe_dump(project, sort_keys=False))


def _outcome(running: Instance) -> Outcome:
    verdicts = {
        project: run["verdict"]
        for project in EXPECTED
        for run in running.registry.items(project, "run#")
        if "verdict" in run
    }
    key = evaluation_key(GOOD, verdicts[GOOD]["hash"])
    evaluation = running.store.load(key, Verdict).evaluation
    return Outcome(evaluation, {name: found["verdict"] for name, found in verdicts.items()})
