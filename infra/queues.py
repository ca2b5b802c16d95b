"""Queues as each of Dropforge's is: encrypted with its key, TLS only, fed to one function."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.data_stack import DataStack
from infra.function import Function
from infra.permissions import Grant

LETTERS_DAYS = 1
"""Customers' words are in these messages: long enough for the alarm, and no longer."""
MAX_RECEIVES = 3
VISIBILITY_FACTOR = 6
"""AWS asks for a visibility timeout of at least six times the function's (Lambda guide)."""


def encrypted_queue(
    scope: Construct,
    name: str,
    key: kms.IKey,
    *,
    keep: cdk.Duration,
    visibility: cdk.Duration | None = None,
    dead_letters: sqs.DeadLetterQueue | None = None,
) -> sqs.Queue:
    """A queue that keeps messages for so long, and hands the hopeless to `dead_letters`."""
    return sqs.Queue(
        scope,
        name,
        encryption=sqs.QueueEncryption.KMS,
        encryption_master_key=key,
        enforce_ssl=True,
        retention_period=keep,
        visibility_timeout=visibility,
        dead_letter_queue=dead_letters,
    )


def feed(queue: sqs.Queue, to: Function, *, batch: int, at_once: int) -> None:
    """Hands messages to the function, in so many calls at once; what it reports comes again."""
    to.function.add_event_source(
        sources.SqsEventSource(
            queue, batch_size=batch, max_concurrency=at_once, report_batch_item_failures=True
        )
    )


class ChatQueue(Construct):
    """What the chat function leaves to another, and apart what failed; `letters` is watched."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        data: DataStack,
        messages: str,
        *,
        keep_hours: float,
        timeout_s: int,
    ) -> None:
        """
        Args:
            messages: the queue's name in the template.
            timeout_s: how long the function that reads them may take.
        """
        super().__init__(scope, name)
        self._key = kms.Key.from_key_arn(self, "Key", data.key_arn)
        self.letters = encrypted_queue(
            self, "DeadLetters", self._key, keep=cdk.Duration.days(LETTERS_DAYS)
        )
        self.queue = encrypted_queue(
            self,
            messages,
            self._key,
            keep=cdk.Duration.hours(keep_hours),
            visibility=cdk.Duration.seconds(VISIBILITY_FACTOR * timeout_s),
            dead_letters=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.letters),
        )

    @property
    def sends(self) -> Grant:
        return Grant(("sqs:SendMessage",), (self.queue.queue_arn,))
