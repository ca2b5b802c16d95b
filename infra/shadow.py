"""The way of a chat from the champion's answer to a challenger that only shadows it."""

from __future__ import annotations

from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.queues import ChatQueue, feed

KEEP_HOURS = 1
"""A chat that no challenger was asked by then is given up: it is one of many."""
BATCH = 4
"""Messages of one call: each may take the chat's deadline, and four of them fit the timeout."""
MAX_CONCURRENCY = 5
"""Challengers asked at once, so that a shadow does not take the champion's servers."""


class ShadowQueue(ChatQueue):
    """An encrypted queue, and one for what could not be counted; `letters` is watched."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        timeout_s = settings.functions.shadow.timeout_s
        super().__init__(scope, name, data, "Chats", keep_hours=KEEP_HOURS, timeout_s=timeout_s)

    def feed(self, shadow: Function) -> None:
        """Hand each message to the function; what it reports comes again."""
        feed(self.queue, shadow, batch=BATCH, at_once=MAX_CONCURRENCY)
