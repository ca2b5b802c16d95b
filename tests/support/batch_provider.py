"""A provider that has OpenAI's Batch API as well, and fails in chosen ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.provider import Fault, Provider, _Handler, _multipart

_COUNTS = {"total": 0, "completed": 0, "failed": 0}


class BatchProvider(Provider):
    """Batches move on by one state whenever one is asked for: validating, in_progress, ended.

    `batch_faults` are used up one a create, before or after the batch is kept (`keeps_batch`).
    `unlisted` is how many lists after its create leave a batch out. `ends` is the status that
    batches end with; those that do not complete leave their last `undone` requests undone.
    `refused` are custom ids that the model answers with an error. `stays`: no batch ends.
    `uncancelled`: no batch is cancelled. `refuses_chats` answers every chat outside a batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = _BatchHandler
        self.batches: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}
        self.batch_faults: list[Fault] = []
        self.keeps_batch = self.has_batches = True
        self.unlisted = 0
        self.ends = "completed"
        self.undone = 0
        self.refused: dict[str, dict[str, Any]] = {}
        self.stays = self.uncancelled = False
        self.refuses_chats: Fault | None = None

    def keep(self, content: bytes) -> str:
        """A file of the provider's own."""
        file_id = f"file-out-{len(self.contents) + 1}"
        self.contents[file_id] = content
        return file_id

    def advance(self, batch: dict[str, Any]) -> None:
        lines = [json.loads(line) for line in self.contents[batch["input_file_id"]].splitlines()]
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
            batch["request_counts"] = {**_COUNTS, "total": len(lines)}
        elif batch["status"] == "in_progress" and not self.stays:
            self._end(batch, lines)

    def _end(self, batch: dict[str, Any], lines: list[dict[str, Any]]) -> None:
        done = lines[: len(lines) - self.undone] if self.ends == "expired" else lines
        outputs, errors = [], []
        for line in done if self.ends != "failed" else []:
            error = self.refused.get(line["custom_id"])
            if error:
                errors.append(_line(line, 400, {"error": error}))
            else:
                outputs.append(_line(line, 200, self._answer(line["body"])))
        expired = {"code": "batch_expired", "message": "This request could not be executed."}
        undone = [line["custom_id"] for line in lines[len(done) :]]
        errors += [{"custom_id": name, "response": None, "error": expired} for name in undone]
        batch |= {
            "status": self.ends,
            "output_file_id": self.keep(_jsonl(outputs[::-1])) if outputs else None,
            "error_file_id": self.keep(_jsonl(errors)) if errors else None,
        }
        if self.ends == "failed":
            batch["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "too many"}]}

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        said = self.chat(body["model"], body["messages"])
        if isinstance(said, dict):
            return said
        choice = {"index": 0, "message": {"role": "assistant", "content": said}}
        return {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}


@contextmanager
def running_batch_provider() -> Iterator[BatchProvider]:
    provider = BatchProvider()
    yield provider
    provider.stop()


def _line(line: dict[str, Any], status: int, body: dict[str, Any]) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "req-1", "body": body}
    return {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}


def _jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class _BatchHandler(_Handler):
    server: BatchProvider

    def _post_chat(self) -> None:
        if self.path == "/batches":
            self._post_batch()
        elif self.server.refuses_chats:
            self.server.refuses_chats(self)
        else:
            super()._post_chat()

    def _cancel(self, job_id: str) -> None:
        if self.path.startswith("/batches/"):
            self._cancel_batch(job_id)
        else:
            super()._cancel(job_id)

    def _get_one(self, name: str) -> None:
        parts = self.path.partition("?")[0].split("/")
        if parts[1:] == ["batches"]:
            self._list_batches()
        elif parts[1] == "batches":
            self._get_batch(name)
        elif parts[1] == "files" and name == "content":
            content = self.server.contents.get(parts[2])
            self._missing() if content is None else self.reply(200, content)
        else:
            super()._get_one(name)

    def _missing(self) -> None:
        self.reply(404, {"error": {"message": "no such thing", "code": "not_found"}})

    def _post_file(self) -> None:
        content = _multipart(self.headers["Content-Type"], self.body)["file"][0]
        super()._post_file()
        self.server.contents[f"file-{len(self.server.files)}"] = content

    def _post_batch(self) -> None:
        request = json.loads(self.body)
        fault = self.server.batch_faults.pop(0) if self.server.batch_faults else None
        batch = request | {
            "id": f"batch_{len(self.server.batches) + 1}",
            "object": "batch",
            "created_at": 1,
            "status": "validating",
            "request_counts": dict(_COUNTS),
            "hidden": self.server.unlisted,
            "key": self.headers.get("Idempotency-Key"),
        }
        if fault is None or self.server.keeps_batch:
            self.server.batches.append(batch)
        fault(self) if fault else self.reply(200, batch)

    def _list_batches(self) -> None:
        if not self.server.has_batches:
            self._missing()
            return
        for batch in self.server.batches:
            batch["hidden"] -= 1
        self._list([batch for batch in self.server.batches[::-1] if batch["hidden"] < 0])

    def _get_batch(self, batch_id: str) -> None:
        found = next((b for b in self.server.batches if b["id"] == batch_id), None)
        if found is None:
            self._missing()
            return
        self.server.advance(found)
        self.reply(200, found)

    def _cancel_batch(self, batch_id: str) -> None:
        found = next((b for b in self.server.batches if b["id"] == batch_id), None)
        if found is None:
            self._missing()
        elif found["status"] not in ("validating", "in_progress") or self.server.uncancelled:
            self.reply(400, {"error": {"message": "it has ended", "code": "invalid_status"}})
        else:
            found["status"] = "cancelled"
            self.reply(200, found)
