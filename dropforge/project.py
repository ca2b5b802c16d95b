"""A project's configuration: `projects/<name>/project.yaml`, checked before anything uses it."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dropforge.artifacts import Hyperparameters, digest
from dropforge.errors import ProjectError
from dropforge.providers import Backend

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=20_000)]
"""A length makes pydantic refuse lone surrogates too, which no JSON can carry."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Columns(_Section):
    """Where an export keeps what: a table's column, or a dotted path into a JSON object.

    Only what is not recognised by itself has to be named. `role` and `text` make an export one
    with a turn in each row, grouped by `id` and put in order by `time` where one is named; `turns`
    is the path of an object's list of turns, in which `role` and `text` are looked up.
    """

    question: Text | None = None
    answer: Text | None = None
    customer: Text | None = None
    customer_name: Text | None = None
    id: Text | None = None
    language: Text | None = None
    topic: Text | None = None
    turns: Text | None = None
    role: Text | None = None
    text: Text | None = None
    time: Text | None = None


class Roles(_Section):
    """What an export calls the two sides of a conversation, beside the usual words."""

    customer: tuple[Text, ...] = ()
    agent: tuple[Text, ...] = ()
    ignored: tuple[Text, ...] = ()


class Cleaning(_Section):
    """What is kept of an export and what is taken out of it."""

    redact: Literal["rules", "presidio"] = "rules"
    boilerplate: tuple[Text, ...] = ()
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()
    shortest_answer: Annotated[int, Field(ge=1, le=10_000)] = 2


class Budget(_Section):
    """What training may cost, in US dollars; a run that would cost more stops before it spends."""

    training_usd: Annotated[float, Field(ge=0)] | None = None
    usd_per_million_tokens: Annotated[float, Field(ge=0)] | None = None


def _as_written(value: object) -> object:
    """`start: 2026-01-01` and `start: 0` are no text to YAML, but meant as they look."""
    known = isinstance(value, int | float | date) and not isinstance(value, bool)
    return str(value) if known else value


Start = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(_as_written)]


class Extract(_Section):
    """A SQL query whose result is dropped as an export.

    `url_secret` names the secret that holds the database's SQLAlchemy URL. `cursor` is a column of
    the result that grows with every new or changed ticket; the query has `:cursor` where a row has
    to be newer than the last one taken, is in the cursor's order, and begins after `start`. Without
    a cursor the whole result replaces the former one. At least `min_rows` and at most `max_rows`
    (and those that share the last one's cursor) are dropped at once.
    """

    query: Annotated[str, Field(min_length=1, max_length=100_000)]
    url_secret: Annotated[str, Field(pattern=r"^dropforge/database/[A-Za-z0-9/_+=.@-]{1,400}$")]
    cursor: Annotated[Text, Field(min_length=1)] | None = None
    start: Start | None = None
    min_rows: Annotated[int, Field(ge=1)] = 1
    max_rows: Annotated[int, Field(ge=1)] = 1_000_000

    @model_validator(mode="after")
    def _cursor_is_whole(self) -> Self:
        if (self.cursor is None) != (self.start is None):
            raise ValueError("`cursor` and `start` (where the first extraction begins) go together")
        if self.min_rows > self.max_rows:
            raise ValueError("`min_rows` is above `max_rows`")
        return self


class Training(_Section):
    """How a model is trained. Hyperparameters left out take the recipe's or provider's value."""

    epochs: Annotated[int, Field(ge=1, le=50)] = 3
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_alpha: Annotated[int, Field(ge=1, le=1024)] | None = None
    lora_layers: Annotated[int, Field(ge=0)] | None = None
    lora_dropout: Annotated[float, Field(ge=0, le=0.9)] | None = None
    adapter: Literal["lora", "rslora", "dora", "qlora"] | None = None
    early_stopping_patience: Annotated[int, Field(ge=1, le=100)] | None = None
    max_length: Annotated[int, Field(ge=64, le=131072)] | None = None
    seed: int = 7
    max_rows: Annotated[int, Field(ge=10)] | None = None
    validation_rows: Annotated[int, Field(ge=1)] = 200
    timeout_hours: Annotated[float, Field(gt=0, le=120)] = 24
    patience_minutes: Annotated[float, Field(gt=0, le=7200)] = 60

    def hyperparameters(self) -> Hyperparameters:
        """The chosen hyperparameters, without those left to the recipe."""
        ours = {"max_rows", "validation_rows", "timeout_hours", "patience_minutes"}
        return self.model_dump(exclude_none=True, exclude=ours)


class Choice(_Section):
    """A backend and the base model that it trains."""

    backend: Backend
    model: Annotated[str, Field(min_length=1, max_length=500)]


class Shutdown(_Section):
    """What happens before the model that answers goes dark at its provider.

    With `retrain`, the same dataset is trained on the next backend of the list once no more than
    `days` are left; without it, only the alarms ring.
    """

    retrain: bool = False
    days: Annotated[int, Field(ge=1, le=365)] = 30


class Judging(_Section):
    """Who judges, on how many test tickets, and how long answers may be."""

    model: Text = "gpt-4.1-mini"
    samples: Annotated[int, Field(ge=1, le=5000)] = 100
    batch: Annotated[int, Field(ge=1, le=100)] = 10
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    max_answer_tokens: Annotated[int, Field(ge=16, le=4096)] = 300
    rubric: Text = (
        "Prefer the answer that solves the customer's problem with the facts of the reference. "
        "Wrong facts are worse than missing ones. Length and style decide only between equals."
    )


class Gate(_Section):
    """What a challenger must show before it answers customers."""

    win_rate: Share = 0.7
    lower_bound: Share = 0.5
    against_champion: Share = 0.5
    fact_recall: Share = 0.5
    scored: Share = 0.8
    confidence: Share = 0.5


class ProjectConfig(Choice):
    """One project. Unknown keys are refused, so that a typo is no silent default.

    `backend` and `model` are the first choice; `fallback` are the others, in their order.
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
    shutdown: Shutdown = Shutdown()
    monthly: bool = False
    extract: Extract | None = None

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
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
        )
        raise ProjectError(f"project.yaml is wrong: {problems}.", hint=hint) from error
