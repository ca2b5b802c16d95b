"""The registry in DynamoDB: runs, datasets, model versions, evaluations and the champion pointer.

One table, `pk` and `sk`. A project's items share `pk = project#<name>`; `sk` is config, champion,
extract, run#…, drop#…, clean#…, dataset#…, evaluation#… and so on. A model version is written once,
as model#<version>; what becomes of it stands in standing#<version> and shutdown#<version>. The
champion is moved by `pointers.py` alone, each move kept as move#<revision>. A job that a run waits
for has `pk = webhook#<job id>`. API tokens are `tokens.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import ConditionBase, Key
from botocore.exceptions import ClientError

from dropforge.artifacts import digest
from dropforge.errors import RetryableError

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table

Item = dict[str, Any]
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
_LATER = ("standing", "shutdown")
_ENDS = ("shutdown", "shutdown_from")
_LOST = {"ConditionalCheckFailed", "TransactionConflict"}
_BUSY = {"ProvisionedThroughputExceeded", "ThrottlingError"}


def _pk(project: str) -> str:
    return f"project#{project}"


class Registry:
    """Reads and conditional writes. Times are seconds since the epoch."""

    def __init__(self, table: str, resource: Any = None) -> None:
        self._table: Table = (resource or boto3.resource("dynamodb")).Table(table)

    def get(self, project: str, sk: str) -> Item | None:
        found = self._table.get_item(Key={"pk": _pk(project), "sk": sk}, ConsistentRead=True)
        return plain(found["Item"]) if "Item" in found else None

    def put(self, project: str, sk: str, item: Mapping[str, Any]) -> None:
        self._table.put_item(Item=stored({"pk": _pk(project), "sk": sk, **item}))

    def put_new(self, project: str, sk: str, item: Mapping[str, Any]) -> bool:
        """Write an item that is never changed; False where it is there already."""
        return self.put_if(project, sk, item, "attribute_not_exists(pk)")

    def update(self, project: str, sk: str, values: Mapping[str, Any]) -> None:
        """Set some attributes of an item; a dotted name reaches into a map that exists."""
        names: dict[str, str] = {}
        sets, data = [], {}
        for i, (path, value) in enumerate(values.items()):
            parts = path.split(".")
            keys = [f"#n{i}_{j}" for j in range(len(parts))]
            names.update(zip(keys, parts, strict=True))
            sets.append(f"{'.'.join(keys)} = :v{i}")
            data[f":v{i}"] = value
        self._table.update_item(
            Key={"pk": _pk(project), "sk": sk},
            UpdateExpression="SET " + ", ".join(sets),
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=stored(data),
        )

    def items(
        self,
        project: str,
        prefix: str,
        *,
        where: ConditionBase | None = None,
        only: Sequence[str] = (),
    ) -> list[Item]:
        """All items of a project whose `sk` begins so.

        Args:
            where: a condition on other attributes; what does not meet it is read, but not sent.
            only: the attributes wanted; all, where none is named.
        """
        asked: dict[str, Any] = {
            "KeyConditionExpression": Key("pk").eq(_pk(project)) & Key("sk").begins_with(prefix)
        }
        if where is not None:
            asked["FilterExpression"] = where
        if only:
            names = {f"#only{place}": name for place, name in enumerate(only)}
            asked["ProjectionExpression"] = ", ".join(names)
            asked["ExpressionAttributeNames"] = names
        found: list[Item] = []
        while True:
            page = self._table.query(**asked)
            found += map(plain, page["Items"])
            if "LastEvaluatedKey" not in page:
                return found
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def projects(self) -> list[str]:
        """The names of all projects."""
        found = self._table.query(KeyConditionExpression=Key("pk").eq("projects"))
        return sorted(str(item["sk"]) for item in found["Items"])

    def put_config(self, project: str, config: Mapping[str, Any]) -> None:
        """Make this the project's configuration."""
        self.put(project, "config", config)
        self._table.put_item(Item={"pk": "projects", "sk": project})

    def claim_drop(self, project: str, identity: str, run_id: str) -> str:
        """The run that handles this content: `run_id`, or an earlier one that did what it could.

        An earlier one did not, where it failed, or where its model passed the gate and was not
        promoted for a reason that may be gone by now (an alarm, too little traffic, nobody's yes).
        A version that was rolled back is not tried again.

        Of any number of simultaneous claims exactly one wins, and a claim repeated by the same run
        is granted again.
        """
        return self._claim(project, f"drop#{identity}", run_id, again=True)

    def is_newest(self, project: str, key: str, order: str) -> bool:
        """Whether no later event of the key was seen before; remembers this one if so."""
        sk = f"key#{digest(key)[:32]}"
        newer = "attribute_not_exists(sk) OR #order <= :order"
        return self.put_if(
            project, sk, {"order": order}, newer, {":order": order}, {"#order": "order"}
        )

    def claim_job(self, project: str, spec_hash: str, attempt: int, run_id: str) -> bool:
        """Whether this run may start or stop a training job: the first to ask, while it does not
        fail. A job that was trained stays its run's, whatever became of the model."""
        return self._claim(project, f"job#{spec_hash}#{attempt}", run_id) == run_id

    def _claim(self, project: str, sk: str, run_id: str, *, again: bool = False) -> str:
        """The run that holds the claim: the first to ask, and after its failure the next.

        Args:
            again: whether it also passes on from a run whose model was not promoted.
        """
        if self.put_new(project, sk, {"run_id": run_id}):
            return run_id
        holder = str((self.get(project, sk) or {}).get("run_id", run_id))
        run = self.get(project, f"run#{holder}")
        if holder == run_id or run is None:
            return holder
        if run["status"] != FAILED and not (again and self._was_left(project, run)):
            return holder
        taken = self.put_if(
            project, sk, {"run_id": run_id}, "run_id = :before", {":before": holder}
        )
        return run_id if taken else str((self.get(project, sk) or {})["run_id"])

    def _was_left(self, project: str, run: Item) -> bool:
        """Whether a run's model passed the gate, and was neither promoted nor rolled back."""
        if run["status"] != SUCCEEDED or not run.get("not_promoted"):
            return False
        version = (run.get("train") or {}).get("version")
        standing = self.get(project, f"standing#{version}") or {}
        return standing.get("state") != ROLLED_BACK

    def champion(self, project: str) -> Item | None:
        """Who answers, and the canary beside it if one runs."""
        return self.get(project, "champion")

    def write_pointer(
        self,
        project: str,
        item: Mapping[str, Any],
        move: Mapping[str, Any],
        *,
        standing: Mapping[str, Mapping[str, Any]],
    ) -> bool:
        """Write the champion, its history and what becomes of versions: all of it, or nothing.

        False where somebody moved the champion since the revision before the item's.

        Args:
            move: more that the history keeps of this move.
            standing: by version.

        Raises:
            RetryableError: DynamoDB had too much to do; nothing was written.
        """
        revision = int(item["revision"])
        first = {"ConditionExpression": "attribute_not_exists(pk)"}
        later = {
            "ConditionExpression": "revision = :before",
            "ExpressionAttributeValues": {":before": revision - 1},
        }
        puts = [
            {**self._item(project, "champion", item), **(later if revision > 1 else first)},
            self._item(project, f"move#{revision:06d}", {**item, **move}),
            *(self._item(project, f"standing#{v}", told) for v, told in standing.items()),
        ]
        writes: Any = [{"Put": put} for put in puts]
        try:
            self._table.meta.client.transact_write_items(TransactItems=writes)
        except ClientError as error:
            told: Any = error.response
            reasons = {reason.get("Code") for reason in told.get("CancellationReasons", ())}
            if reasons & _LOST:
                return False
            if reasons & _BUSY:
                raise RetryableError("The registry is too busy to move the champion.") from error
            raise
        return True

    def _item(self, project: str, sk: str, item: Mapping[str, Any]) -> Item:
        whole = stored({"pk": _pk(project), "sk": sk, **item})
        return {"TableName": self._table.name, "Item": whole}

    def model(self, project: str, version: str) -> Item | None:
        """A model version with what became of it since: see `models`."""
        model = self.get(project, f"model#{version}")
        if model is None:
            return None
        standing, shutdown = (self.get(project, f"{kind}#{version}") for kind in _LATER)
        return _whole(model, standing, shutdown)

    def models(self, project: str) -> list[Item]:
        """All model versions, each with what became of it since it was trained.

        `standing` is "promoted", "rolled back" or ""; `shutdown` (ISO 8601) and `shutdown_from` are
        there where the daily watch has looked.
        """
        standing, shutdown = (
            {item["sk"]: item for item in self.items(project, f"{kind}#")} for kind in _LATER
        )
        return [
            _whole(
                model,
                standing.get(f"standing#{model['version']}"),
                shutdown.get(f"shutdown#{model['version']}"),
            )
            for model in self.items(project, "model#")
        ]

    def extraction(self, project: str) -> Item:
        """How far the project's database was read, and how the last extraction ended."""
        return self.get(project, "extract") or {}

    def move_extraction(self, project: str, item: Mapping[str, Any], *, revision: int) -> bool:
        """Put the cursor where `item` says; False if somebody moved it since `revision`.

        Args:
            revision: that of the item the move was decided by; 0 where there was none.
        """
        condition = "revision = :before" if revision else "attribute_not_exists(revision)"
        values = {":before": revision} if revision else None
        moved = {**item, "revision": revision + 1}
        return self.put_if(project, "extract", moved, condition, values)

    def note_extraction(self, project: str, values: Mapping[str, Any]) -> None:
        """How an extraction ended; the cursor stays where it is."""
        self.update(project, "extract", values)

    def expect_webhook(self, job_id: str, token: str, expires_at: int) -> bool:
        """Keep the token of the task that waits for a job's end; whether the webhook came before.

        A webhook that came before is told once: whoever waits after that waits for another one.

        Args:
            expires_at: when DynamoDB may forget it.
        """
        before = self._webhook(
            job_id, "SET #token = :token, expires_at = :at REMOVE arrived", token, expires_at
        )
        return bool(before.get("arrived"))

    def webhook_arrived(self, job_id: str, expires_at: int) -> str | None:
        """Note that a job's webhook came; the token of the task that last waited for it, if any."""
        before = self._webhook(job_id, "SET arrived = :yes, expires_at = :at", None, expires_at)
        token = before.get("token")
        return str(token) if token else None

    def _webhook(self, job_id: str, change: str, token: str | None, expires_at: int) -> Item:
        """Change what is known of a job's webhook, atomically; returns what was known before."""
        values: dict[str, Any] = {":at": expires_at}
        values |= {":yes": True} if token is None else {":token": token}
        names: Any = {} if token is None else {"ExpressionAttributeNames": {"#token": "token"}}
        changed = self._table.update_item(
            Key={"pk": f"webhook#{job_id}", "sk": "wait"},
            UpdateExpression=change,
            ExpressionAttributeValues=values,
            ReturnValues="ALL_OLD",
            **names,
        )
        known: Item = plain(changed.get("Attributes", {}))
        return known

    def put_if(
        self,
        project: str,
        sk: str,
        item: Mapping[str, Any],
        condition: str,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> bool:
        """Write an item where a condition on what stands there holds; False where it does not."""
        more: dict[str, Any] = {}
        if values:
            more["ExpressionAttributeValues"] = stored(values)
        if names:
            more["ExpressionAttributeNames"] = dict(names)
        try:
            self._table.put_item(
                Item=stored({"pk": _pk(project), "sk": sk, **item}),
                ConditionExpression=condition,
                **more,
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        return True


def _whole(model: Item, standing: Item | None, shutdown: Item | None) -> Item:
    told = {name: shutdown[name] for name in _ENDS} if shutdown else {}
    return {**model, **told, "standing": (standing or {}).get("state", "")}


def stored(value: Any) -> Any:
    """DynamoDB takes no floats: numbers travel as decimals, and what is no number as None."""
    if isinstance(value, float):
        return Decimal(str(value)) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: stored(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [stored(v) for v in value]
    return value


def plain(value: Any) -> Any:
    """What `stored` wrote, as it was: decimals are ints or floats again."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value
