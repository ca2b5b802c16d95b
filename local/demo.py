"""`make demo`: an export dropped, a model trained, judged, canaried and asked, on this machine.

Everything goes the way a user goes: the `dropforge` command against the deployed template, and the
deployed HTTPS API. What is particular to the demo: customers who ask while the canary runs, two
exports beside the example whose models must not be promoted, and a project file for an export other
than the example, small enough for a laptop's processor.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dropforge.artifacts import batch_name, dataset_key, digest, evaluation_key
from dropforge.backends.registry import Item
from dropforge.backends.tokens import Wish
from dropforge.chat import ChatExample, decode_examples
from dropforge.cli.api import Answer, ask
from dropforge.cli.deployment import Deployment
from dropforge.judge import Sample, facts
from local import bad_exports
from local import up as instance
from local.customers import Customers
from local.settings import Settings, SetupError

EXAMPLE: Final = Path("examples/tickets.csv")
EXAMPLE_PROJECT: Final = Path("examples/project.yaml")
ANY_PROJECT: Final = Path("examples/any-export.yaml")
SHOWN: Final = 3
LONGEST_WAIT: Final = 1800
"""Seconds for the two small runs that began after the main one."""


def demo(settings: Settings, export: Path, console: Console) -> None:
    """Runs the demo and prints what came out; raises SetupError where it cannot go on."""
    if not export.is_file():
        raise SetupError(f"There is no file {export}. Use: make demo EXPORT=path/to/export.csv")
    began = time.monotonic()
    with console.status("starting") as status:
        instance.up(settings, lambda doing: status.update(doing), console.print)
    os.environ.update(settings.client_environment)
    os.environ["DROPFORGE_API_URL"] = _api_url(settings)
    is_example = export.resolve() == EXAMPLE.resolve()
    project_file = EXAMPLE_PROJECT if is_example else ANY_PROJECT
    project = _project_name("orrinvale" if is_example else export.stem)
    here = Deployment()
    console.print(f"\ndropforge drop {export} -p {project} -c {project_file}", style="bold")
    dropped = time.monotonic()
    with _customers(here, project) as customers:
        _dropforge("drop", str(export), "-p", project, "-c", str(project_file))
    seconds = time.monotonic() - dropped
    run = _finished(here, project)
    if is_example:
        _drop_bad_exports(settings, console)
    _show(console, here, project, run)
    if customers.asked:
        console.print(_canary(customers))
    if is_example:
        _show_bad(console, here)
    console.print(
        f"\nfrom the drop to the {'promotion' if run.get('promoted') else 'verdict'} "
        f"{seconds:.0f} s, altogether {time.monotonic() - began:.0f} s",
    )
    console.print(_next(settings, project), soft_wrap=True)


def _drop_bad_exports(settings: Settings, console: Console) -> None:
    """Drop the exports whose models must not be promoted; they are trained and judged while what
    became of the main one is shown."""
    folder = settings.state / "demo"
    files = bad_exports.write_exports(EXAMPLE, folder)
    project_file = bad_exports.write_project(EXAMPLE_PROJECT, folder / "quick.yaml")
    console.print("\nbeside it, two exports whose models must not be promoted:", style="bold")
    for name, file in files.items():
        console.print(f"dropforge drop {file} -p {name} -c {project_file} --no-watch", style="bold")
        _dropforge("drop", str(file), "-p", name, "-c", str(project_file), "--no-watch")


def _wait(here: Deployment, project: str, until: Callable[[Item], bool]) -> Item:
    """The project's first run, once it is so far or has ended."""
    give_up = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < give_up:
        runs = sorted(here.registry.items(project, "run#"), key=lambda run: run["started_at"])
        if runs and runs[0]["status"] == "failed":
            raise SetupError(f"The run of {project} failed: {runs[0].get('error')}")
        if runs and until(runs[0]):
            return runs[0]
        time.sleep(0.5)
    raise SetupError(f"The run of {project} was not done in {LONGEST_WAIT} s.")


@contextmanager
def _customers(here: Deployment, project: str) -> Iterator[Customers]:
    """People who ask and rate as soon as a canary runs, until the block ends."""
    wish = Wish(projects=(project,), name="demo customers")
    _, token = here.tokens.create(wish, time.time())
    people = Customers(here.api_url, token, project)
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.5):
            if (here.registry.champion(project) or {}).get("canary"):
                people.run(_tickets(here, project), over)
                return

    thread = threading.Thread(target=ask, name="customers")
    thread.start()
    try:
        yield people
    finally:
        over.set()
        thread.join()


def _tickets(here: Deployment, project: str) -> list[ChatExample]:
    """The held-out tickets of the project's newest dataset."""
    runs = [run for run in here.registry.items(project, "run#") if "validate" in run]
    newest = max(runs, key=lambda run: run["started_at"])
    data = here.store.read(dataset_key(project, newest["validate"]["hash"], "test.jsonl"))
    return list(decode_examples(data))


