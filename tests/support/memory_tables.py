"""DynamoDB in memory, as far as Dropforge speaks it: moto takes 2 to 10 ms for what takes 0.1 here.

Items are kept as they travel, `{"name": {"S": "…"}}`. What is not known here is an error, never an
answer; `tests/unit/test_memory_aws.py` holds moto and this to the same contract.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Value = dict[str, Any]
Item = dict[str, Value]
Params = Mapping[str, Any]
Test = Callable[[Item], bool]
Term = Callable[[Item], Value | None]

PAGE = 1 << 20
MAX_ITEM = 400 << 10
MAX_WRITES = 100
_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),.]|[#:]?\w+)")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITIONS = ("ConditionExpression", "KeyConditionExpression", "FilterExpression")
_EXPRESSIONS = (*_CONDITIONS, "UpdateExpression", "ProjectionExpression")
_FAILED = "The conditional request failed"
_CANCELLED = "Transaction cancelled, please refer cancellation reasons for specific reasons"


class RefusedError(Exception):
    """What AWS refuses: its code, its message and what else the answer holds."""

    def __init__(self, code: str, message: str = "", **more: Any) -> None:
        super().__init__(message or code)
        self.code, self.more = code, more


def invalid(message: str) -> RefusedError:
    return RefusedError("ValidationException", message)


@cache
def _reserved() -> frozenset[str]:
    """Names that an expression may not use bare: from moto's list, without importing moto."""
    spec = find_spec("moto")
    folder = Path((spec and spec.origin) or "").parent
    listed = folder / "dynamodb" / "parsing" / "reserved_keywords.txt"
    return frozenset(listed.read_text().split())


class _Words:
    """The words of one expression, and the names and values that stand for others in it."""

    def __init__(self, text: str, names: Mapping[str, str], values: Mapping[str, Value]) -> None:
        self.left = _split(text)
        self.used: set[str] = set()
        self._names, self._values = names, values

    def next(self) -> str:
        return self.left[0] if self.left else ""

    def take(self, *expected: str) -> str:
        word = self.next()
        if not word or (expected and word.upper() not in expected):
            raise invalid(f"Invalid expression: {word!r} where {expected} was expected")
        return self.left.pop(0)

    def took(self, *words: str) -> bool:
        found = self.next().upper() in words
        if found:
            self.left.pop(0)
        return found

    def path(self) -> list[str]:
        parts = [self._name()]
        while self.took("."):
            parts.append(self._name())
        return parts

    def _name(self) -> str:
        word = self.take()
        if word.startswith("#"):
            if word not in self._names:
                raise invalid(f"An expression attribute name is not defined: {word}")
            self.used.add(word)
            return self._names[word]
        if word.upper() in _reserved():
            raise invalid(f"Attribute name is a reserved keyword; reserved keyword: {word}")
        if not re.fullmatch(r"[A-Za-z_]\w*", word):
            raise invalid(f"Invalid expression: {word!r} is no attribute's name")
        return word

    def value(self) -> Value:
        word = self.take()
        if word not in self._values:
            raise invalid(f"An expression attribute value is not defined: {word}")
        self.used.add(word)
        return self._values[word]

    def term(self) -> Term:
        """A value or an attribute."""
        if self.next().startswith(":"):
            value = self.value()
            return lambda item: value
        path = self.path()
        return lambda item: _find(item, path)


def _split(text: str) -> list[str]:
    words, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if not found:
            raise invalid(f"Invalid expression: {text!r}")
        words.append(found[1])
        at = found.end()
    return words


def _any_of(words: _Words) -> Test:
    tests = [_all_of(words)]
    while words.took("OR"):
        tests.append(_all_of(words))
    return lambda item: any(test(item) for test in tests)


def _all_of(words: _Words) -> Test:
    tests = [_one(words)]
    while words.took("AND"):
        tests.append(_one(words))
    return lambda item: all(test(item) for test in tests)


def _one(words: _Words) -> Test:
    if words.took("NOT"):
        test = _one(words)
        return lambda item: not test(item)
    if words.took("("):
        test = _any_of(words)
        words.take(")")
        return test
    if words.next() in ("attribute_exists", "attribute_not_exists"):
        return _existence(words)
    if words.next() == "begins_with":
        return _beginning(words)
    return _comparison(words)


