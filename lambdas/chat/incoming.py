"""A model server's stream as chunks: what its events mean, and what ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from dropforge.serve import (
    ChatError,
    InvalidRequestError,
    UpstreamError,
    UpstreamRateLimitError,
)
from dropforge.serve.events import Event, EventParser
from dropforge.serve.streams import chunks, completion
from dropforge.untrusted import UnreadableError, read_json

Body = dict[str, Any]

_DONE = b"[DONE]"
_BROKEN = "The model's server broke off its answer."
_NO_CHUNK = "The model's server sent no chunk."


def read_chunks(parts: Iterable[bytes], wanted: int = 1) -> Iterator[Body]:
    """Each chunk of a streamed completion, the moment its event is complete.

    A server that answers a whole completion in place of a stream is understood as well: what begins
    with a brace is JSON, which no event does. Content types are not looked at, as servers leave
    them out or get them wrong.

    Args:
        wanted: how many choices were asked for. Where no [DONE] says that the stream is whole, it
            is when so many are finished.

    Raises:
        InvalidRequestError, UpstreamRateLimitError, UpstreamError: the server's error event.
        UpstreamError: no chunks, half of one, or an end before every choice was finished.
    """
    parts = iter(parts)
    head = b""
    for part in parts:
        head += part
        if head.lstrip():
            break
    if head.lstrip()[:1] == b"{":
        yield from chunks(completion(b"".join((head, *parts))))
        return
    parser = EventParser()
    finished: dict[int, bool] = {}
    for part in chain((head,), parts):
        for event in parser.feed(part):
            if event.data == _DONE:
                return
            chunk = _chunk(event)
            for choice in chunk["choices"]:
                # A chunk after the finish (a filter's verdict, say) has no reason of its own.
                finished.setdefault(choice.get("index") or 0, False)
                if choice.get("finish_reason"):
                    finished[choice.get("index") or 0] = True
            yield chunk
    if len(finished) < wanted or not all(finished.values()):
        raise UpstreamError(_BROKEN)


def complaint(error: Body) -> InvalidRequestError:
    """The server's own words about the request, as far as its error object has them."""
    text, param, code = (error.get(name) for name in ("message", "param", "code"))
    return InvalidRequestError(
        text if isinstance(text, str) else "The model's server refused the request.",
        param=param if isinstance(param, str) else None,
        wire_code=code if isinstance(code, str) else None,
    )


def error_object(body: bytes | str) -> Body:
    """OpenAI's error object in an error's body; empty where there is none."""
    try:
        error = read_json(body, dict[str, Any]).get("error")
    except UnreadableError:
        return {}
    return error if isinstance(error, dict) else {}


def _chunk(event: Event) -> Body:
    try:
        chunk: Any = read_json(event.data, Any)
    except UnreadableError as error:
        raise UpstreamError(_BROKEN) from error
    if not isinstance(chunk, dict):
        raise UpstreamError(_NO_CHUNK)
    if event.kind == b"error" or chunk.get("error"):
        raise _told(chunk.get("error"))
    choices = chunk.get("choices")
    if not isinstance(choices, list) or not all(map(_is_choice, choices)):
        raise UpstreamError(_NO_CHUNK) from UnreadableError("A chunk has no choices of its kind.")
    return chunk


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("index"), int | None)


def _told(error: object) -> ChatError:
    """An error in the stream, told apart as OpenAI and vLLM name them: by type or by status."""
    known = error if isinstance(error, dict) else {}
    said = {str(known.get(name)) for name in ("type", "code", "status")}
    if said & {"429", "rate_limit_error", "rate_limit_exceeded", "RateLimitError"}:
        return UpstreamRateLimitError("The model has too much to do.")
    if said & {"400", "422", "invalid_request_error", "BadRequestError"}:
        return complaint(known)
    return UpstreamError("The model's server failed while it answered.")
