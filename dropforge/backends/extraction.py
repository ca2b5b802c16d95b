"""One extraction: database -> `exports/<project>/extracted/…jsonl.gz` -> the cursor moves on.

Exactly once, by one conditional write: S3 creates the export that begins at a cursor value only
where there is none yet, with the value it ends at in its metadata. Whoever finds it there, after a
crash or beside another extraction, moves the cursor to that end and reads on from it. The registry
only says where to begin looking.
"""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import boto3
import msgspec
from botocore.exceptions import ClientError

from dropforge.artifacts import project_snapshot_key
from dropforge.backends.database import reading
from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED, Item, Registry
from dropforge.backends.store import Store
from dropforge.drop import MAX_EXTRACTED
from dropforge.errors import DatabaseError, DropforgeError, ProjectError, RetryableError
from dropforge.extract import Extraction, extracted_key, since_key, write_export
from dropforge.extract.cursor import Cursor
from dropforge.project import ProjectConfig
from dropforge.project.data import Extract

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MEMORY = 8 << 20
"""Bytes of an export that are kept in memory before it goes on in a temporary file."""
_MISSING = {"404", "NoSuchKey", "NotFound"}


class Outcome(msgspec.Struct, frozen=True):
    """How an extraction ended. `version_id` is None where nothing was dropped; `why` says why."""

    project: str
    key: str
    found: Extraction
    version_id: str | None = None
    why: str = ""

    @property
    def sentence(self) -> str:
        """The outcome for people and logs; nothing of what customers wrote."""
        found, counts = self.found, f"{self.found.rows} rows"
        if self.version_id is not None:
            counts += " dropped"
        if found.unanswered:
            counts += f", {found.unanswered} without an answer left out"
        if found.more:
            counts += ", more for the next time"
        return counts if self.version_id is not None else f"nothing dropped: {self.why} ({counts})"


def database_address(extract: Extract) -> str:
    """The database's URL, read anew each time: passwords are rotated.

    Raises:
        DatabaseError: there is no such secret, or it may not be read.
    """
    client = boto3.client("secretsmanager")
    name = extract.url_secret
    try:
        return str(client.get_secret_value(SecretId=name).get("SecretString", ""))
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("ResourceNotFoundException", "AccessDeniedException"):
            raise DatabaseError(
                f"The secret {name} cannot be read ({code}).",
                hint=f"aws secretsmanager create-secret --name {name} --secret-string file://url",
            ) from None
        raise


class Extractor:
    """Extractions of one deployment.

    Args:
        clock: seconds since the epoch.
        progress: told how many rows were read so far.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        clock: Callable[[], float] = time.time,
        progress: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._store, self._registry = store, registry
        self._clock, self._progress = clock, progress
        self._s3: S3Client = boto3.client("s3")

    def config(self, project: str) -> ProjectConfig:
        """The project's configuration in force.

        Raises:
            ProjectError: there is no such project, or it has no `extract:`.
        """
        known = self._registry.get(project, "config")
        if known is None:
            raise ProjectError(f"There is no project {project!r}.")
        data = self._store.read(project_snapshot_key(project, str(known["hash"])))
        config = ProjectConfig.model_validate_json(data)
        _of(config)
        return config

    def run(self, project: str, address: str | None = None) -> Outcome:
        """Drop what is new, then move the cursor; how it ended is kept in the registry.

        Safe to repeat, to cut off anywhere, and to run beside itself.

        Args:
            address: the database's URL; the project's secret is read where it is not given.

        Raises:
            ProjectError, DatabaseError, RetryableError: nothing was dropped, the cursor stays.
        """
        try:
            config = self.config(project)
            begun = {"status": RUNNING, "started_at": self._clock()}
            self._registry.note_extraction(project, begun)
            outcome = self._run(project, config, address)
        except Exception as error:
            noted = {"status": FAILED, "error": _told(error), "ended_at": self._clock()}
            self._registry.note_extraction(project, noted)
            raise
        noted = {"status": SUCCEEDED, "error": None, "said": outcome.sentence}
        self._registry.note_extraction(project, {**noted, "ended_at": self._clock()})
        return outcome

    def look(self, project: str, address: str | None = None, since: str | None = None) -> Outcome:
        """What would be dropped; nothing is written anywhere. Raises as `run` does."""
        config = self.config(project)
        begin = self._begin(project, _of(config), since)
        key = since_key(project, since) if since else extracted_key(project, _of(config), begin)
        with tempfile.SpooledTemporaryFile(MEMORY) as file:
            found = self._read(config, address, begin, file)
        return Outcome(project, key, found, None, "dry run")

    def again(self, project: str, since: str, address: str | None = None) -> Outcome:
        """Drop what is newer than `since`, whatever was taken before; the cursor stays.

        Done again with the same value it replaces what it dropped before. Raises as `run` does.
        """
        config, key = self.config(project), since_key(project, since)
        begin = self._begin(project, _of(config), since)
        with tempfile.SpooledTemporaryFile(MEMORY) as file:
            found = self._read(config, address, begin, file)
            if not found.rows:
                return Outcome(project, key, found, None, "no row is newer")
            return Outcome(project, key, found, self._put(key, file, {}))

    def _run(self, project: str, config: ProjectConfig, address: str | None) -> Outcome:
        extract = _of(config)
        begin = self._begin(project, extract, None)
        while begin and (end := self._end_of(extracted_key(project, extract, begin))):
            self._move(project, extract, begin, end)  # an extraction that was cut off, finished
            begin = end
        key = extracted_key(project, extract, begin)
        with tempfile.SpooledTemporaryFile(MEMORY) as file:
            found = self._read(config, address, begin, file)
            if found.rows < extract.min_rows:
                why = "nothing new" if not found.rows else f"fewer than {extract.min_rows} are new"
                return Outcome(project, key, found, None, why)
            if begin is None or found.to is None:
                return self._replace(project, key, found, file)
            end_text = json.dumps([found.to.kind, found.to.text])
            version = self._put(key, file, {"extracted-to": end_text}, new=True)
        if version is None:
            if end := self._end_of(key):
                self._move(project, extract, begin, end)
            return Outcome(project, key, found, None, "another extraction took the same rows")
        self._move(project, extract, begin, found.to)
        return Outcome(project, key, found, version)

    def _replace(self, project: str, key: str, found: Extraction, file: IO[bytes]) -> Outcome:
        """Without a cursor: everything, in place of the former everything."""
        if self._registry.extraction(project).get("sha256") == found.sha256:
            return Outcome(project, key, found, None, "nothing has changed")
        version = self._put(key, file, {})
        self._registry.note_extraction(project, {"sha256": found.sha256})
        return Outcome(project, key, found, version)

    def _begin(self, project: str, extract: Extract, since: str | None) -> Cursor | None:
        """Where to read on; another column or another start in project.yaml begins anew."""
        if since is not None:
            if extract.cursor is None:
                raise ProjectError(
                    "Without `cursor:` every extraction takes all rows.",
                    hint="Leave --since out, or name a cursor under `extract:`.",
                )
            return Cursor("start", since)
        if extract.cursor is None or extract.start is None:
            return None
        known = self._registry.extraction(project)
        if [known.get("column"), known.get("start")] == [extract.cursor, extract.start]:
            return msgspec.convert(known["cursor"], Cursor)
        return Cursor("start", extract.start)

    def _move(self, project: str, extract: Extract, begin: Cursor, end: Cursor) -> None:
        """Only from where this extraction began: anybody else's move was to the same end."""
        known = self._registry.extraction(project)
        chain = {"column": extract.cursor, "start": extract.start}
        if known.get("revision"):
            same = {name: known.get(name) for name in chain} == chain
            if same and msgspec.convert(known["cursor"], Cursor) != begin:
                return
        item: Item = {**known, **chain, "cursor": msgspec.to_builtins(end), "at": self._clock()}
        item = {name: value for name, value in item.items() if name not in ("pk", "sk")}
        self._registry.move_extraction(project, item, revision=int(known.get("revision") or 0))

    def _read(
        self, config: ProjectConfig, address: str | None, begin: Cursor | None, file: IO[bytes]
    ) -> Extraction:
        value = begin.value if begin else None
        address = address or database_address(_of(config))
        with reading(address, _of(config).query, value) as answer:
            columns, rows = answer
            found = write_export(columns, rows, config, begin, file, self._progress)
        if file.tell() > MAX_EXTRACTED:
            raise ProjectError(
                f"The export has {file.tell():,} bytes; one run takes {MAX_EXTRACTED:,}.",
                hint="Lower `extract.max_rows`.",
            )
        return found

    def _end_of(self, key: str) -> Cursor | None:
        """Where the export at the key ends; None where there is none."""
        try:
            head = self._s3.head_object(Bucket=self._store.bucket, Key=key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _MISSING:
                return None
            raise
        try:
            return Cursor(*json.loads(head["Metadata"]["extracted-to"]))
        except KeyError:
            raise ProjectError(
                f"{key} was put there by hand.",
                hint="Give it another name: an extraction has to write this one.",
            ) from None

    def _put(
        self, key: str, file: IO[bytes], metadata: dict[str, str], *, new: bool = False
    ) -> str | None:
        """Write the export; its version. With `new`, None where there is an object already."""
        file.seek(0)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
        try:
            done = self._s3.put_object(
                Bucket=self._store.bucket,
                Key=key,
                Body=file,
                ContentType="application/gzip",
                ChecksumAlgorithm="CRC32",
                Metadata=metadata,
                **condition,
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code == "PreconditionFailed":
                return None
            if code == "ConditionalRequestConflict":
                raise RetryableError("Another extraction writes the same export.") from None
            raise
        return done["VersionId"]


def _of(config: ProjectConfig) -> Extract:
    if config.extract is None:
        raise ProjectError("The project has no `extract:`.", hint="See docs/project.md.")
    return config.extract


def _told(error: Exception) -> str:
    """The error for the registry: our own in its words, AWS's by its code, any other by its place.

    What another says may quote a row.
    """
    if isinstance(error, DropforgeError):
        return str(error)
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
    return f"INTERNAL: {type(error).__name__} {code or where}."
