"""A provider that speaks OpenAI's or Together's protocol over HTTP, and fails in chosen ways."""

from __future__ import annotations

import email
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http import Fault, Handler, Server

Messages = list[dict[str, str]]
_KEPT = ("jobs", "files", "uploads", "creates", "keys", "probes", "chats", "events", "order")


def answers(status: int, code: str = "some_error") -> Fault:
    return lambda handler: handler.reply(status, {"error": {"message": "no", "code": code}})


def garbles(handler: _Handler) -> None:
    """Half a JSON with a 200."""
    handler.reply(200, b'{"id": "ftjob-')


class Provider(Server):
    """Keeps files and jobs; Together's routes stand beside OpenAI's.

    `create_faults` are used up one a create, before or after the job is kept (`keeps_job`);
    `refuses` answers every request of any kind; `closed` refuses every create of a job with 403
    training_not_available, before its file is looked at. A create that names an unknown file is
    refused and kept among `probes` instead of `creates`, unless the provider `trusts_files`.
    `hides` is how many lists after its create leave a job out; `page` is the longest page of jobs.
    `models` are all there are; None: every name is one. `order` is every request's method and path.
    Chats for a model of `chat_faults` fail so; a streamed one writes a word every `pace` seconds.
    """

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.jobs: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        self.uploads: list[dict[str, Any]] = []
        self.creates: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.probes: list[dict[str, Any]] = []
        self.chats: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.order: list[str] = []
        self.create_faults: list[Fault] = []
        self.upload_faults: list[Fault] = []
        self.models: dict[str, dict[str, Any]] | None = None
        self.file_status: dict[str, Any] = {}
        self.keeps_job = self.keeps_metadata = self.takes_suffix = True
        self.closed = self.trusts_files = False
        self.hides = 0
        self.page = 100
        self.refuses: Fault | None = None
        self.chat: Callable[[str, Messages], str | dict[str, Any]] = lambda model, messages: "Hello"
        self.chat_faults: dict[str, Fault] = {}
        self.pace = 0.0
        self.start()

    @property
    def kept(self) -> dict[str, list[Any]]:
        """What was sent and what came of it."""
        return {name: getattr(self, name) for name in _KEPT}

    @property
    def is_new(self) -> bool:
        """Nothing was sent to it, and nobody told it to fail."""
        return not any([*self.kept.values(), self.closed, self.refuses, *self._faults])

    @property
    def _faults(self) -> list[Any]:
        return [self.create_faults, self.upload_faults, self.chat_faults, self.models is not None]

    def finish(self, status: str = "succeeded", model: str | None = "ft:tuned") -> None:
        """End every job so."""
        for job in self.jobs:
            job.update(status=status, fine_tuned_model=model, model_output_name=model)

    def shown(self) -> list[dict[str, Any]]:
        """The jobs that a list shows now, the newest first."""
        for job in self.jobs:
            job["hidden"] = job.get("hidden", 0) - 1
        return [job for job in self.jobs[::-1] if job["hidden"] < 0]


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


