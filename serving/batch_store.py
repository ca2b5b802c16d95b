"""Batches on disk, and the requests of their input files, checked as OpenAI checks them."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from serving.errors import ApiError
from serving.store import Record, write_json

ENDED = ("completed", "failed", "expired", "cancelled")
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000


class InvalidBatchError(Exception):
    """An input file that no batch can be made of; `code` is OpenAI's."""

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.line = line


def read_requests(content: bytes, endpoint: str) -> list[Record]:
    """The requests of an input file.

    Raises:
        InvalidBatchError: the first thing that is wrong with it.
    """
    lines = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise InvalidBatchError("empty_file", "The input file holds no request.")
    if len(lines) > MOST_REQUESTS or len(content) > MOST_BYTES:
        message = f"A batch has at most {MOST_REQUESTS} requests and {MOST_BYTES} bytes."
        raise InvalidBatchError("request_limit_exceeded", message)
    requests: dict[str, Record] = {}
    for number, line in lines:
        request = _read_request(number, line, endpoint)
        name = request["custom_id"]
        if name in requests:
            message = f"The custom_id {name!r} stands in the file twice."
            raise InvalidBatchError("duplicate_custom_id", message, number)
        requests[name] = request
    if len({str(request["body"].get("model")) for request in requests.values()}) > 1:
        raise InvalidBatchError("mismatched_model", "All requests must name the same model.")
    return list(requests.values())


def _read_request(number: int, line: bytes, endpoint: str) -> Record:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        message = "This line is not parseable as valid JSON."
        raise InvalidBatchError("invalid_json_line", message, number) from error
    wanted = {"custom_id": str, "method": str, "url": str, "body": dict}
    for name, kind in wanted.items():
        if not isinstance(request, dict) or not isinstance(request.get(name), kind):
            message = f"Missing required parameter: '{name}'."
            raise InvalidBatchError("missing_required_parameter", message, number)
    if request["method"] != "POST" or request["url"] != endpoint:
        message = f"Every request must be a POST to {endpoint}, as the batch says."
        raise InvalidBatchError("invalid_url", message, number)
    return dict(request)


class BatchStore:
    """Batches on disk. Records are copies: change them with `update`."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "batches"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        paths = self._folder.glob("*/batch.json")
        self._batches: dict[str, Record] = {
            path.parent.name: json.loads(path.read_text()) for path in paths
        }

    def add(self, record: Record) -> Record:
        """Keep a new batch, unless one was created with the same Idempotency-Key: the one kept."""
        with self._lock:
            batches, key = self.all(), record["idempotency_key"]
            known = next((b for b in batches if key and b["idempotency_key"] == key), None)
            if known:
                return known
            record["order"] = batches[0]["order"] + 1 if batches else 1
            (self._folder / record["id"]).mkdir()
            self._save(record)
            return dict(record)

    def get(self, batch_id: str) -> Record:
        """The batch's record.

        Raises:
            ApiError: 404, there is no such batch.
        """
        with self._lock:
            if batch_id not in self._batches:
                raise ApiError(404, f"No batch found with id '{batch_id}'.", param="batch_id")
            return dict(self._batches[batch_id])

    def all(self) -> list[Record]:
        """All batches, the newest first."""
        with self._lock:
            return sorted(map(dict, self._batches.values()), key=lambda batch: -batch["order"])

    def update(
        self, batch_id: str, changes: dict[str, Any], *, unless: tuple[str, ...] = ENDED
    ) -> bool:
        """Change a batch unless its status is one of `unless`; whether it was changed."""
        with self._lock:
            batch = self.get(batch_id)
            if batch["status"] in unless:
                return False
            self._save(batch | changes)
            return True

    def _save(self, record: Record) -> None:
        write_json(self._folder / record["id"] / "batch.json", record)
        self._batches[record["id"]] = record

    def results(self, batch_id: str) -> Path:
        """Where the lines of the output and error files are kept while it runs."""
        return self._folder / batch_id / "results.jsonl"
