from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from http_stub import (
    PATIENCE,
    Respond,
    Stub,
    chunks,
    cuts,
    hangs,
    hangs_up_after,
    replies,
    resets,
    trickles,
)

from dropforge.backends import connection as connection_module
from dropforge.backends.connection import (
    BrokenAnswerError,
    ConnectError,
    Connection,
    DeadlineError,
    HttpAnswer,
    UnsendableError,
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
    assert 0.25 < time.monotonic() - started < PATIENCE


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
    tries = resolved(monkeypatch, ("127.0.0.1", port))
    with pytest.raises(ConnectError, match="ConnectionRefusedError"):
        ask(Connection(f"http://127.0.0.1:{port}"))
    assert len(tries) == 2


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[object]:
    """Every host has these addresses; what was asked for is in the list."""
    asked: list[object] = []
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    def lookup(*host: object, **options: object) -> list[Any]:
        asked.append(host)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """An address that answers no attempt to connect: its queue is full."""
    with socket.socket() as server, ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()


@pytest.mark.parametrize("addresses", [1, 16])
def test_deadline_covers_all_addresses_of_a_host(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int], addresses: int
) -> None:
    resolved(monkeypatch, *[silent] * addresses)
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        ask(Connection("http://model.example"), 1.0)
    assert 0.95 < time.monotonic() - started < PATIENCE, "not a second for each"


def test_address_that_is_silent_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch, silent: tuple[str, int], stub: Stub
) -> None:
    resolved(monkeypatch, silent, ("127.0.0.1", 1), ("127.0.0.1", stub.server_address[1]))
    connection = Connection("http://model.example")
    assert ask(connection, 4.0).status == 200
    connection.close()


def test_deadline_covers_a_handshake_that_trickles() -> None:
    """One byte of a TLS record now and then, so that no single read ever times out."""
    over = threading.Event()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def trickle() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                for byte in b"\x16\x03\x03\x40\x00" + bytes(600):
                    peer.send(bytes((byte,)))
                    if over.wait(0.05):
                        break

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        started = time.monotonic()
        with pytest.raises(DeadlineError):
            ask(Connection(f"https://127.0.0.1:{server.getsockname()[1]}"), 0.4)
        assert 0.35 < time.monotonic() - started < PATIENCE
        over.set()
        thread.join()


def test_what_is_left_of_an_exchange_is_not_read_by_the_next(
    stub: Stub, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ended it, a signal too."""

    def interrupted(self: Connection, response: object) -> bytes:
        raise KeyboardInterrupt

    ask(connection)
    stub.routes["/"] = replies(200, b"another's")
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "whole", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(connection)
    stub.routes["/"] = OK
    assert ask(connection).body == b'{"ok": true}'
    assert stub.connections == 2


def test_a_stream_that_was_forgotten_is_in_nobodys_way(stub: Stub, connection: Connection) -> None:
    """Its connection is opened anew, and closing it late closes nothing of the next one's."""
    stub.routes["/"] = chunks(b"one", b"two")
    deadline = time.monotonic() + 2
    forgotten = connection.stream("POST", "/", b"", {}, deadline=deadline)
    assert next(forgotten.parts()) == b"one"
    following = connection.stream("POST", "/", b"", {}, deadline=deadline)
    parts = following.parts()
    assert next(parts) == b"one"
    forgotten.close()
    assert list(parts) == [b"two"]
    assert stub.connections == 2


@pytest.mark.parametrize("value", ["Bearer a\nb", "Bearer \u20ac"])
def test_header_that_cannot_be_sent_is_told_without_its_text(
    stub: Stub, connection: Connection, value: str
) -> None:
    deadline = time.monotonic() + 2
    with pytest.raises(UnsendableError) as caught:
        connection.request("POST", "/", b"", {"Authorization": value}, deadline=deadline)
    told = "".join(traceback.format_exception(caught.value))
    assert "Bearer " not in str(caught.value)
    assert "u20ac" not in told
    assert stub.seen == []
    assert ask(connection).status == 200


@pytest.mark.parametrize("answer", [replies(200, b"x" * 11), chunks(b"x" * 11)])
def test_answer_over_the_limit_is_refused(
    stub: Stub, connection: Connection, monkeypatch: pytest.MonkeyPatch, answer: Respond
) -> None:
    monkeypatch.setattr(connection_module, "MAX_ANSWER_BYTES", 10)
    stub.routes["/"] = answer
    with pytest.raises(BrokenAnswerError, match="more than 10 bytes"):
        ask(connection)


@pytest.mark.parametrize("origin", ["", "ftp://host", "https://", "host:80"])
def test_origin_that_is_no_http_url_is_refused(origin: str) -> None:
    with pytest.raises(ConnectError, match=r"http\(s\)://host"):
        Connection(origin)
