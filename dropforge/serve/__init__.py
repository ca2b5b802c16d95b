"""The chat front's rules: what a caller may send, and how what went wrong is told.

Which model answers is `routing.py`'s. Pure, and imports nothing but msgspec: a person waits
for the chat's cold start.

    RequestError                      the wire code is the class's, in lower case
    ├── InvalidRequestError      400
    ├── InvalidApiKeyError       401
    ├── ModelNotFoundError       404
    ├── NoChampionError          404  not 409, which OpenAI's clients would send again
    ├── UnknownRouteError        404
    ├── MethodNotAllowedError    405
    ├── AlreadyRatedError        409
    ├── RequestTooLargeError     413
    ├── UpstreamRateLimitError   429
    ├── BudgetExceededError      429  the token has spent what it may
    ├── UpstreamError            502  the model's server failed or answered nonsense
    ├── UnavailableError         503  will work in a while: Retry-After says when
    │   └── AsleepModelError          no copy of the model runs; one is being started
    └── UpstreamTimeoutError     504
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from dropforge.errors import RequestError

if TYPE_CHECKING:
    from dropforge.serve.routing import Route

MAX_BODY_BYTES = 256 * 1024
MAX_MESSAGES = 200
MAX_DEPTH = 64
"""Lists and objects in each other; more would be too much to write out again."""


class ChatError(RequestError):
    """An answer of the API that is not a 2xx, told as OpenAI tells it.

    Args:
        message: for the caller. It can quote the request, so it never reaches a log.
        param: the field that is wrong.
        retry_after, allow: the headers of that name.
        wire_code: where the code is not the class's, as when a model's server chose it.

    Attributes:
        route: the model that was asked, once that is known.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: ClassVar[str] = "INTERNAL_ERROR"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        retry_after: str | None = None,
        allow: str | None = None,
        wire_code: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.retry_after = retry_after
        self.allow = allow
        self.route: Route | None = None
        self.wire_code = wire_code or self.code.lower()

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": f"{self.message} {self.hint}" if self.hint else self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.wire_code,
            }
        }


class InvalidRequestError(ChatError):
    status, kind, code = 400, "invalid_request_error", "INVALID_REQUEST"


class InvalidApiKeyError(ChatError):
    status, kind, code = 401, "invalid_request_error", "INVALID_API_KEY"


class ModelNotFoundError(ChatError):
    status, kind, code = 404, "invalid_request_error", "MODEL_NOT_FOUND"


class NoChampionError(ChatError):
    status, kind, code = 404, "invalid_request_error", "NO_CHAMPION"


class UnknownRouteError(ChatError):
    status, kind, code = 404, "invalid_request_error", "UNKNOWN_URL"


class MethodNotAllowedError(ChatError):
    status, kind, code = 405, "invalid_request_error", "METHOD_NOT_SUPPORTED"


class AlreadyRatedError(ChatError):
    status, kind, code = 409, "invalid_request_error", "ALREADY_RATED"


class RequestTooLargeError(ChatError):
    status, kind, code = 413, "invalid_request_error", "REQUEST_TOO_LARGE"


class UpstreamRateLimitError(ChatError):
    status, kind, code = 429, "rate_limit_error", "RATE_LIMIT_EXCEEDED"


class BudgetExceededError(ChatError):
    status, kind, code = 429, "insufficient_quota", "INSUFFICIENT_QUOTA"


class UpstreamError(ChatError):
    status, kind, code = 502, "server_error", "UPSTREAM_ERROR"


class UnavailableError(ChatError):
    status, kind, code = 503, "server_error", "UNAVAILABLE"


class AsleepModelError(UnavailableError):
    pass


class UpstreamTimeoutError(ChatError):
    status, kind, code = 504, "server_error", "UPSTREAM_TIMEOUT"


class Message(msgspec.Struct):
    """One message, as far as it is checked here; the model's server checks the rest."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Any] | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct):
    """POST /v1/chat/completions. Fields not named here go to the model's server as they are."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=8)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None


class Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str


class SimpleChat(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/chat, for people with curl: a message, and what was said before it.

    `user` says who asks, to a canary and to nobody else.
    """

    message: Annotated[str, Meta(min_length=1)]
    conversation: list[Turn] = []
    model: str | None = None
    user: str | None = None

    def payload(self) -> dict[str, Any]:
        """The same as a chat/completions request."""
        turns = [*self.conversation, Turn("user", self.message)]
        return {"messages": msgspec.to_builtins(turns), "model": self.model}


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """POST /v1/feedback: a rating of one answer."""

    id: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,128}\Z")]
    rating: Literal[-1, 1]
    comment: Annotated[str, Meta(max_length=4000)] | None = None
    model: Annotated[str, Meta(max_length=200)] | None = None


class EmbeddingRequest(msgspec.Struct):
    """POST /v1/embeddings. Fields not named here go to the model's server as they are.

    `input` is one text or several, or the same as token ids: one list of them, or a list of lists.
    """

    input: str | list[str | Annotated[int, Meta(ge=0)] | list[Annotated[int, Meta(ge=0)]]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: str | None = None


class Embedding(msgspec.Struct):
    """One vector of an answer; in base64 it is little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingList(msgspec.Struct):
    """The answer of POST /v1/embeddings, one entry for each input, in their order."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage = msgspec.field(default_factory=EmbeddingUsage)
    object: Literal["list"] = "list"


RequestT = TypeVar("RequestT")


def parse(body: bytes, kind: type[RequestT]) -> tuple[RequestT, dict[str, Any]]:
    """A request body, checked, and beside it every field as it was sent.

    Raises:
        RequestTooLargeError: more than MAX_BODY_BYTES.
        InvalidRequestError: not JSON, deeper than MAX_DEPTH, not of this kind, or more than
            MAX_MESSAGES messages.
    """
    if len(body) > MAX_BODY_BYTES:
        raise RequestTooLargeError(f"The body has more than {MAX_BODY_BYTES} bytes.")
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and not _is_flat(fields):
            raise InvalidRequestError(f"The body is nested deeper than {MAX_DEPTH} levels.")
        request = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise InvalidRequestError(f"{message}.", param=place.strip("`.") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            "The body is not valid JSON.", wire_code="invalid_json"
        ) from error
    messages = getattr(request, "messages", ()) or getattr(request, "conversation", ())
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequestError(f"More than {MAX_MESSAGES} messages.", param="messages")
    return request, fields


def _is_flat(value: object) -> bool:
    """Whether it is nested no deeper than MAX_DEPTH."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return True
    return False
