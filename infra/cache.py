"""Answers that are given again: their table, and the way of a semantic hit to who checks it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.config import Settings
from infra.data_stack import DataStack
from infra.function import Function
from infra.permissions import Grant, acknowledge
from infra.queues import ChatQueue, feed

KEEP_HOURS = 4
"""A check that was not made by then is given up: it is one of many."""
BATCH = 3
"""Messages of one call: each may take the chat's deadline, and three of them fit the timeout."""
MAX_CONCURRENCY = 2

NO_BACKUP = (
    "Every item is a copy of an answer that its model gives again, and expires within days: a"
    " backup would only keep customers' words for longer."
)
ENTRIES = ("answer#*", "given#*", "near#*")
"""What the chat function writes; the record of the checked hits is the check function's."""


class AnswerCache(ChatQueue):
    """The table, and an encrypted queue of checks; `letters` is watched."""

    def __init__(self, scope: Construct, name: str, settings: Settings, data: DataStack) -> None:
        timeout_s = settings.functions.check.timeout_s
        super().__init__(scope, name, data, "Checks", keep_hours=KEEP_HOURS, timeout_s=timeout_s)
        self.table = self._table()

    @property
    def serves(self) -> tuple[Grant, ...]:
        """What the chat function may do: read, write answers and questions, ask for checks."""
        leading = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(ENTRIES)}}
        arn = self.table.table_arn
        return (
            Grant(("dynamodb:GetItem", "dynamodb:Query"), (arn,)),
            Grant(("dynamodb:PutItem", "dynamodb:UpdateItem"), (arn,), conditions=leading),
            self.sends,
        )

    @property
    def counts(self) -> tuple[Grant, ...]:
        """What the check function may do: count a check once, in the project's record."""
        leading = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["state#*", "checked#*"]}}
        actions = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
        return (Grant(actions, (self.table.table_arn,), conditions=leading),)

    @property
    def environment(self) -> dict[str, str]:
        """What the chat function has to know."""
        return {
            "DROPFORGE_CACHE_TABLE": self.table.table_name,
            "DROPFORGE_CHECK_QUEUE": self.queue.queue_url,
        }

    def feed(self, check: Function) -> None:
        """Hand each message to the function; what it reports comes again."""
        feed(self.queue, check, batch=BATCH, at_once=MAX_CONCURRENCY)

    def _table(self) -> dynamodb.Table:
        table = dynamodb.Table(
            self,
            "Answers",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self._key,
            time_to_live_attribute="expires_at",
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        acknowledge(table, "DDB3", NO_BACKUP)
        return table
