"""Drops that end without a promotion: bad models, bad files, no project. The base model is tiny."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from local import bad_exports
from tests.e2e.conftest import CONFIG, PATIENCE_SECONDS, TICKETS, Instance, wait_for_run

pytestmark = pytest.mark.slow


def test_model_of_shuffled_answers_is_rejected_and_one_of_few_tickets_not_decided(
    instance: Instance, tmp_path: Path
) -> None:
    config = bad_exports.write_project(CONFIG, tmp_path / "quick.yaml")
    for name, file in bad_exports.write_exports(TICKETS, tmp_path).items():
        printed = instance.dropforge("drop", file, "-p", name, "-c", config)
        [run] = instance.registry.items(name, "run#")
        assert (run["status"], run["promoted"]) == ("succeeded", False), printed
        assert instance.registry.champion(name) is None
    [few] = instance.registry.items(bad_exports.FEW, "evaluation#")
    assert (few["verdict"], few["samples"]) == ("not enough evidence", 12)
    assert "12 tickets scored against the base; at least 20 are needed" in few["reasons"][0]
    [shuffled] = instance.registry.items(bad_exports.SHUFFLED, "evaluation#")
    assert shuffled["verdict"] == "reject"
    assert any("of the facts right, asked for 50 %" in reason for reason in shuffled["reasons"])


BAD_FILES = {
    "utf16.csv": ("question,answer\na,b\n".encode("utf-16"), "ENCODING"),
    "empty.csv": (b"  \n", "NO_DATA"),
    "columns.csv": (b"subject,body\nhello,there\n", "SCHEMA"),
    "few.csv": (b"question,answer\nhello,there\n", "TOO_FEW_EXAMPLES"),
    "unclosed.csv": (b'question,answer\n"hello,there\n', "SCHEMA"),
}


def test_bad_file_gets_message_beside_it_and_in_status(instance: Instance) -> None:
    instance.store.write("projects/bad-files/project.yaml", CONFIG.read_bytes())
    for name, (data, _) in BAD_FILES.items():
        instance.store.write(f"exports/bad-files/{name}", data)
    for name, (_, code) in BAD_FILES.items():
        key = f"exports/bad-files/{name}"
        run = wait_for_run(instance, "bad-files", key)
        assert run["status"] == "failed"
        assert run["error"].startswith(f"{code}: "), run["error"]
        assert instance.store.read(f"{key}.error.txt").decode().startswith(f"{code}: ")
    listed = instance.dropforge("status", "-p", "bad-files")
    assert "NO_DATA" in listed
    assert "Traceback" not in listed
    assert not instance.registry.items("bad-files", "model#")


def test_drop_without_project_and_wrong_project_file_say_what_to_do(instance: Instance) -> None:
    instance.store.write("exports/nobody/tickets.csv", TICKETS.read_bytes())
    run = wait_for_run(instance, "nobody", "exports/nobody/tickets.csv")
    assert "projects/nobody/project.yaml" in run["error"]
    instance.store.write("projects/nobody/project.yaml", "backend: cloud\nmodell: x\n")
    until = time.monotonic() + PATIENCE_SECONDS
    message = None
    while message is None and time.monotonic() < until:
        message = instance.store.find("projects/nobody/project.yaml.error.txt")
        time.sleep(0.3)
    assert message is not None
    for problem in ("backend", "modell", "model: Field required"):
        assert problem in message.decode()
