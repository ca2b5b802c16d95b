"""POST /webhooks/{provider}: a provider says that a job ended -> the run that waits for it polls.

The signature (Standard Webhooks, as OpenAI signs) is checked before anything is read. What the
webhook says of the job is not believed: it only shortens the wait, and poll asks the provider.
"""

from __future__ import annotations

import base64
import time
from functools import cache
from typing import Any

import msgspec
import openai

from dropforge.settings import WebhookSettings
from lambdas.edge import Event, logger, registry, secret
from lambdas.webhook.task import KEPT_S, go_on

_ENDED = {f"fine_tuning.job.{how}" for how in ("succeeded", "failed", "cancelled")}


class _Job(msgspec.Struct):
    id: str = ""


class _Webhook(msgspec.Struct):
    type: str = ""
    data: _Job = msgspec.field(default_factory=_Job)


def handler(event: Event, context: object) -> dict[str, Any]:
    """Answers 200 to all that is signed, also to what it ignores; 401 with no reason to the rest.

    401 for an unknown provider too: which ones there are is nobody's business.
    """
    settings = WebhookSettings.from_environment()
    provider = str((event.get("pathParameters") or {}).get("provider", ""))
    body = _body(event)
    arn = settings.webhooks.get(provider)
    if body is None or arn is None or not _signed(event.get("headers") or {}, body, secret(arn)):
        logger.warning("webhook refused")
        return _answer(401)
    job_id = _ended_job(body)
    if job_id:
        token = registry(settings.table).webhook_arrived(job_id, int(time.time()) + KEPT_S)
        told = token is not None and go_on(token)
        logger.info("job ended", provider=provider, job_id=job_id, told=told)
    return _answer(200)


def _body(event: Event) -> bytes | None:
    """The body as it was signed; None where it cannot be had."""
    body = event.get("body") or ""
    try:
        return (
            base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
        )
    except ValueError:
        return None


def _signed(headers: dict[str, str], body: bytes, key: str) -> bool:
    """Whether the provider signed this body within the last five minutes (the SDK's tolerance)."""
    try:
        _client().webhooks.verify_signature(body, headers, secret=key.strip())
    except (openai.InvalidWebhookSignatureError, ValueError, TypeError):
        # ValueError: a header is missing; TypeError: the signature is not ASCII.
        return False
    return True


@cache
def _client() -> openai.OpenAI:
    """A client for the SDK's check of signatures, which asks nobody: no key, no host."""
    return openai.OpenAI(api_key="none", base_url="http://localhost")


def _ended_job(body: bytes) -> str | None:
    """The job that ended; None for any other event, and for what cannot be read."""
    try:
        said = msgspec.json.decode(body, type=_Webhook)
    except msgspec.MsgspecError:
        return None
    return said.data.id if said.type in _ENDED else None


def _answer(status: int) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": "{}"}
