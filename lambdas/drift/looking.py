"""One project's look: asks the model in production, judges what it says anew, keeps what is found.

Reads the golden questions in force, else the test split of the champion's dataset, and the first
answers of the champion's version; writes the first answers that were missing, and the look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from secrets import token_hex
from typing import Any, TypeVar

import msgspec

from dropforge.artifacts import dataset_key, drift_key, golden_snapshot_key
from dropforge.backends.migration import current_config
from dropforge.backends.registry import Item
from dropforge.chat import chat_messages, decode_examples
from dropforge.drift import (
    BASELINE,
    Asked,
    FirstAnswer,
    Look,
    Pair,
    Ratings,
    address,
    decode_baseline,
    encode_baseline,
    golden_set,
    in_turn,
    look,
    ticket_set,
)
from dropforge.errors import AsleepError, ProviderDownError, RetryableError
from dropforge.golden import decode_golden
from dropforge.judge import Judged, judge_pairs
from dropforge.judge import Pair as JudgedPair
from dropforge.project import ProjectConfig
from dropforge.settings import JudgeSettings
from lambdas import edge
from lambdas.judge.asking import Panel, answers, threads

PAUSES = (5.0, 15.0, 45.0)
"""Seconds between tries of a provider that may answer yet; an endpoint that wakes gets more."""
T = TypeVar("T")


class Skipped(Exception):  # noqa: N818 - nothing is wrong
    """Why a project has no look."""


class Looking:
    """A look at one project, within `seconds`.

    Questions are asked and judged some at a time; those there is no time for are left out, others
    each day.

    Args:
        asked_for: whether somebody wants it now, whatever project.yaml says.
    """

    def __init__(
        self,
        project: str,
        settings: JudgeSettings,
        day: date,
        seconds: float,
        *,
        asked_for: bool = False,
    ) -> None:
        self.project = project
        self._settings = settings
        self._day = day.isoformat()
        self._end = time.monotonic() + seconds
        self._asked_for = asked_for
        self._store = edge.store(settings.bucket)
        self._registry = edge.registry(settings.table)

    def look(self) -> Look:
        """Ask, compare, keep.

        Raises:
            Skipped: the project wants no look, or has nothing to look at.
            BackendError: the model or a judge does not answer.
        """
        config, _ = current_config(self._store, self._registry, self.project)
        if not (config.drift.enabled or self._asked_for):
            raise Skipped("project.yaml switches it off")
        champion = self._registry.champion(self.project)
        if champion is None:
            raise Skipped("no model is in production")
        golden, asked = self._questions(config, champion)
        if not asked:
            raise Skipped("there are no golden questions, and no test tickets of its dataset")
        began = time.time()
        self._registry.update(self.project, "drift", {"started_at": began})
        key = drift_key(self.project, f"baseline-{champion['version']}", BASELINE)
        first = decode_baseline(self._store.find(key))
        known = len(first)
        pairs = list(self._pairs(config, champion, asked, first))
        if len(first) > known:
            self._store.write(key, encode_baseline(first))
        found = look(
            pairs,
            project=self.project,
            day=self._day,
            at=began,
            version=str(champion["version"]),
            golden=golden,
            questions=len(asked),
            tolerance=config.drift.tolerance,
            ratings=self._ratings(str(champion["version"])),
        )
        self._keep(found)
        return found

    def _questions(
        self, config: ProjectConfig, champion: Item
    ) -> tuple[str | None, tuple[Asked, ...]]:
        """The hash of the golden questions, and what is asked."""
        golden = self._registry.get(self.project, "golden") or {}
        if golden.get("questions"):
            key = golden_snapshot_key(self.project, golden["hash"])
            return golden["hash"], golden_set(decode_golden(self._store.read(key)))
        model = self._registry.get(self.project, f"model#{champion['version']}")
        if model is None:
            return None, ()
        test = self._store.find(dataset_key(self.project, model["dataset"], "test.jsonl"))
        return None, ticket_set(decode_examples(test or b""), config.drift.samples)

    def _pairs(
        self,
        config: ProjectConfig,
        champion: Item,
        asked: Sequence[Asked],
        first: dict[str, FirstAnswer],
    ) -> Iterator[Pair]:
        """Today's answers beside the first ones; a question without one adds today's to `first`."""
        panel = Panel(config, self._settings)
        listed, size = in_turn(asked, self._day), 2 * threads(config)
        for start in range(0, len(listed), size):
            if start and self._left() <= 0:
                return
            some = listed[start : start + size]
            try:
                said = self._answers(config, champion, some)
                pairs = [
                    Pair(one, first.get(place), text)
                    for one, (place, text) in zip(some, said, strict=True)
                ]
                judged = list(self._judged(config, panel, pairs))
            except ProviderDownError:
                if start:
                    return
                raise
            for place, text in said:
                first.setdefault(place, FirstAnswer(place, self._day, text))
            yield from judged

    def _answers(
        self, config: ProjectConfig, champion: Item, asked: Sequence[Asked]
    ) -> list[tuple[str, str]]:
        """(address, text) of what the model in production says now."""
        backend, model_id = str(champion["backend"]), str(champion["model_id"])
        model = self._registry.get(self.project, f"model#{champion['version']}") or {}
        prompts = [chat_messages(one.question.messages, config.system_prompt) for one in asked]
        said = self._tried(
            lambda: answers(
                config,
                self._settings,
                self._store,
                self.project,
                backend,
                model_id,
                prompts,
                base_model=str(model.get("base_model", "")),
                fresh=True,
            )
        )
        limit = config.judge.max_answer_tokens
        return [
            (address(model_id, prompt, limit), answer.text)
            for prompt, answer in zip(prompts, said, strict=True)
        ]

    def _judged(self, config: ProjectConfig, panel: Panel, pairs: Sequence[Pair]) -> Iterator[Pair]:
        """The pairs, those of different texts judged in both orders."""
        differ = [
            JudgedPair(p.asked.question.example, "first", p.now, p.then, token_hex(8))
            for p in pairs
            if not p.is_same
        ]
        judged: Iterator[Judged] = iter(
            self._tried(lambda: judge_pairs(differ, panel.ask, config.judge)) if differ else ()
        )
        for pair in pairs:
            yield pair if pair.is_same else msgspec.structs.replace(pair, judged=next(judged))

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _tried(self, call: Callable[[], T]) -> T:
        """The call's result; repeated where the provider may answer yet, while there is time."""
        tries = 0
        while True:
            try:
                return _within(self._left(), call)
            except RetryableError as error:
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
                given_up = tries >= len(PAUSES) and not isinstance(error, AsleepError)
                if given_up or self._left() <= pause:
                    raise
                tries += 1
                time.sleep(pause)

    def _ratings(self, version: str) -> Ratings:
        """What was rated since an earlier day's look, of this version's answers."""
        looks = self._registry.items(self.project, "drift#")
        earlier = [one for one in looks if one["version"] == version and one["day"] < self._day]
        since = max((one["at"] for one in earlier), default=0.0)
        rated = [
            int(one.get("rating", 0))
            for one in self._registry.items(self.project, f"feedback#{version}#")
            if one.get("at", 0) > since
        ]
        return Ratings(up=sum(r > 0 for r in rated), down=sum(r < 0 for r in rated))

    def _keep(self, found: Look) -> None:
        self._store.save(drift_key(self.project, self._day), found)
        summary: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(found, changed=()))
        self._registry.put(self.project, f"drift#{self._day}#{found.version}", summary)


def _within(seconds: float, call: Callable[[], T]) -> T:
    """The call's result.

    Raises:
        ProviderDownError: it takes longer. The call itself goes on, and nobody waits for it.
    """
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(call).result(timeout=max(seconds, 0.0))
    except TimeoutError as error:
        raise ProviderDownError("No answer came in the time there was for this project.") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
