"""The chat Lambda: every route of the HTTPS API behind API Gateway's proxy integration.

A person waits for its cold start, so it imports the standard library and msgspec, nothing else;
a test holds it to that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from dropforge.serve import ChatError, MethodNotAllowedError, UnknownRouteError
from lambdas.chat.edge import Answer, Call
from lambdas.chat.front import Front
from lambdas.chat.settings import ChatSettings
from lambdas.chat.telemetry import log_line

MODEL_ROUTE = "/v1/models/{id}"
ROUTES: dict[str, dict[str, Callable[[Front, Call], Answer]]] = {
    "/": {"GET": Front.page},
    "/openapi.json": {"GET": Front.description},
    "/health": {"GET": Front.health},
    "/v1/chat": {"POST": Front.chat},
    "/v1/chat/completions": {"POST": Front.chat_completions},
    "/v1/embeddings": {"POST": Front.embeddings},
    "/v1/models": {"GET": Front.models},
    MODEL_ROUTE: {"GET": Front.model},
    "/v1/feedback": {"POST": Front.feedback},
}
_OPEN = frozenset({"/", "/openapi.json", "/health"})
"""What anybody may read: nobody is looked up for it."""


class Response:
    """An answer under way. `parts` are read once; `finish` is called when the caller has them.

    Attributes:
        head: `statusCode` and `headers`, before any of the body.
    """

    def __init__(self, call: Call, answer: Answer, route: str, started: float) -> None:
        self._call, self._answer, self._route, self._started = call, answer, route, started
        self._first = time.perf_counter()
        self._ended = answer.parts is None
        self.head = answer.head(call.request_id)

    def parts(self) -> Iterator[bytes] | tuple[bytes, ...]:
        """The body, whole or bit by bit as the model writes it. Raises nothing on purpose."""
        parts = self._answer.parts
        return (self._answer.body.encode(),) if parts is None else self._watched(parts)

    def _watched(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from parts
        except Exception as error:
            self._ended = True
            self._answer.fail(error)
            raise
        self._ended = True

    def _hang_up(self) -> None:
        """Closes a stream that its caller did not read to the end, if not one byte of it."""
        self._call.metrics["CallerHungUp"] = 1
        if isinstance(self._answer.parts, Generator):
            self._answer.parts.close()

    def finish(self) -> None:
        """What is left to do without the caller waiting for it, and the log line."""
        spent = time.perf_counter() - self._started
        if not self._ended:
            self._hang_up()
        for work in self._call.after:
            try:
                work()
            except Exception as error:
                self._call.metrics["AfterworkFailed"] = 1
                self._answer.cause = self._answer.cause or type(error).__name__
        self._call.after.clear()  # work holds its exchange, and that the call: no garbage to find
        line = log_line(
            self._call,
            self._answer,
            route=self._route,
            milliseconds=spent * 1000,
            first_byte=(self._first - self._started) * 1000,
        )
        print(line, flush=True)


def handler(event: dict[str, Any], context: object) -> Response:
    """One proxy event in, its response out. Raises only where its settings are wrong."""
    started = time.perf_counter()
    call = Call.from_event(event, context, _settings().deadline_seconds)
    route = pattern(call.path)
    try:
        action, front = _action(route, call), _front()
        if _settings().auth == "iam" and route not in _OPEN:
            front.admit(call)
        answer = action(front, call)
    except ChatError as error:
        answer = Answer.failure(error)
    except Exception as error:  # the last resort: the caller is told nothing, the log the place
        answer = Answer.crash(error)
    return Response(call, answer, route, started)


def pattern(path: str) -> str:
    """The route that a path belongs to, or "unknown"."""
    if path in ROUTES and path != MODEL_ROUTE:
        return path
    return MODEL_ROUTE if path.startswith("/v1/models/") else "unknown"


def _action(route: str, call: Call) -> Callable[[Front, Call], Answer]:
    methods = ROUTES.get(route)
    if methods is None:
        raise UnknownRouteError(f"Invalid URL ({call.method} {call.path}).")
    if call.method not in methods:
        raise MethodNotAllowedError(
            f"{call.path} takes {', '.join(methods)}, not {call.method}.", allow=", ".join(methods)
        )
    return methods[call.method]


@functools.lru_cache(maxsize=1)
def _settings() -> ChatSettings:
    return ChatSettings.from_environment()


@functools.lru_cache(maxsize=1)
def _front() -> Front:
    return Front(_settings())
