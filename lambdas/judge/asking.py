"""Asks models and judges, many at once: within a bound, at a pace, and each prompt only once.

A model's answer to a prompt is kept in `judge/<project>/answers/…` under a digest of both, so a
rerun, another look, the next challenger and the golden questions pay for it no second time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from dropforge.artifacts import answer_key, digest
from dropforge.backends import ChatModel, Completion
from dropforge.backends.converse import ConverseBackend
from dropforge.backends.store import Store
from dropforge.judge import AnswerUsage, Question, jurors
from dropforge.project import JudgeChoice, ProjectConfig
from dropforge.settings import JudgeSettings
from lambdas.providers import chat_model, hosted, openai_backend

MAX_THREADS = 32
Messages = list[dict[str, str]]
T = TypeVar("T")
R = TypeVar("R")


class Answer(msgspec.Struct, frozen=True):
    """A model's answer as it is kept, and what it took."""

    text: str
    usage: AnswerUsage


class Pace:
    """Lets through so many calls a minute, evenly, whichever thread they come from."""

    def __init__(
        self,
        per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._every = 60 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this call's turn."""
        if not self._every:
            return
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._every
        if turn > now:
            self._sleep(turn - now)


def at_once(function: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """The function's results in the order of the items; the first error stops what waits."""
    if not items:
        return []
    pool = ThreadPoolExecutor(min(threads, len(items)))
    try:
        return list(pool.map(function, items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def threads(config: ProjectConfig) -> int:
    """How many requests one task keeps in flight, of the `concurrency` of all."""
    return min(config.judge.concurrency, MAX_THREADS)


def tasks(config: ProjectConfig) -> int:
    """How many tasks of the Map run at once, so that all together keep to `concurrency`."""
    return max(1, config.judge.concurrency // threads(config))


class Panel:
    """The project's judges, ready to be asked.

    Attributes:
        calls: requests made so far, with what they took.
    """

    def __init__(self, config: ProjectConfig, settings: JudgeSettings) -> None:
        judging = config.judge
        self.jurors = jurors(judging)
        self._models = [_judge(juror.choice, settings) for juror in self.jurors]
        self._threads = threads(config)
        share = judging.requests_per_minute
        self._pace = Pace(share / tasks(config) if share else None)
        self.calls: dict[str, list[AnswerUsage]] = {}

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """See `AskAll`."""
        return at_once(self._one, questions, self._threads)

    def _one(self, question: Question) -> str:
        self._pace.wait()
        juror = self.jurors[question.juror]
        text, used = _timed(
            self._models[question.juror],
            juror.choice.model,
            question.messages,
            juror.template.max_tokens,
        )
        self.calls.setdefault(question.id.partition(".")[0], []).append(used)
        return text


def _judge(choice: JudgeChoice, settings: JudgeSettings) -> ChatModel:
    """Where a judge answers. Raises TrainingNotAvailableError as `hosted` does."""
    if choice.provider is None:
        return openai_backend(settings.judge_base_url, settings.judge_secret_arn)
    if choice.provider == "converse":
        return ConverseBackend()
    return hosted(choice.provider, settings)


def _timed(
    model: ChatModel, name: str, messages: Messages, max_tokens: int
) -> tuple[Completion, AnswerUsage]:
    began = time.perf_counter()
    text = model.complete(name, messages, max_tokens)
    took = time.perf_counter() - began
    return text, AnswerUsage(round(took, 4), text.prompt_tokens, text.completion_tokens)


def answers(
    config: ProjectConfig,
    settings: JudgeSettings,
    store: Store,
    project: str,
    backend: str,
    model_id: str,
    prompts: Sequence[Messages],
    *,
    fresh: bool = False,
) -> list[Answer]:
    """A model's answers to prompts that open with the system prompt already.

    Args:
        fresh: whether the model is asked even where its answer is known.
    """
    limit = config.judge.max_answer_tokens
    model = chat_model(backend, settings)

    def one(messages: Messages) -> Answer:
        key = answer_key(project, digest("answer/1", backend, model_id, messages, limit))
        known = None if fresh else store.find_manifest(key, Answer)
        if known is not None:
            return known
        text, used = _timed(model, model_id, messages, limit)
        answer = Answer(str(text), used)
        store.write(key, msgspec.json.encode(answer))
        return answer

    return at_once(one, prompts, threads(config))
