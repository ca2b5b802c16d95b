"""The chat-format rules against pydantic's, on the same lines of training JSONL."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, model_validator

from benchmarks.figures import Figure
from dropforge.chat_rules import problem

LINES = 60_000


class Said(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | None = None
    tool_calls: list[Any] | None = None
    weight: Literal[0, 1] | None = None

    @model_validator(mode="after")
    def says_something(self) -> Said:
        if not self.content and not self.tool_calls:
            raise ValueError("empty")
        return self


class Line(BaseModel):
    """The same rules as `dropforge.chat_rules`, as one writes them with pydantic."""

    messages: list[Said]

    @model_validator(mode="after")
    def is_a_chat(self) -> Line:
        if not self.messages or self.messages[-1].role != "assistant":
            raise ValueError("last")
        if any(m.role in ("system", "developer") for m in self.messages[1:]):
            raise ValueError("system")
        if not any(m.role == "user" for m in self.messages):
            raise ValueError("user")
        return self


def lines(count: int, seed: int = 1) -> list[bytes]:
    """Training lines of 100 words, one in fifty with a fault."""
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(5000)]
    made = []
    for i in range(count):
        text = [" ".join(rng.choices(words, k=k)) for k in (10, 40, 50)]
        roles = ["system", "user", "assistant"]
        if i % 50 == 0:
            roles[rng.randrange(3)] = rng.choice(["", "agent", "user"])
        messages = [{"role": r, "content": t} for r, t in zip(roles, text, strict=True)]
        made.append(json.dumps({"messages": messages}).encode())
    return made


def by_pydantic(line: bytes) -> bool:
    try:
        Line.model_validate_json(line)
    except ValidationError:
        return False
    return True


def by_dropforge(line: bytes) -> bool:
    return problem(line) is None


def rate(check: Callable[[bytes], bool], rows: Sequence[bytes]) -> tuple[float, list[bool]]:
    """(rows a CPU-second, each row's verdict); the best of three."""
    best, verdicts = 0.0, []
    for _ in range(3):
        began = time.process_time()
        verdicts = [check(row) for row in rows]
        best = max(best, len(rows) / (time.process_time() - began))
    return best, verdicts


def figures() -> Iterator[Figure]:
    """Raises AssertionError where the two do not agree on every line."""
    rows = lines(LINES)
    (ours, said), (peers, peer_said) = rate(by_dropforge, rows), rate(by_pydantic, rows)
    assert said == peer_said, "the two sets of rules differ"
    ratio = ours / peers
    yield Figure(
        "chat-format rules: Dropforge / pydantic v2, rows a CPU-second",
        f"{ours:,.0f} / {peers:,.0f} = {ratio:.1f}×",
        "at least 3×",
        ratio >= 3,
    )
