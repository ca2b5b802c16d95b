"""What a request can cost at most, what it did cost, and the month that a token pays it from.

Amounts are whole billionths of a dollar, rounded up: DynamoDB adds integers exactly. Pure, and
imports nothing but msgspec: a person waits for the chat's cold start.

Registry item `budget#<token id>` / `2026-11`: `used_nano`, all that is spent or held, and
`held_0` … `held_3`, the part of it that is held, by the quarter of an hour in which it was. A hold
lives as long as its request, 15 minutes at most (a Lambda function's longest run), so what stands
in the slot of half an hour ago belongs to containers that died: it is given back when somebody
would be refused otherwise. A slot's turn comes once an hour.
"""

from __future__ import annotations

import math
import time
from typing import Any, Self

import msgspec

from dropforge.serve.options import Price, ServeOptions

NANO = 1_000_000_000
SLOT_SECONDS = 900
SLOTS = 4
FRAME_TOKENS = 64
"""Beside the JSON of the request: what a chat template adds before the answer."""
MEDIA_TOKENS = 48_169
"""An image's most: 2,833 and 5,667 a tile, 8 tiles (OpenAI, "Images and vision": gpt-4o-mini)."""
JUDGE_TOKENS = 2_048
"""The prompt of an ensemble's judge."""

Body = dict[str, Any]


class Hold(msgspec.Struct, frozen=True):
    """What was reserved for one request.

    Attributes:
        pk, sk: the budget's registry item.
        slot: the attribute of the time.
        nano: the reserved amount.
        ask: of that, what asking one model once costs at most.
        checked: False where the budget could not be asked, so that nothing is reserved.
    """

    pk: str
    sk: str
    slot: str
    nano: int
    ask: int
    checked: bool


class Spent(msgspec.Struct, frozen=True):
    """A month of a budget, in billionths of a dollar."""

    used: int
    held: int

    @classmethod
    def of(cls, item: Body) -> Self:
        """From the registry's item; an empty one has spent nothing."""
        held = sum(int(item.get(slot(n * SLOT_SECONDS), 0)) for n in range(SLOTS))
        return cls(int(item.get("used_nano", 0)), held)

    @property
    def spent_usd(self) -> float:
        return max(self.used - self.held, 0) / NANO


def month(at: float) -> str:
    """The calendar month in UTC, as 2026-11."""
    return time.strftime("%Y-%m", time.gmtime(at))


def renewal(at: float) -> str:
    """The first day of the next month, as 2026-12-01."""
    now = time.gmtime(at)
    year, following = divmod(now.tm_year * 12 + now.tm_mon, 12)
    return f"{year}-{following + 1:02}-01"


def budget_key(token_id: str, of: str) -> tuple[str, str]:
    return f"budget#{token_id}", of


def slot(at: float) -> str:
    """The attribute that a hold of this time is counted in."""
    return f"held_{int(at // SLOT_SECONDS) % SLOTS}"


def left_slot(at: float) -> str:
    """The attribute in which only requests that never ended can have left something.

    It is two slots from that of `at` both ways: clocks may differ by a slot.
    """
    return slot(at + 2 * SLOT_SECONDS)


def output_tokens(fields: Body, options: ServeOptions) -> tuple[int, bool]:
    """What one answer may have, and whether the caller said so."""
    named = [fields.get(name) for name in ("max_completion_tokens", "max_tokens")]
    found = [tokens for tokens in named if isinstance(tokens, int)]
    return (max(found), True) if found else (options.max_output_tokens, False)


def input_bound(fields: Body, prompt: str | None) -> int:
    """Tokens that a request cannot have more of.

    A byte-level tokenizer never makes more tokens than the text has bytes, and JSON never has fewer
    bytes than the text in it; the JSON around a message is longer than a chat template's.
    """
    media = sum(
        1
        for message in fields.get("messages") or ()
        for part in _parts(message)
        if isinstance(part, dict) and part.get("type") not in ("text", "refusal")
    )
    size = len(msgspec.json.encode(fields)) + len((prompt or "").encode())
    return size + FRAME_TOKENS + media * MEDIA_TOKENS


def _parts(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else []


def bounds(
    fields: Body, prompt: str | None, options: ServeOptions, *, ensemble: bool, fallback: bool
) -> tuple[int, int]:
    """The most that one ask costs, and the most that the whole request does.

    A model that failed after it may have begun to answer is paid, and so is the other one that is
    asked in its place: with a fallback, two asks are held. An ensemble holds its `n` and those two,
    which answer where none of the `n` did, and two of its judge, which reads all answers; what one
    model wrote is reckoned as twice as many tokens for another.

    Returns:
        Both 0 where the project has no price.
    """
    price = options.price
    if price is None:
        return 0, 0
    asked, answered = input_bound(fields, prompt), output_tokens(fields, options)[0]
    ask = _nano(asked, answered * (fields.get("n") or 1), price)
    whole = ask * (2 if fallback else 1)
    if ensemble and options.ensemble:
        n = options.ensemble.n
        whole += ask * n
        if options.ensemble.judge:
            read = asked + 2 * answered * n + JUDGE_TOKENS
            whole += 2 * _nano(read, options.max_output_tokens, price)
    return ask, whole


def cost(completion: Body | None, price: Price) -> int | None:
    """What a completion's usage costs; None where its server told none."""
    usage = (completion or {}).get("usage")
    if not isinstance(usage, dict):
        return None
    asked, answered = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(asked, int) or not isinstance(answered, int) or min(asked, answered) < 0:
        return None
    return _nano(asked, answered, price)


def _nano(asked: int, answered: int, price: Price) -> int:
    """Prices are dollars per million tokens: a thousand times that are billionths per token."""
    return math.ceil(asked * price.input * 1000 + answered * price.output * 1000)
