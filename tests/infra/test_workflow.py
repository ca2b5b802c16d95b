from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dropforge import errors
from dropforge.approval import VALID_S
from infra import workflow
from infra.config import Settings
from tests.infra.assembly import Assembly

State = dict[str, Any]


@pytest.fixture(scope="module")
def machine(settings: Settings) -> State:
    return workflow.definition(settings)


def tasks(machine: State) -> Iterator[tuple[str, State, State | None]]:
    """(name, task, the Map around it)."""
    for name, state in machine["States"].items():
        if state["Type"] == "Task":
            yield name, state, None
        if state["Type"] == "Map":
            for inner, task in state["ItemProcessor"]["States"].items():
                yield inner, task, state


def following(state: State) -> list[str]:
    choices = [choice["Next"] for choice in state.get("Choices", [])]
    caught = [catch["Next"] for catch in state.get("Catch", [])]
    ahead = [state[key] for key in ("Next", "Default") if key in state]
    return [*choices, *caught, *ahead]


def test_every_task_is_retried_and_its_failure_caught(machine: State) -> None:
    for name, task, around in tasks(machine):
        assert task.get("Retry") or name == "WaitForWebhook", name
        catcher = around or task
        assert catcher["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name


def test_lambda_tasks_retry_passing_errors_by_class_name(machine: State) -> None:
    passing = {
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
        "Lambda.Unknown",
        "Sandbox.Timedout",
        "RetryableError",
    }
    for name, task, _ in tasks(machine):
        if task["Resource"].endswith("FunctionArn}"):
            assert set(task["Retry"][-1]["ErrorEquals"]) == passing, name
            slow = task["Retry"][0]
            assert slow["ErrorEquals"] == ["AsleepError", "StartingError"], name
            assert slow["IntervalSeconds"] * slow["MaxAttempts"] >= 1200, name


def test_judging_retries_a_batch_and_not_all_of_them_once_more(machine: State) -> None:
    around = machine["States"]["Judge"]
    (batch,) = around["ItemProcessor"]["States"].values()
    ours = {"RetryableError", "AsleepError", "StartingError"}
    assert ours == {e for r in batch["Retry"] for e in r["ErrorEquals"]} & ours
    assert not ours & {e for r in around["Retry"] for e in r["ErrorEquals"]}
    assert "Lambda.ServiceException" in around["Retry"][-1]["ErrorEquals"]


def test_every_path_reaches_an_end(machine: State) -> None:
    states = machine["States"]
    ends = {name for name, state in states.items() if state["Type"] in ("Succeed", "Fail")}
    reaches = set(ends)
    while grown := {n for n, s in states.items() if set(following(s)) & reaches} - reaches:
        reaches |= grown
    reached, frontier = set(), {machine["StartAt"]}
    while frontier:
        reached |= frontier
        frontier = {n for name in frontier for n in following(states[name])} - reached

    assert reached == set(states)
    assert reaches == set(states)


def test_a_failure_goes_through_the_fail_function_to_a_failed_execution(machine: State) -> None:
    states = machine["States"]
    own_way = ("Fail", "TrainOnSageMaker", "WaitForWebhook")
    for name, state in states.items():
        for catch in state.get("Catch", []):
            if catch["ErrorEquals"] == ["States.ALL"] and name not in own_way:
                assert catch["Next"] == "Fail"
    assert [catch["Next"] for catch in states["Fail"]["Catch"]] == ["Failed"]
    assert states["Fail"]["Next"] == "Failed"
    assert states["Failed"]["CausePath"] == "$.error.Cause"


def test_results_are_placed_beside_the_run(machine: State) -> None:
    states = machine["States"]
    places = {name: states[name]["ResultPath"] for name in states if "ResultPath" in states[name]}

    assert places == {
        "Clean": "$.clean",
        "Validate": "$.dataset",
        "Launch": "$.job",
        "TrainOnSageMaker": None,
        "Poll": "$.poll",
        "WaitForWebhook": None,
        "Parity": "$.parity",
        "Fallback": "$.fallback",
        "UnknownJobState": "$.error",
        "Plan": "$.plan",
        "Judge": "$.batches",
        "Verdict": "$.evaluation",
        "WaitForApproval": "$.approval",
        "Promote": "$.promotion",
        "Canary": "$.promotion",
        "Fail": None,
    }


def test_a_job_is_waited_for_until_it_is_done(machine: State) -> None:
    states = machine["States"]
    choice = states["JobState?"]["Choices"]

    assert states["WaitForJob"] == {
        "Type": "Wait",
        "SecondsPath": "$.job.poll_seconds",
        "Next": "Poll",
    }
    assert {c["StringEquals"]: c["Next"] for c in choice} == {
        "Pending": "Webhooks?",
        "Completed": "OwnModel?",
    }


def test_webhook_shortens_the_wait_and_polling_guarantees_it(machine: State) -> None:
    wait = machine["States"]["WaitForWebhook"]

    assert wait["TimeoutSecondsPath"] == "$.job.poll_seconds"
    assert {tuple(c["ErrorEquals"]): c["Next"] for c in wait["Catch"]} == {
        ("States.Timeout",): "Poll",
        ("States.ALL",): "WaitForJob",
    }
    assert wait["Next"] == "Poll"


def test_only_errors_of_a_backend_lead_to_the_next_one(machine: State) -> None:
    states = machine["States"]
    for name in ("Launch", "Poll"):
        first = states[name]["Catch"][0]
        assert (first["Next"], first["ResultPath"]) == ("Fallback", "$.error")
        for error in first["ErrorEquals"]:
            if not error.startswith("States."):
                assert issubclass(getattr(errors, error), errors.DropforgeError)
        assert not {"DatasetError", "ProjectError", "ParityError"} & set(first["ErrorEquals"])
    assert following(states["AnotherBackend?"]) == ["Launch", "Fail"]
    assert following(states["Parity"]) == ["Fail", "Plan"]


def test_lost_answer_of_a_create_is_looked_up_by_poll(machine: State) -> None:
    job = machine["States"]["TrainOnSageMaker"]

    assert [c["Next"] for c in job["Catch"]] == ["Poll"]
    assert job["Catch"][0]["ResultPath"] == "$.not_started"


def test_run_that_has_its_dataset_begins_with_training(machine: State) -> None:
    first = machine["States"][machine["StartAt"]]

    assert first["Choices"] == [{"Variable": "$.dataset", "IsPresent": True, "Next": "Launch"}]
    assert first["Default"] == "Clean"


def test_a_person_is_waited_for_a_week_where_the_verdict_asks_for_one(machine: State) -> None:
    states = machine["States"]
    wait = states["WaitForApproval"]

    assert following(states["Verdict"]) == ["Fail", "Approval?"]
    asked = {"Variable": "$.evaluation.approval", "BooleanEquals": True, "Next": "WaitForApproval"}
    assert states["Approval?"]["Choices"] == [asked]
    assert states["Approval?"]["Default"] == wait["Next"] == "Promote"
    assert wait["Resource"] == "${InvokeAndWait}"
    assert wait["Parameters"]["FunctionName"] == "${AskFunctionArn}"
    assert wait["Parameters"]["Payload"]["token.$"] == "$$.Task.Token"
    assert wait["TimeoutSeconds"] == VALID_S, "as long as the link can be used"
    caught = [(c["ErrorEquals"], c["Next"], c["ResultPath"]) for c in wait["Catch"]]
    assert caught == [
        (["States.Timeout"], "Promote", "$.not_approved"),
        (["States.ALL"], "Fail", "$.error"),
    ]


def test_a_canary_is_looked_at_until_it_is_over(machine: State) -> None:
    states = machine["States"]

    assert states["WaitForCanary"] == {
        "Type": "Wait",
        "SecondsPath": "$.promotion.wait_seconds",
        "Next": "Canary",
    }
    assert following(states["Promote"]) == ["Fail", "Canary?"]
    assert following(states["Canary?"]) == ["WaitForCanary", "Succeeded"]
    assert states["Canary?"]["Choices"][0]["Variable"] == "$.promotion.canary"
    assert following(states["Canary"]) == ["Fail", "CanaryRunning?"]
    assert following(states["CanaryRunning?"]) == ["WaitForCanary", "Succeeded"]
    assert states["CanaryRunning?"]["Choices"][0]["Variable"] == "$.promotion.running"


def test_run_has_room_for_approval_and_the_longest_canary(machine: State) -> None:
    longest_canary = 500 * 3600
    training = machine["States"]["TrainOnSageMaker"]["TimeoutSeconds"]
    assert VALID_S + longest_canary + training < machine["TimeoutSeconds"]


def test_timeouts_leave_room_for_what_they_contain(machine: State, settings: Settings) -> None:
    for name, task, _ in tasks(machine):
        if task["Resource"].endswith("FunctionArn}"):
            function = task["Resource"][2:].removesuffix("FunctionArn}").lower()
            assert task["TimeoutSeconds"] > settings.functions.of(function).timeout_s, name
    training = machine["States"]["TrainOnSageMaker"]
    stopping = training["Parameters"]["StoppingCondition"]

    assert stopping["MaxRuntimeInSeconds"] < stopping["MaxWaitTimeInSeconds"]
    assert stopping["MaxWaitTimeInSeconds"] < training["TimeoutSeconds"]
    assert training["TimeoutSeconds"] < machine["TimeoutSeconds"]


def test_training_volume_is_encrypted_with_the_key_where_there_is_a_volume(
    settings: Settings,
) -> None:
    with_disk = settings.sagemaker.model_copy(update={"training_instance": "ml.p3.2xlarge"})
    volume = workflow.definition(settings.model_copy(update={"sagemaker": with_disk}))
    nvme = workflow.definition(settings)

    def machine_of(machine: State) -> State:
        config: State = machine["States"]["TrainOnSageMaker"]["Parameters"]["ResourceConfig"]
        return config

    assert machine_of(volume)["VolumeKmsKeyId"] == "${KeyArn}"
    assert "VolumeKmsKeyId" not in machine_of(nvme)


def test_training_job_writes_encrypted_output_and_resumes_from_checkpoints(
    machine: State,
) -> None:
    job = machine["States"]["TrainOnSageMaker"]["Parameters"]
    channels = {channel["ChannelName"] for channel in job["InputDataConfig"]}

    assert channels == {"code", "train", "validation", "model"}
    assert job["OutputDataConfig"]["KmsKeyId"] == "${KeyArn}"
    assert job["EnableManagedSpotTraining"]
    assert job["EnableNetworkIsolation"]
    assert job["CheckpointConfig"] == {"S3Uri.$": "$.job.checkpoint_uri"}


def test_every_substitution_is_filled_in_and_none_is_left_over(assembly: Assembly) -> None:
    machine = assembly.one("AWS::StepFunctions::StateMachine")

    wanted = workflow.placeholders(machine["DefinitionString"])
    assert wanted == set(machine["DefinitionSubstitutions"])


def test_the_deployed_definition_is_the_one_tested_here(assembly: Assembly, machine: State) -> None:
    deployed = assembly.one("AWS::StepFunctions::StateMachine")

    assert json.loads(deployed["DefinitionString"]) == machine
    assert deployed["StateMachineName"] == "dropforge-pipeline"
