"""/approvals/{project}/{run}: GET shows the verdict and two buttons, POST decides.

The link's signature is the right to it. GET changes nothing, because mail scanners open links.
"""

from __future__ import annotations

import base64
import time
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import boto3

from dropforge.approval import approval_page, is_signed, refusal_page
from dropforge.backends.approvals import Approvals
from dropforge.settings import ApprovalSettings
from lambdas.edge import Event, logger, registry, secret

WHO = "whoever has the link"
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_DECISIONS = {"approve": True, "decline": False}


def handler(event: Event, context: object) -> dict[str, Any]:
    """Answers 403 to a link that is wrong, changed, too old, or about nothing; never which."""
    settings = ApprovalSettings.from_environment()
    path, query = event.get("pathParameters") or {}, event.get("queryStringParameters") or {}
    project, run_id = str(path.get("project", "")), str(path.get("run", ""))
    key, now = secret(settings.approval_secret_arn), time.time()
    expires, signed = str(query.get("expires", "")), str(query.get("signature", ""))
    approvals = Approvals(registry(settings.table), _states())
    right = is_signed(key, project, run_id, expires, signed, now=now)
    item = approvals.of(project, run_id) if right else None
    if item is None:
        logger.warning("approval link refused")
        return _answer(403, refusal_page())
    decision, told = _decision(event), True
    if decision is not None:
        item, told = approvals.decide(project, run_id, approved=decision, who=WHO, why="", at=now)
        logger.info("approval decided", project=project, run_id=run_id, told=told)
    return _answer(200, approval_page(project, item, waits=told))


def _decision(event: Event) -> bool | None:
    """What a pressed button says; None for GET, and for anything else that is posted."""
    if event.get("httpMethod") != "POST":
        return None
    body = str(event.get("body") or "")
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode("utf-8", "replace")
    return _DECISIONS.get(parse_qs(body).get("decision", [""])[0])


@cache
def _states() -> Any:
    return boto3.client("stepfunctions")


def _answer(status: int, body: str) -> dict[str, Any]:
    return {"statusCode": status, "headers": _HEADERS, "body": body}
