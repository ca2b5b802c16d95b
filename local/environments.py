"""Execution environments of the emulator: processes that speak Lambda's Runtime API over HTTP.

Why: ministack runs a Python function inside a worker of its own, which hands a result over when it
is whole. A function that brings its runtime (AWS_LAMBDA_EXEC_WRAPPER) and streams is started here
as Lambda starts it. Not needed any more when ministack does both; tests/contract/test_emulator_
streaming.py tells. Everything runs in the emulator's event loop; only starting a process, waiting
for its end and writing logs go to threads.

An environment serves one invocation at a time. It is busy until its runtime asks for the next
event: work after the answer belongs to the invocation, as on AWS. Its process cannot outlive the
emulator: it is killed at the exit, and a runtime whose API is gone ends by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from local.runtime_api import FunctionFailedError, Invocation, read_body, read_head

INIT_SECONDS: Final = 10.0
"""Lambda developer guide, "Understanding the Lambda execution environment lifecycle"."""
IDLE_SECONDS: Final = 300.0
TASK: Final = "/var/task/"
MANAGED_START: Final = "/var/runtime/bootstrap.py"
LAST_WORDS_SECONDS: Final = 0.05
"""From the end of a process until nothing that it sent is still on its way."""

Record = Mapping[str, Any]
"""ministack's record of a function: `config`, `code_zip`."""


