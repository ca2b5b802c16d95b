"""The sections of project.yaml about answering: `serve` and `collect`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dropforge.project.section import Choice, Section, Share, Text

Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Usd = Annotated[float, Field(ge=0)]


class Price(Section):
    """US dollars per million tokens, of the dearest model that may answer; budgets count by it."""

    input: Usd
    output: Usd


class Semantic(Section):
    """Answers to questions that mean the same, of conversations' first turns.

    Two questions mean the same where their embeddings' cosine is at least `similarity` and neither
    numbers, negations nor names tell them apart. A share `check_share` of the hits is asked of the
    model, too; only while at most `max_false_hits` of them can be wrong (upper bound, 95 %) are
    hits served at all.
    """

    similarity: Annotated[float, Field(ge=0.8, le=1)] = 0.93
    max_false_hits: Annotated[float, Field(gt=0, le=0.2)] = 0.02
    check_share: Annotated[float, Field(gt=0, le=1)] = 0.1


class Cache(Section):
    """Answers that are given again to the same request, for `hours`. Promotion forgets them."""

    exact: bool = True
    hours: Annotated[float, Field(gt=0, le=24 * 30)] = 24.0
    semantic: Semantic | None = None


class Ensemble(Section):
    """Several answers to each request, of which one is given.

    `n` answers are asked for, of the `models` in turn. `by: vote` gives the one that is most like
    the others, `by: judge` the one that the model `judge` prefers.
    """

    models: Annotated[tuple[Text, ...], Field(min_length=1, max_length=5)] = ("champion",)
    n: Annotated[int, Field(ge=2, le=5)] = 3
    by: Literal["vote", "judge"] = "vote"
    judge: Choice | None = None

    @model_validator(mode="after")
    def _judge_is_named(self) -> Self:
        if (self.by == "judge") != (self.judge is not None):
            raise ValueError("`by: judge` and `judge` (a backend and a model) go together")
        return self


class Serving(Section):
    """How the API answers for this project.

    `fallback` are the models that answer where the champion does not, in their order: `previous`
    (the champion before), `base` (the model before training), or any backend and model.
    """

    fallback: tuple[Literal["previous", "base"] | Choice, ...] = ("previous", "base")
    max_input_tokens: Tokens = 16_000
    max_output_tokens: Tokens = 4_096
    cache: Cache = Cache()
    ensemble: Ensemble | None = None
    embeddings: Choice | None = None
    price: Price | None = None

    @model_validator(mode="after")
    def _semantic_has_embeddings(self) -> Self:
        if self.cache.semantic and self.embeddings is None:
            raise ValueError("`cache.semantic` needs `embeddings` (a backend and a model)")
        return self


class Collecting(Section):
    """Answers that become training data.

    Only where `consent` says that the people who ask have agreed to it: `true` is the operator's
    word for that. A `share` of the conversations is kept, redacted. The monthly run trains on those
    that were rated well, and with `unrated` on those that nobody rated, too.
    """

    consent: Literal[True]
    share: Share = 1.0
    unrated: bool = False
