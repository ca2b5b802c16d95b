"""Starting and stopping: ports, markers, orphans."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from local_parts import free_ports

from local import processes, up
from local.processes import MARKER, Service, StartError
from local.settings import Settings, SetupError

SERVER = (
    "import http.server, subprocess, sys\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True)\n"
    "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])),"
    " http.server.SimpleHTTPRequestHandler).serve_forever()\n"
)


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    return Settings(free_ports(), tmp_path)


def service(settings: Settings, script: str = SERVER) -> Service:
    command = (sys.executable, "-c", script, str(settings.port))
    return Service("emulator", command, settings.port, "/", seconds=60)


def test_occupied_port_names_the_process_and_the_way_out(own: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", own.port))
        taken.listen()
        with pytest.raises(SetupError) as raised:
            processes.start(own, service(own))
    message = str(raised.value)
    assert f"Port {own.port}, wanted for the emulator" in message
    assert f"pid {os.getpid()}: " in message
    assert Path(sys.executable).name in message
    assert f"DROPFORGE_PORT={own.port + 1000}" in message


def test_port_occupied_by_another_instance_says_how_to_stop_that(
    own: Settings, tmp_path: Path
) -> None:
    other = Settings(own.port, tmp_path / "other")
    up.start(other, [service(other)], lambda _: None, lambda _: None)
    with pytest.raises(SetupError, match=f"DROPFORGE_STATE={other.state} make down"):
        up.start(own, [service(own)], lambda _: None, lambda _: None)
    up.down(other)


def test_stop_ends_the_service_and_what_it_started(own: Settings) -> None:
    up.start(own, [service(own)], lambda _: None, lambda _: None)
    assert len(processes.ours(own)) == 2
    assert up.down(own) == ["emulator"]
    assert processes.ours(own) == []
    assert up.down(own) == []


def test_service_computes_as_the_person_asked_and_knows_no_profile_of_theirs(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    for name, value in {**asked, "AWS_PROFILE": "production"}.items():
        monkeypatch.setenv(name, value)
    up.start(own, [service(own)], lambda _: None, lambda _: None)
    process = processes.running(own, "emulator")
    assert process is not None
    environment = process.environ()
    up.down(own)
    assert asked.items() <= environment.items()
    assert "AWS_PROFILE" not in environment


def test_orphans_of_a_killed_service_are_stopped_too(own: Settings) -> None:
    up.start(own, [service(own)], lambda _: None, lambda _: None)
    main = processes.running(own, "emulator")
    assert main is not None
    main.kill()
    main.wait()
    assert len(processes.ours(own)) == 1
    up.down(own)
    assert processes.ours(own) == []


def test_second_start_finds_it_running(own: Settings) -> None:
    told: list[str] = []
    for _ in range(2):
        up.start(own, [service(own)], lambda _: None, told.append)
    assert "(was running)" not in told[0]
    assert "(was running)" in told[1]
    up.down(own)


def test_a_recycled_pid_is_not_ours_and_is_not_signalled(own: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        file = processes.pid_file(own, "emulator")
        file.parent.mkdir(parents=True)
        file.write_text(str(stranger.pid))
        assert processes.running(own, "emulator") is None
        assert up.down(own) == []
        assert stranger.poll() is None
        stranger.kill()


def test_another_instance_is_left_alone(own: Settings, tmp_path: Path) -> None:
    other = Settings(own.port, tmp_path / "other")
    environment = {**os.environ, MARKER: str(other.state)}
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command, env=environment) as stranger:
        deadline = time.monotonic() + 60
        while not processes.ours(other) and time.monotonic() < deadline:
            time.sleep(0.02)
        up.down(own)
        assert psutil.Process(stranger.pid) in processes.ours(other)
        stranger.kill()


def test_service_that_ends_shows_the_end_of_its_log(own: Settings) -> None:
    broken = service(own, "raise SystemExit('the disk is full')")
    with pytest.raises(StartError, match=r"The emulator ended\.[\s\S]*the disk is full"):
        up.start(own, [broken], lambda _: None, lambda _: None)
    assert processes.ours(own) == []


@pytest.mark.parametrize("port", ["", "no", "80", "70000"])
def test_port_out_of_range_says_what_is_right(port: str) -> None:
    if not port:
        assert Settings.from_environment({"DROPFORGE_PORT": port}).port == 4566
        return
    with pytest.raises(SetupError, match="first of three free ports"):
        Settings.from_environment({"DROPFORGE_PORT": port})


def test_clean_refuses_a_folder_with_something_of_somebody_else(own: Settings) -> None:
    (own.state / "thesis.tex").write_text("")
    with pytest.raises(SetupError, match=r"thesis\.tex"):
        up.clean(own)
    (own.state / "thesis.tex").unlink()
    up.clean(own)
    assert not own.state.exists()


def test_env_file_leads_a_shell_to_the_instance(own: Settings) -> None:
    up.write_env(own, "http://127.0.0.1:1/prod")
    asked = f". {own.env_file}; echo $AWS_ENDPOINT_URL $DROPFORGE_API_URL; command -v python"
    shell = subprocess.run(
        ["sh", "-c", asked],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    urls, python = shell.stdout.splitlines()
    assert urls == f"{own.emulator_url} http://127.0.0.1:1/prod"
    assert Path(python).parent == Path(sys.executable).parent
