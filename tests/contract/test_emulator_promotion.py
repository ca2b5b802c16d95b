"""The states after the verdict, interpreted: only the functions' results are given."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_parts import ROLE, until

from infra.config import settings_from
from infra.promotion_states import promotion_states

STATE = {"poll": {"model": {"version": "new"}}}
CANARY = {"canary": True, "running": True, "wait_seconds": 1, "promoted": False}
OVER = {"canary": False, "running": False, "promoted": True}
ASKS = """
import pathlib

def handler(event, context):
    if event["run"]["note"]:
        pathlib.Path(event["run"]["note"]).write_text(event["token"])
    assert event["evaluation"]["hash"] == "e" and event["model"]["version"] == "new"
"""
Machine = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="module")
def machine(aws: Callable[[str], Any]) -> Machine:
    """Starts an execution of the real states; `promote` and `canary` answer what a test gave."""
    client, ask = aws("stepfunctions"), _ask(aws("lambda"))
    made = iter(range(100))

    def start(given: dict[str, Any]) -> str:
        states = promotion_states(settings_from({}), then="Succeeded")
        states["Succeeded"] = {"Type": "Succeed"}
        states["Fail"] = {"Type": "Fail", "Error": "Fail"}
        for name in ("Promote", "Canary"):
            kept = {k: states[name][k] for k in ("ResultPath", "Next")}
            states[name] = {"Type": "Pass", "InputPath": f"$.given.{name}", **kept}
        wait = states["WaitForApproval"]
        wait["TimeoutSeconds"] = given.get("patience", 60)
        text = json.dumps({"StartAt": "Approval?", "States": states})
        text = text.replace("${InvokeAndWait}", "arn:aws:states:::lambda:invoke.waitForTaskToken")
        arn = client.create_state_machine(
            name=f"promotion{next(made)}",
            definition=text.replace("${AskFunctionArn}", ask),
            roleArn=ROLE,
        )["stateMachineArn"]
        evaluation = {"hash": "e", "approval": given.get("approval", False)}
        run = {"run_id": "r1", "note": given.get("note", "")}
        told = {**STATE, "run": run, "evaluation": evaluation, "given": given}
        return str(
            client.start_execution(stateMachineArn=arn, input=json.dumps(told))["executionArn"]
        )

    return start


def _ask(client: Any) -> str:
    """A function that notes its token where the run says."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("asks.py", ASKS)
    made = client.create_function(
        FunctionName="asks",
        Runtime="python3.13",
        Role=ROLE,
        Handler="asks.handler",
        Timeout=60,
        Code={"ZipFile": archive.getvalue()},
    )
    return str(made["FunctionArn"])


@pytest.fixture(scope="module")
def ended(aws: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    """Waits for an execution's end; its output."""
    client = aws("stepfunctions")

    def wait(execution: str) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            found: dict[str, Any] = client.describe_execution(executionArn=execution)
            return None if found["status"] == "RUNNING" else found

        found = until(over)
        assert found["status"] == "SUCCEEDED", found
        output: dict[str, Any] = json.loads(found["output"])
        return output

    return wait


def test_without_approval_or_canary_the_run_is_over_at_once(
    machine: Machine, ended: Callable[[str], dict[str, Any]]
) -> None:
    output = ended(machine({"Promote": OVER}))
    assert output["promotion"] == OVER
    assert "approval" not in output


def test_canary_is_waited_for_and_looked_at(
    machine: Machine, ended: Callable[[str], dict[str, Any]]
) -> None:
    began = time.monotonic()
    output = ended(machine({"Promote": CANARY, "Canary": OVER}))
    assert output["promotion"] == OVER
    assert time.monotonic() - began >= 1


def test_answer_of_a_person_reaches_the_promote_stage(
    aws: Callable[[str], Any],
    machine: Machine,
    ended: Callable[[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    note = tmp_path / "token"
    execution = machine({"approval": True, "Promote": OVER, "note": str(note)})
    token = until(lambda: note.read_text() if note.exists() else "")
    answer = {"approved": False, "who": "ann", "why": "too terse"}
    aws("stepfunctions").send_task_success(taskToken=token, output=json.dumps(answer))
    output = ended(execution)
    assert output["approval"] == answer
    assert output["promotion"] == OVER


def test_without_an_answer_in_time_the_promote_stage_sees_none(
    machine: Machine, ended: Callable[[str], dict[str, Any]]
) -> None:
    output = ended(machine({"approval": True, "patience": 1, "Promote": OVER}))
    assert "approval" not in output
    assert output["not_approved"]["Error"] == "States.Timeout"
    assert output["promotion"] == OVER
