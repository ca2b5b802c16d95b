"""The table `cache`: answers that are given again, and what is known of how right that is.

| pk | sk | item |
|---|---|---|
| `answer#<name>` | `answer` | dropforge.serve.cache.Entry |
| `given#<name>` | `given` | `entry`: the name of the entry that a given answer became |
| `near#<name>` | time, entry | dropforge.serve.near.Near: a question, for questions like it |
| `state#<project>` | version, model, similarity | `checks`, `false`: the semantic hits' record |
| `checked#<message>` | `checked` | a check that was counted, so that it is not counted twice |

All but `state#` expire by `expires_at`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from dropforge.backends.attributes import from_item, to_item
from dropforge.backends.awsapi import AwsError, ConditionFailedError, Table
from dropforge.serve.cache import Entry

if TYPE_CHECKING:
    from dropforge.serve.near import Near, Record  # imported where a project has semantic hits

KindT = TypeVar("KindT")

MOST_NEAR = 32
"""Questions of one partition that are compared, the newest: all in it say the same words already.

2 ms for vectors of 384 numbers, 7 ms for 1536.
"""
CHECKED_SECONDS = 86400
"""How long a check is remembered: longer than the queue can deliver it again."""


class AnswerTable:
    """Reads and writes of the chat and check functions; each raises AwsError or HttpError."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._table = Table(name)

    def entry(self, name: str, *, deadline: float) -> Entry | None:
        """The entry of this name; None also where the item is no entry at all."""
        item = self._table.get(f"answer#{name}", "answer", deadline=deadline)
        return _converted(item, Entry)

    def keep(self, name: str, entry: Entry, *, deadline: float) -> None:
        """Write an entry.

        Raises:
            ConditionFailedError: an answer to the same question was rated badly.
        """
        item = {"pk": f"answer#{name}", "sk": "answer", **msgspec.structs.asdict(entry)}
        del item["blocked"]
        self._table.put(
            item,
            condition="attribute_not_exists(blocked) OR expires_at < :at",
            values={":at": entry.at},
            deadline=deadline,
        )

    def block(self, name: str, holder: str, *, deadline: float) -> None:
        """The holder's entry is not given again; it keeps its time. Nothing where there is none."""
        values = {":true": True, ":holder": holder}
        try:
            self._table.update(
                f"answer#{name}",
                "answer",
                "SET blocked = :true REMOVE body, code",
                values,
                condition="holder = :holder",
                deadline=deadline,
            )
        except ConditionFailedError:
            return

    def note_given(self, given: str, name: str, expires_at: int, *, deadline: float) -> None:
        """Note which entry a given answer became."""
        item = {"pk": f"given#{given}", "sk": "given", "entry": name, "expires_at": expires_at}
        condition = "attribute_not_exists(pk) OR entry = :entry"
        values = {":entry": name}
        try:
            self._table.put(item, condition=condition, values=values, deadline=deadline)
        except ConditionFailedError:  # a server that gives every answer the same id
            return

    def given(self, given: str, *, deadline: float) -> str | None:
        """The name of the entry that a given answer became."""
        item = self._table.get(f"given#{given}", "given", deadline=deadline)
        return item["entry"] if item else None

    def near(self, partition: str, *, deadline: float) -> list[Near]:
        """The newest MOST_NEAR questions of a partition; unordered."""
        from dropforge.serve.near import Near

        request = {
            "TableName": self._name,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": f"near#{partition}"}},
            "ScanIndexForward": False,
            "Limit": MOST_NEAR,
        }
        items = self._call("Query", request, deadline).get("Items", ())
        found = (_converted(from_item(item), Near) for item in items)
        return [near for near in found if near]

    def keep_near(self, partition: str, near: Near, *, deadline: float) -> None:
        """Add a question to a partition."""
        item = {"pk": f"near#{partition}", "sk": f"{near.at:011d}#{near.entry}"}
        item.update(msgspec.structs.asdict(near))
        condition = "attribute_not_exists(pk) OR entry = :entry"
        self._table.put(item, condition=condition, values={":entry": near.entry}, deadline=deadline)

    def record(
        self, project: str, about: str, *, deadline: float, consistent: bool = False
    ) -> Record:
        """How many hits were checked, and how many of them were false."""
        from dropforge.serve.near import Record

        key = f"state#{project}", about
        item = self._table.get(*key, deadline=deadline, consistent=consistent)
        return _converted(item, Record) or Record()

    def checked(self, message: str, *, deadline: float) -> bool:
        """Whether a message's check was counted."""
        key = f"checked#{message}", "checked"
        return self._table.get(*key, deadline=deadline, consistent=True) is not None

    def count(
        self, project: str, about: str, message: str, *, false: bool, deadline: float
    ) -> bool:
        """Add one check to the record; False where this message's was added before.

        Both items are written or neither, so a check counts once however often it is delivered.
        """
        claim = {"pk": f"checked#{message}", "sk": "checked"}
        put = {
            "TableName": self._name,
            "Item": to_item({**claim, "expires_at": int(time.time()) + CHECKED_SECONDS}),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        add = {
            "TableName": self._name,
            "Key": to_item({"pk": f"state#{project}", "sk": about}),
            "UpdateExpression": "ADD #checks :one, #false :false",
            "ExpressionAttributeNames": {"#checks": "checks", "#false": "false"},
            "ExpressionAttributeValues": to_item({":one": 1, ":false": int(false)}),
        }
        try:
            self._call(
                "TransactWriteItems", {"TransactItems": [{"Put": put}, {"Update": add}]}, deadline
            )
        except AwsError as error:
            if error.name == "TransactionCanceledException" and self.checked(
                message, deadline=deadline
            ):
                return False
            raise
        return True

    def _call(self, operation: str, request: dict[str, Any], deadline: float) -> dict[str, Any]:
        target = f"DynamoDB_20120810.{operation}"
        service = self._table._service
        return service.call_json(operation, target, "1.0", request, deadline=deadline)


def _converted(item: Any, kind: type[KindT]) -> KindT | None:
    """An item as what it should be; None where it is something else, such as a spoiled one."""
    try:
        return msgspec.convert(item, kind) if item else None
    except msgspec.ValidationError:
        return None
