"""AWS in memory and moto, held to one contract: whatever is asked here, both answer alike."""

from __future__ import annotations

import threading
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError, ParamValidationError
from moto import mock_aws

from tests.support.memory_aws import memory_aws
from tests.support.tables import create_table

_numbers = count()


@pytest.fixture(scope="module", params=[mock_aws, memory_aws], ids=["moto", "memory"])
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param():
        yield request.param.__name__


@pytest.fixture
def table(either: str) -> Any:
    name = f"table-{next(_numbers)}"
    create_table(name)
    return boto3.resource("dynamodb").Table(name)


@pytest.fixture
def bucket(either: str) -> str:
    name = f"bucket-{next(_numbers)}"
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def refused(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 400
    return str(caught.value.response["Error"]["Code"])


def at(sk: str, pk: str = "p") -> dict[str, str]:
    return {"pk": pk, "sk": sk}


VALUES = {
    "text": "ü 日本",
    "empty": "",
    "int": Decimal(7),
    "fraction": Decimal("0.30000000000000004"),
    "negative": Decimal("-12.5"),
    "yes": True,
    "none": None,
    "list": ["a", Decimal(1), {"b": []}],
    "map": {"inner": {"deep": Decimal(3)}, "empty": {}},
    "set": {"x", "y"},
    "bytes": b"\x00\xff",
}


def test_item_comes_back_as_it_was_put(table: Any) -> None:
    table.put_item(Item={**at("a"), **VALUES})
    found = table.get_item(Key=at("a"), ConsistentRead=True)["Item"]
    assert found == {**at("a"), **VALUES}
    assert type(found["int"]) is Decimal


def test_what_is_not_there_is_no_item(table: Any) -> None:
    assert "Item" not in table.get_item(Key=at("a"))
    table.delete_item(Key=at("a"))
    assert table.query(KeyConditionExpression=Key("pk").eq("p"))["Items"] == []


def test_later_put_replaces_the_whole_item(table: Any) -> None:
    table.put_item(Item={**at("a"), "x": 1})
    answer = table.put_item(Item={**at("a"), "y": 2}, ReturnValues="ALL_OLD")
    assert answer["Attributes"] == {**at("a"), "x": 1}
    assert table.get_item(Key=at("a"))["Item"] == {**at("a"), "y": 2}


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ("attribute_not_exists(pk)", {}, False),
        ("attribute_exists(pk)", {}, True),
        ("attribute_exists(box.inside)", {}, True),
        ("attribute_exists(box.absent)", {}, False),
        ("revision = :v", {":v": 3}, True),
        ("revision = :v", {":v": Decimal("3.0")}, True),
        ("revision = :v", {":v": "3"}, False),
        ("revision <> :v", {":v": "3"}, True),
        ("revision < :v", {":v": 20}, True),
        ("revision <= :v", {":v": 3}, True),
        ("revision > :v", {":v": 3}, False),
        ("revision >= :v", {":v": 3}, True),
        ("word < :v", {":v": "é"}, True),
        ("absent = :v", {":v": 3}, False),
        ("absent <> :v", {":v": 3}, True),
        ("attribute_not_exists(absent) OR absent <= :v", {":v": 3}, True),
        ("attribute_not_exists(decided) AND word = :v", {":v": "zebra"}, True),
        ("NOT (revision = :v AND attribute_exists(word))", {":v": 3}, False),
        ("begins_with(word, :v)", {":v": "zeb"}, True),
        ("begins_with(word, :v)", {":v": "eb"}, False),
    ],
)
def test_condition_decides_whether_a_write_happens(
    table: Any, condition: str, values: dict[str, Any], holds: bool
) -> None:
    table.put_item(Item={**at("a"), "revision": 3, "word": "zebra", "box": {"inside": 1}})
    more: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
    writes: list[Callable[[], Any]] = [
        lambda: table.update_item(
            Key=at("a"),
            UpdateExpression="SET seen = :seen",
            ConditionExpression=condition,
            ExpressionAttributeValues={**values, ":seen": True},
        ),
        lambda: table.put_item(
            Item={**at("a"), "replaced": True}, ConditionExpression=condition, **more
        ),
    ]
    for write in writes:
        if holds:
            write()
            table.put_item(Item={**at("a"), "revision": 3, "word": "zebra", "box": {"inside": 1}})
        else:
            assert refused(write) == "ConditionalCheckFailedException"
            assert table.get_item(Key=at("a"))["Item"]["revision"] == 3


