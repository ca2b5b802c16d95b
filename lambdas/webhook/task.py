"""The task that waits for a webhook, and how it is told to go on."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError

KEPT_S = 7 * 24 * 3600
"""Seconds that a token or an early webhook is kept: as long as a run may take."""
_GONE = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}


@cache
def _states() -> Any:
    return boto3.client("stepfunctions")


def go_on(token: str) -> bool:
    """End the wait; False where nobody waits any more: the poll was faster."""
    try:
        _states().send_task_success(taskToken=token, output='{"arrived": true}')
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _GONE:
            return False
        raise
    return True
