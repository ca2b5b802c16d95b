"""The model's server: an OpenAI-compatible API, or a SageMaker inference component."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dropforge.backends.awsapi import (
    AwsError,
    AwsThrottledError,
    ModelError,
    SageMakerRuntime,
    Secrets,
)
from dropforge.backends.connection import (
    Connection,
    DeadlineError,
    HttpAnswer,
    HttpError,
    HttpStream,
)
from dropforge.errors import BackendError
from dropforge.providers import Access, is_hosted
from dropforge.serve import (
    AsleepModelError,
    ChatError,
    InvalidRequestError,
    UnavailableError,
    UpstreamError,
    UpstreamRateLimitError,
    UpstreamTimeoutError,
)
from dropforge.serve.routing import Route
from dropforge.serve.streams import begun, completion
from lambdas.chat.settings import ChatSettings

SECRET_SECONDS = 300.0
WAKE_SECONDS = "30"
"""What a caller of a sleeping model is told: the alarm that wakes it looks as often."""

_ASLEEP = frozenset({"ValidationError", "ServiceUnavailable", "ModelNotReadyException"})
"""SageMaker's answers at zero copies, and while a copy or an adapter is being loaded."""

Body = dict[str, Any]


class Upstream:
    """Asks a route's model. Opens each connection, and reads the key, when first needed."""

    def __init__(self, settings: ChatSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._hosted: dict[str, Connection] = {}
        self._sagemaker: SageMakerRuntime | None = None
        self._keys: dict[str, tuple[float, str]] = {}

    def complete(self, route: Route, payload: Body, deadline: float) -> Body:
        """The chat completion, as the model's server wrote it, with at least one choice.

        Args:
            deadline: a point on the clock.

        Raises:
            InvalidRequestError: the server refused the request itself; in its words.
            UpstreamRateLimitError: it has too much to do; with its Retry-After.
            AsleepModelError: the component has no copy; being asked wakes it.
            UnavailableError: the key cannot be read, or is none.
            UpstreamTimeoutError: the deadline passed.
            UpstreamError: anything else.
        """
        ask = self._ask_hosted if is_hosted(route.backend) else self._ask_sagemaker
        try:
            body = ask(route, msgspec.json.encode(payload), deadline)
        except BackendError as error:
            raise _failure(error) from error
        return completion(body)

    def stream(
        self, route: Route, payload: Body, deadline: float, *, first_by: float | None = None
    ) -> Generator[Body, None, None]:
        """The chunks of a streamed completion, each when it comes. The first one has come already.

        Between chunks there is no limit but `deadline`: a model that thinks is silent for long.
        Closing the generator closes the connection.

        Args:
            deadline: for the whole stream.
            first_by: for the first chunk, where that is sooner.

        Raises:
            ChatError: as `complete`; while iterating, too.
        """
        ask = self._open_hosted if is_hosted(route.backend) else self._open_sagemaker
        try:
            stream, parts = ask(route, msgspec.json.encode(payload), first_by or deadline)
        except BackendError as error:
            raise _failure(error) from error
        chunks = _read(stream, parts, payload.get("n") or 1)
        first = next(chunks, None)
        if first is None:
            raise UpstreamError("The model's server answered no chat completion.")
        stream.until(deadline)
        return begun(_resumed(first, chunks))

    def _ask_hosted(self, route: Route, body: bytes, deadline: float) -> bytes:
        access, connection, target, headers = self._hosted_request(route, deadline)
        answer = connection.request("POST", target, body, headers, deadline=deadline)
        if answer.status == 200:
            return answer.body
        raise self._refused(access, answer)

    def _open_hosted(
        self, route: Route, body: bytes, deadline: float
    ) -> tuple[HttpStream, Iterable[bytes]]:
        access, connection, target, headers = self._hosted_request(route, deadline)
        headers["Accept"] = "text/event-stream"
        stream = connection.stream("POST", target, body, headers, deadline=deadline)
        if stream.status == 200:
            return stream, stream.parts()
        raise self._refused(access, stream.whole())

    def _hosted_request(
        self, route: Route, deadline: float
    ) -> tuple[Access, Connection, str, dict[str, str]]:
        access = self._settings.providers.get(route.backend)
        if access is None:
            raise UpstreamError("The model's provider is not part of this deployment any more.")
        connection = self._hosted.get(access.base_url)
        if connection is None:
            connection = self._hosted[access.base_url] = Connection(access.base_url)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._read_key(access.secret_arn, deadline):
            headers["Authorization"] = f"Bearer {key}"
        target = urlsplit(access.base_url).path.rstrip("/") + "/chat/completions"
        return access, connection, target, headers

    def _refused(self, access: Access, answer: HttpAnswer) -> ChatError:
        if answer.status in (401, 403):
            self._keys.pop(access.secret_arn, None)  # it may have been rotated
        return _refusal(answer)

    def _ask_sagemaker(self, route: Route, body: bytes, deadline: float) -> bytes:
        return self._runtime().invoke(route.model_id, body, deadline=deadline)

    def _open_sagemaker(
        self, route: Route, body: bytes, deadline: float
    ) -> tuple[HttpStream, Iterable[bytes]]:
        from dropforge.backends.eventstream import payload_parts

        stream = self._runtime().stream(route.model_id, body, deadline=deadline)
        return stream, payload_parts(stream.parts())

    def _runtime(self) -> SageMakerRuntime:
        if self._sagemaker is None:
            self._sagemaker = SageMakerRuntime(self._settings.endpoint_name)
        return self._sagemaker

    def _read_key(self, arn: str, deadline: float) -> str:
        if not arn:
            return ""
        now = self._clock()
        known = self._keys.get(arn)
        if known is None or now >= known[0]:
            try:
                known = (now + SECRET_SECONDS, Secrets().get(arn, deadline=deadline).strip())
            except (AwsError, HttpError, ValueError, LookupError) as error:
                raise UnavailableError(
                    "The model's key cannot be read.", retry_after="2"
                ) from error
            if not (known[1].isascii() and known[1].isprintable()):
                raise UnavailableError("The model's key holds what no header may.")
            self._keys[arn] = known
        return known[1]


def _read(stream: HttpStream, parts: Iterable[bytes], wanted: int) -> Generator[Body, None, None]:
    from lambdas.chat.incoming import read_chunks

    try:
        yield from read_chunks(parts, wanted)
        stream.drain()
    except BackendError as error:
        raise _failure(error) from error
    finally:
        stream.close()


def _resumed(first: Body, chunks: Generator[Body, None, None]) -> Generator[Body, None, None]:
    try:
        yield {}  # see `begun`
        yield first
        yield from chunks
    finally:
        chunks.close()


def _failure(error: BackendError) -> ChatError:
    """What an exchange that brought no answer means to the caller."""
    if isinstance(error, DeadlineError):
        return UpstreamTimeoutError("The model did not answer in time.")
    if isinstance(error, ModelError) and error.original:
        return _told(error.original, error.said)
    if isinstance(error, AwsError):
        if error.name in _ASLEEP:
            return AsleepModelError(
                "The model is not in service; it may be starting.", retry_after=WAKE_SECONDS
            )
        if isinstance(error, AwsThrottledError):
            return UpstreamRateLimitError("The model has too much to do.", retry_after="1")
        if error.name == "ModelInvocationTimeExceeded":
            return UpstreamTimeoutError("The model did not answer in time.")
        return UpstreamError("The model failed to answer.")
    return UpstreamError("The connection to the model failed.")


def _refusal(answer: HttpAnswer) -> ChatError:
    return _told(answer.status, answer.body, answer.header("Retry-After"))


def _told(status: int, body: bytes | str, retry_after: str | None = None) -> ChatError:
    """What a status that is not 200 means to the caller, who knows nothing of the server behind."""
    if status == 429:
        return UpstreamRateLimitError("The model has too much to do.", retry_after=retry_after)
    if status in (400, 413, 422):
        return _complaint(body)
    if status == 504:
        return UpstreamTimeoutError("The model did not answer in time.", retry_after=retry_after)
    return UpstreamError(f"The model's server answered {status}.", retry_after=retry_after)


def _complaint(body: bytes | str) -> InvalidRequestError:
    """The server's own words about the request, as far as it sent OpenAI's error body."""
    from lambdas.chat.incoming import complaint, error_object

    return complaint(error_object(body))
