"""A run, drawn as it goes: stages, progress, loss, verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dropforge.backends.registry import RUNNING, Item

LOG_SECONDS = 10.0
"""Where a run is printed rather than drawn, a stage that is under way tells so this often."""

STAGES = ("drop", "clean", "validate", "train", "judge", "promote")


def watch(
    console: Console,
    read: Callable[[], Item | None],
    *,
    interval: float = 1.0,
    patience: float = 60.0,
) -> Item | None:
    """Show a run until it ends; returns its last state, None where it never began.

    On a terminal it is redrawn in place; elsewhere each new line is printed once.

    Args:
        read: asks for the run's item.
        interval: seconds between two looks.
        patience: seconds to wait for the run to begin.
    """
    began = time.monotonic()
    if not console.is_terminal:
        return _print_changes(console, read, interval, began + patience)
    with Live(Spinner("dots", "waiting for the run to begin"), console=console) as live:
        while True:
            run = read()
            if run is not None:
                live.update(render(run))
                if run["status"] != RUNNING:
                    return run
            elif time.monotonic() > began + patience:
                return None
            time.sleep(interval)


def _print_changes(
    console: Console, read: Callable[[], Item | None], interval: float, give_up: float
) -> Item | None:
    printed: dict[str, str] = {}
    due: dict[str, float] = {}
    while True:
        run = read()
        now = time.monotonic()
        if run is None and now > give_up:
            return None
        ended = run is not None and run["status"] != RUNNING
        for stage in STAGES:
            line = describe(run or {}, stage)
            over = ended or (run or {}).get("stage") != stage
            if line and printed.get(stage) != line and (over or now >= due.get(stage, 0)):
                printed[stage], due[stage] = line, now + LOG_SECONDS
                console.print(f"{stage:<9} {line}", highlight=False, soft_wrap=True)
        if ended:
            return run
        time.sleep(interval)


def render(run: Item) -> RenderableType:
    """The stages of a run, one a line, with bars where work can be counted."""
    table = Table.grid(padding=(0, 2))
    reached = STAGES.index(run["stage"]) if run["stage"] in STAGES else 0
    ended = run["status"] != RUNNING
    for place, stage in enumerate(STAGES):
        if place > reached:
            table.add_row(Text("·", style="dim"), Text(stage, style="dim"), "")
            continue
        failed = ended and run["status"] == "failed" and place == reached
        done = place < reached or (ended and not failed)
        mark: RenderableType = Text("✓", style="green") if done else Spinner("dots")
        if failed:
            mark = Text("✗", style="red")
        table.add_row(mark, stage, _detail(run, stage, done=done))
    if run["status"] == "failed":
        return Group(table, Text(str(run.get("error", "")), style="red"))
    return table


def _detail(run: Item, stage: str, *, done: bool) -> RenderableType:
    """What a stage tells: while it can be counted a bar, with the figures in a line of their own,
    so that no narrow terminal cuts them."""
    counted = _counted(run, stage)
    if done or counted is None:
        return Text(describe(run, stage))
    lines = Table.grid()
    if stage == "train":
        lines.add_row(Text("; ".join([_trainer(run), *_given_up(run)])))
    lines.add_row(ProgressBar(total=counted[1], completed=counted[0], width=24))
    lines.add_row(Text(", ".join(_learned(run)) if stage == "train" else describe(run, stage)))
    return lines


def _counted(run: Item, stage: str) -> tuple[float, float] | None:
    if stage == "train" and run.get("progress", {}).get("steps"):
        return run["progress"]["step"], run["progress"]["steps"]
    if stage == "judge" and "judge" in run:
        return _judged(run), run["judge"]["samples"]
    return None


def _judged(run: Item) -> int:
    judged: dict[str, int] = run.get("judged", {})
    samples: int = run["judge"]["samples"]
    return min(sum(judged.values()), samples)


def describe(run: Item, stage: str) -> str:
    """One line about a stage, "" where there is nothing to tell yet."""
    tell: dict[str, Callable[[Item], str]] = {
        "drop": _drop,
        "clean": _clean,
        "validate": _validate,
        "train": _train,
        "judge": _judge,
        "promote": _promote,
    }
    return tell[stage](run)


def _drop(run: Item) -> str:
    if run.get("status") == "repeated":
        return f"same content as run {run['repeats']}: nothing to do"
    return str(run.get("why") or run.get("key", ""))


def _clean(run: Item) -> str:
    if "clean" not in run:
        return f"{run['cleaning']:,} rows so far" if "cleaning" in run else ""
    clean = run["clean"]
    rejected = ", ".join(f"{n} {reason}" for reason, n in clean["rejected"].items())
    return f"{clean['kept']} of {clean['read']} rows kept" + (f" ({rejected})" if rejected else "")


def _validate(run: Item) -> str:
    if "validate" not in run:
        return ""
    examples = run["validate"]["examples"]
    counts = ", ".join(f"{examples[split]} {split}" for split in ("train", "validation", "test"))
    usd = run["validate"].get("usd")
    cost = [f"training about ${usd:,.2f}"] if usd else []
    return "; ".join([counts, *cost, *run["validate"].get("warnings", [])])


def _train(run: Item) -> str:
    if "train" not in run:
        return ""
    return "; ".join([", ".join([_trainer(run), *_learned(run)]), *_given_up(run)])


def _trainer(run: Item) -> str:
    return f"{run['train']['model']} on {run['train']['backend']}"


def _learned(run: Item) -> list[str]:
    """How far training is, and how well it goes."""
    parts = []
    progress: dict[str, Any] = run.get("progress", {})
    if progress.get("steps"):
        parts.append(f"step {progress['step']}/{progress['steps']}")
    if progress.get("train_loss") is not None:
        parts.append(f"loss {progress['train_loss']:.2f}")
    if progress.get("eval_loss") is not None:
        parts.append(f"validation {progress['eval_loss']:.2f}")
    if "judge" not in run and progress.get("note"):
        parts.append(str(progress["note"]))
    if run.get("parity", {}).get("tokens"):
        parts.append(f"served as trained ({run['parity']['tokens']} tokens compared)")
    return parts


def _given_up(run: Item) -> list[str]:
    return [f"{t['backend']} given up: {t['error']}" for t in run.get("tried", [])]


def _judge(run: Item) -> str:
    if "judge" not in run:
        return ""
    counted = f"{_judged(run)}/{run['judge']['samples']} test tickets"
    if "verdict" not in run:
        return counted
    verdict = run["verdict"]
    return f"{counted}: {verdict['verdict']} ({'; '.join(verdict['reasons'])})"


def _promote(run: Item) -> str:
    if "promoted" not in run:
        return _on_the_way(run)
    if run["promoted"]:
        return f"{run['train']['version']} is the champion now"
    why = f" ({run['not_promoted']})" if "not_promoted" in run else ""
    return f"the champion stays as it was{why}"


def _on_the_way(run: Item) -> str:
    if "canary" in run:
        return str(run["canary"]["said"])
    if "approval" in run:
        return f"{run['approval']['version']} waits for `dropforge approve`"
    return ""
