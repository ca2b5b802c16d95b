"""Messages of AWS's event stream encoding, as SageMaker's runtime writes them.

Format: docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Final

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"
STRING: Final = 7


def payload_part(data: bytes) -> bytes:
    """An event with some bytes of the container's answer."""
    kind = "application/octet-stream"
    return frame({":event-type": "PayloadPart", ":content-type": kind}, data, "event")


def model_stream_error(message: str, code: str) -> bytes:
    """The exception of a container that stopped answering.

    Args:
        code: `StreamBroken` or `ModelInvocationTimeExceeded`.
    """
    body = json.dumps({"Message": message, "ErrorCode": code}).encode()
    about = {":exception-type": "ModelStreamError", ":content-type": "application/json"}
    return frame(about, body, "exception")


def frame(headers: dict[str, str], payload: bytes, message_type: str) -> bytes:
    """One message with string headers."""
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", STRING, len(value))
        + value.encode()
        for name, value in {**headers, ":message-type": message_type}.items()
    )  # fmt: skip
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    begun = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return begun + struct.pack("!I", zlib.crc32(begun))
