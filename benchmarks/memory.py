"""Resident memory of the local default, idle after `make up` and over half an hour of chats.

Counted is the proportional set size (PSS) of every process of the instance: a page that several
share counts once in all. Where the system tells none (macOS), it is what each has for itself (USS).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil  # type: ignore[import-untyped]
from openai import OpenAI, OpenAIError

from benchmarks.figures import Figure
from benchmarks.instance import PROJECT, champion, deployed
from local import processes
from local.settings import BASE_MODEL, Settings
from local.up import SERVICES
from tests.e2e.conftest import Instance

MB = 1e6
SETTLED_SECONDS = 30.0
PACE_SECONDS = 1.0
"""From one chat to the next."""
SAMPLED_CHATS = 10
MAX_TOTAL, MAX_GROWTH = 1500 * MB, 1.10
FUNCTIONS = "Lambda functions"
KINDS = ("whole", "streamed", "from the cache")

Memory = dict[str, float]
"""Bytes by service; the emulator's children are FUNCTIONS."""


def figures(minutes: float = 30.0) -> Iterator[Figure]:
    """Idle, then chats for so many minutes, one a second."""
    with deployed() as instance:
        time.sleep(SETTLED_SECONDS)
        idle = resident(instance)
        yield _idle(idle)
        chats = Chats(instance)
        sampled = chats.run(minutes * 60)
        time.sleep(SETTLED_SECONDS)
        yield from _growth(minutes, chats, [idle, *sampled, resident(instance)])


def resident(instance: Instance) -> Memory:
    """What each service and the functions hold now; processes that end meanwhile count nothing."""
    settings = Settings.from_environment(instance.environment)
    mains = {
        main.pid: name
        for name in SERVICES
        if (main := processes.running(settings, name)) is not None
    }
    found = dict.fromkeys((*SERVICES, FUNCTIONS), 0.0)
    for process in processes.ours(settings):
        with suppress(psutil.NoSuchProcess):
            full = process.memory_full_info()
            found[_service(process, mains)] += getattr(full, "pss", full.uss)
    return found


def _service(process: psutil.Process, mains: dict[int, str]) -> str:
    if process.pid in mains:
        return mains[process.pid]
    above = (mains[parent.pid] for parent in process.parents() if parent.pid in mains)
    service = next(above, SERVICES[0])
    return FUNCTIONS if service == SERVICES[0] else service


class Chats:
    """Chats through the deployed API, of each kind in turn, answered by the base model.

    Attributes:
        done: answers by kind; failures by the name of their error.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        token = champion(instance, BASE_MODEL)
        self._client = OpenAI(base_url=f"{instance.api_url}/v1", api_key=token, max_retries=0)
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> list[Memory]:
        """One chat every PACE_SECONDS for so long; the memory after every SAMPLED_CHATS of them."""
        began, sampled = time.monotonic(), list[Memory]()
        for number in range(round(seconds / PACE_SECONDS)):
            time.sleep(max(0.0, began + number * PACE_SECONDS - time.monotonic()))
            self._ask(KINDS[number % len(KINDS)], number)
            if number % SAMPLED_CHATS == 0:
                sampled.append(resident(self._instance))
        return sampled

    def _ask(self, kind: str, number: int) -> None:
        """Questions from the cache are the same each time; an answer cut short is not kept."""
        again = kind == KINDS[2]
        question = "Where is my order?" if again else f"Where is my order {number}?"
        body: dict[str, Any] = {
            "model": PROJECT,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 8,
            "stop": [" "] if again else None,
        }
        try:
            if kind == KINDS[1]:
                list(self._client.chat.completions.create(**body, stream=True))
            else:
                answered = self._client.chat.completions.with_raw_response.create(**body)
                kind = KINDS[2] if answered.headers["x-dropforge-cache"] == "hit" else KINDS[0]
        except OpenAIError as error:
            kind = type(error).__name__
        self.done[kind] += 1


def _idle(idle: Memory) -> Figure:
    total = sum(idle.values())
    return Figure(
        f"resident memory of the local default, {SETTLED_SECONDS:.0f} s after `make up` (PSS)",
        f"{total / MB:,.0f} MB: {_by_service(idle)}",
        f"under {MAX_TOTAL / MB:,.0f} MB",
        total < MAX_TOTAL,
    )


def _growth(minutes: float, chats: Chats, sampled: list[Memory]) -> Iterator[Figure]:
    first, *_, last = totals = [sum(one.values()) for one in sampled]
    done = ", ".join(f"{count} {kind}" for kind, count in chats.done.items())
    yield Figure(
        f"the same after {minutes:g} minutes of chats, one a second ({done}); "
        "the highest meanwhile",
        f"{last / MB:,.0f} MB ({last / first - 1:+.0%}): {_by_service(sampled[-1])}; "
        f"{max(totals) / MB:,.0f} MB",
        f"at most {MAX_GROWTH - 1:+.0%}",
        last <= MAX_GROWTH * first and set(chats.done) == set(KINDS),
    )


def _by_service(found: Memory) -> str:
    return ", ".join(f"{name} {bytes_ / MB:,.0f}" for name, bytes_ in found.items())
