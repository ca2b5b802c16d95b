"""The chat function's own runtime, before a stand-in for Lambda's Runtime API."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runtime_stand_in import RuntimeApi as StandIn
from runtime_stand_in import Told

from lambdas.chat.runtime import Context, RuntimeApi, serve

ROOT = Path(__file__).parents[2]
BOOTSTRAP = ROOT / "lambdas" / "chat" / "bootstrap"
SECRET = "4111 1111 1111 1111"
SLOW_S = 0.2


@pytest.fixture
def lambda_() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.stop()


class Answered:
    """A response made of the parts given, which notes what is done to it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self.head: dict[str, Any] = {"statusCode": 201, "headers": {"x-color": "red"}}
        self.closed = self.finished = 0.0
        self._parts = parts

    def parts(self) -> Iterator[bytes]:
        try:
            yield from self._parts
        finally:
            self.closed = time.monotonic()

    def finish(self) -> None:
        self.finished = time.monotonic()


Handler = Callable[[dict[str, Any], Context], Any]


def served(lambda_: StandIn, handler: Handler, **event: Any) -> Told:
    """One invocation; what the runtime sent."""
    lambda_.invoke(**event)
    serve(RuntimeApi(lambda_.authority), handler)
    return lambda_.told.get(timeout=5)


def slowly(*parts: bytes) -> Iterator[bytes]:
    for part in parts:
        yield part
        time.sleep(SLOW_S)


def test_head_and_parts_are_sent_one_by_one_as_they_are_written(lambda_: StandIn) -> None:
    started = time.monotonic()
    told = served(lambda_, lambda event, context: Answered(slowly(b"a", b"", b"bc", b"d")))

    assert told.path == "/2018-06-01/runtime/invocation/r1/response"
    assert told.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert told.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert told.answer == ({"statusCode": 201, "headers": {"x-color": "red"}}, b"abcd")
    assert told.chunks[0].endswith(b"}" + bytes(8))
    assert told.chunks[1:] == [b"a", b"bc", b"d"]
    assert (told.complete, told.trailers) == (True, {})
    waits = [round((at - started) / SLOW_S) for at in told.at]
    assert waits == [0, 0, 2, 3]


def test_work_after_the_answer_is_done_when_it_is_taken_and_before_the_next_event(
    lambda_: StandIn,
) -> None:
    answer = Answered(iter([b"a"]))
    told = served(lambda_, lambda event, context: answer)
    assert told.complete
    assert told.at[-1] < answer.finished
    assert answer.closed < answer.finished
    assert lambda_.asked.qsize() == 1


def test_handler_sees_the_event_the_time_left_and_the_trace(lambda_: StandIn) -> None:
    seen: list[Any] = []

    def handler(event: dict[str, Any], context: Context) -> Answered:
        left = context.get_remaining_time_in_millis()
        seen.extend((event, context.aws_request_id, left, os.environ["_X_AMZN_TRACE_ID"]))
        return Answered(iter(()))

    served(lambda_, handler, request_id="r7", seconds=3, body="é")
    event, request_id, left, trace = seen
    assert (event, request_id, trace) == ({"body": "é"}, "r7", "Root=r7")
    assert 2000 < left <= 3000


def test_event_in_chunks_is_read_whole(lambda_: StandIn) -> None:
    lambda_.sends_chunked = True
    seen: list[Any] = []

    def handler(event: dict[str, Any], context: Context) -> Answered:
        seen.append(len(event["body"]))
        return Answered(iter(()))

    served(lambda_, handler, body="x" * 100_000)
    assert seen == [100_000]


def test_time_left_is_never_below_zero(lambda_: StandIn) -> None:
    seen: list[int] = []

    def handler(event: dict[str, Any], context: Context) -> Answered:
        seen.append(context.get_remaining_time_in_millis())
        return Answered(iter(()))

    served(lambda_, handler, seconds=-1)
    assert seen == [0]


