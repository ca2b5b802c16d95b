"""Who calls, where API Gateway checks AWS signatures: registry items `principal#…`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dropforge.backends.awsapi import AwsError, Table
from dropforge.backends.connection import HttpError
from dropforge.serve import UnavailableError
from dropforge.serve.tokens import principal, principal_key
from lambdas.chat.edge import Call

CALLER_SECONDS = 30.0
READ_SECONDS = 2.0
MAX_KNOWN = 1000


class Callers:
    """Reads what principals may do; remembers each, those without access too, for a while."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._known: dict[str, tuple[float, dict[str, Any] | None]] = {}

    def admit(self, call: Call) -> None:
        """Fills in the call's projects, token and budget; of an unknown principal it has none.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        if not call.principal:
            return
        item = self._item(principal(call.principal))
        if item is None or 0 < (item.get("expires_at") or 0) <= call.at:
            return
        call.projects = tuple(item["projects"])
        call.project = call.projects[0] if len(call.projects) == 1 else ""
        call.token_id, call.token_name = item["token_id"], item["name"]
        call.budget_usd = item.get("budget_usd")

    def _item(self, arn: str) -> dict[str, Any] | None:
        now = self._clock()
        known = self._known.get(arn)
        if known and now < known[0]:
            return known[1]
        try:
            item = self._table.get(*principal_key(arn), deadline=now + READ_SECONDS)
        except (AwsError, HttpError) as error:
            raise UnavailableError(
                "The model registry does not answer.", retry_after="2"
            ) from error
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[arn] = (now + CALLER_SECONDS, item)
        return item
