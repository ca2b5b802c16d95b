"""One chat request on its way: what is asked, of whom, and what came of it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from dropforge.serve import ChatError
from dropforge.serve.budget import Hold
from dropforge.serve.options import CollectOptions, ServeOptions
from dropforge.serve.routing import Route
from lambdas.chat.edge import CacheState, Call

Body = dict[str, Any]


class Exchange(msgspec.Struct):
    """Filled as the request goes on; what is done after the answer reads it.

    Attributes:
        fields: the request as it was sent.
        asked: whom the request was meant for.
        prompt: the project's system prompt.
        stream: whether the caller wants chunks.
        user: who asks, where /v1/chat says it.
        route: who answers; `asked`, or its fallback.
        payload: what the model that answers was asked; empty where none was.
        chunks: a streamed answer, as its server wrote it, until it was read.
        completion: the whole answer, as its server wrote it; of a stream, what came of it.
        error: why there is no whole answer.
        missed: why the model that was meant did not answer, where another was asked.
        output_tokens: what an answer may have, where the caller did not say and a budget needs it.
        hold: what was reserved of the token's budget.
        lost: asks without a whole answer that may have to be paid for all the same.
        lookup: what the cache notes between looking for an answer and keeping one.
        began, first, ended: points on time.monotonic(): the model was asked, the first part of its
            answer came, the last one.
    """

    call: Call
    fields: Body
    asked: Route
    options: ServeOptions
    collect: CollectOptions | None
    prompt: str | None
    stream: bool
    route: Route
    payload: Body = {}
    cache: CacheState = "off"
    chunks: Generator[Body, None, None] | None = None
    completion: Body | None = None
    error: ChatError | None = None
    missed: ChatError | None = None
    output_tokens: int | None = None
    hold: Hold | None = None
    lost: int = 0
    began: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    user: str | None = None
    lookup: Any = None