def test_error_before_the_head_is_reported_without_what_a_caller_said(
    lambda_: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    def handler(event: dict[str, Any], context: Context) -> Answered:
        raise ValueError(f"cannot read {SECRET}")

    told = served(lambda_, handler)
    printed = capfd.readouterr()
    assert told.path == "/2018-06-01/runtime/invocation/r1/error"
    assert told.headers["lambda-runtime-function-error-type"] == "Function.ValueError"
    said = json.loads(told.body)
    assert said["errorType"] == "ValueError"
    assert said["errorMessage"].startswith("ValueError in ")
    assert SECRET not in told.body.decode() + printed.out + printed.err
    assert json.loads(printed.err) == said


def test_error_under_way_is_told_in_trailers_after_what_was_sent(lambda_: StandIn) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"a"
        raise OSError(SECRET)

    answer = Answered(breaks())
    told = served(lambda_, lambda event, context: answer)
    assert told.answer[1] == b"a"
    assert told.trailers["type"] == "Function.OSError"
    said = json.loads(base64.b64decode(told.trailers["body"]))
    assert said["errorType"] == "OSError"
    assert SECRET not in str(said)
    assert answer.finished


def test_hang_up_closes_the_parts_and_finishes(lambda_: StandIn) -> None:
    lambda_.hang_up_after = 2
    written = 0

    def endless() -> Iterator[bytes]:
        nonlocal written
        while True:
            written += 1
            yield b"a" * 1000
            time.sleep(0.01)

    answer = Answered(endless())
    told = served(lambda_, lambda event, context: answer)
    assert not told.complete
    assert 0 < answer.closed <= answer.finished
    assert written < 20

    lambda_.hang_up_after = None
    assert served(lambda_, lambda event, context: Answered(iter([b"b"]))).answer[1] == b"b"


def test_answers_share_a_connection_until_the_api_closes_it(
    lambda_: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[socket.socket] = []

    def accepted(request: socket.socket, address: object) -> bool:
        opened.append(request)
        return True

    monkeypatch.setattr(lambda_, "verify_request", accepted)
    api = RuntimeApi(lambda_.authority)

    def answered() -> Told:
        lambda_.invoke()
        serve(api, lambda event, context: Answered(iter([b"a"])))
        return lambda_.told.get(timeout=5)

    assert answered().complete
    assert answered().complete
    assert len(opened) == 2  # that of the events, and that of the answers

    opened[1].shutdown(socket.SHUT_RDWR)  # while nothing is on its way
    assert answered().complete
    assert len(opened) == 3

    lambda_.hang_up_after = 1
    assert not answered().complete
    lambda_.hang_up_after = None
    assert answered().complete
    assert len(opened) == 4


def test_answer_that_is_whole_is_sent_in_chunks_of_head_and_body(lambda_: StandIn) -> None:
    class Whole(Answered):
        def parts(self) -> tuple[bytes, ...]:  # type: ignore[override]
            return (b"", b"ab", b"c")

    told = served(lambda_, lambda event, context: Whole(iter(())))
    assert told.complete
    assert told.chunks[0].endswith(b"}" + bytes(8))
    assert told.chunks[1:] == [b"ab", b"c"]


def test_failed_work_after_the_answer_ends_nothing(
    lambda_: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    class Careless(Answered):
        def finish(self) -> None:
            raise ValueError(SECRET)

    assert served(lambda_, lambda event, context: Careless(iter([b"a"]))).complete
    assert json.loads(capfd.readouterr().err)["errorType"] == "ValueError"


PROBE = """
import os
count = 0
class Response:
    head = {"statusCode": 200, "headers": {}}
    def parts(self):
        yield b"part"
        yield str([count, os.getpid(), len(os.listdir("/proc/self/fd")), rss()]).encode()
    def finish(self):
        print("finished", count, flush=True)
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def handler(event, context):
    global count
    count += 1
    return Response()
"""


@pytest.fixture
def started(lambda_: StandIn, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts bootstrap as Lambda does, over a folder with the code, msgspec and `probe.py`."""
    (tmp_path / "lambdas").symlink_to(ROOT / "lambdas")
    (tmp_path / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    processes = []

    def start(handler: str = "probe.handler", probe: str = PROBE) -> subprocess.Popen[str]:
        (tmp_path / "probe.py").write_text(probe)
        process = subprocess.Popen(
            [str(BOOTSTRAP), sys.executable, "/var/runtime/bootstrap.py"],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={
                "LAMBDA_TASK_ROOT": str(tmp_path),
                "AWS_LAMBDA_RUNTIME_API": lambda_.authority,
                "_HANDLER": handler,
            },
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_thousand_invocations_leave_nothing_behind(
    lambda_: StandIn, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started()
    drained = threading.Thread(target=lambda: process.stdout and process.stdout.read())
    drained.start()
    seen = []
    for number in range(1000):
        lambda_.invoke(f"r{number}")
        told = lambda_.told.get(timeout=5)
        assert told.path.endswith(f"/r{number}/response")
        seen.append(json.loads(told.answer[1].removeprefix(b"part")))
    process.kill()
    drained.join()

    assert [count for count, *_ in seen] == list(range(1, 1001))
    assert len({(pid, descriptors) for _, pid, descriptors, _ in seen}) == 1
    assert seen[-1][3] - seen[100][3] < 1_000_000


@pytest.mark.parametrize(
    ("handler", "probe", "error"),
    [
        ("probe.handler", "1 / 0", "ZeroDivisionError"),
        ("probe.nobody", PROBE, "AttributeError"),
        ("nowhere.handler", PROBE, "ModuleNotFoundError"),
    ],
)
def test_handler_that_cannot_be_imported_is_an_init_error(
    lambda_: StandIn,
    started: Callable[..., subprocess.Popen[str]],
    handler: str,
    probe: str,
    error: str,
) -> None:
    process = started(handler, probe)
    told = lambda_.told.get(timeout=5)
    assert told.path == "/2018-06-01/runtime/init/error"
    assert json.loads(told.body)["errorType"] == error
    assert process.wait(5) == 1
    assert lambda_.asked.empty()


def test_runtime_ends_with_its_api(
    lambda_: StandIn, started: Callable[..., subprocess.Popen[str]]
) -> None:
    process = started()
    lambda_.asked.get(timeout=5)
    lambda_.vanish()
    assert process.wait(5) != 0


def test_handler_is_imported_before_the_first_event_is_asked_for(
    lambda_: StandIn, started: Callable[..., subprocess.Popen[str]]
) -> None:
    probe = "import time; time.sleep(0.3)\n" + PROBE
    begun = time.monotonic()
    started(probe=probe)
    assert lambda_.asked.get(timeout=5) - begun > 0.3