class _Handler(Handler):
    server: Provider

    def do_POST(self) -> None:
        self.body = self.read()
        self.server.order.append(f"POST {self.path}")
        if self.server.refuses:
            self.server.refuses(self)
        elif self.path in ("/files", "/files/upload"):
            self._post_file()
        elif self.path in ("/fine_tuning/jobs", "/fine-tunes"):
            self._post_job()
        elif self.path.endswith("/cancel"):
            self._cancel(self.path.split("/")[-2])
        else:
            self._post_chat()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.order.append(f"GET {url.path}")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.server.refuses:
            self.server.refuses(self)
        elif url.path == "/fine_tuning/jobs":
            wanted = {k[9:-1]: v for k, v in query.items() if "metadata[" in k}
            found = [
                job for job in self.server.shown() if wanted.items() <= job["metadata"].items()
            ]
            self._page(found, query)
        elif url.path == "/fine-tunes":
            self.reply(200, {"data": self.server.shown()})
        elif url.path.endswith("/events"):
            self._list(self.server.events)
        elif url.path.endswith("/metrics"):
            self.reply(200, {"metrics": self.server.events})
        elif url.path == "/models" or url.path.startswith("/models/"):
            self._get_models(unquote(url.path[len("/models/") :]))
        elif url.path == "/fine-tunes/models/limits":
            self._get_models(query["model_name"])
        elif url.path == "/files":
            self._list(self.server.uploads)
        else:
            self._get_one(url.path.split("/")[-1])

    def _list(self, rows: list[dict[str, Any]]) -> None:
        self.reply(200, {"object": "list", "data": rows, "has_more": False})

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> None:
        ids = [row["id"] for row in rows]
        start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        end = start + min(int(query.get("limit", 20)), self.server.page)
        page = {"object": "list", "data": rows[start:end], "has_more": end < len(rows)}
        self.reply(200, page)

    def _get_models(self, name: str) -> None:
        models = self.server.models
        if not name:
            listed = [{"id": model, **about} for model, about in (models or {}).items()]
            self._list(listed)
        elif models is None or name in models:
            about = (models or {}).get(name, {})
            self.reply(200, {"id": name, "object": "model", "owned_by": "us", **about})
        else:
            answers(404, "model_not_found")(self)

    def _get_one(self, name: str) -> None:
        known = [*self.server.jobs, *self.server.uploads]
        found = next((entry for entry in known if entry["id"] == name), None)
        if found is None:
            self.reply(404, {"error": {"message": "no such thing", "code": "not_found"}})
        else:
            self.reply(200, found)

    def _cancel(self, job_id: str) -> None:
        job = next((job for job in self.server.jobs if job["id"] == job_id), None)
        if job is None or job["status"] in ("succeeded", "failed", "cancelled", "completed"):
            answers(400, "invalid_status")(self)
        else:
            job["status"] = "cancelled"
            self.reply(200, job)

    def _post_file(self) -> None:
        self.server.files.append(self.body)
        parts = _multipart(self.headers["Content-Type"], self.body)
        content, name = parts["file"]
        fault = self.server.upload_faults.pop(0) if self.server.upload_faults else None
        kept = {
            "id": f"file-{len(self.server.files)}",
            "object": "file",
            "filename": name or parts["file_name"][0].decode(),
            "bytes": len(content),
            "purpose": parts["purpose"][0].decode(),
            **self.server.file_status,
        }
        self.server.uploads.append(kept)
        if fault:
            fault(self)
        else:
            self.reply(200, kept)

    def _post_job(self) -> None:
        request = json.loads(self.body)
        if self.server.closed:
            answers(403, "training_not_available")(self)
            return
        known = [file["id"] for file in self.server.uploads]
        if request["training_file"] not in known and not self.server.trusts_files:
            self.server.probes.append(request)
            answers(400, "file_not_found")(self)
            return
        if "suffix" in request and not self.server.takes_suffix:
            answers(400, "unsupported_parameter")(self)
            return
        fault = self.server.create_faults.pop(0) if self.server.create_faults else None
        self.server.creates.append(request)
        self.server.keys.append(self.headers.get("Idempotency-Key"))
        job = self._new_job(request)
        if fault is None or self.server.keeps_job:
            self.server.jobs.append(job)
        if fault:
            fault(self)
        else:
            self.reply(200, job)

    def _new_job(self, request: dict[str, Any]) -> dict[str, Any]:
        kept = self.server.keeps_metadata
        return {
            "id": f"ftjob-{len(self.server.jobs) + 1}",
            "object": "fine_tuning.job",
            "status": "running",
            "model": request["model"],
            "training_file": request["training_file"],
            "user_provided_suffix": request.get("suffix"),
            "metadata": request.get("metadata", {}) if kept else {},
            "fine_tuned_model": None,
            "error": None,
            "hidden": self.server.hides,
        }

    def _post_chat(self) -> None:
        request = json.loads(self.body)
        self.server.chats.append(request)
        if fault := self.server.chat_faults.get(request["model"]):
            fault(self)
            return
        said = self.server.chat(request["model"], request["messages"])
        if isinstance(said, str) and request.get("stream"):
            self._stream_chat(said)
            return
        message = {"role": "assistant", "content": said}
        whole = said if isinstance(said, dict) else {"choices": [{"index": 0, "message": message}]}
        self.reply(200, whole)

    def _stream_chat(self, said: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        deltas: list[dict[str, Any]] = [{"delta": {"content": f"{w} "}} for w in said.split()]
        for choice in [*deltas, {"delta": {}, "finish_reason": "stop"}]:
            chunk = {"id": "chatcmpl-1", "created": 1, "choices": [{"index": 0, **choice}]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            self.wfile.flush()
            time.sleep(self.server.pace)
        self.wfile.write(b"data: [DONE]\n\n")


def _multipart(content_type: str, body: bytes) -> dict[str, tuple[bytes, str | None]]:
    """(content, file name) of each part of a form."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form: dict[str, tuple[bytes, str | None]] = {}
    for part in email.message_from_bytes(head + body).walk():
        name = re.search(r'\bname="([^"]+)"', part.get("Content-Disposition", ""))
        if name:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            form[name[1]] = (content, part.get_filename())
    return form
