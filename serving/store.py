"""Files and jobs on disk: everything the server knows survives a restart.

Layout of the state folder:

    files/<file id>/{file.json,content}
    jobs/<job id>/{job.json,events.jsonl,train.log} and the folders of one training run
    loaded.json                     adapters loaded through /v1/load_lora_adapter
    lifecycle.json, webhooks.json   written by a person: see Lifecycle and webhooks.py
"""

from __future__ import annotations

import json
import secrets
import shutil
import string
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from serving.errors import ApiError

Record = dict[str, Any]
TERMINAL = ("succeeded", "failed", "cancelled")


def new_id(prefix: str) -> str:
    """A random id of OpenAI's form, such as `ftjob-` with 24 letters and digits."""
    alphabet = string.ascii_letters + string.digits
    return prefix + "".join(secrets.choice(alphabet) for _ in range(24))


def now() -> int:
    """Unix time in whole seconds."""
    return int(time.time())


def write_json(path: Path, record: Any) -> None:
    """Replace a file atomically: a reader, or a kill, meets the old or the new one."""
    scratch = path.with_name(path.name + ".partial")
    scratch.write_text(json.dumps(record))
    scratch.replace(path)


def page(records: list[Record], after: str | None, limit: int) -> Record:
    """One page of a list in OpenAI's form, from the record after the id `after` on."""
    ids = [record["id"] for record in records]
    start = ids.index(after) + 1 if after in ids else 0
    data = records[start : start + limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + limit < len(records),
    }


class Lifecycle:
    """When models end, for trying out what a provider's shutdown does; read anew for each question.

    `lifecycle.json` holds `{"<model id>": "YYYY-MM-DD", …, "training_closed": true}`, all of it
    optional. From its day on a model neither answers nor is trained.
    """

    def __init__(self, state: Path) -> None:
        self._file = state / "lifecycle.json"

    def _read(self) -> Record:
        return dict(json.loads(self._file.read_text())) if self._file.exists() else {}

    @property
    def training_closed(self) -> bool:
        """Whether no account may train any more."""
        return self._read().get("training_closed") is True

    def shutdown_date(self, *model_ids: str | None) -> str | None:
        """The first day on which one of these models (a model and its base) is gone."""
        told = self._read()
        return min((told[name] for name in model_ids if name and told.get(name)), default=None)

    def ended(self, *model_ids: str | None) -> bool:
        """Whether that day has come, in UTC."""
        day = self.shutdown_date(*model_ids)
        return day is not None and date.fromisoformat(day) <= datetime.now(UTC).date()


class FileStore:
    """Uploaded files, and the result files of jobs."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "files"
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, purpose: str, content: bytes) -> Record:
        """Keep a file and return its File object."""
        record: Record = {
            "id": new_id("file-"),
            "object": "file",
            "bytes": len(content),
            "created_at": now(),
            "expires_at": None,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
            "status_details": None,
        }
        folder = self._folder / record["id"]
        folder.mkdir()
        (folder / "content").write_bytes(content)
        write_json(folder / "file.json", record)
        return record

    def get(self, file_id: str) -> Record:
        """The File object.

        Raises:
            ApiError: 404, there is no such file.
        """
        record: Record = json.loads((self._find(file_id) / "file.json").read_text())
        return record

    def content(self, file_id: str) -> Path:
        """Where the file's bytes are; raises as `get` does."""
        return self._find(file_id) / "content"

    def all(self) -> list[Record]:
        """All File objects, the newest first."""
        records = [json.loads(path.read_text()) for path in self._folder.glob("*/file.json")]
        return sorted(records, key=lambda record: (-record["created_at"], record["id"]))

    def delete(self, file_id: str) -> None:
        """Forget a file; raises as `get` does."""
        shutil.rmtree(self._find(file_id))

    def _find(self, file_id: str) -> Path:
        folder = self._folder / file_id
        if folder.parent != self._folder or not (folder / "file.json").exists():
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return folder


class JobStore:
    """Fine-tuning jobs and their events. Records are copies: change them with `update`.

    `on_end` is called with the record of each job that ends, in the thread that ended it.
    """

    on_end: Callable[[Record], None] | None = None

    def __init__(self, state: Path) -> None:
        self._folder = state / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        paths = self._folder.glob("*/job.json")
        self._jobs: dict[str, Record] = {
            path.parent.name: json.loads(path.read_text()) for path in paths
        }

    def folder(self, job_id: str) -> Path:
        """Where a job's run keeps its data, checkpoints and model."""
        return self._folder / job_id

    def add(self, record: Record) -> None:
        """Keep a new job."""
        with self._lock:
            self.folder(record["id"]).mkdir()
            self._save(record)

    def get(self, job_id: str) -> Record:
        """The job's record.

        Raises:
            ApiError: 404, there is no such job.
        """
        with self._lock:
            if job_id not in self._jobs:
                raise ApiError(
                    404,
                    f"Could not find fine tune: {job_id}",
                    param="fine_tune_id",
                    code="fine_tune_not_found",
                )
            return dict(self._jobs[job_id])

    def all(self) -> list[Record]:
        """All jobs, the newest first."""
        with self._lock:
            jobs = [dict(job) for job in self._jobs.values()]
        return sorted(jobs, key=lambda job: (-job["order"], job["id"]))

    def update(self, job_id: str, *, unless: Iterable[str] = TERMINAL, **changes: Any) -> bool:
        """Change a job unless its status is one of `unless`; whether it was changed."""
        with self._lock:
            job = self.get(job_id)
            if job["status"] in unless:
                return False
            ended = job["status"] not in TERMINAL and changes.get("status") in TERMINAL
            job |= changes
            self._save(job)
        if ended and self.on_end:
            self.on_end(job)
        return True

    def find(self, idempotency_key: str) -> Record | None:
        """The job that was created with this key, if one was."""
        return next((j for j in self.all() if j.get("idempotency_key") == idempotency_key), None)

    def _save(self, record: Record) -> None:
        write_json(self.folder(record["id"]) / "job.json", record)
        self._jobs[record["id"]] = record

    def log(
        self, job_id: str, message: str, data: Record | None = None, level: str = "info"
    ) -> None:
        """Append an event; one with `data` is a metrics event."""
        event = {
            "object": "fine_tuning.job.event",
            "id": new_id("ftevent-"),
            "created_at": now(),
            "level": level,
            "message": message,
            "type": "metrics" if data else "message",
            "data": data or {},
        }
        with self._lock, (self.folder(job_id) / "events.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")

    def events(self, job_id: str) -> list[Record]:
        """A job's events, the newest first; raises as `get` does."""
        self.get(job_id)
        path = self.folder(job_id) / "events.jsonl"
        with self._lock:
            lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in reversed(lines) if line.endswith("}")]

    def metrics(self, job_id: str) -> list[Record]:
        """The data of a job's metrics events, the oldest first; raises as `get` does."""
        return [e["data"] for e in reversed(self.events(job_id)) if e["type"] == "metrics"]
