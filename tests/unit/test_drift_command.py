"""`dropforge golden` and `dropforge drift`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from typer.testing import Result

from dropforge.artifacts import drift_key, golden_key
from dropforge.cli import drift as drift_command
from tests.support.drift_looks import NEW, OLD, looks
from tests.support.world import World

Dropforge = Callable[..., Result]
LINE = {"id": "returns", "question": "How long may I keep it?", "reference": "30 days."}


def write(path: Path, *lines: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def give_looks(world: World) -> None:
    for one in looks():
        item = msgspec.to_builtins(msgspec.structs.replace(one, changed=()))
        world.registry.put("shop", f"drift#{one.day}#{one.version}", item)
    world.store.save(drift_key("shop", looks()[-1].day), looks()[-1])
    for revision, (version, at) in enumerate([(OLD, 1.0), (OLD, 2.0), (NEW, looks()[7].at)]):
        world.registry.put("shop", f"move#{revision:06d}", {"version": version, "at": at})


# --- golden


def test_golden_questions_are_checked_put_and_shown(
    world: World, dropforge: Dropforge, tmp_path: Path
) -> None:
    path = write(tmp_path / "g.jsonl", LINE, {**LINE, "id": "b", "must": ["30"], "must_not": ["x"]})
    said = dropforge("golden", path, "-p", "shop")
    assert said.exit_code == 0, said.output
    assert "2 golden questions put at projects/shop/golden.jsonl" in said.output
    data = world.store.read(golden_key("shop"))
    world.take(world.put(golden_key("shop"), data))
    shown = dropforge("golden").output
    assert "How long may I keep it?" in shown
    assert "the facts of its reference" in shown
    address = (world.registry.get("shop", "golden") or {})["hash"][:12]
    assert f"in force in a moment as {address}" in said.output
    assert f"2 questions, {address}, in force since" in shown


def test_wrong_golden_questions_are_not_put(
    world: World, dropforge: Dropforge, tmp_path: Path
) -> None:
    said = dropforge("golden", write(tmp_path / "g.jsonl", {**LINE, "reference": "Yes"}))
    assert said.exit_code == 1
    assert "line 1: `reference` has no number" in said.output
    assert world.store.find(golden_key("shop")) is None
    missing = dropforge("golden", str(tmp_path / "none.jsonl"))
    assert missing.exit_code == 1
    assert "cannot be read" in missing.output


def test_file_that_was_refused_is_shown_beside_the_questions_in_force(
    world: World, dropforge: Dropforge
) -> None:
    assert "has no golden questions" in dropforge("golden").output
    world.take(world.put(golden_key("shop"), json.dumps(LINE)))
    world.take(world.put(golden_key("shop"), "{"))
    shown = dropforge("golden").output
    assert "line 1: not valid JSON" in shown
    assert "1 questions" in shown


# --- drift


def test_looks_are_shown_with_what_the_last_one_found(world: World, dropforge: Dropforge) -> None:
    give_looks(world)
    said = dropforge("drift", "-p", "shop").output
    assert said.count(OLD) == said.count(NEW) == 7
    assert "15/24" in said
    assert "drift: 15 of 24 answers are right" in said


def test_page_is_written(world: World, dropforge: Dropforge, tmp_path: Path) -> None:
    give_looks(world)
    page = tmp_path / "drift.html"
    said = dropforge("drift", "--out", str(page))
    assert said.exit_code == 0, said.output
    text = page.read_text()
    assert "wrong now, right at first" in text
    assert f"{NEW} promoted on 2026-09-21" in text
    assert f"{OLD} promoted" not in text


def test_project_without_a_look_is_told_how_to_get_one(world: World, dropforge: Dropforge) -> None:
    world.registry.put("shop", "drift", {"failed": "RETRYABLE: no answer"})
    said = dropforge("drift").output
    assert "not been looked at yet: `dropforge drift -p shop --now`" in said
    assert "the last look failed: RETRYABLE: no answer" in said


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"shop": "12 of 12 answers right; its first answers are kept"}, 0, "12 of 12"),
        ({"shop": "failed: RETRYABLE: no"}, 1, "failed: RETRYABLE: no"),
        ({"shop": "not looked at: no model is in production"}, 1, "no model is in production"),
        ({"errorType": "Sandbox.Timedout", "errorMessage": "secret"}, 1, "Sandbox.Timedout"),
    ],
)
def test_now_asks_the_function_for_this_project(
    world: World,
    dropforge: Dropforge,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, str],
    status: int,
    said: str,
) -> None:
    client = boto3.client("lambda")
    monkeypatch.setattr(drift_command, "lambda_client", lambda: client)
    data = msgspec.json.encode(answer)
    given: dict[str, Any] = {"StatusCode": 200, "Payload": _body(data)}
    if "errorType" in answer:
        given["FunctionError"] = "Unhandled"
    asked = {"FunctionName": "dropforge-drift", "Payload": b'{"project":"shop"}'}
    with Stubber(client) as stub:
        stub.add_response("invoke", given, asked)
        result = dropforge("drift", "--now")
        stub.assert_no_pending_responses()
    assert result.exit_code == status
    assert said in result.output
    assert "secret" not in result.output


def _body(data: bytes) -> StreamingBody:
    return StreamingBody(io.BytesIO(data), len(data))
