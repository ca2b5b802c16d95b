"""API Gateway's proxy events as calls, and answers as proxy results.

Shapes: docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

from __future__ import annotations

import base64
import binascii
import os
import time
from typing import Any
from urllib.parse import unquote

import msgspec

from dropforge.errors import DropforgeError
from dropforge.serve import ChatError, InvalidRequestError
from dropforge.serve.routing import Route

LAMBDA_MARGIN_SECONDS = 0.5


class Call(msgspec.Struct):
    """One request of an authorized caller.

    Attributes:
        path: below the stage, decoded, whatever base path a custom domain puts in front.
        project: the token's; empty where the route needs no token.
        deadline: a point on time.monotonic().
        at: the time of arrival, seconds since the epoch.
        metrics: what else the log line counts.
    """

    method: str
    path: str
    request_id: str
    project: str
    token_name: str
    deadline: float
    at: float
    raw_body: str
    is_base64: bool
    metrics: dict[str, int] = {}

    @classmethod
    def from_event(cls, event: dict[str, Any], context: Any, seconds: float) -> Call:
        """The call in a proxy event, with `seconds` to answer it, or what the Lambda has left."""
        if hasattr(context, "get_remaining_time_in_millis"):
            left = context.get_remaining_time_in_millis() / 1000 - LAMBDA_MARGIN_SECONDS
            seconds = min(seconds, left)
        about = event.get("requestContext") or {}
        authorizer = about.get("authorizer") or {}
        return cls(
            method=event["httpMethod"],
            path=_path(event),
            request_id=about.get("requestId") or os.urandom(16).hex(),
            project=authorizer.get("project") or "",
            token_name=authorizer.get("token_name") or "",
            deadline=time.monotonic() + seconds,
            at=time.time(),
            raw_body=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
        )

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
        route: which model answered; None where none was asked.
        code: the error's class, if it is one; the model's server may have told the caller another.
        cause: what Dropforge itself says of a failure. Never a text that a caller wrote.
    """

    status: int
    body: str
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    route: Route | None = None
    code: str | None = None
    cause: str | None = None

    @classmethod
    def json(cls, body: object, *, route: Route | None = None) -> Answer:
        """A 200 with a JSON body."""
        return cls(200, msgspec.json.encode(body).decode(), route=route)

    @classmethod
    def failure(cls, error: ChatError) -> Answer:
        """OpenAI's error body and status."""
        offered = {"Retry-After": error.retry_after, "Allow": error.allow}
        headers = {name: value for name, value in offered.items() if value}
        return cls(
            error.status,
            msgspec.json.encode(error.body()).decode(),
            headers=headers,
            route=error.route,
            code=error.code.lower(),
            cause=_cause(error) if error.status >= 500 else None,
        )

    @classmethod
    def crash(cls, error: Exception) -> Answer:
        """A 500 that tells the caller nothing, and the log the place but no values."""
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        at = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "?"
        answer = cls.failure(ChatError("The server had an error. Sorry about that."))
        answer.cause = f"{type(error).__name__} in {at}"
        return answer

    def proxy_result(self, request_id: str) -> dict[str, Any]:
        """What API Gateway expects of a proxy integration."""
        headers = {
            "Content-Type": self.content_type,
            "Cache-Control": "no-store",
            "x-request-id": request_id,
            "x-dropforge-cache": "off",
            **self.headers,
        }
        if self.route:
            headers["x-dropforge-model"] = self.route.model
            headers["x-dropforge-arm"] = self.route.arm
            if self.route.replaces:
                headers["x-dropforge-fallback"] = self.route.replaces
        return {
            "statusCode": self.status,
            "headers": headers,
            "body": self.body,
            "isBase64Encoded": False,
        }


def _cause(error: ChatError) -> str:
    cause = error.__cause__
    if cause is None:
        return error.message
    # Other people's messages may quote what they could not read.
    return str(cause) if isinstance(cause, DropforgeError) else type(cause).__name__