def _canary(customers: Customers) -> Text:
    """Who asked while the canary ran, and how content they were."""
    told = [
        f"{arm} {sum(one.rating > 0 for one in ours)} of {len(ours)} content"
        for arm in ("champion", "challenger")
        if (ours := [one for one in customers.asked if one.arm == arm])
    ]
    return Text(
        f"\ncanary    {len(customers.asked)} customers asked while it ran: {', '.join(told)}"
    )


def _show_bad(console: Console, here: Deployment) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name in (bad_exports.SHUFFLED, bad_exports.FEW):
        with console.status(f"waiting for the verdict on {name}"):
            verdict = _wait(here, name, lambda run: "promoted" in run)["verdict"]
        reasons = Text("; ".join(verdict["reasons"]))
        table.add_row(name, Text.assemble((verdict["verdict"], "bold"), ": ", reasons))
    console.print("\nand two models that must not be promoted:", style="bold")
    console.print(table)


def _api_url(settings: Settings) -> str:
    found = re.search(r"export DROPFORGE_API_URL=(\S+)", settings.env_file.read_text())
    if found is None:
        raise SetupError(f"{settings.env_file} names no API. `make clean`, then try again.")
    return found[1].strip("'\"")


def _project_name(stem: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40] or "demo"


def _dropforge(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("dropforge")), *arguments]
    ended = subprocess.run(command, check=False)  # noqa: S603  (our own command)
    if ended.returncode:
        raise SetupError("The run failed; the message above says why.")


def _finished(here: Deployment, project: str) -> Item:
    """The newest finished run of the project."""
    runs = [r for r in here.registry.items(project, "run#") if "verdict" in r]
    if not runs:
        raise SetupError(f"No run of {project} has come to a verdict.")
    return max(runs, key=lambda run: run["started_at"])


def _show(console: Console, here: Deployment, project: str, run: Item) -> None:
    verdict, base = run["verdict"], run["verdict"]["comparisons"]["base"]
    version = verdict["version"]
    _, token = here.tokens.create(Wish(projects=(project,), name="demo"), time.time())
    console.print("\nasked over HTTPS, tickets that were held out of training:", style="bold")
    for sample in _held_out(here, project, verdict["hash"]):
        base_answer, tuned = (
            ask(here.api_url, token, f"{project}/{name}", sample.question)
            for name in ("base", version)
        )
        console.print(_answers(sample, base_answer, tuned))
    rate, recall = base["win_rate"], verdict["fact_recall"]
    lines = [
        f"verdict   [bold]{verdict['verdict']}[/]: {'; '.join(verdict['reasons'])}",
        f"win rate  {rate['point']:.0%}, 95 % interval [{rate['low']:.0%}, {rate['high']:.0%}], "
        f"{base['wins']} wins, {base['losses']} losses, {base['ties']} ties "
        f"on {verdict['samples']} held-out tickets",
    ]
    if recall:
        lines.append(
            f"facts     {recall['base']:.0%} right before, {recall['challenger']:.0%} after"
        )
    console.print(Panel("\n".join(lines), title=f"{project}/{version}", title_align="left"))


def _held_out(here: Deployment, project: str, evaluation: str) -> list[Sample]:
    """Some tickets that no model has seen in training: with facts, and short to read."""
    data = here.store.read(evaluation_key(project, evaluation, batch_name(0)))
    samples = msgspec.json.Decoder(Sample).decode_lines(data)
    checkable = [s for s in samples if facts(s.reference)] or samples
    return sorted(checkable, key=lambda s: (len(s.question) // 40, digest(s.id)))[:SHOWN]


def _answers(sample: Sample, base: Answer, tuned: Answer) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("customer", Text(sample.question), style="bold")
    table.add_row("agent", Text(sample.reference))
    table.add_row("base", Text(base.text))
    table.add_row("tuned", Text.assemble(tuned.text, (f"  {tuned.model}\n", "dim")))
    return table


def _next(settings: Settings, project: str) -> str:
    """Where to look from here; every line can be pasted."""
    return "\n".join(
        [
            "\nIt is still running. To look around:",
            f"  source {settings.env_file}",
            f"  dropforge models -p {project}           versions, scores, which one answers",
            f"  dropforge compare -p {project}          quality, cost and latency as a page",
            f"  dropforge report -p {project}           its evaluation as a page; --data: the data",
            f"  export DROPFORGE_TOKEN=$(dropforge tokens create {project})",
            f'  dropforge chat -p {project} "…"         ask it something',
            f"  {_api_url(settings)}/  the chat page, for a browser",
            f"  dropforge lineage {project}/VERSION     from an answer back to the dropped file",
            "  make down                               stop it",
        ]
    )
