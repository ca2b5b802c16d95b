"""The sections of project.yaml about judging, promotion and drift."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from dropforge.patterns import check_pattern
from dropforge.project.section import Section, Share, Text
from dropforge.providers import Hosted


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
    what is asked of the judges. `embedding_model` adds a similarity to the report.
    """

    panel: tuple[JudgeChoice, ...] = ()
    samples: Annotated[int, Field(ge=1, le=5000)] = 200
    look: Annotated[int, Field(ge=1, le=5000)] = 40
    early_stop: bool = True
    batch: Annotated[int, Field(ge=1, le=100)] = 10
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
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
