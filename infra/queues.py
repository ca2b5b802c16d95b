"""Queues as each of Dropforge's is: encrypted with its key, TLS only, fed to one function."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.function import Function


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
