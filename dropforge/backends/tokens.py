"""API tokens: made, listed, rotated and revoked in the registry and in API Gateway's usage plans.

Each change is one transaction on the token's record (`tokens` / <id>) and on the items that the
authorizer reads, under the condition that nobody else changed the record meanwhile. Of a rotated
token two secrets are known at most: the new one, and the one before it until its grace ends.

A token is recorded as `unfinished` before its usage-plan key is made, and what the authorizer reads
is written last: what a crash leaves behind lets nobody in, is listed, and goes by `revoke`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
from boto3.dynamodb.conditions import Key
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.backends.registry import Item, plain, stored
from dropforge.errors import DropforgeError
from dropforge.serve import tokens as named
from dropforge.serve.budget import Spent, budget_key, month

if TYPE_CHECKING:
    from types_boto3_dynamodb.service_resource import Table

ACTIVE, UNFINISHED, REVOKED = "active", "unfinished", "revoked"
STANDARD = "standard"


class TokenError(DropforgeError):
    """A token could not be made, rotated or revoked."""

    code = "TOKEN"


class Plans(msgspec.Struct, frozen=True):
    """The usage plans of an API's stage: their ids by name. None where callers sign with IAM."""

    api: str = ""
    stage: str = ""
    ids: dict[str, str] = {}


class Wish(msgspec.Struct, frozen=True):
    """What a new token is to be.

    Attributes:
        name: who will use it.
        plan: a usage plan's name; None: `standard`, or the only one.
        budget_usd: what it may spend in a calendar month (UTC); None: there is no limit.
        ends_at: when it stops working, seconds since the epoch; 0: never.
        principal: the ARN of the IAM role or user that calls without any token.
    """

    projects: tuple[str, ...]
    name: str
    plan: str | None = None
    budget_usd: float | None = None
    ends_at: int = 0
    principal: str = ""


class Listed(msgspec.Struct, frozen=True):
    """A token as `list` shows it. Times are seconds since the epoch; 0: never.

    Attributes:
        state: active, unfinished, revoked or expired.
        spent_usd: in this month; None where there is no budget.
    """

    id: str
    name: str
    projects: tuple[str, ...]
    plan: str
    budget_usd: float | None
    spent_usd: float | None
    created_at: float
    ends_at: float
    rotated_at: float
    old_until: float
    state: str
    principal: str


