"""API Gateway's proxy events as calls, and answers as heads and bodies.

Shapes: docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
and …/response-transfer-mode-lambda.html
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from dropforge.errors import DropforgeError
from dropforge.serve import ChatError, InvalidRequestError
from dropforge.serve.routing import Route

LAMBDA_MARGIN_SECONDS = 0.5
_CRASHED = "The server had an error. Sorry about that."

CacheState = Literal["off", "miss", "hit", "semantic"]


class Call(msgspec.Struct):
    """One request of an authorized caller.

    Attributes:
        path: below the stage, decoded, whatever base path a custom domain puts in front.
        projects: those that the token may use; none where the route needs no token.
        project: the one that is used; the only one, until a model's name chooses another.
        token_id: the token's public name, the same after it was rotated.
        budget_usd: what the token may spend in a month; None: there is no limit.
        principal: the ARN of who signed the request with IAM, or "".
        deadline: a point on time.monotonic().
        at: the time of arrival, seconds since the epoch.
        metrics: what else the log line counts.
        after: what is done once the caller has the answer, in this order.
    """

    method: str
    path: str
    request_id: str
    projects: tuple[str, ...]
    project: str
    token_name: str
    token_id: str
    budget_usd: float | None
    deadline: float
    at: float
    raw_body: str
    is_base64: bool
    headers: dict[str, str] = {}
    principal: str = ""
    metrics: dict[str, float] = {}
    after: list[Callable[[], None]] = []

    @classmethod
    def from_event(cls, event: dict[str, Any], context: Any, seconds: float) -> Call:
        """The call in a proxy event, with `seconds` to answer it, or what the Lambda has left."""
        if hasattr(context, "get_remaining_time_in_millis"):
            left = context.get_remaining_time_in_millis() / 1000 - LAMBDA_MARGIN_SECONDS
            seconds = min(seconds, left)
        about = event.get("requestContext") or {}
        authorizer = about.get("authorizer") or {}
        projects = tuple(filter(None, (authorizer.get("projects") or "").split(",")))
        budget = authorizer.get("budget_usd")
        return cls(
            method=event["httpMethod"],
            path=_path(event),
            request_id=about.get("requestId") or os.urandom(16).hex(),
            projects=projects,
            project=projects[0] if len(projects) == 1 else "",
            token_name=authorizer.get("token_name") or "",
            token_id=authorizer.get("token_id") or "",
            budget_usd=float(budget) if budget else None,
            deadline=time.monotonic() + seconds,
            at=time.time(),
            raw_body=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
            headers=event.get("headers") or {},
            principal=(about.get("identity") or {}).get("userArn") or "",
        )

    def header(self, name: str) -> str:
        """The request header's value, or ""; its name is matched without regard to case."""
        wanted = name.lower()
        return next((v for key, v in self.headers.items() if key.lower() == wanted), "")

    def body(self) -> bytes:
        """Raises InvalidRequestError for what is no text at all."""
        try:
            if self.is_base64:
                return base64.b64decode(self.raw_body)
            return self.raw_body.encode()
        except (binascii.Error, UnicodeEncodeError) as error:
            raise InvalidRequestError("The body is not UTF-8.", wire_code="invalid_json") from error


def _path(event: dict[str, Any]) -> str:
    """The resource with its parameters filled in: `path` would hold a custom domain's base path."""
    path: str = event.get("resource") or event["path"]
    for name, value in (event.get("pathParameters") or {}).items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}+}}", value)
    return unquote(path).rstrip("/") or "/"


class Answer(msgspec.Struct):
    """What the caller gets, and what the log says about it.

    Attributes:
        parts: the body where it comes bit by bit, in place of `body`.
        route: which model answered; None where none was asked.
        code: the error's class, if it is one; the model's server may have told the caller another.
        cause: what Dropforge itself says of a failure. Never a text that a caller wrote.
    """

    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    parts: Iterator[bytes] | None = None
    route: Route | None = None
    cache: CacheState = "off"
    code: str | None = None
    cause: str | None = None

    @classmethod
    def json(cls, body: object, *, route: Route | None = None, cache: CacheState = "off") -> Answer:
        """A 200 with a JSON body."""
        return cls(200, msgspec.json.encode(body).decode(), route=route, cache=cache)

    @classmethod
    def failure(cls, error: ChatError) -> Answer:
        """OpenAI's error body and status."""
        offered = {"Retry-After": error.retry_after, "Allow": error.allow}
        if error.kind == "insufficient_quota":
            offered["x-should-retry"] = "false"  # OpenAI's clients send every other 429 again
        headers = {name: value for name, value in offered.items() if value}
        return cls(
            error.status,
            msgspec.json.encode(error.body()).decode(),
            headers=headers,
            route=error.route,
            code=error.code.lower(),
            cause=_cause(error),
        )

    @classmethod
    def crash(cls, error: Exception) -> Answer:
        """A 500 that tells the caller nothing, and the log the place but no values."""
        answer = cls.failure(ChatError(_CRASHED))
        answer.cause = _place(error)
        return answer

    def fail(self, error: Exception) -> ChatError:
        """Notes for the log what went wrong while the body was under way.

        Returns:
            What the caller is told of it: of a crash as little as by `crash`.
        """
        told = error if isinstance(error, ChatError) else ChatError(_CRASHED)
        self.code = told.code.lower()
        self.cause = _cause(told) if told is error else _place(error)
        return told

    def head(self, request_id: str) -> dict[str, Any]:
        """Status and headers, as API Gateway wants them before a streamed body."""
        headers = {
            "Content-Type": self.content_type,
            "Cache-Control": "no-store",
            "x-request-id": request_id,
            "x-dropforge-cache": self.cache,
            **self.headers,
        }
        if self.route:
            headers["x-dropforge-model"] = self.route.model
            headers["x-dropforge-arm"] = self.route.arm
            if self.route.replaces:
                headers["x-dropforge-fallback"] = self.route.replaces
        return {"statusCode": self.status, "headers": headers}


def _cause(error: ChatError) -> str | None:
    """None below 500: such a message is about the request, often in its model's server's words."""
    if error.status < 500:
        return None
    cause = error.__cause__
    if cause is None:
        return error.message
    # Other people's messages may quote what they could not read.
    return str(cause) if isinstance(cause, DropforgeError) else _place(cause)


def _place(error: BaseException) -> str:
    """Its class, and where it was raised."""
    place = error.__traceback__
    while place and place.tb_next:
        place = place.tb_next
    at = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
    return f"{type(error).__name__} in {at}"