def test_condition_names_stand_for_reserved_words(table: Any) -> None:
    table.put_item(Item={**at("a"), "order": "5"})
    newer = {
        "ConditionExpression": "#order <= :order",
        "ExpressionAttributeNames": {"#order": "order"},
    }
    table.put_item(
        Item={**at("a"), "order": "6"}, ExpressionAttributeValues={":order": "6"}, **newer
    )
    late = {"Item": {**at("a"), "order": "5"}, "ExpressionAttributeValues": {":order": "5"}}
    assert refused(table.put_item, **late, **newer) == "ConditionalCheckFailedException"


@pytest.mark.parametrize(
    "asked",
    [
        {"UpdateExpression": "SET token = :v", "ExpressionAttributeValues": {":v": 1}},
        {"UpdateExpression": "SET a = :missing", "ExpressionAttributeValues": {":v": 1}},
        {"UpdateExpression": "SET a = ", "ExpressionAttributeValues": {":v": 1}},
        {"UpdateExpression": "SET pk = :v", "ExpressionAttributeValues": {":v": "q"}},
        {"UpdateExpression": "SET gone.a = :v", "ExpressionAttributeValues": {":v": 1}},
        {"UpdateExpression": "ADD word :v", "ExpressionAttributeValues": {":v": 1}},
        {"UpdateExpression": "SET a = :v", "ExpressionAttributeValues": {":v": 1, ":unused": 2}},
    ],
)
def test_expression_that_dynamodb_does_not_take_is_refused(
    table: Any, asked: dict[str, Any]
) -> None:
    table.put_item(Item={**at("a"), "word": "zebra"})
    assert refused(table.update_item, Key=at("a"), **asked) == "ValidationException"
    assert table.get_item(Key=at("a"))["Item"] == {**at("a"), "word": "zebra"}


@pytest.mark.parametrize(
    ("expression", "values", "names", "changed"),
    [
        ("SET a = :v, #n = :w", {":v": 1, ":w": ["x"]}, {"#n": "name"}, {"a": 1, "name": ["x"]}),
        ("SET #o.#i = :v", {":v": "new"}, {"#o": "box", "#i": "x.y"}, {"box": {"x.y": "new"}}),
        ("SET b = n", {}, {}, {"b": 5}),
        ("SET a = :v REMOVE n", {":v": True}, {}, {"a": True, "n": None}),
        ("REMOVE absent", {}, {}, {}),
        (
            "ADD n :v, fresh :w",
            {":v": Decimal("0.5"), ":w": 2},
            {},
            {"n": Decimal("5.5"), "fresh": 2},
        ),
        ("ADD #o.hits :v", {":v": 2}, {"#o": "box"}, {"box": {"hits": 2}}),
    ],
)
def test_update_changes_an_item(
    table: Any,
    expression: str,
    values: dict[str, Any],
    names: dict[str, str],
    changed: dict[str, Any],
) -> None:
    before = {**at("a"), "n": 5, "box": {}}
    table.put_item(Item=before)
    more: dict[str, Any] = {}
    if values:
        more["ExpressionAttributeValues"] = values
    if names:
        more["ExpressionAttributeNames"] = names
    answer = table.update_item(
        Key=at("a"), UpdateExpression=expression, ReturnValues="ALL_OLD", **more
    )
    after = {name: value for name, value in {**before, **changed}.items() if value is not None}
    assert answer["Attributes"] == before
    assert table.get_item(Key=at("a"))["Item"] == after


def test_update_makes_an_item_where_there_is_none(table: Any) -> None:
    answer = table.update_item(
        Key=at("a"),
        UpdateExpression="ADD checks :one",
        ExpressionAttributeValues={":one": 1},
        ReturnValues="ALL_OLD",
    )
    assert not answer.get("Attributes")
    changed = table.update_item(
        Key=at("a"),
        UpdateExpression="ADD checks :one",
        ExpressionAttributeValues={":one": 1},
        ReturnValues="ALL_NEW",
    )
    assert changed["Attributes"] == {**at("a"), "checks": 2}


