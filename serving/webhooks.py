"""Webhooks: tells somebody that a job has ended, signed as OpenAI signs (Standard Webhooks).

Reads `webhooks.json` in the state folder, `{"url": …, "secret": "whsec_…"}`, at the moment of
sending; without that file nothing is sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from serving.store import Record, new_id, now

PAUSES = (2.0, 10.0)
"""Seconds between the three tries."""
TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


class Webhooks:
    """Sends each webhook in a thread of its own, so that training does not wait for it."""

    def __init__(self, state: Path, pauses: Sequence[float] = PAUSES) -> None:
        self._file = state / "webhooks.json"
        self._pauses = pauses

    def job_ended(self, job: Record) -> None:
        """Send `fine_tuning.job.<status>`, three times at most."""
        if not self._file.exists():
            return
        to = json.loads(self._file.read_text())
        event = {
            "object": "event",
            "id": new_id("evt_"),
            "type": f"fine_tuning.job.{job['status']}",
            "created_at": now(),
            "data": {"id": job["id"]},
        }
        sending = threading.Thread(target=self._send, args=(to, event), name="webhook", daemon=True)
        sending.start()

    def _send(self, to: Record, event: Record) -> None:
        body = json.dumps(event).encode()
        for pause in (*self._pauses, None):
            headers = signed_headers(event["id"], body, to["secret"], now())
            try:
                if httpx.post(
                    to["url"], content=body, headers=headers, timeout=TIMEOUT_S
                ).is_success:
                    return
            except httpx.HTTPError:
                pass
            if pause is not None:
                time.sleep(pause)
        _log.warning("nobody took the webhook %s of %s", event["type"], event["data"]["id"])


def signed_headers(webhook_id: str, body: bytes, secret: str, at: int) -> dict[str, str]:
    """The headers of a signed webhook: HMAC-SHA256 over id, time (Unix seconds) and body.

    Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{webhook_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }
