from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber

from dropforge.artifacts import Interval
from dropforge.backends.store import Store
from dropforge.errors import NoDataError

BUCKET = "dropforge-test"


@pytest.fixture(scope="module")
def store(moto: None) -> Store:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return Store(BUCKET)


def version(key: str) -> str:
    head: str = boto3.client("s3").head_object(Bucket=BUCKET, Key=key)["VersionId"]
    return head


def test_written_bytes_are_read_back(store: Store) -> None:
    store.write("a/b.jsonl", b"\x00\xff")
    assert store.read("a/b.jsonl") == b"\x00\xff"


@pytest.mark.parametrize(
    "key", ["a b+c%20d", "ü/日本.csv", "a//b", "x" * 1024, "exports/shop/[jan] 'q' & <r>.csv"]
)
def test_odd_keys_work(store: Store, key: str) -> None:
    store.write(key, "text ü")
    assert store.read(key).decode() == "text ü"
    assert store.identity(key, version(key))[1] == len("text ü".encode())


def test_named_version_is_read_after_an_overwrite(store: Store) -> None:
    store.write("k", "old")
    before = version("k")
    store.write("k", "new")
    assert (store.read("k", before), store.read("k")) == (b"old", b"new")


@pytest.mark.parametrize(
    ("key", "kind"), [("a.html", "text/html; charset=utf-8"), ("a", "application/octet-stream")]
)
def test_content_type_follows_the_suffix(store: Store, key: str, kind: str) -> None:
    store.write(key, "x")
    assert boto3.client("s3").head_object(Bucket=BUCKET, Key=key)["ContentType"] == kind


def test_missing_object_is_none_or_no_data(store: Store) -> None:
    assert store.find("none") is None
    assert store.find_manifest("none", Interval) is None
    with pytest.raises(NoDataError):
        store.load("none", Interval)


def test_deleted_version_is_no_data(store: Store) -> None:
    store.write("k", "old")
    gone = version("k")
    boto3.client("s3").delete_object(Bucket=BUCKET, Key="k", VersionId=gone)
    for asked in (store.read, store.identity):
        with pytest.raises(NoDataError):
            asked("k", gone)


def test_other_refusals_of_s3_are_not_taken_for_a_missing_object(store: Store) -> None:
    with pytest.raises(boto3.client("s3").exceptions.NoSuchBucket):
        Store("dropforge-other").find("k")


def test_manifest_is_saved_readable_and_loaded_again(store: Store) -> None:
    manifest = Interval(0.5, 0.25, 1.0)
    store.save("m.json", manifest)
    assert store.load("m.json", Interval) == manifest
    assert store.read("m.json").startswith(b'{\n  "point": 0.5')


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.write("k", "x")
    store.delete("k")
    store.delete("k")
    assert store.find("k") is None


@pytest.mark.parametrize("size", [5, 20_000_000])
def test_same_upload_has_the_same_identity_whatever_its_name(
    store: Store, tmp_path: Path, size: int
) -> None:
    """20 MB take several parts: the checksum still has to cover the whole."""
    file = tmp_path / "export.csv"
    file.write_bytes(b"a" * size)
    versions = [store.upload_version(key, file) for key in ("one", "two")]
    assert store.identity("one", versions[0]) == store.identity("two", versions[1])
    file.write_bytes(b"a" * (size - 1) + b"b")
    changed = store.upload_version("one", file)
    assert store.identity("one", changed) != store.identity("two", versions[1])


@pytest.mark.parametrize("size", [5, 20_000_000])
def test_upload_asks_for_nothing_but_writing(tmp_path: Path, store: Store, size: int) -> None:
    """Roles that may only write below a prefix have to be able to upload there."""
    file, client = tmp_path / "rejected.jsonl", boto3.client("s3")
    file.write_bytes(b"a" * size)
    operations: set[str] = set()
    client.meta.events.register("before-call.s3", lambda model, **_: operations.add(model.name))

    Store(BUCKET, client).upload("rejected", file)

    parts = {"CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
    assert operations == ({"PutObject"} if size == 5 else parts)
    assert store.size("rejected") == size


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
def test_version_is_that_of_the_upload_even_where_another_follows_at_once(
    tmp_path: Path, store: Store, operation: str
) -> None:
    file, client = tmp_path / "export.csv", boto3.client("s3")
    data = b"a" * (5 if operation == "PutObject" else 20_000_000)
    file.write_bytes(data)
    follow = f"after-call.s3.{operation}"
    client.meta.events.register(follow, lambda **_: store.write("raced", "another's"))

    assert store.read("raced", Store(BUCKET, client).upload_version("raced", file)) == data
    assert store.read("raced") == b"another's"


@pytest.mark.parametrize(
    ("head", "identity"),
    [
        ({"ChecksumCRC64NVME": "n", "ChecksumCRC32": "c", "ChecksumType": "FULL_OBJECT"}, "n"),
        ({"ChecksumSHA256": "s"}, "s"),
        ({"ChecksumSHA256": "s-3", "ChecksumType": "COMPOSITE"}, "v1"),
        ({}, "v1"),
    ],
)
def test_identity_is_a_checksum_over_the_whole_object_or_the_version(
    head: dict[str, str], identity: str
) -> None:
    """S3's composite checksums depend on how the file was cut into parts."""
    client = boto3.client("s3")
    with Stubber(client) as stubber:
        stubber.add_response("head_object", {"ContentLength": 7, **head})
        assert Store(BUCKET, client).identity("k", "v1") == (identity, 7)