def test_query_is_in_order_of_the_bytes_and_of_one_partition(table: Any) -> None:
    for sk in ("b#2", "b#10", "a", "b#é", "c", "b#Z"):
        table.put_item(Item={**at(sk), "n": len(sk)})
    table.put_item(Item=at("b#1", "other"))

    def keys(condition: Any, **more: Any) -> list[str]:
        found = table.query(KeyConditionExpression=condition, **more)
        assert found["Count"] == len(found["Items"])
        return [item["sk"] for item in found["Items"]]

    ours = Key("pk").eq("p")
    assert keys(ours) == ["a", "b#10", "b#2", "b#Z", "b#é", "c"]
    assert keys(ours & Key("sk").begins_with("b#")) == ["b#10", "b#2", "b#Z", "b#é"]
    assert keys(ours & Key("sk").begins_with("b#"), ScanIndexForward=False)[0] == "b#é"
    assert keys(ours & Key("sk").eq("c"), ConsistentRead=True) == ["c"]
    assert keys(Key("pk").eq("none")) == []


def test_query_is_filtered_and_projected(table: Any) -> None:
    for number in range(4):
        table.put_item(Item={**at(f"f#{number}"), "arm": "ab"[number % 2], "at": number, "x": "y"})
    found = table.query(
        KeyConditionExpression=Key("pk").eq("p") & Key("sk").begins_with("f#"),
        FilterExpression=Attr("arm").eq("b") & Attr("at").gte(Decimal("1.5")),
        ProjectionExpression="#only0, absent",
        ExpressionAttributeNames={"#only0": "at"},
    )
    assert found["Items"] == [{"at": 3}]
    assert found["ScannedCount"] == 4


def test_pages_go_on_from_the_last_key(table: Any) -> None:
    for number in range(5):
        table.put_item(Item=at(str(number)))
    asked: dict[str, Any] = {"KeyConditionExpression": Key("pk").eq("p"), "Limit": 2}
    pages = []
    while True:
        page = table.query(**asked)
        pages.append([item["sk"] for item in page["Items"]])
        if "LastEvaluatedKey" not in page:
            break
        asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
    assert pages == [["0", "1"], ["2", "3"], ["4"]]


def test_page_holds_a_megabyte_at_most(table: Any) -> None:
    for number in range(5):
        table.put_item(Item={**at(str(number)), "data": "x" * 300_000})
    first = table.query(KeyConditionExpression=Key("pk").eq("p"))
    rest = table.query(
        KeyConditionExpression=Key("pk").eq("p"), ExclusiveStartKey=first["LastEvaluatedKey"]
    )
    assert [item["sk"] for item in first["Items"] + rest["Items"]] == list("01234")
    assert "LastEvaluatedKey" not in rest


def test_scan_finds_every_item(table: Any) -> None:
    for pk in ("p", "q"):
        table.put_item(Item=at("a", pk))
    found = table.scan()["Items"]
    assert sorted(item["pk"] for item in found) == ["p", "q"]
    only = table.scan(FilterExpression="pk = :pk", ExpressionAttributeValues={":pk": "q"})
    assert [item["pk"] for item in only["Items"]] == ["q"]


def test_item_of_400_kb_is_too_large(table: Any) -> None:
    table.put_item(Item={**at("a"), "data": "x" * 390_000})
    large = {**at("b"), "data": "x" * 420_000}
    assert refused(table.put_item, Item=large) == "ValidationException"


@pytest.mark.parametrize("item", [{"pk": "p"}, at(""), {"pk": "p", "sk": 1}])
def test_item_without_a_key_of_text_is_refused(table: Any, item: dict[str, Any]) -> None:
    assert refused(table.put_item, Item=item) == "ValidationException"


def test_table_that_is_not_there_is_not_found(either: str) -> None:
    other = boto3.resource("dynamodb").Table("nowhere")
    assert refused(other.get_item, Key=at("a")) == "ResourceNotFoundException"
    create_table("twice")
    with pytest.raises(boto3.client("dynamodb").exceptions.ResourceInUseException):
        create_table("twice")


def put(table: Any, sk: str, condition: str = "", **more: Any) -> dict[str, Any]:
    checked = {"ConditionExpression": condition, **more} if condition else {}
    return {"Put": {"TableName": table.name, "Item": {**at(sk), "n": 1}, **checked}}


def test_transaction_writes_all(table: Any) -> None:
    table.put_item(Item=at("old"))
    table.put_item(Item={**at("kept"), "revision": 1})
    update = {
        "TableName": table.name,
        "Key": at("kept"),
        "UpdateExpression": "SET #0 = :0",
        "ConditionExpression": "revision = :before",
        "ExpressionAttributeNames": {"#0": "revision"},
        "ExpressionAttributeValues": {":0": 2, ":before": 1},
    }
    gone = {"Delete": {"TableName": table.name, "Key": at("old")}}
    table.meta.client.transact_write_items(
        TransactItems=[put(table, "new", "attribute_not_exists(pk)"), {"Update": update}, gone]
    )
    found = {item["sk"]: item for item in table.scan()["Items"]}
    assert sorted(found) == ["kept", "new"]
    assert found["kept"]["revision"] == 2


