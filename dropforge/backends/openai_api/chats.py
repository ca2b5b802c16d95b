"""Chat completions over plain HTTP: many at once, at a fifth of the SDK's processor time.

An evaluation asks thousands of times, from many threads of one Lambda. There the SDK's own 2 ms a
request are the limit (docs/benchmarks.md), not the provider. All that is asked once goes through
the SDK.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dropforge.backends import Completion
from dropforge.backends.connection import Connection, HttpAnswer, HttpError
from dropforge.errors import BackendError, RetryableError

TRIES = 3
TOTAL_S = 240.0
"""For all tries of one question together: a function has more than one question in its time."""
LONGEST_WAIT_S = 20.0
PASSING = (408, 409, 429)


class StatusError(Exception):
    """The cause of a BackendError: what the provider answered. Holds no text of a request."""

    def __init__(self, status_code: int, code: str | None) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.code = code


class Chats:
    """Asks one provider; safe for threads, each of which keeps a connection of its own.

    Args:
        base_url: with the path that stands before `/chat/completions`.
        timeout: seconds for one try; `total`: for all tries of a question, waits included.
        not_served: what to do about a model that is unknown there (404).
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        timeout: float,
        *,
        not_served: str,
        total: float = TOTAL_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._origin = base_url
        self._target = urlsplit(base_url).path.rstrip("/") + "/chat/completions"
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        self._timeout, self._total = timeout, total
        self._not_served = not_served
        self._sleep = sleep
        self._own = threading.local()

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """The greedy answer; an answer that the provider held back is empty.

        What may pass is tried three times in all, after the time that the provider asks for, as far
        as there is time.

        Raises:
            RetryableError: it did not pass, or the answer cannot be read.
            BackendError: the provider refuses; its cause has `status_code`.
        """
        body = msgspec.json.encode(
            {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
        )
        answer = self._asked(body)
        if answer.status == 200:
            return _completion(answer.body)
        error = _error(answer)
        if answer.status == 400 and error.get("code") == "content_filter":
            return Completion()
        raise self._refusal(answer.status, error)

    def _asked(self, body: bytes) -> HttpAnswer:
        end = time.monotonic() + self._total
        for left in reversed(range(TRIES)):
            now = time.monotonic()
            try:
                answer = self._connection().request(
                    "POST",
                    self._target,
                    body,
                    self._headers,
                    deadline=min(end, now + self._timeout),
                )
            except HttpError as error:
                wait = _backoff(TRIES - left)
                if not left or time.monotonic() + wait >= end:
                    raise RetryableError("The provider did not answer.") from error
            else:
                wait = _asked_to_wait(answer) or _backoff(TRIES - left)
                if not left or not _may_pass(answer.status) or time.monotonic() + wait >= end:
                    return answer
            self._sleep(wait)
        raise AssertionError("unreachable")  # the last try returns or raises

    def _connection(self) -> Connection:
        known: Connection | None = getattr(self._own, "connection", None)
        if known is None:
            known = self._own.connection = Connection(self._origin)
        return known

    def _refusal(self, status: int, error: dict[str, Any]) -> BackendError:
        told = error.get("message")
        message = f"The provider answered {status}: {told if isinstance(told, str) else ''}"
        refused: BackendError
        if _may_pass(status):
            refused = RetryableError(message)
        elif status in (401, 403):
            refused = BackendError(message, hint="Check the API key in Secrets Manager.")
        elif status == 404:
            refused = BackendError(message, hint=self._not_served)
        else:
            refused = BackendError(message)
        refused.__cause__ = StatusError(status, error.get("code"))
        return refused


def _may_pass(status: int) -> bool:
    return status in PASSING or status >= 500


def _backoff(tries: int) -> float:
    """Half a second, doubled, with up to a quarter less, so that threads do not meet again."""
    return float(0.25 * 2**tries * (1 - random.random() / 4))  # noqa: S311  (no secret)


def _asked_to_wait(answer: HttpAnswer) -> float | None:
    """Seconds by Retry-After; None where there is none, or it asks for more than is waited."""
    try:
        seconds = float(answer.header("Retry-After") or "")
    except ValueError:
        return None
    return seconds if 0 < seconds <= LONGEST_WAIT_S else None


def _completion(body: bytes) -> Completion:
    try:
        # Not msgspec: half a surrogate pair, where max_tokens cut an emoji, is no error here.
        answer = json.loads(body)
        choices = answer["choices"]
        text = str(choices[0]["message"].get("content") or "") if choices else ""
        used = answer.get("usage") or {}
        tokens = [used.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RetryableError("The provider's answer cannot be read.") from error
    known = [count if isinstance(count, int) else None for count in tokens]
    return Completion.of(text.encode("utf-8", "replace").decode(), *known)


def _error(answer: HttpAnswer) -> dict[str, Any]:
    """OpenAI's error object, as far as the provider sent one."""
    try:
        error = msgspec.json.decode(answer.body, type=dict[str, Any]).get("error")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {}
