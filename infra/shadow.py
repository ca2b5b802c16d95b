"""The way of a chat from the champion's answer to a challenger that only shadows it."""

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

KEEP_HOURS = 1
"""A chat that no challenger was asked by then is given up: it is one of many."""
LETTERS_DAYS = 1
"""Customers' words are in these messages: long enough for the alarm, and no longer."""
BATCH = 4
"""Messages of one call: each may take the chat's deadline, and four of them fit the timeout."""
MAX_CONCURRENCY = 5
"""Challengers asked at once, so that a shadow does not take the champion's servers."""
MAX_RECEIVES = 3
VISIBILITY_FACTOR = 6
"""AWS asks for a visibility timeout of at least six times the function's (Lambda guide)."""


class ShadowQueue(Construct):
    """An encrypted queue, and one for what could not be counted; `letters` is watched."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        super().__init__(scope, name)
        self._key = kms.Key.from_key_arn(self, "Key", data.key_arn)
        self.letters = encrypted_queue(
            self, "DeadLetters", self._key, keep=cdk.Duration.days(LETTERS_DAYS)
        )
        self.queue = encrypted_queue(
            self,
            "Chats",
            self._key,
            keep=cdk.Duration.hours(KEEP_HOURS),
            visibility=cdk.Duration.seconds(
                VISIBILITY_FACTOR * settings.functions.shadow.timeout_s
            ),
            dead_letters=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.letters),
        )

    @property
    def sends(self) -> Grant:
        return Grant(("sqs:SendMessage",), (self.queue.queue_arn,))

    def feed(self, shadow: Function) -> None:
        """Hand each message to the function; what it reports comes again."""
        feed(self.queue, shadow, batch=BATCH, at_once=MAX_CONCURRENCY)