class Environment:
    """One process of a function. `idle` is called after each invocation."""

    def __init__(self, record: Record, idle: Callable[[Environment], None]) -> None:
        self.record = record
        self.mark = fingerprint(record["config"])
        self.alive = True
        self.uses = 0
        self._idle = idle
        self._timeout = float(record["config"].get("Timeout") or 3)
        self._events: asyncio.Queue[Invocation] = asyncio.Queue()
        self._current: Invocation | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._output = -1
        self._log = b""
        self._timer: asyncio.TimerHandle | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Returns when the runtime asks for its first event. Raises FunctionFailedError."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self._output = reading
        asyncio.get_running_loop().add_reader(reading, self._drain)
        try:
            self._process = await asyncio.to_thread(start_process, self.record, port, writing)
            await asyncio.wait_for(self._ready, max(INIT_SECONDS, self._timeout))
        except (OSError, TimeoutError, FunctionFailedError) as error:
            self.kill()
            self._drain()
            self._report("init", time.time(), failed=True)
            raise FunctionFailedError(f"Runtime.InitError: {error}") from error
        finally:
            os.close(writing)

    def begin(self, event: bytes) -> Invocation:
        """Hands an event over; the environment must be idle."""
        self.uses += 1
        self._current = invocation = Invocation(event, self._timeout)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._time_out)
        self._events.put_nowait(invocation)
        return invocation

    def kill(self) -> None:
        """Ends the process and all that belongs to it; may be called twice."""
        self.alive = False
        process, self._process = self._process, None
        if process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(RuntimeError):  # at the exit there is no loop any more
            if process:
                asyncio.get_running_loop().run_in_executor(None, process.wait)
            if self._server:
                self._server.close()
            for connection in self._connections:
                connection.cancel()

    def _time_out(self) -> None:
        if invocation := self._current:
            said = f"{invocation.request_id} Task timed out after {self._timeout:.2f} seconds"
            self._log += said.encode() + b"\n"
            self._give_up(FunctionFailedError(f"Sandbox.Timedout: {said}"))

    def _give_up(self, error: FunctionFailedError) -> None:
        """The process is of no more use, whatever it was doing."""
        self.kill()
        if not self._ready.done():
            self._ready.set_exception(error)
        if self._current:
            self._current.end(error)
            self._complete()

    def _complete(self) -> None:
        """The invocation is over, the work after its answer included."""
        invocation, self._current = self._current, None
        if self._timer:
            self._timer.cancel()
        self._drain()
        if invocation:
            failed = invocation.failed and not invocation.abandoned
            self._report(invocation.request_id, invocation.started, failed=failed)

    def _report(self, request_id: str, started: float, *, failed: bool) -> None:
        """Writes what the process printed to the function's log group, as for other functions."""
        from ministack.services import lambda_svc

        text, self._log = self._log.decode(errors="replace"), b""
        milliseconds = int((time.time() - started) * 1000)
        asyncio.get_running_loop().run_in_executor(
            None, lambda_svc._run_with_function_config_scope, self.record,
            lambda_svc._emit_lambda_logs, self.record, request_id, text, failed, milliseconds,
        )  # fmt: skip

    def _drain(self) -> None:
        """Takes all that the process has printed; at the end of its output it is dead."""
        if self._output < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while printed := os.read(self._output, 1 << 16):
                self._log += printed
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1
            exited = FunctionFailedError("Runtime.ExitError: the process ended")
            loop.call_later(LAST_WORDS_SECONDS, self._give_up, exited)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the runtime: requests one after the other."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a callback of the server
        self._connections.add(task)
        try:
            while head := await read_head(reader):
                path, headers = head
                if path.endswith("/runtime/invocation/next"):
                    await self._next(writer)
                    continue
                await self._told(path, headers, reader, writer)
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
                if headers.get("connection", "").lower() == "close":
                    break
        except (OSError, EOFError, ValueError):
            pass  # the process is dead, the caller gone, or the request no HTTP
        finally:
            self._connections.discard(task)
            writer.close()

    async def _next(self, writer: asyncio.StreamWriter) -> None:
        from ministack.services import lambda_svc

        if self._ready.done():
            self._complete()
            self._idle(self)
        else:
            self._ready.set_result(None)
        invocation = await self._events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": invocation.deadline_ms,
            "Lambda-Runtime-Invoked-Function-Arn": self.record["config"].get("FunctionArn", ""),
            "Content-Type": "application/json",
            "Content-Length": len(invocation.event),
        }
        if trace := lambda_svc._xray_trace_id_for_invocation(self.record["config"]):
            headers["Lambda-Runtime-Trace-Id"] = trace
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode() + invocation.event)
        await writer.drain()

    async def _told(
        self,
        path: str,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Takes an answer or an error. An answer that breaks off is a failed one."""
        invocation = self._current
        if path.endswith("/init/error") or invocation is None or invocation.request_id not in path:
            said = await read_body(reader, headers, lambda _: None)
            if path.endswith("/init/error") and not self._ready.done():
                self._ready.set_exception(FunctionFailedError(said))
            return
        if path.endswith("/error"):
            await read_body(reader, headers, lambda _: None)
            said = headers.get("lambda-runtime-function-error-type", "Runtime.Unknown")
            invocation.end(FunctionFailedError(said))
            return
        invocation.hang_up = writer.transport.abort
        if invocation.abandoned:
            invocation.hang_up()
        try:
            trouble = await read_body(reader, headers, invocation.write)
        except (OSError, EOFError, ValueError):
            invocation.end(FunctionFailedError("Runtime.TruncatedResponse"))
            raise
        invocation.end(FunctionFailedError(trouble) if trouble else None)


class Environments:
    """All of them: idle ones are used again, for as long as their function does not change."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Environment]] = {}
        self._all: set[Environment] = set()
        atexit.register(self.kill)

    async def begin(self, record: Record, event: dict[str, Any]) -> Invocation:
        """Hands the event to a free environment, a new one if need be.

        Raises FunctionFailedError when none could be started.
        """
        idle = self._idle.setdefault(record["config"]["FunctionArn"], [])
        mark = fingerprint(record["config"])
        while idle:
            environment = idle.pop()
            if environment.alive and environment.mark == mark:
                break
            self._drop(environment)
        else:
            environment = Environment(record, self._released)
            self._all = {known for known in self._all if known.alive} | {environment}
            await environment.start()
        return environment.begin(json.dumps(event).encode())

    def kill(self) -> None:
        """At the emulator's exit."""
        for environment in tuple(self._all):
            self._drop(environment)

    def _released(self, environment: Environment) -> None:
        self._idle[environment.record["config"]["FunctionArn"]].append(environment)
        loop = asyncio.get_running_loop()
        loop.call_later(IDLE_SECONDS, self._reap, environment, environment.uses)

    def _reap(self, environment: Environment, uses: int) -> None:
        idle = self._idle[environment.record["config"]["FunctionArn"]]
        if environment.uses == uses and environment in idle:
            idle.remove(environment)
            self._drop(environment)

    def _drop(self, environment: Environment) -> None:
        self._all.discard(environment)
        environment.kill()


def fingerprint(config: Mapping[str, Any]) -> str:
    """What of a function's configuration an environment is made of."""
    names = ("CodeSha256", "Environment", "Handler", "MemorySize", "Runtime", "Timeout", "Role")
    return json.dumps([config.get(name) for name in names], sort_keys=True)


def start_process(record: Record, port: int, output: int) -> subprocess.Popen[bytes]:
    """Starts a function's wrapper as Lambda does, its output going to a pipe.

    Raises:
        FunctionFailedError: the function has no wrapper in its code.
        OSError: the wrapper cannot be run.
    """
    from ministack.services import lambda_svc

    code = lambda_svc._provided_runtime_code_dir(record["code_zip"])

    def environment() -> dict[str, str]:
        made: dict[str, str] = lambda_svc._provided_worker_env(record["config"], code, port)
        return made

    variables = lambda_svc._run_with_function_config_scope(record, environment)
    wrapper = variables.get("AWS_LAMBDA_EXEC_WRAPPER", "")
    if not wrapper.startswith(TASK):
        raise FunctionFailedError(
            f"Runtime.InvalidEntrypoint: AWS_LAMBDA_EXEC_WRAPPER={wrapper!r} is not in {TASK}"
        )
    command = [str(Path(code, wrapper.removeprefix(TASK))), sys.executable, MANAGED_START]
    with lambda_svc._provided_code_lock:  # no fork while a file of the code is open for writing
        return subprocess.Popen(  # noqa: S603
            command, cwd=code, env=variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
