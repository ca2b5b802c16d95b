"""The chat function on a port of this machine, as behind API Gateway: a stage, tokens, streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from lambdas.chat import handler as chat

STAGE = "/prod"
_UNAUTHORIZED = {
    "message": "Send `Authorization: Bearer <token>` with a token that is not revoked.",
    "type": "authentication_error",
    "param": None,
    "code": "invalid_api_key",
}


class Stage(ThreadingHTTPServer):
    """Serves the handler below the stage; a route under /v1 asks for one of the tokens.

    Attributes:
        tokens: the projects that each may use.
        seen: method and path of every request.
        container: the one that there is; a Lambda container answers one request at a time.
    """

    daemon_threads = True

    def __init__(self, tokens: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}{STAGE}"
        self.tokens = tokens
        self.seen: list[str] = []
        self.container = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests."""


@contextmanager
def running_stage(tokens: dict[str, str]) -> Iterator[Stage]:
    server = Stage(tokens)
    yield server
    with server.container:  # what is done after an answer is done
        server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Stage

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.seen.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if path != STAGE and not path.startswith(f"{STAGE}/"):
            self._whole(404, {"message": "Not Found"})
            return
        route = path.removeprefix(STAGE) or "/"
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        projects = self.server.tokens.get(token)
        if route.startswith("/v1/") and projects is None:
            self._whole(401, {"error": _UNAUTHORIZED})
            return
        with self.server.container:
            caller = {"projects": projects, "token_name": "app", "token_id": "t1"}
            self._answer(route, body, caller)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's naming

    def _answer(self, route: str, body: str, authorizer: dict[str, Any]) -> None:
        response = chat.handler(
            {
                "resource": route,
                "path": route,
                "httpMethod": self.command,
                "headers": dict(self.headers.items()),
                "pathParameters": None,
                "requestContext": {"authorizer": authorizer, "stage": STAGE[1:]},
                "body": body or None,
                "isBase64Encoded": False,
            },
            None,
        )
        self.send_response(response.head["statusCode"])
        for name, value in response.head["headers"].items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for part in response.parts():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if part else b"")
            self.wfile.write(b"0\r\n\r\n")
        finally:
            response.finish()

    def _whole(self, status: int, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *arguments: Any) -> None:
        pass
