"""The way of an answer from the chat function to the registry, where it waits for training."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.permissions import Grant
from infra.queues import encrypted_queue, feed

KEEP_HOURS = 4
"""Messages are not redacted yet: long enough for a disturbance, and no longer."""
LETTERS_DAYS = 1
BATCH = 10
MAX_CONCURRENCY = 2
MAX_RECEIVES = 3
VISIBILITY_FACTOR = 6
"""AWS asks for a visibility timeout of at least six times the function's (Lambda guide)."""


class CollectQueue(Construct):
    """An encrypted queue, and one for what could not be kept; `letters` is watched."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name)
        self._key = kms.Key.from_key_arn(self, "Key", data.key_arn)
        self.letters = encrypted_queue(
            self, "DeadLetters", self._key, keep=cdk.Duration.days(LETTERS_DAYS)
        )
        self.queue = encrypted_queue(
            self,
            "Answers",
            self._key,
            keep=cdk.Duration.hours(KEEP_HOURS),
            visibility=cdk.Duration.seconds(VISIBILITY_FACTOR * settings.functions.keep.timeout_s),
            dead_letters=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.letters),
        )

    @property
    def sends(self) -> Grant:
        return Grant(("sqs:SendMessage",), (self.queue.queue_arn,))

    def feed(self, keep: Function) -> None:
        """Hand each message to the function; what it reports comes again."""
        feed(self.queue, keep, batch=BATCH, at_once=MAX_CONCURRENCY)
