"""The chat Lambda: every route of the HTTPS API behind API Gateway's proxy integration.

A person waits for its cold start, so it imports the standard library and msgspec, nothing else;
a test holds it to that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from dropforge.serve import ChatError, MethodNotAllowedError, UnknownRouteError
from lambdas.chat.edge import Answer, Call
from lambdas.chat.front import Front
from lambdas.chat.settings import ChatSettings
from lambdas.chat.telemetry import log_line

MODEL_ROUTE = "/v1/models/{id}"
ROUTES: dict[str, dict[str, Callable[[Front, Call], Answer]]] = {
    "/health": {"GET": Front.health},
    "/v1/chat": {"POST": Front.chat},
    "/v1/chat/completions": {"POST": Front.chat_completions},
    "/v1/models": {"GET": Front.models},
    MODEL_ROUTE: {"GET": Front.model},
    "/v1/feedback": {"POST": Front.feedback},
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """One proxy event in, one proxy result out. Raises only where its settings are wrong."""
    started = time.perf_counter()
    call = Call.from_event(event, context, _settings().deadline_seconds)
    route = pattern(call.path)
    try:
        answer = _action(route, call)(_front(), call)
    except ChatError as error:
        answer = Answer.failure(error)
    except Exception as error:  # the last resort: the caller is told nothing, the log the place
        answer = Answer.crash(error)
    elapsed = (time.perf_counter() - started) * 1000
    print(log_line(call, answer, route=route, milliseconds=elapsed))
    return answer.proxy_result(call.request_id)


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
