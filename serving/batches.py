"""Routes of /v1/batches, in OpenAI's words, and the thread that runs what they are given.

A batch's requests really go through the server's own chat route, a few at a time. Batches live in
the state folder (`batches/<id>/{batch.json,results.jsonl}`); one that a restart interrupts goes on
with what it has not answered. `{"batch_seconds": N}` in lifecycle.json plays a provider that is
too busy: batches then expire N seconds after their creation, instead of after a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from fastapi import APIRouter, FastAPI, Header
from pydantic import BaseModel, Field

from serving.batch_store import ENDED, BatchStore, InvalidBatchError, read_requests
from serving.errors import ApiError
from serving.fine_tuning import Limit
from serving.store import FileStore, Lifecycle, Record, new_id, now, page

ENDPOINTS = ("/v1/chat/completions", "/chat/completions")
"""OpenAI's name of the chat route, and Azure's."""
AT_ONCE = 4
DAY = 24 * 3600
INTERNAL = ("order", "idempotency_key")
EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


class BatchRequest(BaseModel):
    """The body of a batch's creation."""

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    output_expires_after: dict[str, Any] | None = None


class Batching:
    """Creates, runs and cancels batches, in the order of their creation.

    Args:
        app: whose chat route answers.
    """

    def __init__(self, app: FastAPI, batches: BatchStore, files: FileStore, lives: Lifecycle):
        self._app = app
        self._lives = lives
        self.batches = batches
        self.files = files
        self._wake = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with the batches that an earlier server left unfinished."""
        self._thread.start()

    def stop(self) -> None:
        """Stop what is under way; the next server goes on with it."""

        def cancel() -> None:
            if self._serving:
                self._serving.cancel()

        self._loop.call_soon_threadsafe(cancel)
        self._wake.set()
        self._thread.join(timeout=10)

    def create(self, body: BatchRequest, key: str | None) -> Record:
        """A new batch, whose file is checked later.

        Raises:
            ApiError: 400, the endpoint is no chat, or there is no such file for batches.
        """
        if body.endpoint not in ENDPOINTS:
            known = ", ".join(ENDPOINTS)
            raise ApiError(400, f"'{body.endpoint}' is not one of: {known}", param="endpoint")
        try:
            purpose = self.files.get(body.input_file_id)["purpose"]
        except ApiError as error:
            raise ApiError(400, str(error), param="input_file_id") from error
        if purpose != "batch":
            message = f"{body.input_file_id} has the purpose '{purpose}', not 'batch'."
            raise ApiError(400, message, param="input_file_id")
        batch = self.batches.add(_new_batch(body, key, self._seconds()))
        self._wake.set()
        return batch

    def _seconds(self) -> int:
        told = self._lives.batch_seconds
        return DAY if told is None else told

    def cancel(self, batch_id: str) -> Record:
        """The batch, which ends as cancelled once what is under way is answered.

        Raises:
            ApiError: 404, there is no such batch; 409, it has ended.
        """
        status = self.batches.get(batch_id)["status"]
        changes = {"status": "cancelling", "cancelling_at": now()}
        if not self.batches.update(batch_id, changes):
            raise ApiError(409, f"Cannot cancel a batch with status '{status}'.")
        self._wake.set()
        return self.batches.get(batch_id)

    def _run(self) -> None:
        self._serving = self._loop.create_task(self._serve())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)

    async def _serve(self) -> None:
        transport = httpx.ASGITransport(app=self._app, raise_app_exceptions=False)
        address = "http://batches"
        async with httpx.AsyncClient(transport=transport, base_url=address) as chat:
            while True:
                waiting = [b for b in self.batches.all() if b["status"] not in ENDED]
                if waiting:
                    await self._execute(chat, waiting[-1]["id"])
                else:
                    await asyncio.to_thread(self._wake.wait)
                    self._wake.clear()

    async def _execute(self, chat: httpx.AsyncClient, batch_id: str) -> None:
        batch = self.batches.get(batch_id)
        try:
            content = self.files.content(batch["input_file_id"]).read_bytes()
            requests = read_requests(content, batch["endpoint"])
            done = _kept(self.batches.results(batch_id))
            counts = _counts(len(requests), done)
            self._proceed(batch_id, "in_progress", request_counts=counts)
            await self._answer(chat, batch_id, requests, done)
            self._conclude(batch_id, requests, done)
        except (ApiError, InvalidBatchError) as error:
            self._fail(batch_id, error.code or "file_not_found", error)
        except Exception as error:
            self._fail(batch_id, "internal_error", error)

    def _proceed(self, batch_id: str, status: str, **changes: Any) -> bool:
        """Whether the batch got as far, rather than being cancelled meanwhile."""
        changes |= {"status": status, f"{status}_at": now()}
        return self.batches.update(batch_id, changes, unless=(*ENDED, "cancelling"))

    def _fail(self, batch_id: str, code: str, error: Exception) -> None:
        line = error.line if isinstance(error, InvalidBatchError) else None
        told = {"code": code, "line": line, "message": str(error), "param": None}
        errors = {"object": "list", "data": [told]}
        self.batches.update(batch_id, {"status": "failed", "failed_at": now(), "errors": errors})

    async def _answer(
        self, chat: httpx.AsyncClient, batch_id: str, requests: list[Record], done: list[Record]
    ) -> None:
        """Run what is not done, `AT_ONCE` together, until it is, or cancelled, or expired."""
        answered = {line["custom_id"] for line in done}
        rest = iter([request for request in requests if request["custom_id"] not in answered])

        async def work() -> None:
            while self._goes_on(batch_id) and (request := next(rest, None)):
                line = await _asked(chat, request)
                done.append(line)
                with self.batches.results(batch_id).open("a") as file:
                    file.write(json.dumps(line) + "\n")
                counts = _counts(len(requests), done)
                self.batches.update(batch_id, {"request_counts": counts})

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())

    def _conclude(self, batch_id: str, requests: list[Record], done: list[Record]) -> None:
        """Write the files of a batch that goes no further, and end it."""
        answered = {line["custom_id"] for line in done}
        undone = [r["custom_id"] for r in requests if r["custom_id"] not in answered]
        status = "expired" if undone else "completed"
        if not self._proceed(batch_id, "finalizing"):
            status = "cancelled"
        outputs = [line for line in done if line["response"]["status_code"] == 200]
        errors = [line for line in done if line["response"]["status_code"] != 200]
        if status == "expired":
            about: Record = {"response": None, "error": EXPIRED}
            errors += [{"id": new_id("batch_req_"), "custom_id": c, **about} for c in undone]
        places = {
            "output_file_id": self._written(f"{batch_id}_output.jsonl", outputs),
            "error_file_id": self._written(f"{batch_id}_error.jsonl", errors),
        }
        self.batches.update(batch_id, {"status": status, f"{status}_at": now(), **places})

    def _written(self, name: str, lines: list[Record]) -> str | None:
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return str(self.files.add(name, "batch_output", content)["id"]) if lines else None

    def _goes_on(self, batch_id: str) -> bool:
        batch = self.batches.get(batch_id)
        return bool(batch["status"] == "in_progress" and now() < batch["expires_at"])


async def _asked(chat: httpx.AsyncClient, request: Record) -> Record:
    """The line of the output or error file for one request."""
    answer = await chat.post("/v1/chat/completions", json=request["body"] | {"stream": False})
    response = {
        "status_code": answer.status_code,
        "request_id": new_id("req_"),
        "body": answer.json(),
    }
    line: Record = {"id": new_id("batch_req_"), "custom_id": request["custom_id"]}
    return line | {"response": response, "error": None}


def _kept(results: Path) -> list[Record]:
    """The lines that an earlier server wrote; half of one, where it was killed, is left out."""
    lines = results.read_text().split("\n") if results.exists() else []
    kept = [json.loads(line) for line in lines[:-1]]
    results.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return kept


def _counts(total: int, done: list[Record]) -> Record:
    completed = sum(line["response"]["status_code"] == 200 for line in done)
    return {"total": total, "completed": completed, "failed": len(done) - completed}


def _new_batch(body: BatchRequest, key: str | None, seconds: int) -> Record:
    """The record of a batch that a request makes; its `order` is the store's to give."""
    times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
    empty: Record = {f"{state}_at": None for state in (*times, "cancelled")}
    return empty | {
        "id": new_id("batch_"),
        "object": "batch",
        "endpoint": body.endpoint,
        "errors": None,
        "input_file_id": body.input_file_id,
        "completion_window": body.completion_window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now(),
        "expires_at": now() + seconds,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.metadata,
        "idempotency_key": key,
    }


def batch_routes(batching: Batching) -> APIRouter:
    """/v1/batches."""
    router = APIRouter(prefix="/v1/batches")
    batches = batching.batches

    def public(batch: Record) -> Record:
        return {name: value for name, value in batch.items() if name not in INTERNAL}

    @router.post("")
    def create(
        body: BatchRequest, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Record:
        return public(batching.create(body, idempotency_key))

    @router.get("")
    def list_batches(after: str | None = None, limit: Limit = 20) -> Record:
        return page([public(batch) for batch in batches.all()], after, limit)

    @router.get("/{batch_id}")
    def retrieve(batch_id: str) -> Record:
        return public(batches.get(batch_id))

    @router.post("/{batch_id}/cancel")
    def cancel(batch_id: str) -> Record:
        return public(batching.cancel(batch_id))

    return router
