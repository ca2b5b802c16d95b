"""HTTP answers as a socket brings them; http.client's own reading of them is the measure."""

from __future__ import annotations

import http.client
import socket
from contextlib import suppress
from io import BufferedReader
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.backends.http1 import MAX_FIELDS, MalformedAnswerError, Response, request_bytes

BODY = b'{"a": 1}'
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n" + BODY + b"\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b'3;x=y\r\n{"a\r\n05\r\n": 1}\r\n0\r\nTrailer: z\r\n\r\n',
    b"HTTP/1.1 200\r\ncontent-length:8\r\nConnection: close\r\n\r\n" + BODY,
    b"HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\n" + BODY,
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 8\r\n\r\n" + BODY,
    b"HTTP/1.1 503 Slow Down\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + BODY,
    b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + BODY,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 429 Too Many\nRetry-After: 1\nContent-Length: 8\n\n" + BODY,
)


def arrived(answer: bytes) -> BufferedReader:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        return ours.makefile("rb")


def by_http_client(answer: bytes) -> tuple[object, ...]:
    class Socket:
        def makefile(self, mode: str) -> BufferedReader:
            return arrived(answer)

    with http.client.HTTPResponse(cast("Any", Socket()), method="POST") as response:
        response.begin()
        close = response.will_close
        retry = response.headers.get("RETRY-after")
        return response.status, close, retry, response.read()


def by_us(answer: bytes, size: int = 1 << 16) -> tuple[object, ...]:
    with arrived(answer) as file:
        response = Response(file)
        body = b""
        while part := response.read1(size):
            body += part
        assert response.ended
        return response.status, response.will_close, response.fields.get("RETRY-after"), body


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("size", [1, 3, 1 << 16])
def test_an_answer_is_read_as_http_client_reads_it(answer: bytes, size: int) -> None:
    assert by_us(answer, size) == by_http_client(answer)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"200 OK\r\nContent-Length: 8\r\nTransfer-Encoding: chunked", b"2\r\nOK\r\n0\r\n\r\n"),
        (b"204 No Content\r\nTransfer-Encoding: chunked", b""),
        (b"204 No Content\r\nContent-Length: 4", b""),
        (b"304 Not Modified\r\nTransfer-Encoding: chunked", b""),
    ],
)
def test_a_connection_is_not_kept_where_the_end_is_in_doubt(head: bytes, body: bytes) -> None:
    """Transfer-Encoding comes first, and some answers have no body, whatever they say."""
    answer = b"HTTP/1.1 " + head + b"\r\n\r\n" + body
    _, close, _, read = by_us(answer)
    assert close
    assert read == (b"OK" if body else b"")


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.integers(1, 60))
def test_chunks_of_any_size_make_the_body(chunks: list[bytes], size: int) -> None:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded
    assert by_us(answer, size)[-1] == b"".join(chunks)


@pytest.mark.parametrize("answer", ANSWERS[:3])
def test_an_answer_that_was_cut_is_never_taken_for_a_whole_one(answer: bytes) -> None:
    for length in range(len(answer)):
        with pytest.raises(MalformedAnswerError):
            by_us(answer[:length])


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -8\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 8, 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-8\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0_8\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x8\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 15 + b"8\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 15 + b"8\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \u00b2\r\n\r\n".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
)
def test_what_is_unclear_is_refused(head: bytes) -> None:
    with pytest.raises(MalformedAnswerError):
        by_us(head + BODY)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_malformed(noise: bytes) -> None:
    for head in (
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n",
    ):
        with suppress(MalformedAnswerError):
            by_us(head + noise)


def test_a_body_is_read_up_to_a_limit() -> None:
    with arrived(ANSWERS[1]) as file:
        assert Response(file).read(5) == BODY[:5]
    with arrived(ANSWERS[0]) as file:
        assert Response(file).read(100) == BODY


def test_a_request_is_one_text() -> None:
    sent = request_bytes("POST", "/v1/x?y=1", "h:80", {"Accept": "a/b"}, BODY)
    assert sent == (
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: h:80\r\nAccept-Encoding: identity\r\n"
        b"Accept: a/b\r\nContent-Length: 8\r\n\r\n" + BODY
    )


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nX: y", {}),
        ("/", {"Authorization": "Bearer a\r\nX-Injected: b"}),
        ("/", {"X\n": "y"}),
        ("/", {"X": "y\rz"}),
        ("/", {"X": "y\0"}),
    ],
)
def test_a_line_break_gets_into_no_request(target: str, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        request_bytes("POST", target, "h", headers, b"")
