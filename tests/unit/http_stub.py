"""A real HTTP server on the loopback interface that plays the model's server and AWS."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from botocore import xform_name

from tests.support.http import Handler, Server
from tests.support.http import hangs as hangs
from tests.support.http import resets as resets
from tests.support.memory_tables import Item, RefusedError, Table, Tables

Respond = Callable[["StubHandler"], None]
PATIENCE = 15.0
"""Half of what `hangs` holds a connection for: who is answered sooner has not waited for it."""


class Stub(Server):
    """Answers each path by its entry in `routes`, and keeps every request in `seen`."""

    def __init__(self) -> None:
        super().__init__(StubHandler)
        self.routes: dict[str, Respond] = {}
        self.seen: list[StubRequest] = []
        self.connections = 0
        self.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)


class StubRequest:
    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


class StubHandler(Handler):
    server: Stub
    request_seen: StubRequest

    def do_POST(self) -> None:
        body = self.read()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_seen = StubRequest(self.path, headers, body)
        self.server.seen.append(self.request_seen)
        self.server.routes[self.path](self)


def replies(status: int, body: Any, **headers: str) -> Respond:
    """Always the same answer; an underscore in a header's name stands for a hyphen."""
    return lambda handler: handler.reply(status, body, **headers)


def chunks(*parts: bytes) -> Respond:
    """A 200 whose length is not announced."""

    def respond(handler: StubHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (*parts, b""):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    return respond


def trickles(handler: StubHandler) -> None:
    """A byte now and then, so that no single read ever times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()
    handler.close_connection = True


def cuts(handler: StubHandler) -> None:
    """Half of the announced body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"mess')
    handler.close_connection = True


def hangs_up_after(respond: Respond) -> Respond:
    """Answers, says nothing about closing, and closes: a kept-open connection gone stale."""

    def answer_and_close(handler: StubHandler) -> None:
        respond(handler)
        handler.close_connection = True

    return answer_and_close


class Rows(Table):
    """A table whose items a test reads and changes; it has few."""

    def __init__(self, items: dict[tuple[str, str], Item]) -> None:
        self.keys = ["pk", "sk"]
        self.items = items

    @property
    def partitions(self) -> dict[str, dict[str, Item]]:  # type: ignore[override]
        found: dict[str, dict[str, Item]] = defaultdict(dict)
        for (pk, sk), item in self.items.items():
            found[pk][sk] = item
        return found

    def get(self, key: tuple[str, str]) -> Item | None:
        return self.items.get(key)

    def put(self, key: tuple[str, str], item: Item | None) -> None:
        assert item is not None, "nothing on the chat path deletes"
        self.items[key] = item


class FakeTable:
    """DynamoDB's JSON protocol over tables in memory, and SQS's over a list, for the chat path.

    Attributes:
        items: the registry's, as DynamoDB writes them: {"name": {"S": "text"}}.
        reads: the sort keys that single items of the registry were read by.
    """

    def __init__(self, items: dict[tuple[str, str], Item] | None = None) -> None:
        self.items = {} if items is None else items
        self.tables = Tables()
        self.tables.add("registry", Rows(self.items))
        self.reads: list[str] = []
        self.messages: list[tuple[str, str]] = []
        self.secret = "sk-upstream\n"
        self._lock = threading.Lock()

    def put(self, pk: str, sk: str, **attributes: Any) -> None:
        self.items[pk, sk] = {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}

    def __call__(self, handler: StubHandler) -> None:
        operation = handler.request_seen.headers["x-amz-target"].partition(".")[2]
        handler.reply(*self.answer(operation, handler.request_seen.json()))

    def answer(self, operation: str, request: Any) -> tuple[int, Any]:
        """The status and the body; a query's page has one item."""
        if operation == "GetSecretValue":
            return 200, {"ARN": request["SecretId"], "SecretString": self.secret}
        if operation == "SendMessage":
            return self.send_message(request)
        if operation == "GetItem":
            self.reads.append(request["Key"]["sk"]["S"])
        if operation == "Query":
            request["Limit"] = 1
        return self.dynamodb(operation, request)

    def dynamodb(self, operation: str, request: Any) -> tuple[int, Any]:
        try:
            with self._lock:
                return 200, getattr(self.tables, xform_name(operation))(request)
        except RefusedError as error:
            name = f"com.amazonaws.dynamodb.v20120810#{error.code}"
            return 400, {"__type": name, "message": str(error), **error.more}

    def send_message(self, request: Any) -> tuple[int, Any]:
        self.messages.append((request["QueueUrl"], request["MessageBody"]))
        return 200, {"MessageId": f"m{len(self.messages)}", "MD5OfMessageBody": "0"}