def _existence(words: _Words) -> Test:
    exists = words.take() == "attribute_exists"
    words.take("(")
    path = words.path()
    words.take(")")
    return lambda item: (_find(item, path) is not None) == exists


def _beginning(words: _Words) -> Test:
    words.take()
    words.take("(")
    first = words.term()
    words.take(",")
    second = words.term()
    words.take(")")

    def test(item: Item) -> bool:
        whole, part = first(item) or {}, second(item) or {}
        return "S" in whole and "S" in part and str(whole["S"]).startswith(part["S"])

    return test


def _comparison(words: _Words) -> Test:
    left = words.term()
    sign = words.take(*_COMPARISONS)
    right = words.term()
    return lambda item: _compare(sign, left(item), right(item))


def _compare(sign: str, left: Value | None, right: Value | None) -> bool:
    """An attribute that is not there is unequal to all, and neither less nor more."""
    if left is None or right is None:
        return sign == "<>" and left is not right
    (kind, one), (other_kind, other) = *left.items(), *right.items()
    if kind != other_kind:
        return sign == "<>"
    if sign not in ("=", "<>") and kind not in ("S", "N", "B"):
        raise invalid(f"Incorrect operand type for operator or function: {kind}")
    return _COMPARISONS[sign](_plain(kind, one), _plain(kind, other))


def _plain(kind: str, data: Any) -> Any:
    """What DynamoDB compares: numbers by value, text by its UTF-8, sets without an order."""
    if kind == "N":
        return Decimal(data)
    if kind == "S":
        return data.encode()
    return sorted(data) if kind in ("SS", "NS", "BS") else data


def _find(item: Item, path: list[str]) -> Value | None:
    found: Value | None = {"M": item}
    for part in path:
        found = (found or {}).get("M", {}).get(part)
    return found


def _typed(value: Value | None, kind: str) -> Any:
    if value is None or kind not in value:
        raise invalid(f"An operand in the update expression is no {kind}, or is not there")
    return value[kind]


def _place(item: Item, path: list[str]) -> dict[str, Value]:
    """The map that holds the path's end."""
    parent = _find(item, path[:-1])
    if parent is None or "M" not in parent:
        raise invalid("The document path provided in the update expression is invalid for update")
    return parent["M"]  # type: ignore[no-any-return]


Change = Callable[[Item, Item], None]
"""Changes the second item by what the first, the one before the update, holds."""


def _changes(words: _Words) -> Iterator[tuple[str, Change]]:
    """The attribute that each part of an update expression changes, and the change."""
    while words.left:
        clause = words.take(*_CHANGES).upper()
        while True:
            path = words.path()
            yield path[0], _CHANGES[clause](words, path)
            if not words.took(","):
                break


def _set(words: _Words, path: list[str]) -> Change:
    words.take("=")
    term = words.term()

    def change(before: Item, item: Item) -> None:
        value = term(before)
        if value is None:
            raise invalid("The provided expression refers to an attribute that does not exist")
        _place(item, path)[path[-1]] = value

    return change


def _number(value: Decimal) -> Value:
    return {"N": format(value.normalize(), "f")}


def _remove(words: _Words, path: list[str]) -> Change:
    def change(before: Item, item: Item) -> None:
        _place(item, path).pop(path[-1], None)

    return change


def _add(words: _Words, path: list[str]) -> Change:
    more = Decimal(_typed(words.value(), "N"))

    def change(before: Item, item: Item) -> None:
        known = _find(before, path) or {"N": "0"}
        _place(item, path)[path[-1]] = _number(Decimal(_typed(known, "N")) + more)

    return change


_CHANGES = {"SET": _set, "REMOVE": _remove, "ADD": _add}


def _weight(value: Any) -> int:
    """Bytes of an item or a part of it, about as DynamoDB counts them."""
    if isinstance(value, dict):
        return sum(_weight(name) + _weight(inner) for name, inner in value.items())
    if isinstance(value, list):
        return sum(map(_weight, value))
    return (
        len(value.encode())
        if isinstance(value, str)
        else len(value)
        if isinstance(value, bytes)
        else 1
    )


