"""The programs in docs/api.md do what it says, against the chat function over HTTP."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_front import ROOT
from http_stub import Stub

from dropforge import serve
from dropforge.serve import limits
from dropforge.serve.options import ServeOptions
from lambdas.chat import handler as chat
from tests.support.stage import Stage, running_stage

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
TEXT = (ROOT / "docs/api.md").read_text()
SETUP = "export DROPFORGE_API_URL=https://"
NODE = ROOT / "tests/e2e/node"
RATED = '"object":"feedback"'


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [block for block in found if not block.startswith(SETUP)]


@pytest.fixture
def api(stub: Stub) -> Iterator[Stage]:
    with running_stage({"df-docs": "shop"}) as server:
        yield server


def run(command: list[Any], api: Stage, where: Path) -> str:
    environment = {**os.environ, "DROPFORGE_API_URL": api.url, "DROPFORGE_TOKEN": "df-docs"}
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_shell_commands_work(number: int, api: Stage, tmp_path: Path) -> None:
    printed = run(["bash", "-euc", blocks("sh")[number]], api, tmp_path)
    assert "It ships on Monday." in printed or RATED in printed


def test_python_program_works(api: Stage, tmp_path: Path) -> None:
    [program] = blocks("python")
    printed = run([sys.executable, "-c", program], api, tmp_path)
    assert printed == "shop/v2 It ships on Monday.\nIt ships on Monday."


def test_node_program_works(api: Stage) -> None:
    node = shutil.which("node")
    assert node, "Node 20 or newer is part of what Dropforge needs"
    assert (NODE / "node_modules/openai").is_dir(), "run `make setup`"
    [program] = blocks("js")
    printed = run([node, "--input-type=module", "-e", program], api, NODE)
    assert printed == "It ships on Monday."


def test_every_route_is_in_the_table() -> None:
    listed = set(re.findall(r"^\| `(GET|POST) (\S+)` \|", TEXT, re.MULTILINE))
    ours = {(verb, path) for path, verbs in chat.ROUTES.items() for verb in verbs}
    assert listed - {("POST", "/webhooks/<provider>")} == ours


def test_every_error_is_in_the_table() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| (`.*?) \|", TEXT, re.MULTILINE)
    listed = {
        (int(status), code)
        for statuses, codes in rows
        for status in statuses.split(",")
        for code in re.findall(r"`(\w+)`", codes)
    }
    told = {(error.status, error.code.lower()) for error in errors(serve.ChatError)}
    assert told <= listed


def errors(root: type[serve.ChatError]) -> Iterator[type[serve.ChatError]]:
    yield root
    for below in root.__subclasses__():
        yield from errors(below)


def test_limits_are_those_that_hold() -> None:
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", TEXT.partition("## Limits")[2], re.MULTILINE)
    said = dict(rows)
    options = ServeOptions()
    assert said["body"] == f"{serve.MAX_BODY_BYTES // 1024} KiB"
    assert said["messages"] == f"{serve.MAX_MESSAGES}, nested at most {serve.MAX_DEPTH} levels deep"
    tokens = said["tokens of a request, and of an answer"]
    assert f"({options.max_input_tokens:,}, by" in tokens
    assert f"({options.max_output_tokens:,})" in tokens
    counts = (limits.MAX_STOPS, limits.MAX_TOOLS, limits.MAX_METADATA, 8, limits.MAX_EMBEDDED)
    entries = said["`stop`, `tools`, `metadata`, `n`, `input` of embeddings"]
    assert entries == ", ".join(map(str, counts)) + " entries"
