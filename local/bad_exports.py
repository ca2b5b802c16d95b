"""Two exports, made of the example, whose models must not be promoted.

One has its answers shuffled among the questions: a model that learns it sounds like the agents and
knows nothing. The other is so small that too few tickets are left to judge on.
"""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any, Final

import yaml

SHUFFLED: Final = "shuffled-answers"
FEW: Final = "few-tickets"
FEW_ROWS: Final = 168
"""Of the example's rows; 12 tickets of them are held out to judge on."""
QUICK: Final = {"epochs": 1, "max_rows": 80, "validation_rows": 8}
"""How little such a model is trained: enough for it to fail on its own merits."""


def write_exports(example: Path, folder: Path) -> dict[str, Path]:
    """Write both exports; returns them by the project they are dropped for."""
    head, *rows = list(csv.reader(io.StringIO(example.read_text(errors="ignore"))))
    return {
        FEW: _write(folder / f"{FEW}.csv", [head, *rows[:FEW_ROWS]]),
        SHUFFLED: _write(
            folder / f"{SHUFFLED}.csv", [head, *_shuffled(rows, head.index("answer"))]
        ),
    }


def _shuffled(rows: list[list[str]], column: int) -> list[list[str]]:
    """The rows with their answers dealt out anew, always in the same way."""
    whole = [row for row in rows if len(row) > column]
    answers = [row[column] for row in whole]
    random.Random(7).shuffle(answers)  # noqa: S311
    return [
        [*row[:column], answer, *row[column + 1 :]]
        for row, answer in zip(whole, answers, strict=True)
    ]


def _write(file: Path, rows: list[list[str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)
    return file


def write_project(example: Path, file: Path) -> Path:
    """The example's project, quickly trained and without a canary."""
    project: dict[str, Any] = yaml.safe_load(example.read_text())
    project.pop("canary", None)
    project["training"] |= QUICK
    file.write_text(yaml.safe_dump(project, sort_keys=False))
    return file