class Table:
    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.partitions: dict[str, dict[str, Item]] = {}

    def key(self, item: Item, *, alone: bool = False) -> tuple[str, str]:
        """The text of an item's two keys. `alone`: there may be no other attribute."""
        if alone and set(item) != set(self.keys):
            raise invalid("The provided key element does not match the schema")
        for name in self.keys:
            if set(item.get(name, ())) != {"S"}:
                raise invalid("One of the required keys was not given a value, or a wrong type")
            if not item[name]["S"]:
                raise invalid("One or more parameter values are not valid: an empty string as key")
        return item[self.keys[0]]["S"], item[self.keys[1]]["S"]

    def get(self, key: tuple[str, str]) -> Item | None:
        return self.partitions.get(key[0], {}).get(key[1])

    def put(self, key: tuple[str, str], item: Item | None) -> None:
        """None deletes."""
        if item is None:
            self.partitions.get(key[0], {}).pop(key[1], None)
        else:
            self.partitions.setdefault(key[0], {})[key[1]] = item


class _Asked:
    """One request's expressions: parsed together, so that no name or value goes unused."""

    def __init__(self, params: Params) -> None:
        names = params.get("ExpressionAttributeNames", {})
        values = params.get("ExpressionAttributeValues", {})
        words = {n: _Words(params[n], names, values) for n in _EXPRESSIONS if n in params}
        tests = {name: _any_of(words[name]) for name in _CONDITIONS if name in words}
        self.condition = tests.get("ConditionExpression", _always)
        self.key_condition = tests.get("KeyConditionExpression", _always)
        self.filter = tests.get("FilterExpression", _always)
        update, projection = (words.get(f"{n}Expression") for n in ("Update", "Projection"))
        self.changes = list(_changes(update)) if update else []
        self.attributes = list(_attributes(projection)) if projection else []
        if any(w.left for w in words.values()):
            raise invalid("Invalid expression: something stands after its end")
        unused = {*names, *values} - {name for w in words.values() for name in w.used}
        if unused:
            raise invalid(f"Values provided that no expression uses: {sorted(unused)}")

    def projected(self, item: Item) -> Item:
        wanted = self.attributes or item
        return {name: copy.deepcopy(item[name]) for name in wanted if name in item}


def _always(item: Item) -> bool:
    return True


def _attributes(words: _Words) -> Iterator[str]:
    while True:
        path = words.path()
        if len(path) > 1:
            raise NotImplementedError("a projection of a part of an attribute")
        yield path[0]
        if not words.took(","):
            return


