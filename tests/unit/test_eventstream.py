"""AWS's event streams: the stand-in's writer and the chat path's reader, both against botocore."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from dropforge.backends.awsapi import AwsError
from dropforge.backends.eventstream import EventStreamError, messages, payload_parts
from local.sagemaker.eventstream import frame, model_stream_error, payload_part

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def botocores(stream: bytes) -> list[tuple[dict[str, object], bytes]]:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(stream)
    return [(dict(event.headers), event.payload) for event in buffer]


@given(
    st.lists(st.tuples(st.dictionaries(TEXT, st.text(max_size=40), max_size=3), st.binary())),
    st.lists(st.integers(0, 500), max_size=8),
)
def test_reader_and_botocores_agree_however_the_bytes_are_cut(
    sent: list[tuple[dict[str, str], bytes]], cuts: list[int]
) -> None:
    sent = [({n: v for n, v in h.items() if len((n + v).encode()) < 200}, p) for h, p in sent]
    stream = b"".join(frame({n: v for n, v in h.items() if n.isascii() and v.isascii()}, p, "event")
                      for h, p in sent)  # fmt: skip
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parts = [stream[a:b] for a, b in itertools.pairwise(places)]
    assert [tuple(m) for m in messages(parts)] == botocores(stream)


def typed_headers() -> bytes:
    """A header of every type, and a string among them."""
    values = [b"\0", b"\1", b"\2\x07", b"\3\0\7", b"\4\0\0\0\7", b"\5" + b"\0" * 8,
              b"\6\0\2ab", b"\7\0\2xy", b"\10" + b"\0" * 8, b"\11" + b"\0" * 16]  # fmt: skip
    return b"".join(b"\1" + bytes([97 + n]) + value for n, value in enumerate(values))


def raw(headers: bytes, payload: bytes = b"") -> bytes:
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    begun = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return begun + struct.pack("!I", zlib.crc32(begun))


def test_headers_of_all_types_are_passed_over() -> None:
    stream = raw(typed_headers(), b"hello")
    ((headers, payload),) = messages([stream])
    assert (headers, payload) == ({"h": "xy"}, b"hello")
    ((theirs, _),) = botocores(stream)
    assert theirs["h"] == "xy"


def test_message_comes_with_its_last_byte() -> None:
    def parts() -> object:
        yield payload_part(b"one")
        raise AssertionError("read on")

    assert next(payload_parts(parts())) == b"one"  # type: ignore[arg-type]


@given(st.integers(0, 60), st.integers(1, 255))
def test_no_flipped_byte_goes_unnoticed(place: int, mask: int) -> None:
    damaged = bytearray(payload_part(b"It ships on Monday.") + payload_part(b"Or Tuesday."))
    damaged[place] ^= mask
    with pytest.raises(EventStreamError):
        list(payload_parts([bytes(damaged)]))


@pytest.mark.parametrize(
    "stream",
    [
        payload_part(b"one")[:-1],
        payload_part(b"one")[:7],
        raw(b"\x05abc"),
        raw(b"\x01a\x63"),
        raw(b"\x01a\x07\x00\x09x"),
        raw(b"\x01\xff\x07\x00\x01x"),
        struct.pack("!III", 3, 0, zlib.crc32(struct.pack("!II", 3, 0))),
        struct.pack("!III", 2**31, 0, zlib.crc32(struct.pack("!II", 2**31, 0))),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_what_is_no_whole_stream_is_an_error(stream: bytes) -> None:
    with pytest.raises(EventStreamError):
        list(messages([stream]))


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (model_stream_error("broke off", "StreamBroken"), "StreamBroken"),
        (model_stream_error("late", "ModelInvocationTimeExceeded"), "ModelInvocationTimeExceeded"),
        (frame({":exception-type": "InternalStreamFailure"}, b"{}", "exception"),
         "InternalStreamFailure"),
        (frame({":error-code": "Throttled"}, b"", "error"), "Throttled"),
        (frame({":exception-type": "X"}, b'{"ErrorCode": "my card is 4111"}', "exception"), "X"),
        (frame({":exception-type": "X"}, b'{"ErrorCode": "\xff"}', "exception"), "X"),
        (frame({":exception-type": "X"}, b'{"ErrorCode": ' + b"[" * 100_000, "exception"), "X"),
    ],
)  # fmt: skip
def test_exception_in_the_stream_is_told_by_its_name(stream: bytes, name: str) -> None:
    found = payload_parts([payload_part(b"one"), stream])
    assert next(found) == b"one"
    with pytest.raises(AwsError) as raised:
        next(found)
    assert raised.value.name == name
