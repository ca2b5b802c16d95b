"""The page of `dropforge label --page`: the same session in a browser on the same machine.

It listens on the loopback address only. Its address holds a random token without which nothing is
answered, requests under another host's name (DNS rebinding) are refused, and it loads nothing.
Answers reach the page as data and are set as text, so nothing that a customer or a model wrote
becomes markup.
"""

from __future__ import annotations

import hmac
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.cli.label.markup import PAGE
from dropforge.cli.label.session import Session
from dropforge.errors import DropforgeError

_LARGEST = 10_000
_SILENT_S = 30.0

Finish = Callable[[], list[str]]


class _Choice(msgspec.Struct):
    pair: str
    choice: Literal["left", "right", "tie", "skip"]


class _Undo(msgspec.Struct):
    position: int


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, session: Session, finish: Finish, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.session, self.finish = session, finish
        self.token = token_urlsafe(24)
        self.lines: list[str] | None = None
        self.lock = threading.Lock()

    @property
    def hosts(self) -> tuple[str, str]:
        """What a browser on this machine may call this server."""
        return f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.hosts[0]}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has gone away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def serve(
    session: Session, finish: Finish, ready: Callable[[str], None], *, port: int = 0
) -> list[str] | None:
    """Serve the page until the person finishes there, or ctrl-C.

    Args:
        finish: what to tell at the end: called once the person is done.
        ready: told the page's address, as soon as it answers.

    Returns:
        What `finish` said; None after ctrl-C, where it was not called.

    Raises:
        OSError: the port cannot be used.
    """
    with _Server(session, finish, port) as server:
        try:
            ready(server.url)
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            return None
        return server.lines


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "dropforge", ""
    timeout = _SILENT_S

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        path = urlsplit(self.path).path
        if path == "/":
            self._send_page()
        elif path == "/state":
            self._send(HTTPStatus.OK, self._state())
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "There is nothing here."})

    def do_POST(self) -> None:
        body = self._body()
        if not self._is_ours():
            return
        # A page of another origin cannot send JSON without asking first, which nobody answers.
        if self.headers.get_content_type() != "application/json":
            self._send(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "Send JSON."})
            return
        path = urlsplit(self.path).path
        if self.server.lines is not None and path != "/finish":
            # A browser's spare connection may outlive the listening socket.
            ended = "The command has ended. Labels given so far are kept."
            self._send(HTTPStatus.GONE, {"error": ended})
            return
        try:
            self._obey(path, body)
        except msgspec.MsgspecError as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": f"Not understood: {error}."})
        except (BotoCoreError, ClientError, DropforgeError) as error:
            self._send(HTTPStatus.BAD_GATEWAY, {"error": f"Not saved: {error}"})

    def _body(self) -> bytes:
        """What was posted, taken in before any answer; nothing where it is too large."""
        size = self.headers.get("Content-Length", "")
        small = size.isdecimal() and int(size) <= _LARGEST
        return self.rfile.read(int(size)) if small else b""

    def _is_ours(self) -> bool:
        """Whether the request is for this host and knows the token; answers it if not."""
        given = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
        knows = hmac.compare_digest(given.encode(), self.server.token.encode())
        origin = self.headers.get("Origin")
        ours = {f"http://{host}" for host in self.server.hosts}
        if (
            knows
            and self.headers.get("Host") in self.server.hosts
            and (origin is None or origin in ours)
        ):
            return True
        self._send(
            HTTPStatus.FORBIDDEN, {"error": "Open the address that `dropforge label` printed."}
        )
        return False

    def _obey(self, path: str, body: bytes) -> None:
        session = self.server.session
        if path == "/choose":
            asked = msgspec.json.decode(body, type=_Choice)
            if asked.choice == "skip":
                session.skip(asked.pair)
            else:
                session.choose(asked.choice, asked.pair)
        elif path == "/undo":
            session.undo(msgspec.json.decode(body, type=_Undo).position)
        elif path == "/finish":
            self._finish()
            return
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "There is nothing here."})
            return
        self._send(HTTPStatus.OK, self._state())

    def _finish(self) -> None:
        with self.server.lock:
            if self.server.lines is None:
                self.server.lines = self.server.finish()
        self._send(HTTPStatus.OK, self._state())
        threading.Thread(target=self.server.shutdown).start()

    def _state(self) -> dict[str, Any]:
        session = self.server.session
        pair = session.current
        return {
            "pair": pair and pair._asdict(),
            "position": session.position,
            "labelled": session.labelled,
            "total": session.total,
            "who": session.who,
            "lines": self.server.lines,
        }

    def _send_page(self) -> None:
        nonce = token_urlsafe(16)
        text = PAGE.replace("NONCE", nonce)
        self._answer(HTTPStatus.OK, "text/html; charset=utf-8", text.encode(), nonce)

    def _send(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._answer(status, "application/json", msgspec.json.encode(value))

    def _answer(self, status: HTTPStatus, kind: str, data: bytes, nonce: str = "") -> None:
        own = f"'nonce-{nonce}'" if nonce else "'none'"
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": f"default-src 'none'; script-src {own}; style-src {own}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: the terminal belongs to the session, and the address holds the token."""
