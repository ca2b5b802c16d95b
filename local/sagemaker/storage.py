"""S3 as a training job sees it: channels in, archives out.

Downloads are cached by ETag and hard-linked into each job's folder, so base weights of several
hundred megabytes are fetched once. Cached files are read-only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from boto3.s3.transfer import TransferConfig

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


WHOLE: Final = TransferConfig(multipart_threshold=1 << 40, use_threads=False)
"""One request per object: the emulator reads the whole of it for every range."""


class NoInputError(Exception):
    """A channel's S3 URI matches no object; worded as SageMaker words it."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def relative_name(key: str, prefix: str) -> str:
    """Where an object below a channel's prefix lies in the channel's folder.

    A prefix that names a folder is cut off; one that names an object, or starts several names,
    leaves what follows its last slash.
    """
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    if key.startswith(folder):
        return key[len(folder) :]
    return key[prefix.rfind("/") + 1 :]


class Storage:
    """Downloads through a cache, and uploads."""

    def __init__(self, s3: S3Client, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self._s3 = s3
        self._cache = cache
        self._lock = threading.Lock()

    def download(self, uri: str, folder: Path) -> int:
        """Fills a folder with the objects below a URI; how many. Folder markers are skipped."""
        bucket, prefix = split_uri(uri)
        count = 0
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", []):
                name = relative_name(entry["Key"], prefix)
                if name and not name.endswith("/"):
                    self.fetch(bucket, entry["Key"], entry["ETag"], folder / name)
                    count += 1
        return count

    def download_channel(self, uri: str, folder: Path) -> None:
        """`download`, but raises NoInputError where there is nothing."""
        if not self.download(uri, folder):
            raise NoInputError(
                f'ClientError: Data download failed:No S3 objects found under S3 URL "{uri}" given'
                " in input data source. Please ensure that the bucket exists, that objects exist"
                " under that S3 prefix, and that the role has s3:ListBucket permissions on it."
            )

    def fetch(self, bucket: str, key: str, etag: str, target: Path) -> None:
        """Places an object at `target`, from the cache where it is there."""
        cached = self._cache / hashlib.sha256(f"{bucket}\0{key}\0{etag}".encode()).hexdigest()
        with self._lock:
            if not cached.exists():
                partial = cached.with_suffix(".part")
                self._s3.download_file(bucket, key, str(partial), Config=WHOLE)
                partial.chmod(0o444)
                partial.replace(cached)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(cached, target)
        except OSError:
            shutil.copy2(cached, target)

    def fetch_uri(self, uri: str, target: Path) -> None:
        """Places the object that a URI names. Raises botocore's ClientError where it is gone."""
        bucket, key = split_uri(uri)
        self.fetch(bucket, key, self._s3.head_object(Bucket=bucket, Key=key)["ETag"], target)

    def upload(self, file: Path, uri: str) -> None:
        bucket, key = split_uri(uri)
        self._s3.upload_file(str(file), bucket, key)

    def upload_folder(self, folder: Path, uri: str) -> None:
        """Uploads every file of a folder below a URI."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.upload(file, f"{uri.rstrip('/')}/{file.relative_to(folder).as_posix()}")

    def upload_new(self, folder: Path, uri: str, seen: dict[Path, tuple[int, int]]) -> None:
        """Uploads the files that have changed since they were `seen`, by time and size."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            with contextlib.suppress(FileNotFoundError):  # replaced by a newer one meanwhile
                stat = file.stat()
                stamp = stat.st_mtime_ns, stat.st_size
                if seen.get(file) != stamp:
                    self.upload(file, f"{uri.rstrip('/')}/{file.relative_to(folder).as_posix()}")
                    seen[file] = stamp


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder's content as .tar.gz, its entries at the archive's root as SageMaker does."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        for entry in sorted(folder.iterdir()):
            packed.add(entry, entry.name)


def unpack(archive: Path, folder: Path) -> None:
    """Extracts a .tar.gz; entries that would leave the folder are refused."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