def test_transaction_that_fails_writes_nothing_and_says_which_condition(table: Any) -> None:
    table.put_item(Item={**at("there"), "n": 0})
    writes = [put(table, "a"), put(table, "there", "attribute_not_exists(pk)"), put(table, "b")]
    with pytest.raises(table.meta.client.exceptions.TransactionCanceledException) as caught:
        table.meta.client.transact_write_items(TransactItems=writes)
    reasons = caught.value.response["CancellationReasons"]
    codes = [reason["Code"] for reason in reasons]
    assert codes == ["None", "ConditionalCheckFailed", "None"]
    assert str(codes[1]) in caught.value.response["Error"]["Message"]
    assert table.scan()["Items"] == [{**at("there"), "n": 0}]


def test_transaction_has_one_write_for_an_item(table: Any) -> None:
    twice = [put(table, "a"), put(table, "a")]
    asked = {"TransactItems": twice}
    assert refused(table.meta.client.transact_write_items, **asked) == "ValidationException"
    assert table.scan()["Items"] == []


def test_of_simultaneous_conditional_writes_one_wins(table: Any) -> None:
    barrier = threading.Barrier(8)

    def claim(number: int) -> bool:
        barrier.wait()
        try:
            table.meta.client.transact_write_items(
                TransactItems=[put(table, "claim", "attribute_not_exists(pk)")]
            )
        except ClientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_unknown_parameter_is_refused(table: Any) -> None:
    with pytest.raises(ParamValidationError):
        table.get_item(Key=at("a"), Consistent=True)


def test_object_keeps_its_versions(bucket: str) -> None:
    s3 = boto3.client("s3")
    asked = {"Bucket": bucket, "Key": "a b/ü+%.csv"}
    ids = [s3.put_object(**asked, Body=body)["VersionId"] for body in (b"one", b"two")]
    assert s3.get_object(**asked)["Body"].read() == b"two"
    assert s3.get_object(**asked, VersionId=ids[0])["Body"].read() == b"one"
    listed = s3.list_object_versions(Bucket=bucket, Prefix="a b/")["Versions"]
    assert [(v["Key"], v["VersionId"], v["IsLatest"]) for v in listed] == [
        (asked["Key"], ids[1], True),
        (asked["Key"], ids[0], False),
    ]
    s3.delete_object(**asked, VersionId=ids[0])
    assert refused(s3.get_object, **asked, VersionId=ids[0]) == "NoSuchVersion"
    assert s3.head_object(**asked)["VersionId"] == ids[1]


