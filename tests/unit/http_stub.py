"""A real HTTP server on the loopback interface that plays the model's server and AWS."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Respond = Callable[["StubHandler"], None]
PATIENCE = 15.0
"""Half of what `hangs` holds a connection for: who is answered sooner has not waited for it."""


class Stub(ThreadingHTTPServer):
    """Answers each path by its entry in `routes`, and keeps every request in `seen`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), StubHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.routes: dict[str, Respond] = {}
        self.seen: list[StubRequest] = []
        self.connections = 0
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class StubRequest:
    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


class StubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # an answer in two writes would wait 40 ms for an ACK
    server: Stub
    request_seen: StubRequest

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.request_seen = StubRequest(self.path, headers, body)
        self.server.seen.append(self.request_seen)
        self.server.routes[self.path](self)

    def reply(self, status: int, body: Any, **headers: str) -> None:
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass


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


def hangs(handler: StubHandler) -> None:
    """No answer until the server stops."""
    handler.server.released.wait(30)
    handler.close_connection = True


def trickles(handler: StubHandler) -> None:
    """A byte now and then, so that no single read ever times out."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()
    handler.close_connection = True


def resets(handler: StubHandler) -> None:
    """A TCP reset after the request was read."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
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


class FakeTable:
    """DynamoDB's JSON protocol over a dict, and SQS's over a list, for what the chat path does."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.reads: list[str] = []
        self.messages: list[tuple[str, str]] = []

    def put(self, pk: str, sk: str, **attributes: Any) -> None:
        """Attributes as DynamoDB writes them: {"S": "text"}."""
        self.items[pk, sk] = {"pk": {"S": pk}, "sk": {"S": sk}, **attributes}

    def __call__(self, handler: StubHandler) -> None:
        request = handler.request_seen.json()
        operation = handler.request_seen.headers["x-amz-target"].partition(".")[2]
        status, body = getattr(self, f"_{operation.lower()}")(request)
        handler.reply(status, body)

    def _getsecretvalue(self, request: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"ARN": request["SecretId"], "SecretString": "sk-upstream\n"}

    def _getitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        pk, sk = request["Key"]["pk"]["S"], request["Key"]["sk"]["S"]
        self.reads.append(sk)
        item = self.items.get((pk, sk))
        return 200, {"Item": item} if item else {}

    def _putitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        """Knows one kind of condition: not there yet, or there with the same value of one name."""
        condition = request["ConditionExpression"]
        found = re.fullmatch(r"attribute_not_exists\(pk\) OR (\w+) = (:\w+)", condition)
        assert found, condition
        name, value = found.groups()
        item = request["Item"]
        key = item["pk"]["S"], item["sk"]["S"]
        known = self.items.get(key)
        if known and known[name] != request["ExpressionAttributeValues"][value]:
            name = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
            return 400, {"__type": name, "message": "The conditional request failed"}
        self.items[key] = item
        return 200, {}

    def _updateitem(self, request: dict[str, Any]) -> tuple[int, Any]:
        """Knows one expression: ADD of numbers."""
        verb, _, pairs = request["UpdateExpression"].partition(" ")
        assert verb == "ADD"
        pk, sk = request["Key"]["pk"]["S"], request["Key"]["sk"]["S"]
        item = self.items.setdefault((pk, sk), {"pk": {"S": pk}, "sk": {"S": sk}})
        for pair in pairs.split(", "):
            place, value = pair.split(" ")
            name = request["ExpressionAttributeNames"][place]
            added = float(request["ExpressionAttributeValues"][value]["N"])
            total = float(item.get(name, {"N": "0"})["N"]) + added
            item[name] = {"N": f"{total:g}"}
        return 200, {}

    def _sendmessage(self, request: dict[str, Any]) -> tuple[int, Any]:
        self.messages.append((request["QueueUrl"], request["MessageBody"]))
        return 200, {"MessageId": f"m{len(self.messages)}", "MD5OfMessageBody": "0"}

    def _query(self, request: dict[str, Any]) -> tuple[int, Any]:
        """One item a page."""
        values = request["ExpressionAttributeValues"]
        pk, prefix = values[":pk"]["S"], values[":prefix"]["S"]
        after = request.get("ExclusiveStartKey", {}).get("sk", {}).get("S", "")
        found = sorted(
            key
            for key in self.items
            if key[0] == pk and key[1].startswith(prefix) and key[1] > after
        )
        body: dict[str, Any] = {"Items": [self.items[key] for key in found[:1]]}
        if found[1:]:
            body["LastEvaluatedKey"] = {"pk": {"S": pk}, "sk": {"S": found[0][1]}}
        return 200, body
