"""A project whose champion lives at a provider that will shut it down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from tests.support.beginnings import once
from tests.support.provider import Provider, answers
from tests.support.tickets import ticket, tickets_csv
from tests.support.world import World

TICKETS = 240
JUDGING = "judge: {model: judge, samples: 60, batch: 20}\n"
TWO = "backend: openai\nmodel: gpt-4.1-mini\nfallback: [{backend: local, model: small}]\n" + JUDGING
_BEGAN = time.monotonic()
OLD, NEW = "ft:old", "ft:new"
ANSWERS = {ticket(number)[0]: ticket(number)[1] for number in range(2 * TICKETS)}


def chats(provider: Provider) -> None:
    """Tuned models give the agents' answers, others none; the judge sees who does."""

    def chat(model: str, messages: list[dict[str, str]]) -> str:
        said = messages[-1]["content"]
        if model != "judge":
            return ANSWERS[said] if model in (OLD, NEW) else "I do not know."
        first, second = (
            "Please order part" in said.split(f"<answer_{name} ")[1].split(f"</answer_{name}")[0]
            for name in "ab"
        )
        winner = "tie" if first == second else "A" if first else "B"
        return json.dumps({"winner": winner, "confidence": 0.9})

    provider.chat = chat


def promoted(world: World, provider: Provider, project: str = TWO) -> dict[str, Any]:
    """A project whose dropped export was trained by its first choice and made the champion."""
    chats(provider)

    def made() -> dict[str, Any]:
        world.put_project(project)
        state = world.run(world.drop(tickets_csv(TICKETS)), until="launch")
        provider.finish(model=OLD)
        return world.run(state)

    return once(world, provider, f"promoted {project}", made)


def moved(world: World, provider: Provider, state: dict[str, Any]) -> dict[str, Any]:
    """Take a run that begins at training to its end, as the state machine does."""
    state = world.run({**state, "clean": {}}, until="launch")
    provider.finish(model=NEW)
    return world.run(state)


def forget(provider: Provider, models: Iterable[str]) -> None:
    """From now on there are chats only, and those with these models are answered 404."""
    gone = set(models)

    def fault(handler: Any) -> None:
        known = handler.command == "POST" and json.loads(handler.body)["model"] not in gone
        if known:
            handler._post_chat()
        else:
            answers(404, "model_not_found")(handler)

    provider.refuses = fault


def set_clock(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    """Let `time.time` go on from noon of that day, UTC, and a process's later tests from later."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    monkeypatch.setattr(time, "time", lambda: noon + time.monotonic() - _BEGAN)
