"""The answers of a model to the judge's test tickets, kept for when its provider shuts it down.

What an earlier evaluation has of them is taken from there; the deployed HTTPS API is asked for the
rest. What was recorded is written down every few answers, so that a recording that was cut off goes
on where it stood.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import partial

import msgspec

from dropforge.artifacts import batch_name, dataset_key, evaluation_key, recorded_key
from dropforge.backends.registry import Item
from dropforge.backends.store import Store
from dropforge.chat import ChatExample, chat_messages, decode_examples
from dropforge.cli.api import ApiError, complete
from dropforge.judge import Sample, choose_samples
from dropforge.project import ProjectConfig
from dropforge.recorded import (
    RecordedAnswers,
    Recording,
    decode_recorded,
    encode_recorded,
    prompt_digest,
)

TRIES = 6
WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
SAVED_EVERY = 20
"""Answers after which the file is written."""


def judged_samples(store: Store, project: str, evaluation: str) -> list[Sample]:
    """All that the judge has seen so far in an evaluation."""
    samples: list[Sample] = []
    decoder, index = msgspec.json.Decoder(Sample), 0
    key = partial(evaluation_key, project, evaluation)
    while (lines := store.find(key(batch_name(index)))) is not None:
        samples += decoder.decode_lines(lines)
        index += 1
    return samples


class Recorder:
    """The recorded answers of one model version on one dataset's tickets.

    Args:
        dataset: the one whose test tickets are answered.
    """

    def __init__(
        self, store: Store, project: str, model: Item, config: ProjectConfig, dataset: str
    ) -> None:
        self._store = store
        self._project = project
        self._model = model
        self._config = config
        self._dataset = dataset
        self.key = recorded_key(project, model["version"], dataset)
        test = decode_examples(store.read(dataset_key(project, dataset, "test.jsonl")))
        self.tickets = choose_samples(test, config.judge.samples)
        data = store.find(self.key)
        kept = decode_recorded(data) if data else None
        fits = kept and kept.fits(config.judge.max_answer_tokens, config.system_prompt)
        self.answers: dict[str, str] = dict(kept.answers) if kept and fits else {}
        self._newest = kept.recording.recorded if kept and fits else ""

    @property
    def missing(self) -> list[ChatExample]:
        """The tickets without a recorded answer."""
        return [ticket for ticket in self.tickets if ticket.id not in self.answers]

    def take(self, evaluations: Iterable[Item]) -> int:
        """Take over what evaluations of this version on this dataset have; returns how many.

        Only answers that were asked for as they would be now; an evaluation that does not tell how
        it asked is believed.
        """
        asked = {
            "max_tokens": self._config.judge.max_answer_tokens,
            "prompt": prompt_digest(self._config.system_prompt),
        }
        wanted = {ticket.id for ticket in self.missing}
        taken: dict[str, str] = {}
        for item in evaluations:
            fits = all(item.get(name, value) == value for name, value in asked.items())
            same = (item["version"], item["dataset"]) == (self._model["version"], self._dataset)
            if fits and same:
                taken |= self._judged(item["hash"], wanted)
                self._newest = max(self._newest, _day(item["at"]))
        self.answers.update(taken)
        if taken:
            self.save()
        return len(taken)

    def _judged(self, evaluation: str, wanted: set[str]) -> dict[str, str]:
        samples = judged_samples(self._store, self._project, evaluation)
        return {s.id: s.answers["challenger"] for s in samples if s.id in wanted}

    def save(self) -> None:
        """Write what there is."""
        recording = Recording(
            model_id=self._model["model_id"],
            max_tokens=self._config.judge.max_answer_tokens,
            prompt=prompt_digest(self._config.system_prompt),
            recorded=self._newest,
        )
        self._store.write(self.key, encode_recorded(RecordedAnswers(recording, self.answers)))

    def ask(
        self, api_url: str, token: str, *, parallel: int, progress: Callable[[], None]
    ) -> list[ApiError]:
        """Ask for every missing answer, at most `parallel` at a time; returns what went wrong.

        An error that would come for every other ticket too (a refused token, a model that does not
        answer any more) ends the asking. What was answered is kept, whatever happens.
        """
        errors: list[ApiError] = []
        stop = threading.Event()
        with ThreadPoolExecutor(parallel) as pool:
            pending = {
                pool.submit(self._answer, api_url, token, ticket, stop) for ticket in self.missing
            }
            try:
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._keep(future, errors, progress)
                    if any(error.status in (401, 403, 404) for error in errors):
                        break
            finally:
                stop.set()
                for future in pending:
                    future.cancel()
                if self.answers:
                    self.save()
        return errors

    def _keep(
        self,
        future: Future[tuple[str, str]],
        errors: list[ApiError],
        progress: Callable[[], None],
    ) -> None:
        try:
            ticket, answer = future.result()
        except ApiError as error:
            errors.append(error)
            return
        self.answers[ticket] = answer
        self._newest = _day(time.time())
        progress()
        if len(self.answers) % SAVED_EVERY == 0:
            self.save()

    def _answer(
        self, api_url: str, token: str, ticket: ChatExample, stop: threading.Event
    ) -> tuple[str, str]:
        """(ticket's id, the model's answer), as the judge would ask for it."""
        body = {
            "model": f"{self._project}/{self._model['version']}",
            "messages": chat_messages(ticket.prompt, self._config.system_prompt),
            "temperature": 0,
            "max_tokens": self._config.judge.max_answer_tokens,
        }
        for attempt in range(1, TRIES + 1):
            try:
                answer, _ = complete(api_url, token, body)
                return ticket.id, str(answer["choices"][0]["message"].get("content") or "")
            except (LookupError, TypeError, AttributeError) as error:
                raise ApiError(0, "The API's answer is no chat completion.") from error
            except ApiError as error:
                if error.code == "content_filter":
                    return ticket.id, ""  # as the judge takes it
                passes = error.status in (0, 429) or error.status >= 500
                if not passes or attempt == TRIES or stop.wait(_pause(attempt, error)):
                    raise
        raise AssertionError("the last try returns or raises")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _pause(attempt: int, error: ApiError) -> float:
    """Seconds until the next try: what the API asks for, or more each time, spread out."""
    asked = error.retry_after or 0.0
    grown = WAIT_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311  (no secret)
    return min(max(asked, grown), LONGEST_WAIT_S)