def test_head_tells_of_an_object(bucket: str) -> None:
    s3 = boto3.client("s3")
    asked = {"Bucket": bucket, "Key": "a.txt"}
    put = s3.put_object(
        **asked,
        Body=b"data",
        ContentType="text/plain",
        Metadata={"sha256": "c0ffee"},
        ChecksumAlgorithm="CRC32",
    )
    head = s3.head_object(**asked, VersionId=put["VersionId"], ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ContentType"]) == (4, "text/plain")
    assert head["Metadata"] == {"sha256": "c0ffee"}
    assert head["ETag"] == put["ETag"] == '"8d777f385d3dfec8815d20f7496026dc"'
    assert head["ChecksumCRC32"] == b64encode(zlib.crc32(b"data").to_bytes(4, "big")).decode()
    assert "ChecksumCRC32" not in s3.head_object(**asked)


def test_deleted_object_is_gone_until_it_is_put_again(bucket: str) -> None:
    s3 = boto3.client("s3")
    asked = {"Bucket": bucket, "Key": "a"}
    s3.delete_object(**asked)
    first = s3.put_object(**asked, Body=b"x")["VersionId"]
    s3.delete_object(**asked)
    assert refused(s3.get_object, **asked) == "NoSuchKey"
    assert refused(s3.head_object, **asked) == "404"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert s3.get_object(**asked, VersionId=first)["Body"].read() == b"x"
    s3.put_object(**asked, Body=b"y", IfNoneMatch="*")
    assert refused(s3.put_object, **asked, Body=b"z", IfNoneMatch="*") == "PreconditionFailed"
    assert s3.get_object(**asked)["Body"].read() == b"y"


def test_listing_is_of_a_prefix_in_order(bucket: str) -> None:
    s3 = boto3.client("s3")
    for key in ("b/2", "a/1", "b/ü 1+", "b/10"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    page = s3.list_objects_v2(Bucket=bucket, Prefix="b/", MaxKeys=2)
    assert [(one["Key"], one["Size"]) for one in page["Contents"]] == [("b/10", 4), ("b/2", 3)]
    token = page["NextContinuationToken"]
    rest = s3.list_objects_v2(Bucket=bucket, Prefix="b/", ContinuationToken=token)
    assert [one["Key"] for one in rest["Contents"]] == ["b/ü 1+"]
    assert (page["IsTruncated"], rest["IsTruncated"]) == (True, False)


def test_missing_objects_and_buckets_are_told_apart(bucket: str) -> None:
    s3 = boto3.client("s3")
    assert refused(s3.get_object, Bucket=bucket, Key="none") == "NoSuchKey"
    assert refused(s3.head_object, Bucket=bucket, Key="none") == "404"
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.get_object(Bucket="dropforge-nowhere", Key="k")


def test_secret_is_found_by_name_and_arn(either: str) -> None:
    secrets, name = boto3.client("secretsmanager"), f"secret-{next(_numbers)}"
    arn = secrets.create_secret(Name=name, SecretString="one")["ARN"]
    assert secrets.describe_secret(SecretId=name)["ARN"] == arn
    secrets.put_secret_value(SecretId=name, SecretString="two")
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "two"
    missing = refused(secrets.get_secret_value, SecretId=f"{name}-other")
    assert missing == "ResourceNotFoundException"
    twice = refused(secrets.create_secret, Name=name, SecretString="x")
    assert twice == "ResourceExistsException"


def test_parameter_is_put_once_or_overwritten(either: str) -> None:
    ssm, name = boto3.client("ssm"), f"/parameter/{next(_numbers)}"
    ssm.put_parameter(Name=name, Value="1", Type="String")
    twice = refused(ssm.put_parameter, Name=name, Value="2", Type="String")
    assert twice == "ParameterAlreadyExists"
    ssm.put_parameter(Name=name, Value="2", Type="String", Overwrite=True)
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == "2"
    ssm.delete_parameter(Name=name)
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=name)


def test_execution_of_a_name_is_started_once(either: str) -> None:
    states, name = boto3.client("stepfunctions"), f"machine-{next(_numbers)}"
    arn = states.create_state_machine(
        name=name,
        definition='{"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}',
        roleArn=f"arn:aws:iam::123456789012:role/{name}",
    )["stateMachineArn"]
    first = states.start_execution(stateMachineArn=arn, name="r1", input='{"a": 1}')
    again = states.start_execution(stateMachineArn=arn, name="r1", input='{"a": 1}')
    assert again["executionArn"] == first["executionArn"]
    with pytest.raises(states.exceptions.ExecutionAlreadyExists):
        states.start_execution(stateMachineArn=arn, name="r1", input='{"a": 2}')
    states.start_execution(stateMachineArn=arn, name="r2", input="{}")
    listed = states.list_executions(stateMachineArn=arn)["executions"]
    assert sorted(one["name"] for one in listed) == ["r1", "r2"]
    shown = states.describe_execution(executionArn=first["executionArn"])
    assert (shown["input"], shown["status"]) == ('{"a": 1}', "RUNNING")
    missing = refused(states.describe_execution, executionArn=f"{first['executionArn']}x")
    assert missing == "ExecutionDoesNotExist"


@pytest.mark.parametrize(
    "asked",
    [
        lambda: boto3.client("dynamodb").list_tables(),
        lambda: boto3.client("dynamodb").put_item(
            TableName="strict",
            Item={"pk": {"S": "p"}, "sk": {"S": "s"}},
            ReturnConsumedCapacity="TOTAL",
        ),
        lambda: boto3.client("s3").list_objects_v2(Bucket="strict", Delimiter="/"),
    ],
    ids=["operation", "parameter", "option"],
)
def test_what_memory_does_not_know_is_an_error(asked: Callable[[], Any]) -> None:
    with memory_aws():
        create_table("strict")
        boto3.client("s3").create_bucket(Bucket="strict")
        with pytest.raises(NotImplementedError):
            asked()


def test_memory_forgets_everything_when_it_ends() -> None:
    for _ in range(2):
        with memory_aws():
            create_table("again")
