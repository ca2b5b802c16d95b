"""The chat function on a port of this machine, as behind API Gateway: a stage, tokens, streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from lambdas.chat import handler as chat
from tests.support.http import Handler, Server

STAGE = "/prod"
_UNAUTHORIZED = {
    "message": "Send `Authorization: Bearer <token>` with a token that is not revoked.",
    "type": "authentication_error",
    "param": None,
    "code": "invalid_api_key",
}


class Stage(Server):
    """Serves the handler below the stage; a route under /v1 asks for one of the tokens.

    Attributes:
        tokens: the projects that each may use.
        seen: method and path of every request.
        container: the one that there is; a Lambda container answers one request at a time.
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        super().__init__(_Handler)
        self.url += STAGE
        self.tokens = tokens
        self.seen: list[str] = []
        self.container = threading.Lock()
        self.start()


@contextmanager
def running_stage(tokens: dict[str, str]) -> Iterator[Stage]:
    server = Stage(tokens)
    yield server
    with server.container:  # what is done after an answer is done
        server.shutdown()
    server.server_close()


class _Handler(Handler):
    server: Stage

    def do_GET(self) -> None:
        body = self.read().decode()
        self.server.seen.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if path != STAGE and not path.startswith(f"{STAGE}/"):
            self.reply(404, {"message": "Not Found"})
            return
        route = path.removeprefix(STAGE) or "/"
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        projects = self.server.tokens.get(token)
        if route.startswith("/v1/") and projects is None:
            self.reply(401, {"error": _UNAUTHORIZED})
            return
        with self.server.container:
            caller = {"projects": projects, "token_name": "app", "token_id": "t1"}
            self._answer(route, body, caller)

    do_POST = do_PUT = do_DELETE = do_GET

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
