"""A provider that speaks OpenAI's protocol over real HTTP, and fails in chosen ways."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Messages = list[dict[str, str]]
Fault = Callable[["_Handler"], None]


def answers(status: int, code: str = "some_error") -> Fault:
    return lambda handler: handler.reply(status, {"error": {"message": "no", "code": code}})


def drops(handler: _Handler) -> None:
    """A TCP reset instead of an answer."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


def hangs(handler: _Handler) -> None:
    """No answer until the server stops."""
    handler.server.released.wait(30)
    handler.close_connection = True


def garbles(handler: _Handler) -> None:
    """Half a JSON with a 200."""
    handler.reply(200, b'{"id": "ftjob-')


class Provider(ThreadingHTTPServer):
    """Keeps files and jobs.

    `create_faults` are used up one a create, before or after the job is kept (`keeps_job`);
    `refuses` answers every request of any kind.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.jobs: list[dict[str, Any]] = []
        self.files: list[bytes] = []
        self.creates: list[dict[str, Any]] = []
        self.chats: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.create_faults: list[Fault] = []
        self.keeps_job = True
        self.refuses: Fault | None = None
        self.chat: Callable[[str, Messages], str | dict[str, Any]] = lambda model, messages: "Hello"
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def finish(self, status: str = "succeeded", model: str | None = "ft:tuned") -> None:
        """End every job so."""
        for job in self.jobs:
            job.update(status=status, fine_tuned_model=model)


@contextmanager
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Provider

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses:
            self.server.refuses(self)
        elif self.path == "/files":
            self._post_file()
        elif self.path == "/fine_tuning/jobs":
            self._post_job()
        elif self.path.endswith("/cancel"):
            job = self._job(self.path.split("/")[-2])
            job["status"] = "cancelled"
            self.reply(200, job)
        else:
            self._post_chat()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.server.refuses:
            self.server.refuses(self)
        elif url.path == "/fine_tuning/jobs":
            wanted = {k[9:-1]: v[0] for k, v in parse_qs(url.query).items() if "metadata[" in k}
            found = [job for job in self.server.jobs if wanted.items() <= job["metadata"].items()]
            self._list(found[::-1])
        elif url.path.endswith("/events"):
            self._list(self.server.events)
        elif job := self._job(url.path.split("/")[-1]):
            self.reply(200, job)
        else:
            self.reply(404, {"error": {"message": "no such job", "code": "not_found"}})

    def reply(self, status: int, body: Any) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass

    def _list(self, rows: list[dict[str, Any]]) -> None:
        self.reply(200, {"object": "list", "data": rows, "has_more": False})

    def _job(self, job_id: str) -> dict[str, Any]:
        return next((job for job in self.server.jobs if job["id"] == job_id), {})

    def _post_file(self) -> None:
        self.server.files.append(self.body)
        self.reply(200, {"id": f"file-{len(self.server.files)}", "object": "file"})

    def _post_job(self) -> None:
        request = json.loads(self.body)
        fault = self.server.create_faults.pop(0) if self.server.create_faults else None
        self.server.creates.append(request)
        job = {
            "id": f"ftjob-{len(self.server.jobs) + 1}",
            "object": "fine_tuning.job",
            "status": "running",
            "model": request["model"],
            "metadata": request["metadata"],
            "fine_tuned_model": None,
            "error": None,
        }
        if fault is None or self.server.keeps_job:
            self.server.jobs.append(job)
        if fault:
            fault(self)
        else:
            self.reply(200, job)

    def _post_chat(self) -> None:
        request = json.loads(self.body)
        self.server.chats.append(request)
        said = self.server.chat(request["model"], request["messages"])
        message = {"role": "assistant", "content": said}
        whole = said if isinstance(said, dict) else {"choices": [{"index": 0, "message": message}]}
        self.reply(200, whole)
