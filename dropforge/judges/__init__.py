"""Judges: how a model is asked which of two answers is better, and how its answer is read.

A folder a judge: `prompt.md` (what it is told, then what it is asked), `parser.py` (what its answer
means) and `judge.yaml` (how long the answer may be). They stand together because they change
together: each of them is part of the judge's version.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import yaml

from dropforge.artifacts import digest
from dropforge.judges.opinion import Opinion

NAMES = ("pairwise", "reasoned", "grades")
_HERE = Path(__file__).parent


class Template(NamedTuple):
    """One folder.

    Attributes:
        system: the system message.
        ask: the last part of the user message, behind the fenced texts.
        max_tokens: what an answer may take.
        parse: the opinion in a judge's answer; None where it cannot be read.
        digest: of all files of the folder, 64 hex digits.
    """

    name: str
    system: str
    ask: str
    max_tokens: int
    parse: Callable[[str], Opinion | None]
    digest: str


@cache
def template(name: str) -> Template:
    """The judge of that name. Raises KeyError for an unknown one."""
    if name not in NAMES:
        raise KeyError(name)
    texts = {file: (_HERE / name / file).read_text() for file in ("prompt.md", "judge.yaml")}
    system, _, ask = texts["prompt.md"].partition("\n---\n")
    parser = import_module(f"dropforge.judges.{name}.parser")
    source = (_HERE / name / "parser.py").read_text()
    return Template(
        name,
        " ".join(system.split()),
        ask.strip(),
        int(yaml.safe_load(texts["judge.yaml"])["max_tokens"]),
        parser.parse,
        digest(texts, source),
    )
