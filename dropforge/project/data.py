"""The sections of project.yaml about data: what an export looks like, and what is kept of it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dropforge.project.section import Section, Text


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
