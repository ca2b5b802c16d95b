"""A project's configuration: `projects/<name>/project.yaml`, checked before anything uses it."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from dropforge.artifacts import Hyperparameters, digest
from dropforge.errors import ProjectError
from dropforge.patterns import check_pattern
from dropforge.project.section import Choice, Section, Share, Text
from dropforge.project.serving import Collecting, Serving
from dropforge.providers import Hosted

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class Columns(Section):
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


class Roles(Section):
    """What an export calls the two sides of a conversation, beside the usual words."""

    customer: tuple[Text, ...] = ()
    agent: tuple[Text, ...] = ()
    ignored: tuple[Text, ...] = ()


class Cleaning(Section):
    """What is kept of an export and what is taken out of it."""

    redact: Literal["rules", "presidio"] = "rules"
    boilerplate: tuple[Text, ...] = ()
    languages: tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...] = ()
    shortest_answer: Annotated[int, Field(ge=1, le=10_000)] = 2


class Budget(Section):
    """What training may cost, in US dollars; a run that would cost more stops before it spends."""

    training_usd: Annotated[float, Field(ge=0)] | None = None
    usd_per_million_tokens: Annotated[float, Field(ge=0)] | None = None


def _as_written(value: object) -> object:
    """`start: 2026-01-01` and `start: 0` are no text to YAML, but meant as they look."""
    known = isinstance(value, int | float | date) and not isinstance(value, bool)
    return str(value) if known else value


Start = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(_as_written)]


class Extract(Section):
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


class Training(Section):
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


class Shutdown(Section):
    """What happens before the model that answers goes dark at its provider.

    With `retrain`, the same dataset is trained on the next backend of the list once no more than
    `days` are left; without it, only the alarms ring.
    """

    retrain: bool = False
    days: Annotated[int, Field(ge=1, le=365)] = 30


class JudgeChoice(Section):
    """One judge: which model, asked how (`dropforge/judges/<template>/`), and where it answers.

    Without a `provider` it answers at the deployment's `judge_base_url`; `converse` is Amazon
    Bedrock's own protocol.
    """

    model: Annotated[Text, Field(min_length=1)] = "gpt-4.1-mini"
    template: Literal["pairwise", "reasoned", "grades"] = "pairwise"
    provider: Hosted | Literal["converse"] | None = None


class Checks(Section):
    """What an answer must keep to, whatever the judge says; every failed check is counted.

    `format` is a regular expression that the whole answer matches. Personal data that stands
    neither in the conversation nor in the reference is always looked for.
    """

    banned: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    most_words: Annotated[int, Field(ge=1)] | None = None
    format: Text | None = None

    @field_validator("format")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            check_pattern(value)
        return value


MAX_THREADS = 32
"""Requests that one task of judging keeps in flight at most."""
MOST_TASKS = 500
"""Of one evaluation: a state machine's history holds 25,000 events."""
BATCH_MINUTES = 8
"""How long the judges of one batch may take at `requests_per_minute`: its function has ten."""


