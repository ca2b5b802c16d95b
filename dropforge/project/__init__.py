"""A project's configuration: `projects/<name>/project.yaml`, checked before anything uses it."""

from __future__ import annotations

import re
from typing import Self

import yaml
from pydantic import ValidationError, model_validator

from dropforge.artifacts import digest
from dropforge.errors import ProjectError
from dropforge.project.data import Budget, Cleaning, Columns, Extract, Roles
from dropforge.project.judging import CanaryPlan, Drift, Gate, Judging
from dropforge.project.section import Choice, Text
from dropforge.project.serving import Collecting, Serving
from dropforge.project.training import Shutdown, Training

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class ProjectConfig(Choice):
    """One project. Unknown keys are refused, so that a typo is no silent default.

    `backend` and `model` are the first choice; `fallback` are the others, in their order. With
    `approval`, a person says yes before a challenger that passed the gate gets any traffic. Without
    a `canary`, it then gets all of it at once.
    """

    fallback: tuple[Choice, ...] = ()
    system_prompt: Text = "You are a helpful support agent. Answer briefly and correctly."
    columns: Columns = Columns()
    roles: Roles = Roles()
    clean: Cleaning = Cleaning()
    keep: tuple[Text, ...] = ()
    training: Training = Training()
    budget: Budget = Budget()
    judge: Judging = Judging()
    gate: Gate = Gate()
    approval: bool = False
    canary: CanaryPlan | None = None
    drift: Drift = Drift()
    shutdown: Shutdown = Shutdown()
    monthly: bool = False
    extract: Extract | None = None
    serve: Serving = Serving()
    collect: Collecting | None = None

    @model_validator(mode="after")
    def _choices_differ(self) -> Self:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError("`fallback` names the same backend and model twice")
        return self

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Where to train, in the order of preference."""
        return (Choice(backend=self.backend, model=self.model), *self.fallback)

    @property
    def hash(self) -> str:
        return digest("project/1", self.model_dump(mode="json"))


def parse_project(name: str, text: str | bytes) -> ProjectConfig:
    """The configuration in a project.yaml.

    Raises:
        ProjectError: what is wrong with it, every problem named with its place.
    """
    hint = "See docs/project.md for every key; a minimal file has `backend:` and `model:`."
    if not NAME.fullmatch(name):
        raise ProjectError(
            f"{name!r} is no project name.",
            hint="Use lower-case letters, digits and dashes, at most 41 of them.",
        )
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise ProjectError(f"project.yaml is not valid YAML{place}.", hint=hint) from error
    if not isinstance(data, dict):
        raise ProjectError("project.yaml is not a table of keys and values.", hint=hint)
    if data.get("canary", {}) is None:
        raise ProjectError(
            "project.yaml is wrong: `canary` is empty.",
            hint="Write `canary: {}` for one with the defaults, or leave it out for none.",
        )
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ProjectError(f"project.yaml is wrong: {problems}.", hint=hint) from error
