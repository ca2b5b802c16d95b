"""A question to the deployed HTTPS API."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from dropforge.cli.deployment import fail


class Answer(NamedTuple):
    """`model` is the version that answered: the x-dropforge-model header."""

    text: str
    model: str
    arm: str
    seconds: float


def ask(api_url: str, token: str, model: str, message: str, timeout: float = 120) -> Answer:
    """Ask a model; ends the command with the API's own words where it refuses."""
    body = {"model": model, "messages": [{"role": "user", "content": message}]}
    request = urllib.request.Request(  # noqa: S310  (the URL is the deployment's own)
        f"{api_url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            answer, headers = json.load(response), response.headers
    except urllib.error.HTTPError as error:
        fail(f"The API answered {error.code}: {_message(error)}")
    except (urllib.error.URLError, TimeoutError) as error:
        fail(f"{api_url} cannot be reached: {error}")
    return Answer(
        answer["choices"][0]["message"]["content"],
        headers.get("x-dropforge-model", ""),
        headers.get("x-dropforge-arm", ""),
        time.monotonic() - began,
    )


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
