"""Questions to the deployed HTTPS API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from email.message import Message
from http.client import HTTPException
from typing import Any, NamedTuple

from dropforge.cli.deployment import fail


class Answer(NamedTuple):
    """`model` is the version that answered: the x-dropforge-model header."""

    text: str
    model: str
    arm: str
    seconds: float


class ApiError(Exception):
    """The API refused, or did not answer (status 0).

    Attributes:
        code: the API's word for it, "" where it says none.
        retry_after: seconds that it asks to wait for; None where it says nothing.
    """

    def __init__(
        self, status: int, message: str, code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


def complete(
    api_url: str, token: str, body: dict[str, Any], timeout: float = 120
) -> tuple[dict[str, Any], Message]:
    """POST /v1/chat/completions: the completion and the answer's headers. Raises ApiError."""
    request = urllib.request.Request(  # noqa: S310  (the URL is the deployment's own)
        f"{api_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return json.load(response), response.headers
    except urllib.error.HTTPError as error:
        wait = str(error.headers.get("Retry-After", ""))
        message, code = _told(error)
        said = f"The API answered {error.code}: {message}"
        raise ApiError(error.code, said, code, float(wait) if wait.isdigit() else None) from error
    except (OSError, ValueError, HTTPException) as error:
        raise ApiError(0, f"{api_url} cannot be reached: {error}") from error


def ask(api_url: str, token: str, model: str, message: str, timeout: float = 120) -> Answer:
    """Ask a model; ends the command with the API's own words where it refuses."""
    body = {"model": model, "messages": [{"role": "user", "content": message}]}
    began = time.monotonic()
    try:
        answer, headers = complete(api_url, token, body, timeout)
    except ApiError as error:
        fail(str(error))
    return Answer(
        answer["choices"][0]["message"]["content"],
        headers.get("x-dropforge-model", ""),
        headers.get("x-dropforge-arm", ""),
        time.monotonic() - began,
    )


def _told(error: urllib.error.HTTPError) -> tuple[str, str]:
    """(message, code) of the API's error; HTTP's own words where it is none of the API's."""
    try:
        told = json.load(error)["error"]
        return str(told["message"]), str(told.get("code", ""))
    except (ValueError, KeyError, TypeError):
        return str(error.reason), ""
