"""Artifacts in S3."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import boto3
import msgspec
from botocore.exceptions import ClientError

from dropforge.errors import NoDataError

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from types_boto3_s3 import S3Client

T = TypeVar("T")
_PIECE = 1 << 20
_GONE = {"NoSuchKey", "NoSuchVersion", "404"}
_LAST_OF_AN_UPLOAD = ("PutObject", "CompleteMultipartUpload")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".txt": "text/plain; charset=utf-8",
}


class Store:
    """The deployment's bucket. Artifacts are written whole, so a reader never sees half of one."""

    def __init__(self, bucket: str, client: S3Client | None = None) -> None:
        self.bucket = bucket
        self._s3: S3Client = client or boto3.client("s3")

    def read(self, key: str, version_id: str | None = None) -> bytes:
        """The object's bytes.

        Raises:
            NoDataError: there is no such object, or no such version of it any more.
        """
        return self._body(key, version_id).read()

    def _body(self, key: str, version_id: str | None) -> StreamingBody:
        try:
            if version_id:
                found = self._s3.get_object(Bucket=self.bucket, Key=key, VersionId=version_id)
            else:
                found = self._s3.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                raise NoDataError(f"{key} is not in the bucket any more.") from error
            raise
        return found["Body"]

    def fetch(self, key: str, version_id: str | None, file: BinaryIO) -> str:
        """Append the object to `file`, a piece at a time.

        Returns:
            SHA-256 of the bytes, 64 hex digits.

        Raises:
            NoDataError: there is no such object, or no such version of it any more.
            botocore.exceptions.BotoCoreError: the body was cut off or does not fit its checksum.
        """
        checksum = hashlib.sha256()
        for piece in self._body(key, version_id).iter_chunks(_PIECE):
            checksum.update(piece)
            file.write(piece)
        return checksum.hexdigest()

    def find(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        try:
            return self.read(key)
        except NoDataError:
            return None

    def load(self, key: str, kind: type[T]) -> T:
        """The manifest at the key. Raises NoDataError where there is none."""
        return msgspec.json.decode(self.read(key), type=kind)

    def find_manifest(self, key: str, kind: type[T]) -> T | None:
        """The manifest at the key, or None where there is none: a stage that has not run yet."""
        data = self.find(key)
        return None if data is None else msgspec.json.decode(data, type=kind)

    def write(self, key: str, data: bytes | str) -> None:
        self._s3.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=data.encode() if isinstance(data, str) else data,
            ContentType=_type(key),
        )

    def upload(self, key: str, file: Path) -> None:
        """Upload a file of any size, checksummed as a whole. Nothing is asked but to write it.

        CRC-32, since botocore computes S3's CRC-64 only with the AWS CRT beside it.
        """
        checksum = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        extra = {**checksum, "ContentType": _type(key)}
        self._s3.upload_file(str(file), self.bucket, key, ExtraArgs=extra)

    def upload_version(self, key: str, file: Path) -> str:
        """Upload a file; returns the version id of these very bytes, whoever writes after them.

        boto3's transfer keeps S3's answer to itself, so it is read where botocore has parsed it.
        For one upload at a time on a client, to a bucket that keeps versions.
        """
        versions: list[str] = []

        def note(parsed: dict[str, Any], **_: object) -> None:
            versions.append(parsed.get("VersionId", ""))

        events = self._s3.meta.events
        for operation in _LAST_OF_AN_UPLOAD:
            events.register(f"after-call.s3.{operation}", note)
        try:
            self.upload(key, file)
        finally:
            for operation in _LAST_OF_AN_UPLOAD:
                events.unregister(f"after-call.s3.{operation}", note)
        return versions[-1]

    def save(self, key: str, manifest: msgspec.Struct) -> None:
        """Write a manifest, readable by people too."""
        self.write(key, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")

    def size(self, key: str) -> int:
        """Bytes of the object."""
        return self._s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]

    def delete(self, key: str) -> None:
        """Delete the object; no error where there is none."""
        self._s3.delete_object(Bucket=self.bucket, Key=key)

    def identity(self, key: str, version_id: str) -> tuple[str, int]:
        """(content identity, size) of an object version.

        The identity is S3's own checksum where it covers the whole object, the version otherwise:
        two uploads of the same bytes then count as two files.

        Raises:
            NoDataError: there is no such version any more.
        """
        try:
            head = self._s3.head_object(
                Bucket=self.bucket, Key=key, VersionId=version_id, ChecksumMode="ENABLED"
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                raise NoDataError(f"{key} is not in the bucket any more.") from error
            raise
        whole = head.get("ChecksumType") != "COMPOSITE"
        sums = (head.get(f"Checksum{name}") for name in ("SHA256", "CRC64NVME", "CRC32"))
        checksum = next((s for s in sums if isinstance(s, str)), None) if whole else None
        return checksum or version_id, head["ContentLength"]


def _type(key: str) -> str:
    return _TYPES.get(key[key.rfind(".") :], "application/octet-stream")
