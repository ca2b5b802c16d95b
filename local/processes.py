"""Starting, recognising and stopping the local default's processes, and no others.

Every process started here carries MARKER with the instance's folder in its environment, and so do
its children (Lambda workers, training jobs). A process is ours exactly when it carries that marker:
a recycled pid or somebody else's server is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]

from local.settings import Settings, SetupError

MARKER: Final = "DROPFORGE_LOCAL_INSTANCE"
INHERITED: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT"),
    *("OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
)
"""The second line is how models are computed: threads, and the processor's vector units."""
GRACE_SECONDS: Final = 10.0

_started: Final[list[subprocess.Popen[bytes]]] = []
"""Kept, because dropping the handle of a running child is a ResourceWarning."""


class StartError(SetupError):
    """A process ended, or did not answer in time; the message holds the end of its log."""


@dataclass(frozen=True)
class Service:
    """A server of the instance; `health` is a path that answers 200 once it is ready."""

    name: str
    command: tuple[str, ...]
    port: int
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60

    def healthy(self) -> bool:
        url = f"http://127.0.0.1:{self.port}{self.health}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError, ValueError):
            return False


def log_file(settings: Settings, name: str) -> Path:
    return settings.state / "logs" / f"{_slug(name)}.log"


def pid_file(settings: Settings, name: str) -> Path:
    return settings.state / "run" / f"{_slug(name)}.pid"


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def instance_of(process: psutil.Process) -> str | None:
    """The folder of the instance that a process belongs to; None for anybody else's."""
    try:
        found: str | None = process.environ().get(MARKER)
    except (psutil.Error, OSError):
        return None
    return found


def is_ours(process: psutil.Process, settings: Settings) -> bool:
    """Whether a process carries this instance's marker."""
    return instance_of(process) == str(settings.state)


def ours(settings: Settings) -> list[psutil.Process]:
    """Every living process of this instance, workers and training jobs included."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and is_ours(process, settings)
    ]


def running(settings: Settings, name: str) -> psutil.Process | None:
    """The service's main process, if it lives and is ours."""
    try:
        process = psutil.Process(int(pid_file(settings, name).read_text()))
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if is_ours(process, settings) else None


def occupant(port: int) -> psutil.Process | None:
    """The process that listens on a port, as far as this user may see it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return process
    return None


def require_free(service: Service) -> None:
    """Raises SetupError, naming the occupant and the way out, unless the service's port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
            return
        except OSError:
            process = occupant(service.port)
    who, stop = "a process of another user", "Stop it"
    if process is not None:
        who = f"pid {process.pid}: {command_line(process)}"
        instance = instance_of(process)
        stop = f"Stop it (kill {process.pid})"
        if instance is not None:
            stop = f"Stop that instance (DROPFORGE_STATE={instance} make down)"
    raise SetupError(
        f"Port {service.port}, wanted for the {service.name}, is taken by {who}\n{stop}, or choose"
        f" three other ports: DROPFORGE_PORT={service.port + 1000} make up"
    )


def command_line(process: psutil.Process) -> str:
    """What a process was started with, on one line."""
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline()).split() or [str(process.name())]
        return textwrap.shorten(" ".join(words), 200, placeholder=" …")
    return "(command line not visible)"


def start(settings: Settings, service: Service) -> int:
    """Starts a service in a session of its own, its output in the log; the pid.

    The person's own environment is left out but for INHERITED: no profile, proxy or credentials
    leak into what runs here. Raises SetupError when the port is taken.
    """
    require_free(service)
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment.update(service.environment)
    environment[MARKER] = str(settings.state)
    for file in (log_file(settings, service.name), pid_file(settings, service.name)):
        file.parent.mkdir(parents=True, exist_ok=True)
    with log_file(settings, service.name).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the commands stand in up.py
            service.command, cwd=settings.root, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    _started.append(process)
    pid_file(settings, service.name).write_text(f"{process.pid}\n")
    return process.pid


def await_healthy(settings: Settings, service: Service) -> None:
    """Waits until a started service answers. Raises StartError with the end of its log."""
    deadline = time.monotonic() + service.seconds
    while not service.healthy():
        ended = _has_ended(settings, service.name)
        if ended or time.monotonic() > deadline:
            what = "ended" if ended else f"did not answer within {service.seconds:.0f} s"
            path = log_file(settings, service.name)
            raise StartError(f"The {service.name} {what}. {path} ends:\n{tail(path, 15)}")
        time.sleep(0.05)


def _has_ended(settings: Settings, name: str) -> bool:
    """Whether a service's main process is no more. Just started, it shows no environment yet."""
    try:
        process = psutil.Process(int(pid_file(settings, name).read_text()))
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return True


def stop(settings: Settings, names: tuple[str, ...]) -> Iterator[str]:
    """Stops every process of the instance; yields the names of the services that were running.

    The main processes get SIGTERM and GRACE_SECONDS, because the emulator saves its state on the
    way out; whatever carries the marker after that is killed.
    """
    mains = {name: process for name in names if (process := running(settings, name))}
    for process in mains.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(list(mains.values()), timeout=GRACE_SECONDS)
    left = ours(settings)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=2)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for name in names:
        pid_file(settings, name).unlink(missing_ok=True)
    yield from mains


def tail(path: Path, lines: int) -> str:
    """The last lines of a file; empty when there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