class Tables:
    """The operations, by their names in boto3's API model; each is atomic."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}

    def add(self, name: str, table: Table) -> None:
        self._tables[name] = table

    def of(self, name: str) -> dict[str, Table]:
        return {name: self._tables[name]}

    def take(self, tables: dict[str, Table]) -> None:
        self._tables |= tables

    def _table(self, params: Params) -> Table:
        try:
            return self._tables[params["TableName"]]
        except KeyError:
            raise RefusedError(
                "ResourceNotFoundException", "Requested resource not found"
            ) from None

    def create_table(self, params: Params) -> Params:
        if params["TableName"] in self._tables:
            raise RefusedError("ResourceInUseException", "Table already exists")
        keys = [key["AttributeName"] for key in params["KeySchema"]]
        types = {
            one["AttributeName"]: one["AttributeType"] for one in params["AttributeDefinitions"]
        }
        if [types.get(key) for key in keys] != ["S", "S"]:
            raise NotImplementedError("a table without two keys of text")
        self._tables[params["TableName"]] = Table(keys)
        return {"TableDescription": {"TableName": params["TableName"], "TableStatus": "ACTIVE"}}

    def get_item(self, params: Params) -> Params:
        asked, table = _Asked(params), self._table(params)
        item = table.get(table.key(params["Key"], alone=True))
        return {} if item is None else {"Item": asked.projected(item)}

    def put_item(self, params: Params) -> Params:
        return self._write("Put", params)

    def update_item(self, params: Params) -> Params:
        return self._write("Update", params)

    def delete_item(self, params: Params) -> Params:
        return self._write("Delete", params)

    def _write(self, kind: str, params: Params) -> Params:
        table, key, before, after, holds = self._plan(kind, params)
        if not holds:
            raise RefusedError("ConditionalCheckFailedException", _FAILED)
        table.put(key, after)
        returned = {"NONE": None, "ALL_OLD": before, "ALL_NEW": after}
        wanted = params.get("ReturnValues", "NONE")
        if wanted not in returned:
            raise NotImplementedError(f"ReturnValues={wanted}")
        item = returned[wanted]
        return {"Attributes": copy.deepcopy(item)} if item else {}

    def _plan(
        self, kind: str, params: Params
    ) -> tuple[Table, tuple[str, str], Item | None, Item | None, bool]:
        """The place of a write, the item before and after it, and whether its condition holds."""
        if "ReturnValuesOnConditionCheckFailure" in params:
            raise NotImplementedError("ReturnValuesOnConditionCheckFailure")
        asked, table = _Asked(params), self._table(params)
        key = table.key(params["Item" if kind == "Put" else "Key"], alone=kind != "Put")
        before = table.get(key)
        if not asked.condition(before or {}):
            return table, key, before, None, False
        after: Item | None = None
        if kind == "Put":
            after = copy.deepcopy(dict(params["Item"]))
        elif kind == "Update":
            after = _updated(table, asked, before or dict(params["Key"]))
        if after and _weight(after) > MAX_ITEM:
            raise invalid("Item size has exceeded the maximum allowed size")
        return table, key, before, after, True

    def transact_write_items(self, params: Params) -> Params:
        writes = [write for one in params["TransactItems"] for write in one.items()]
        if any(kind not in ("Put", "Update", "Delete") for kind, _ in writes):
            raise NotImplementedError("a transaction's write of another kind")
        if len(writes) > MAX_WRITES:
            raise invalid("Member must have length less than or equal to 100")
        plans = [self._plan(kind, write) for kind, write in writes]
        if len({(id(table), key) for table, key, *_ in plans}) < len(plans):
            raise invalid("Transaction request cannot include multiple operations on one item")
        if not all(holds for *_, holds in plans):
            failed = {"Code": "ConditionalCheckFailed", "Message": _FAILED}
            reasons = [{"Code": "None"} if holds else failed for *_, holds in plans]
            codes = ", ".join(reason["Code"] for reason in reasons)
            message = f"{_CANCELLED} [{codes}]"
            raise RefusedError("TransactionCanceledException", message, CancellationReasons=reasons)
        for table, key, _, after, _ in plans:
            table.put(key, after)
        return {}

    def query(self, params: Params) -> Params:
        table, asked = self._table(params), _Asked(params)
        pk = _partition(params)
        items = table.partitions.get(pk, {})
        newest_first = not params.get("ScanIndexForward", True)
        order = sorted(items, key=str.encode, reverse=newest_first)
        found = [items[sk] for sk in order if asked.key_condition(items[sk])]
        return _page(table, found, params, asked)

    def scan(self, params: Params) -> Params:
        table = self._table(params)
        items = [item for part in table.partitions.values() for item in part.values()]
        return _page(table, items, params, _Asked(params))


def _updated(table: Table, asked: _Asked, before: Item) -> Item:
    after = copy.deepcopy(before)
    for name, change in asked.changes:
        if name in table.keys:
            raise invalid(f"Cannot update attribute {name}. This attribute is part of the key")
        change(before, after)
    return copy.deepcopy(after)


def _partition(params: Params) -> str:
    """The one partition that a query's key condition names."""
    text, names = params["KeyConditionExpression"], params.get("ExpressionAttributeNames", {})
    found = re.match(r"\(?(#?\w+) = (:\w+)", text)
    if not found or names.get(found[1], found[1]) != "pk" or " OR " in text:
        raise NotImplementedError(f"the key condition {text!r}")
    return str(_typed(params["ExpressionAttributeValues"].get(found[2]), "S"))


def _page(table: Table, items: list[Item], params: Params, asked: _Asked) -> Params:
    """The items after the start that fit a page or the limit, and where the next page begins."""
    if start := params.get("ExclusiveStartKey"):
        places = [table.key({k: item[k] for k in table.keys}) for item in items]
        items = items[places.index(table.key(start, alone=True)) + 1 :]
    read, weight = 0, 0
    for item in items[: params.get("Limit")]:
        weight += _weight(item)
        if weight > PAGE and read:
            break
        read += 1
    met = [asked.projected(item) for item in items[:read] if asked.filter(item)]
    page: dict[str, Any] = {"Items": met, "Count": len(met), "ScannedCount": read}
    if read < len(items):
        last = items[read - 1]
        page["LastEvaluatedKey"] = {name: copy.deepcopy(last[name]) for name in table.keys}
    return page
