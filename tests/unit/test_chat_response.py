"""What the log says of answers that did not reach their end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from chat_front import load

from lambdas.chat.edge import Answer, Call
from lambdas.chat.handler import Response

SECRET = "4111 1111 1111 1111"


def response(parts: Iterator[bytes]) -> Response:
    event = load("chat_completions")
    event["requestContext"]["authorizer"] = {"projects": "shop", "token_name": "web"}
    call = Call.from_event(event, None, 5)
    return Response(call, Answer(200, parts=parts), "/v1/chat/completions", time.perf_counter())


def logged(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    return line


def test_caller_who_hangs_up_is_counted_and_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    closed = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b"a"
        finally:
            closed.append(True)

    given = response(endless())
    parts = given.parts()
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    given.finish()

    line = logged(capsys)
    assert closed
    assert (line["CallerHungUp"], line["ChatErrors"], line["level"]) == (1, 0, "INFO")


def test_crash_under_way_is_an_error_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def crashing() -> Iterator[bytes]:
        yield b"a"
        raise ValueError(SECRET)

    given = response(crashing())
    with pytest.raises(ValueError, match=SECRET):
        list(given.parts())
    given.finish()

    line = logged(capsys)
    assert (line["ChatErrors"], line["level"], line["status"]) == (1, "ERROR", 200)
    assert "ValueError in " in line["cause"]
    assert SECRET not in json.dumps(line)


def test_answer_that_ends_leaves_neither(capsys: pytest.CaptureFixture[str]) -> None:
    given = response(iter([b"a", b"b"]))
    assert list(given.parts()) == [b"a", b"b"]
    given.finish()

    line = logged(capsys)
    assert line["ChatErrors"] == 0
    assert "CallerHungUp" not in line
