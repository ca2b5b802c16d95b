"""Asks models and judges, many at once: within a bound, at a pace, and each prompt only once.

A model's answer to a prompt is kept in `judge/<project>/answers/…` under a digest of both, so a
rerun, another look, the next challenger and the golden questions pay for it no second time. So is a
judge's, where an evaluation asks: a batch of tickets that is tried again pays for no opinion again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import msgspec

from dropforge.artifacts import answer_key, digest
from dropforge.backends import ChatModel, Completion
from dropforge.backends.converse import ConverseBackend
from dropforge.backends.store import Store
from dropforge.judge import AnswerUsage, Question, jurors
from dropforge.project import ProjectConfig
from dropforge.project.judging import MAX_THREADS, JudgeChoice
from dropforge.settings import JudgeSettings
from lambdas.providers import chat_model, hosted, openai_backend

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


class Kept(NamedTuple):
    """Where the answers of a project's models and judges are kept."""

    store: Store
    project: str

    def find(self, address: str) -> Answer | None:
        """The answer under a digest of all that it was asked with."""
        return self.store.find_manifest(answer_key(self.project, address), Answer)

    def keep(self, address: str, answer: Answer) -> None:
        self.store.write(answer_key(self.project, address), msgspec.json.encode(answer))


class Panel:
    """The project's judges, ready to be asked.

    Args:
        kept: where answers that can be read are kept, and looked up first; None keeps none.

    Attributes:
        calls: what the answers so far took, by ticket; those that were kept took it earlier.
    """

    def __init__(
        self, config: ProjectConfig, settings: JudgeSettings, kept: Kept | None = None
    ) -> None:
        judging = config.judge
        self.jurors = jurors(judging)
        self._models = [_judge(juror.choice, settings) for juror in self.jurors]
        self._threads = threads(config)
        self._kept = kept
        share = judging.requests_per_minute
        self._pace = Pace(share / judging.tasks if share else None)
        self.calls: dict[str, list[AnswerUsage]] = {}

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """See `AskAll`."""
        return at_once(self._one, questions, self._threads)

    def _one(self, question: Question) -> str:
        juror = self.jurors[question.juror]
        choice, limit = juror.choice, juror.template.max_tokens
        address = digest("opinion/1", choice.provider, choice.model, question.messages, limit)
        answer = self._kept.find(address) if self._kept else None
        if answer is None:
            self._pace.wait()
            model = self._models[question.juror]
            text, used = _timed(model, choice.model, question.messages, limit)
            answer = Answer(str(text), used)
            # Not what cannot be read: asked once more, the judge is to be asked indeed.
            if self._kept and juror.template.parse(answer.text) is not None:
                self._kept.keep(address, answer)
        self.calls.setdefault(question.id.partition(".")[0], []).append(answer.usage)
        return answer.text


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
    base_model: str,
    fresh: bool = False,
) -> list[Answer]:
    """A model's answers to prompts that open with the system prompt already.

    Args:
        base_model: what the model was made of, or is: an endpoint's base keeps its `model_id`
            where the deployment gets another base model.
        fresh: whether the model is asked even where its answer is known.
    """
    limit = config.judge.max_answer_tokens
    model = chat_model(backend, settings)
    kept = Kept(store, project)

    def one(messages: Messages) -> Answer:
        address = digest("answer/2", backend, model_id, base_model, messages, limit)
        known = None if fresh else kept.find(address)
        if known is not None:
            return known
        text, used = _timed(model, model_id, messages, limit)
        answer = Answer(str(text), used)
        kept.keep(address, answer)
        return answer

    return at_once(one, prompts, threads(config))
