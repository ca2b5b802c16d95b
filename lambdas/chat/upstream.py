"""The model's server: an OpenAI-compatible API, or a SageMaker inference component."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dropforge.backends.awsapi import AwsError, AwsThrottledError, SageMakerRuntime, Secrets
from dropforge.backends.connection import Connection, DeadlineError, HttpAnswer, HttpError
from dropforge.providers import is_hosted
from dropforge.serve import (
    ChatError,
    InvalidRequestError,
    UnavailableError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)
from dropforge.serve.routing import Route
from lambdas.chat.settings import ChatSettings

SECRET_SECONDS = 300.0
WAKE_SECONDS = "30"


class Upstream:
    """Asks a route's model. Opens each connection, and reads the key, when first needed."""

    def __init__(self, settings: ChatSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._hosted: dict[str, Connection] = {}
        self._sagemaker: SageMakerRuntime | None = None
        self._keys: dict[str, tuple[float, str]] = {}

    def complete(self, route: Route, payload: dict[str, Any], deadline: float) -> dict[str, Any]:
        """The chat completion, as the model's server wrote it, with at least one choice.

        Args:
            deadline: a point on the clock.

        Raises:
            InvalidRequestError: the server refused the request itself; in its words.
            UpstreamRateLimitError: it has too much to do; with its Retry-After.
            UnavailableError: the component is not in service, or the key cannot be read.
            UpstreamTimeoutError: the deadline passed.
            UpstreamError: anything else.
        """
        ask = self._ask_hosted if is_hosted(route.backend) else self._ask_sagemaker
        try:
            body = ask(route, msgspec.json.encode(payload), deadline)
        except DeadlineError as error:
            raise UpstreamTimeoutError("The model did not answer in time.") from error
        except HttpError as error:
            raise UpstreamError("The connection to the model failed.") from error
        return _completion(body)

    def stream(
        self, route: Route, payload: dict[str, Any], deadline: float
    ) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed completion. The first one has come when this returns.

        Raises:
            ChatError: as `complete`; while iterating, UpstreamTimeoutError and UpstreamError.
        """
        from dropforge.serve.streams import chunks

        kept = {k: v for k, v in payload.items() if k not in ("stream", "stream_options")}
        return chunks(self.complete(route, kept, deadline))

    def _ask_hosted(self, route: Route, body: bytes, deadline: float) -> bytes:
        access = self._settings.providers.get(route.backend)
        if access is None:
            raise UpstreamError("The model's provider is not part of this deployment any more.")
        connection = self._hosted.setdefault(access.base_url, Connection(access.base_url))
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._read_key(access.secret_arn, deadline):
            headers["Authorization"] = f"Bearer {key}"
        target = urlsplit(access.base_url).path.rstrip("/") + "/chat/completions"
        answer = connection.request("POST", target, body, headers, deadline=deadline)
        if answer.status == 200:
            return answer.body
        if answer.status in (401, 403):
            self._keys.pop(access.secret_arn, None)  # it may have been rotated
        raise _refusal(answer)

    def _ask_sagemaker(self, route: Route, body: bytes, deadline: float) -> bytes:
        if self._sagemaker is None:
            self._sagemaker = SageMakerRuntime(self._settings.endpoint_name)
        try:
            return self._sagemaker.invoke(route.model_id, body, deadline=deadline)
        except AwsThrottledError as error:
            raise UpstreamRateLimitError(
                "The model has too much to do.", retry_after="1"
            ) from error
        except AwsError as error:
            if error.name in ("ValidationError", "ServiceUnavailable"):  # at zero instances, too
                raise UnavailableError(
                    "The model is not in service; it may be starting.", retry_after=WAKE_SECONDS
                ) from error
            raise UpstreamError("The model failed to answer.") from error

    def _read_key(self, arn: str, deadline: float) -> str:
        if not arn:
            return ""
        now = self._clock()
        known = self._keys.get(arn)
        if known is None or now >= known[0]:
            try:
                known = (now + SECRET_SECONDS, Secrets().get(arn, deadline=deadline).strip())
            except (AwsError, HttpError) as error:
                raise UnavailableError(
                    "The model's key cannot be read.", retry_after="2"
                ) from error
            self._keys[arn] = known
        return known[1]


def _completion(body: bytes) -> dict[str, Any]:
    try:
        completion = msgspec.json.decode(body, type=dict[str, Any])
        completion["choices"][0]["message"].get("content")
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise UpstreamError("The model's server answered no chat completion.") from error
    return completion


def _refusal(answer: HttpAnswer) -> ChatError:
    """What a status that is not 200 means to the caller, who knows nothing of the server behind."""
    retry_after = answer.header("Retry-After")
    if answer.status == 429:
        return UpstreamRateLimitError("The model has too much to do.", retry_after=retry_after)
    if answer.status in (400, 413, 422):
        return _complaint(answer)
    if answer.status == 504:
        return UpstreamTimeoutError("The model did not answer in time.", retry_after=retry_after)
    return UpstreamError(f"The model's server answered {answer.status}.", retry_after=retry_after)


def _complaint(answer: HttpAnswer) -> InvalidRequestError:
    """The server's own words about the request, as far as it sent OpenAI's error body."""
    try:
        error = msgspec.json.decode(answer.body, type=dict[str, dict[str, Any]])["error"]
    except (msgspec.MsgspecError, LookupError, RecursionError):
        error = {}
    text, param, code = (error.get(name) for name in ("message", "param", "code"))
    return InvalidRequestError(
        text if isinstance(text, str) else "The model's server refused the request.",
        param=param if isinstance(param, str) else None,
        wire_code=code if isinstance(code, str) else None,
    )
