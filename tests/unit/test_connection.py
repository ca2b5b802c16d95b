from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from http_stub import Respond, Stub, chunks, cuts, hangs, hangs_up_after, replies, resets, trickles

from dropforge.backends import connection as connection_module
from dropforge.backends.connection import (
    BrokenAnswerError,
    ConnectError,
    Connection,
    DeadlineError,
    HttpAnswer,
)

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

OK = replies(200, {"ok": True})


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    server.routes["/"] = OK
    yield server
    server.stop()


@pytest.fixture
def connection(stub: Stub) -> Iterator[Connection]:
    connection = Connection(stub.url)
    yield connection
    connection.close()


def ask(connection: Connection, seconds: float = 2, *, resend: bool = False) -> HttpAnswer:
    deadline = time.monotonic() + seconds
    return connection.request("POST", "/", b"{}", {}, deadline=deadline, resend=resend)


def test_connection_is_kept_open_between_requests(stub: Stub, connection: Connection) -> None:
    assert [ask(connection).body for _ in range(3)] == [b'{"ok": true}'] * 3
    assert stub.connections == 1


def test_connection_is_reopened_when_the_peer_hung_up(stub: Stub, connection: Connection) -> None:
    stub.routes["/"] = hangs_up_after(OK)
    ask(connection)
    time.sleep(0.05)
    assert ask(connection).status == 200
    assert (stub.connections, len(stub.seen)) == (2, 2)


def test_connection_is_reopened_after_connection_close(stub: Stub, connection: Connection) -> None:
    stub.routes["/"] = replies(200, {}, Connection="close")
    ask(connection)
    assert ask(connection).status == 200
    assert stub.connections == 2


def test_connection_is_not_trusted_after_long_idleness(stub: Stub) -> None:
    now = [time.monotonic()]
    connection = Connection(stub.url, idle_seconds=45, clock=lambda: now[0])
    for _ in range(2):
        connection.request("POST", "/", b"", {}, deadline=now[0] + 2)
        now[0] += 46
    connection.close()
    assert stub.connections == 2


@pytest.mark.parametrize("behaviour", [hangs, trickles])
def test_deadline_covers_the_whole_answer(
    stub: Stub, connection: Connection, behaviour: Respond
) -> None:
    stub.routes["/"] = behaviour
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        ask(connection, 0.3)
    assert 0.25 < time.monotonic() - started < 1


def test_deadline_in_the_past_sends_nothing(stub: Stub, connection: Connection) -> None:
    with pytest.raises(DeadlineError):
        ask(connection, -1)
    assert stub.connections == 0


@pytest.mark.parametrize("behaviour", [resets, cuts])
def test_broken_answer_is_not_asked_for_again(
    stub: Stub, connection: Connection, behaviour: Respond
) -> None:
    stub.routes["/"] = behaviour
    with pytest.raises(BrokenAnswerError):
        ask(connection)
    assert len(stub.seen) == 1


def test_request_that_may_arrive_twice_is_sent_again_on_a_kept_open_socket(
    stub: Stub, connection: Connection
) -> None:
    ask(connection)
    answers = iter([resets, OK])
    stub.routes["/"] = lambda handler: next(answers)(handler)
    assert ask(connection, resend=True).status == 200
    assert len(stub.seen) == 3


def test_refused_connection_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    tries = []
    real = socket.create_connection

    def counted(*arguments: object, **options: object) -> socket.socket:
        tries.append(arguments)
        return real(*arguments, **options)  # type: ignore[arg-type]

    connection = Connection(f"http://127.0.0.1:{port}")
    monkeypatch.setattr(socket, "create_connection", counted)
    with pytest.raises(ConnectError, match="ConnectionRefusedError"):
        ask(connection)
    assert len(tries) == 2


@pytest.mark.parametrize("answer", [replies(200, b"x" * 11), chunks(b"x" * 11)])
def test_answer_over_the_limit_is_refused(
    stub: Stub, connection: Connection, monkeypatch: pytest.MonkeyPatch, answer: Respond
) -> None:
    monkeypatch.setattr(connection_module, "MAX_ANSWER_BYTES", 10)
    stub.routes["/"] = answer
    with pytest.raises(BrokenAnswerError, match="more than 10 bytes"):
        ask(connection)


def test_chunked_answer_is_put_together(stub: Stub, connection: Connection) -> None:
    stub.routes["/"] = chunks(b"he", b"llo")
    assert [ask(connection).body for _ in range(2)] == [b"hello"] * 2
    assert stub.connections == 1


@pytest.mark.parametrize("origin", ["", "ftp://host", "https://", "host:80"])
def test_origin_that_is_no_http_url_is_refused(origin: str) -> None:
    with pytest.raises(ConnectError, match=r"http\(s\)://host"):
        Connection(origin)
