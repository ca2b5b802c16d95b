"""The way of an answer from the chat function to the registry, where it waits for training."""

from __future__ import annotations

from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.queues import ChatQueue, feed

KEEP_HOURS = 4
"""Messages are not redacted yet: long enough for a disturbance, and no longer."""
BATCH = 10
MAX_CONCURRENCY = 2


class CollectQueue(ChatQueue):
    """An encrypted queue, and one for what could not be kept; `letters` is watched."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        timeout_s = settings.functions.keep.timeout_s
        super().__init__(scope, name, data, "Answers", keep_hours=KEEP_HOURS, timeout_s=timeout_s)

    def feed(self, keep: Function) -> None:
        """Hand each message to the function; what it reports comes again."""
        feed(self.queue, keep, batch=BATCH, at_once=MAX_CONCURRENCY)
