"""AWS's binary event streams (application/vnd.amazon.eventstream), read without an SDK.

A message is: total length, length of the headers, CRC32 of these 8 bytes; headers; payload; CRC32
of all before it; numbers in network order. SageMaker sends a container's answer as payloads of
`PayloadPart` events, cut anywhere. Specification:
docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html (event stream encoding);
shapes: docs.aws.amazon.com/sagemaker/latest/APIReference/
API_runtime_InvokeEndpointWithResponseStream.html
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dropforge.backends.awsapi import AwsError
from dropforge.errors import BackendError
from dropforge.untrusted import UnreadableError, read_json

PRELUDE = struct.Struct("!III")
CRC = struct.Struct("!I")
LEAST_BYTES = PRELUDE.size + CRC.size
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The format's own limit of a payload is 16 MB; a longer length is no length."""

_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The sizes of header values by their type; types 6 and 7 (bytes, string) tell theirs."""
_STRING, _SIZED = 7, (6, 7)
OPERATION = "InvokeEndpointWithResponseStream"


class EventStreamError(BackendError):
    """A message whose lengths or checksums are wrong, or the end in the middle of one."""

    code = "EVENT_STREAM"


class Message(NamedTuple):
    """One message; of its headers those that are strings."""

    headers: dict[str, str]
    payload: bytes


def messages(parts: Iterable[bytes]) -> Iterator[Message]:
    """Each message the moment its last byte has come.

    Raises:
        EventStreamError: it is no such stream, or ends in the middle.
    """
    buffer = bytearray()
    for part in parts:
        buffer += part
        while len(buffer) >= PRELUDE.size:
            total, headers, checksum = PRELUDE.unpack_from(buffer)
            if zlib.crc32(buffer[:8]) != checksum:
                raise EventStreamError("The checksum of a message's beginning is wrong.")
            if not LEAST_BYTES + headers <= total <= MAX_MESSAGE_BYTES:
                raise EventStreamError("A message's length is wrong.")
            if len(buffer) < total:
                break
            yield _message(bytes(buffer[:total]), headers)
            del buffer[:total]
    if buffer:
        raise EventStreamError("The stream ended in the middle of a message.")


def _message(data: bytes, headers: int) -> Message:
    end = len(data) - CRC.size
    if zlib.crc32(data[:end]) != CRC.unpack_from(data, end)[0]:
        raise EventStreamError("The checksum of a message is wrong.")
    start = PRELUDE.size + headers
    try:
        return Message(_headers(data[PRELUDE.size : start]), data[start:end])
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise EventStreamError("A message's headers cannot be read.") from error


def _headers(data: bytes) -> dict[str, str]:
    found = {}
    at = 0
    while at < len(data):
        length = data[at]
        name = data[at + 1 : at + 1 + length].decode()
        at += 1 + length
        kind = data[at]
        at += 1
        if kind in _SIZED:
            (size,) = struct.unpack_from("!H", data, at)
            at += 2
        else:
            size = _FIXED[kind]
        value = data[at : at + size]
        if len(value) < size:
            raise IndexError
        if kind == _STRING:
            found[name] = value.decode()
        at += size
    return found


def payload_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """What the container wrote, out of SageMaker's messages.

    Raises:
        EventStreamError: as `messages`.
        AwsError: an exception in the stream, by its `ErrorCode` (`ModelInvocationTimeExceeded`,
            `StreamBroken`) or its type (`ModelStreamError`, `InternalStreamFailure`).
    """
    for message in messages(parts):
        kind = message.headers.get(":message-type")
        if kind == "event":
            if message.payload and message.headers.get(":event-type") == "PayloadPart":
                yield message.payload
        else:
            raise AwsError(OPERATION, _error_name(message), 200)


def _error_name(message: Message) -> str:
    headers = message.headers
    name = headers.get(":exception-type") or headers.get(":error-code") or "UnknownError"
    try:
        told = read_json(message.payload, dict[str, object]).get("ErrorCode")
    except UnreadableError:
        return name
    return told if isinstance(told, str) and told.isidentifier() else name