class Tokens:
    """All tokens of a deployment. Times are seconds since the epoch.

    Args:
        gateway: a client of API Gateway; made when it is first needed.
    """

    def __init__(
        self, table: str, plans: Plans | None = None, resource: Any = None, gateway: Any = None
    ) -> None:
        self._table: Table = (resource or boto3.resource("dynamodb")).Table(table)
        self._plans = plans or Plans()
        self._client = gateway

    def create(self, wish: Wish, at: float) -> tuple[str, str]:
        """Makes a token; its id, and the token, which is stored as a hash and cannot be read again.

        A principal's token has no secret: the second text is empty.

        Raises:
            TokenError: there is no such plan, or the principal has access already.
        """
        plan = self._plan(wish.plan)
        token = named.new_token()
        name = named.token_id(token) or ""
        credential = named.principal_key(wish.principal) if wish.principal else None
        record = {
            **_about(wish),
            "plan": plan,
            "principal": named.principal(wish.principal) if wish.principal else "",
            "created_at": at,
            "ends_at": wish.ends_at,
            "rotated_at": 0,
            "state": UNFINISHED,
            "revision": 1,
        }
        self._table.put_item(
            Item=stored({**_record_key(name), **record}),
            ConditionExpression="attribute_not_exists(pk)",
        )
        key_id, key = self._make_key(name, plan)
        pk, sk = credential or named.token_key(token)
        item = {**_about(wish), "token_id": name, "key": key, "expires_at": wish.ends_at}
        done = {"state": ACTIVE, "current": pk, "key_id": key_id}
        writes = [
            self._change(name, done, 1),
            self._put({"pk": pk, "sk": sk, **item}, "attribute_not_exists(pk)"),
        ]
        if not self._all(writes):
            self.revoke(name, at)
            who = wish.principal or "The token"
            raise TokenError(f"{who} has access already: see `dropforge tokens list`.")
        return name, "" if wish.principal else token

    def rotate(self, name: str, at: float, *, grace: float) -> str:
        """A new secret for a token; the one before it works for `grace` more seconds.

        Raises:
            TokenError: there is no such token, it does not work any more, it is a principal's, or
                somebody else changed it at the same time.
        """
        record = self._record(name)
        credential = self._credential(record)
        if record["state"] != ACTIVE or credential is None or _is_over(record, at):
            raise TokenError(f"{record['sk']} does not work any more: make another token.")
        if record["principal"]:
            raise TokenError(f"{record['sk']} is an IAM principal's: there is no secret to rotate.")
        secret = named.new_token()[14:]
        token = f"{record['sk']}-{secret}"
        pk, _ = named.token_key(token)
        until = int(at + grace)
        if record["ends_at"]:
            until = min(until, record["ends_at"])
        kept = grace > 0
        changed = {
            "current": pk,
            "rotated_at": at,
            "old": record["current"] if kept else "",
            "old_until": until if kept else 0,
        }
        writes = [
            self._change(record["sk"], changed, record["revision"]),
            self._put({**credential, "pk": pk, "expires_at": record["ends_at"]}),
            self._ends(record["current"], until) if kept else self._delete(record["current"]),
        ]
        if record.get("old"):
            writes.append(self._delete(record["old"]))
        if not self._all(writes):
            raise _changed(name)
        return token

    def revoke(self, name: str, at: float) -> str:
        """Makes a token worthless, and deletes its usage-plan key; done again, it finishes that.

        Args:
            name: its id, or the token itself.

        Returns:
            The ARN of the principal whose access it was; "" for a token.

        Raises:
            TokenError: there is no such token, or somebody else changed it at the same time.
        """
        record = self._record(name)
        name = record["sk"]
        if record["state"] != REVOKED:
            done = {"state": REVOKED, "revoked_at": at, "old": "", "old_until": 0}
            writes = [self._change(name, done, record["revision"])]
            known = (record.get("current"), record.get("old"))
            writes += [self._delete(place) for place in known if place]
            if not self._all(writes):
                raise _changed(name)
        if record["plan"]:
            self._delete_keys(name)
        return str(record["principal"])

    def list(self, at: float) -> list[Listed]:
        """All tokens, the oldest first."""
        found = self._records()
        return sorted((self._listed(item, at) for item in found), key=lambda one: one.created_at)

    def forget_answers(self) -> bool:
        """Empties API Gateway's memory of what the authorizer said; whether that was possible."""
        if not self._plans.api:
            return False
        try:
            self._gateway.flush_stage_authorizers_cache(
                restApiId=self._plans.api, stageName=self._plans.stage
            )
        except (BotoCoreError, ClientError):
            return False
        return True

    @property
    def _gateway(self) -> Any:
        self._client = self._client or boto3.client("apigateway")
        return self._client

    def _plan(self, wanted: str | None) -> str:
        known = self._plans.ids
        if wanted is None:
            if not known:
                return ""
            wanted = STANDARD if len(known) > 1 else next(iter(known))
        if wanted not in known:
            names = ", ".join(sorted(known)) or "none"
            raise TokenError(f"There is no usage plan {wanted!r}; there are: {names}.")
        return wanted

    def _make_key(self, name: str, plan: str) -> tuple[str, str]:
        """The id and the value of a new key in the plan; empty where there are no plans."""
        if not plan:
            return "", ""
        made = self._gateway.create_api_key(name=_key_name(name), enabled=True, value=token_hex(20))
        self._gateway.create_usage_plan_key(
            usagePlanId=self._plans.ids[plan], keyId=made["id"], keyType="API_KEY"
        )
        return made["id"], made["value"]

    def _delete_keys(self, name: str) -> None:
        """By name: a crash may have come before the key's id was noted."""
        pages = self._gateway.get_paginator("get_api_keys").paginate(nameQuery=_key_name(name))
        for page in pages:
            for key in page["items"]:
                if key["name"] != _key_name(name):
                    continue
                try:
                    self._gateway.delete_api_key(apiKey=key["id"])
                except ClientError as error:
                    if error.response["Error"]["Code"] != "NotFoundException":
                        raise

    def _record(self, name: str) -> Item:
        found = named.token_id(name)
        item = None
        if found:
            item = self._table.get_item(Key=_record_key(found), ConsistentRead=True).get("Item")
        if item is None:
            raise TokenError("There is no such token: `dropforge tokens list` shows their ids.")
        found_item: Item = plain(item)
        return found_item

    def _records(self) -> Iterable[Item]:
        asked: dict[str, Any] = {"KeyConditionExpression": Key("pk").eq(named.RECORDS)}
        while True:
            page = self._table.query(ConsistentRead=True, **asked)
            yield from map(plain, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _credential(self, record: Item) -> Item | None:
        if not record.get("current"):
            return None
        key = {"pk": record["current"], "sk": record["current"].partition("#")[0]}
        found = self._table.get_item(Key=key, ConsistentRead=True).get("Item")
        return plain(found) if found else None

    def _listed(self, record: Item, at: float) -> Listed:
        state = "expired" if record["state"] == ACTIVE and _is_over(record, at) else record["state"]
        spent = None
        if record.get("budget_usd") is not None:
            pk, sk = budget_key(record["sk"], month(at))
            item = self._table.get_item(Key={"pk": pk, "sk": sk}).get("Item")
            spent = Spent.of(plain(item) if item else {}).spent_usd
        old_until = record.get("old_until") or 0
        return Listed(
            id=record["sk"],
            name=record["name"],
            projects=tuple(record["projects"]),
            plan=record["plan"],
            budget_usd=record.get("budget_usd"),
            spent_usd=spent,
            created_at=record["created_at"],
            ends_at=record["ends_at"],
            rotated_at=record["rotated_at"],
            old_until=old_until if old_until > at else 0,
            state=state,
            principal=record["principal"],
        )

    def _all(self, writes: Sequence[Item]) -> bool:
        """Makes all writes or none; False where something was not as expected."""
        listed: Any = list(writes)
        try:
            self._table.meta.client.transact_write_items(TransactItems=listed)
        except ClientError as error:
            told: Any = error.response
            reasons = {reason.get("Code") for reason in told.get("CancellationReasons", ())}
            if reasons & {"ConditionalCheckFailed", "TransactionConflict"}:
                return False
            raise
        return True

    def _change(self, name: str, values: Item, revision: int) -> Item:
        """Sets attributes of a record that nobody changed since `revision`."""
        changed = {**values, "revision": revision + 1}
        names = {f"#{place}": key for place, key in enumerate(changed)}
        data = {f":{place}": value for place, value in enumerate(changed.values())}
        pairs = ", ".join(f"#{place} = :{place}" for place in range(len(changed)))
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": _record_key(name),
                "UpdateExpression": f"SET {pairs}",
                "ConditionExpression": "revision = :before",
                "ExpressionAttributeNames": names,
                "ExpressionAttributeValues": stored({**data, ":before": revision}),
            }
        }

    def _put(self, item: Item, condition: str = "") -> Item:
        more = {"ConditionExpression": condition} if condition else {}
        return {"Put": {"TableName": self._table.name, "Item": stored(item), **more}}

    def _ends(self, pk: str, until: int) -> Item:
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": {"pk": pk, "sk": "token"},
                "UpdateExpression": "SET expires_at = :until",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeValues": {":until": until},
            }
        }

    def _delete(self, pk: str) -> Item:
        key = {"pk": pk, "sk": pk.partition("#")[0]}
        return {"Delete": {"TableName": self._table.name, "Key": key}}


def _about(wish: Wish) -> Item:
    """What both the record and the authorizer's item say."""
    return {"name": wish.name, "projects": list(wish.projects), "budget_usd": wish.budget_usd}


def _record_key(name: str) -> dict[str, str]:
    return {"pk": named.RECORDS, "sk": name}


def _key_name(name: str) -> str:
    return f"dropforge-{name}"


def _is_over(record: Item, at: float) -> bool:
    return bool(0 < record["ends_at"] <= at)


def _changed(name: str) -> TokenError:
    shown = named.token_id(name) or "The token"
    return TokenError(
        f"{shown} was changed by somebody else just now: see `dropforge tokens list`."
    )