class Judging(JudgeChoice):
    """Who judges, on how many test tickets, and how long answers may be.

    `panel` are further judges beside the first. At most `samples` tickets are judged, `look` at a
    time: with `early_stop`, judging ends where the evidence is clear. `requests_per_minute` bounds
    what is asked of the judges. `speed: cheap` sends prompts through the provider's batch API: half
    the price, and up to a day of waiting. `embedding_model` adds a similarity to the report.
    """

    panel: tuple[JudgeChoice, ...] = ()
    samples: Annotated[int, Field(ge=1, le=5000)] = 200
    look: Annotated[int, Field(ge=1, le=5000)] = 40
    early_stop: bool = True
    batch: Annotated[int, Field(ge=1, le=100)] = 10
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    speed: Literal["fast", "cheap"] = "fast"
    max_answer_tokens: Annotated[int, Field(ge=16, le=4096)] = 300
    embedding_model: Text | None = None
    checks: Checks = Checks()
    rubric: Text = (
        "Prefer the answer that solves the customer's problem with the facts of the reference. "
        "Wrong facts are worse than missing ones. Length and style decide only between equals."
    )

    @model_validator(mode="after")
    def _judges_differ(self) -> Self:
        if len(set(self.jurors)) < len(self.jurors):
            raise ValueError("`panel` names the same judge twice")
        return self

    @model_validator(mode="after")
    def _batches_end_in_time(self) -> Self:
        count = -(-self.samples // self.batch)
        if count > MOST_TASKS:
            raise ValueError(
                f"`samples` {self.samples} in batches of {self.batch} are {count} tasks, and at "
                f"most {MOST_TASKS} are run: raise `batch` to {-(-self.samples // MOST_TASKS)}"
            )
        if self.requests_per_minute is None:
            return self
        jurors = len(self.jurors)
        asked = self.batch * 2 * 2 * jurors
        least = -(-asked * self.tasks // BATCH_MINUTES)
        if self.requests_per_minute < least:
            raise ValueError(
                f"`requests_per_minute` {self.requests_per_minute} is too slow for a `batch` of "
                f"{self.batch}: two orders, two opponents and {jurors} judge(s) make {asked} "
                f"requests, which need {least} a minute to be through in {BATCH_MINUTES} minutes"
            )
        return self

    @property
    def tasks(self) -> int:
        """How many tasks run at once, so that all together keep to `concurrency`."""
        return max(1, self.concurrency // MAX_THREADS)

    @property
    def jurors(self) -> tuple[JudgeChoice, ...]:
        """Every judge of the panel, the first one first."""
        first = JudgeChoice(model=self.model, template=self.template, provider=self.provider)
        return (first, *self.panel)


class Gate(Section):
    """What a challenger must show before it answers customers.

    `lower_bound`: the win rate against the base must be shown to lie above it, at most `alpha` of
    the models that lie at it being let through; 0.7 is the strict gate. `regressions`: golden
    questions that a challenger may get wrong though its opponent gets them right. `checks`: the
    share of its answers that may fail a check beyond the opponent's. `agreement`: how often a judge
    must agree with people's labels (lower end of the interval) before it may promote.
    """

    win_rate: Share = 0.7
    lower_bound: Share = 0.5
    alpha: Annotated[float, Field(ge=0.001, le=0.2)] = 0.05
    against_champion: Share = 0.5
    fact_recall: Share = 0.5
    scored: Share = 0.8
    confidence: Share = 0.5
    regressions: Annotated[int, Field(ge=0)] = 0
    checks: Share = 0.05
    agreement: Share | None = None


class CanaryPlan(Section):
    """How a challenger that passed the gate is let at live traffic before it answers all of it.

    `steps` are its shares, one after the other; with `shadow_minutes` it first answers nobody, but
    is asked beside the champion. A step lasts until it has seen `step_minutes` and `min_requests`
    (and `min_ratings`). More errors, or answers slower than `slow_seconds`, than `tolerance` times
    the champion's, worse ratings, or answers that cost more than `max_cost_ratio` times the
    champion's end it. So does `max_hours` without enough traffic. `sticky` is what keeps its arm:
    a user, or a conversation.
    """

    steps: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1, max_length=50)
    ] = (0.1, 0.5)
    shadow_minutes: Annotated[float, Field(ge=0)] = 0
    step_minutes: Annotated[float, Field(ge=0)] = 60
    min_requests: Annotated[int, Field(ge=1)] = 100
    min_ratings: Annotated[int, Field(ge=0)] = 0
    max_hours: Annotated[float, Field(gt=0, le=500)] = 72
    tolerance: Annotated[float, Field(ge=1)] = 1.5
    slow_seconds: Annotated[float, Field(gt=0)] = 10
    max_cost_ratio: Annotated[float, Field(ge=1)] = 2.0
    sticky: Literal["user", "conversation"] = "user"

    @field_validator("steps")
    @classmethod
    def _grows(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError("`steps` must grow, as in [0.1, 0.5]")
        return value


class Drift(Section):
    """The regular look at the model in production, by the golden questions.

    Without golden questions, `samples` test tickets of its own dataset stand for them. `tolerance`:
    how far its share of right answers, or its win rate against the answers it gave when it was
    promoted, may fall before the alarm rings.
    """

    enabled: bool = True
    samples: Annotated[int, Field(ge=5, le=500)] = 30
    tolerance: Share = 0.1


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
