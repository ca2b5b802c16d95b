"""The pipeline's Lambda functions, called as the state machine and SQS call them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from dropforge.artifacts import DatasetManifest, FineTuneJob, Verdict
from dropforge.backends import pointers
from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED
from dropforge.errors import (
    DatasetError,
    NoDataError,
    OverBudgetError,
    ProviderDownError,
    RetryableError,
    StartingError,
    TooFewExamplesError,
    TrainingFailedError,
    TrainingNotAvailableError,
    TrainingTimedOutError,
)
from dropforge.project import ProjectConfig
from lambdas import edge, providers
from lambdas.drop import handler as drop_handler
from lambdas.fail import handler as fail_handler
from lambdas.judge import batch
from lambdas.schedule import handler as schedule_handler
from lambdas.train import launch, poll
from tests.support.provider import Provider, answers
from tests.support.tickets import ticket, tickets_csv, tickets_jsonl
from tests.support.world import PROJECT, World

FEW, ENOUGH = 120, 240
"""Tickets to train on, and to judge on too."""


def knows_the_answers(provider: Provider) -> None:
    """The tuned model gives the agents' answers, the base none, and the judge sees it."""
    answer = {ticket(i)[0]: ticket(i)[1] for i in range(2 * ENOUGH)}

    def chat(model: str, messages: list[dict[str, str]]) -> str:
        said = messages[-1]["content"]
        if model == "judge":
            first, second = said.index("Please order part", said.index("<answer_a")), 0
            second = said.index("<answer_b")
            return json.dumps({"winner": "A" if first < second else "B", "confidence": 0.9})
        return answer[said] if model == "ft:tuned" else "I do not know."

    provider.chat = chat


def trained(world: World, provider: Provider, data: str = tickets_csv(ENOUGH)) -> dict[str, Any]:
    """A dropped export, its job started and finished."""
    state = world.run(world.drop(data), until="launch")
    provider.finish()
    return state


# --- drop


def test_drop_starts_one_execution_with_the_exact_version(world: World) -> None:
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    assert world.take(event) == {"batchItemFailures": []}
    (state,) = world.executions()
    run = state["run"]
    assert (run["project"], run["key"]) == ("shop", "exports/shop/t.csv")
    assert run["version_id"] == event["detail"]["object"]["version-id"]
    item = world.run_item(state)
    assert (item["status"], item["stage"], item["key"]) == (RUNNING, "drop", run["key"])
    assert f"projects/shop/versions/{run['config']}.json" in world.listed()


def test_same_content_under_another_name_starts_nothing(world: World) -> None:
    first = world.drop(tickets_csv(5))
    world.take(world.put("exports/shop/copy.csv", tickets_csv(5)))
    assert len(world.executions()) == 1
    repeated = [r for r in world.registry.items("shop", "run#") if r["status"] == "repeated"]
    assert [r["repeats"] for r in repeated] == [first["run"]["run_id"]]


def test_same_version_with_another_configuration_is_no_second_run(world: World) -> None:
    """As when an event is delivered again after project.yaml has changed."""
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    world.take(event)
    world.put_project(PROJECT + "monthly: true\n")
    assert world.take(event) == {"batchItemFailures": []}
    assert len(world.executions()) == 1


def test_same_content_with_another_configuration_runs_again(world: World) -> None:
    world.drop(tickets_csv(5))
    world.put_project(PROJECT + "monthly: true\n")
    world.drop(tickets_csv(5))
    assert len(world.executions()) == 2


def test_same_content_after_a_failure_runs_again(world: World) -> None:
    state = world.drop(tickets_csv(5))
    world.fail(state, NoDataError("Nothing in it."))
    assert "exports/shop/tickets.csv.error.txt" in world.listed()
    world.drop(tickets_csv(5))
    assert len(world.executions()) == 2
    assert "exports/shop/tickets.csv.error.txt" not in world.listed()


def test_export_without_a_project_is_refused_beside_the_file(world: World) -> None:
    assert world.take(world.put("exports/other/t.csv", "x")) == {"batchItemFailures": []}
    assert not world.executions()
    said = world.store.read("exports/other/t.csv.error.txt").decode()
    assert said.startswith("PROJECT: There is no project 'other' yet. Put its configuration at")
    (item,) = world.registry.items("other", "run#")
    assert (item["status"], item["error"]) == (FAILED, said.strip())


def test_wrong_project_file_is_refused_and_the_last_good_one_holds(world: World) -> None:
    world.put_project("backend: openai\nmodle: small\n")
    assert b"modle" in world.store.read("projects/shop/project.yaml.error.txt")
    world.drop(tickets_csv(5))
    assert len(world.executions()) == 1
    world.put_project()
    assert "projects/shop/project.yaml.error.txt" not in world.listed()


@pytest.mark.parametrize(("backend", "base"), [("openai", "small"), ("sagemaker", "base")])
def test_configuration_tells_the_chat_path_all_it_needs(
    world: World, backend: str, base: str
) -> None:
    world.put_project(f"backend: {backend}\nmodel: small\nsystem_prompt: Be kind.\n")
    config = world.registry.get("shop", "config") or {}
    assert (config["backend"], config["base_model_id"]) == (backend, base)
    assert (config["model"], config["system_prompt"]) == ("small", "Be kind.")
    assert world.registry.projects() == ["shop"]


def test_file_too_large_for_a_run_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drop_handler, "MAX_BYTES", 10)
    world.take(world.put("exports/shop/t.csv", "x" * 11))
    assert world.store.read("exports/shop/t.csv.error.txt").startswith(b"TOO_LARGE")
    assert not world.executions()


def test_our_own_messages_start_nothing(world: World) -> None:
    assert world.take(world.put("exports/shop/t.csv.error.txt", "x")) == {"batchItemFailures": []}
    assert not world.registry.items("shop", "run#")


# --- clean and validate


def test_rejected_rows_are_written_with_place_and_reason(world: World) -> None:
    good = tickets_csv(9)
    state = world.run(world.drop(f"{good}only one cell\n"), until="clean")
    (line,) = world.store.read(f"rejected/shop/{state['clean']['hash']}.jsonl").splitlines()
    rejected = json.loads(line)
    assert (rejected["position"], rejected["reason"]) == (10, "broken row")
    assert rejected["offset"] == len(good.encode())


def test_stage_again_changes_nothing(world: World) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    before = {key: world.store.read(key) for key in world.listed()}
    again = world.run({"run": state["run"]}, until="validate")
    assert again == state
    assert {key: world.store.read(key) for key in world.listed()} == before


def test_dataset_is_built_from_all_files_of_the_project(world: World) -> None:
    world.run(world.drop(tickets_csv(40), "exports/shop/a.csv"), until="clean")
    state = world.run(world.drop(tickets_jsonl(FEW), "exports/shop/b.jsonl"), until="validate")
    key = f"validate/shop/{state['dataset']['hash']}/manifest.json"
    manifest = world.store.load(key, DatasetManifest)
    assert len(manifest.parts) == 2
    assert manifest.left_out["duplicate of another export's row"] == 40
    assert manifest.read == sum(manifest.examples.values()) + sum(manifest.left_out.values())
    assert all(manifest.tokens[split] > 0 for split in ("train", "validation", "test"))
    assert state["dataset"]["examples"] == manifest.examples
    report = world.store.read(key.replace("manifest.json", "report.html"))
    assert b"a.csv" in report
    assert b"b.jsonl" in report


def test_file_dropped_again_replaces_its_former_self(world: World) -> None:
    world.run(world.drop(tickets_csv(40)), until="clean")
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    key = f"validate/shop/{state['dataset']['hash']}/manifest.json"
    assert world.store.load(key, DatasetManifest).parts == (state["clean"]["hash"],)


def test_too_few_tickets_stop_before_any_spending(world: World, provider: Provider) -> None:
    with pytest.raises(TooFewExamplesError):
        world.run(world.drop(tickets_csv(8)))
    assert not provider.files


# --- train


def test_launch_keeps_the_job_and_its_files(world: World, provider: Provider) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert not state["job"]["start_training_job"]
    key = f"train/shop/{state['job']['spec']}"
    job = world.store.load(f"{key}/manifest.json", FineTuneJob)
    assert (job.job_id, job.attempt) == ("ftjob-1", 1)
    lines = world.store.read(f"{key}/input/train/train.jsonl").splitlines()
    assert len(lines) == state["dataset"]["examples"]["train"]
    first = json.loads(lines[0])["messages"]
    assert [m["role"] for m in first] == ["system", "user", "assistant"]
    assert world.run_item(state)["train"]["job_id"] == "ftjob-1"


@pytest.mark.parametrize(
    ("asked", "hours", "fallbacks", "seconds"),
    [(5, 0.5, 0, 5), (60, 8, 0, 60), (5, 24, 0, 144), (60, 120, 0, 720), (60, 120, 2, 2160)],
)
def test_long_job_is_polled_less_often(
    asked: int, hours: float, fallbacks: int, seconds: int
) -> None:
    """An execution of Step Functions may have 25,000 events, a poll makes up to sixteen, and the
    looks of a canary take the rest (tests/unit/test_canary.py)."""
    others = [{"backend": "local", "model": str(number)} for number in range(fallbacks)]
    config = ProjectConfig.model_validate(
        {
            "backend": "openai",
            "model": "small",
            "fallback": others,
            "training": {"timeout_hours": hours},
        }
    )
    assert launch.poll_seconds(asked, config) == seconds
    assert 16 * hours * (1 + fallbacks) * 3600 / seconds < 10_000


def test_line_that_no_provider_takes_stops_before_anything_is_uploaded(
    world: World, provider: Provider
) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    key = f"validate/shop/{state['dataset']['hash']}/train.jsonl"
    first, *others = world.store.read(key).splitlines(keepends=True)
    row = json.loads(first)
    row["messages"][-1]["content"] = ""
    world.store.write(key, b"".join([*others, json.dumps(row).encode(), b"\n"]))
    with pytest.raises(DatasetError, match=f"line {len(others) + 1}: message 3 is empty"):
        world.run(state, until="launch")
    assert not provider.files


def test_launch_retried_makes_no_second_job(world: World, provider: Provider) -> None:
    provider.create_faults = [answers(500)]
    provider.keeps_job = False
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    with pytest.raises(RetryableError):
        launch.handler(state, None)
    for _ in range(3):
        launch.handler(state, None)
    assert len(provider.jobs) == 1


def test_two_runs_with_one_spec_share_the_job(world: World, provider: Provider) -> None:
    first = world.run(world.drop(tickets_csv(FEW)), until="validate")
    other = {**first, "run": {**first["run"], "run_id": "other"}}
    assert launch.handler(first, None)["spec"] == launch.handler(other, None)["spec"]
    assert len(provider.jobs) == 1


def test_run_waits_while_another_is_starting_the_same_job(world: World, provider: Provider) -> None:
    first = world.run(world.drop(tickets_csv(FEW)), until="validate")
    provider.create_faults, provider.keeps_job = [answers(500)], False
    with pytest.raises(RetryableError):
        launch.handler(first, None)
    other = {**first, "run": {**first["run"], "run_id": "other"}}
    with pytest.raises(StartingError, match="Another run"):
        launch.handler(other, None)
    assert not provider.jobs


def test_run_takes_over_from_one_that_failed_to_start_the_job(
    world: World, provider: Provider
) -> None:
    first = world.run(world.drop(tickets_csv(FEW)), until="validate")
    provider.refuses = answers(401)
    with pytest.raises(Exception, match="Secrets Manager") as refused:
        launch.handler(first, None)
    world.fail(first, refused.value)
    provider.refuses = None
    again = world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert again["run"]["run_id"] != first["run"]["run_id"]
    assert len(provider.jobs) == 1


def test_failed_job_is_tried_anew_by_the_next_run(world: World, provider: Provider) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    provider.jobs[0].update(status="failed", error={"code": "x", "message": "bad", "param": ""})
    with pytest.raises(TrainingFailedError, match="ftjob-1 ended without a model: bad") as failed:
        poll.handler(state, None)
    world.fail(state, failed.value)
    world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert [job["metadata"]["dropforge_attempt"] for job in provider.jobs] == ["1", "2"]


def test_poll_waits_and_notes_the_progress(world: World, provider: Provider) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    provider.events = [{"id": "e", "data": {"step": 4, "train_loss": 2.5, "total_steps": 9}}]
    assert poll.handler(state, None) == {"state": "Pending"}
    progress = {"step": 4, "train_loss": 2.5, "steps": 9, "note": "running"}
    assert world.run_item(state)["progress"] == progress
    provider.events = [{"id": "f", "data": {"step": 5, "train_loss": float("nan")}}]
    poll.handler(state, None)
    curve = world.store.read(f"train/shop/{state['job']['spec']}/events.jsonl").splitlines()
    assert [json.loads(line)["step"] for line in curve] == [4, 5]


def test_finished_job_becomes_one_model_version(world: World, provider: Provider) -> None:
    state = trained(world, provider, tickets_csv(FEW))
    model = poll.handler(state, None)["model"]
    assert (model["model_id"], model["base_model_id"]) == ("ft:tuned", "small")
    first = world.registry.get("shop", f"model#{model['version']}") or {}
    assert first["run_id"] == state["run"]["run_id"]
    other = {**state, "run": {**state["run"], "run_id": "other"}}
    poll.handler(other, None)
    assert world.registry.get("shop", f"model#{model['version']}") == first


def overdue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], TrainingTimedOutError]:
    """A run whose job is an hour late, and what poll said about it."""
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    late = poll.time.time() + 25 * 3600
    monkeypatch.setattr(poll.time, "time", lambda: late)
    with pytest.raises(TrainingTimedOutError) as error:
        poll.handler(state, None)
    return state, error.value


def test_job_that_cannot_be_cancelled_keeps_no_run_from_going_on(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "StopTrainingJob")

    world.put_project(LISTED)
    state, error = overdue(world, monkeypatch)
    monkeypatch.setattr(providers.OpenAIBackend, "cancel", refuse)
    assert world.fall_back(state, error)["fallback"]["left"] is True


# --- fallback


LISTED = PROJECT + "fallback:\n  - {backend: azure, model: medium}\n"


def test_next_backend_of_the_list_trains_the_same_dataset(world: World, provider: Provider) -> None:
    world.put_project(LISTED)
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    provider.jobs[0].update(status="failed", error={"code": "x", "message": "bad", "param": ""})
    with pytest.raises(TrainingFailedError) as failed:
        poll.handler(state, None)
    state = world.run(world.fall_back(state, failed.value), until="launch")
    assert [job["model"] for job in provider.jobs] == ["small", "medium"]
    provider.jobs[1].update(status="succeeded", fine_tuned_model="ft:medium")
    model = poll.handler(state, None)["model"]
    assert (model["backend"], model["model_id"]) == ("azure", "ft:medium")
    assert model["dataset"] == state["dataset"]["hash"]
    item = world.run_item(state)
    assert item["train"]["backend"] == "azure"
    assert [t["backend"] for t in item["tried"]] == ["openai"]
    assert "bad" in item["tried"][0]["error"]


def test_last_backend_leaves_the_run_with_its_error(world: World, provider: Provider) -> None:
    world.put_project(LISTED)
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    first = world.fall_back(state, RetryableError("no answer"))
    assert first["fallback"] == {"choice": 1, "left": True, "tried": first["fallback"]["tried"]}
    second = world.fall_back(first, RetryableError("no answer here either"))
    assert second["fallback"]["left"] is False
    assert [t["error"] for t in second["fallback"]["tried"]] == [
        "RETRYABLE: no answer",
        "RETRYABLE: no answer here either",
    ]


def test_backend_given_up_is_tried_anew_by_the_next_run(world: World, provider: Provider) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    error = TrainingTimedOutError("late")
    world.fall_back(state, error)
    world.fail(state, error)
    world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert [job["metadata"]["dropforge_attempt"] for job in provider.jobs] == ["1", "2"]


def test_job_that_another_run_waits_for_is_left_to_it(world: World, provider: Provider) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    other = {**state, "run": {**state["run"], "run_id": "other"}}
    world.fall_back(other, TrainingTimedOutError("late"))
    assert provider.jobs[0]["status"] == "running"
    assert poll.handler(state, None) == {"state": "Pending"}


def test_backend_that_would_cost_too_much_is_passed_over(world: World, provider: Provider) -> None:
    priced = LISTED.replace("model: small", "model: gpt-4.1").replace("medium", "smollm2-135m")
    world.put_project(
        priced.replace("azure", "local") + "budget: {training_usd: 0.0001}\n",
    )
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    with pytest.raises(OverBudgetError) as dear:
        launch.handler(state, None)
    assert not provider.jobs
    assert not provider.files
    state = world.run(world.fall_back(state, dear.value), until="launch")
    assert [job["model"] for job in provider.jobs] == ["smollm2-135m"]


def test_silent_provider_is_waited_for_with_patience_then_given_up(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    began = poll.time.time()
    provider.refuses = answers(503)
    assert poll.handler(state, None) == {"state": "Pending"}
    assert world.run_item(state)["progress"]["note"] == "openai does not answer"
    provider.refuses = None
    poll.handler(state, None)
    provider.refuses = answers(503)
    monkeypatch.setattr(poll.time, "time", lambda: began + 3500)
    assert poll.handler(state, None) == {"state": "Pending"}
    monkeypatch.setattr(poll.time, "time", lambda: began + 3500 + 3500)
    assert poll.handler(state, None) == {"state": "Pending"}, "it had answered in between"
    monkeypatch.setattr(poll.time, "time", lambda: began + 3500 + 3700)
    with pytest.raises(ProviderDownError, match="has not answered for 62 minutes"):
        poll.handler(state, None)


def test_provider_that_the_deployment_does_not_reach_is_passed_over(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put_project(LISTED)
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    access = {"azure": {"base_url": provider.url, "secret_arn": f"{world.table}-key"}}
    monkeypatch.setenv("DROPFORGE_PROVIDERS", json.dumps(access))
    with pytest.raises(TrainingNotAvailableError, match=r"-c providers\.openai=URL") as unknown:
        launch.handler(state, None)
    state = world.run(world.fall_back(state, unknown.value), until="launch")
    assert [job["model"] for job in provider.jobs] == ["medium"]


# --- judge, promote


def test_better_model_is_promoted(world: World, provider: Provider) -> None:
    knows_the_answers(provider)
    state = world.run(trained(world, provider))
    assert state["evaluation"]["verdict"] == "promote"
    champion = world.registry.champion("shop") or {}
    version = state["poll"]["model"]["version"]
    assert (champion["version"], champion["model_id"]) == (version, "ft:tuned")
    assert (champion["who"], champion["previous"]) == ("pipeline", None)
    item = world.run_item(state)
    assert (item["status"], item["promoted"]) == (SUCCEEDED, True)
    samples = state["dataset"]["examples"]["test"]
    assert item["judge"]["samples"] == samples
    verdict = world.store.load(f"judge/shop/{state['plan']['hash']}/verdict.json", Verdict)
    base = verdict.evaluation.comparisons["base"]
    assert (base.wins, base.losses, base.flips) == (samples, 0, 0)
    assert verdict.evaluation.fact_recall == {"challenger": 1.0, "base": 0.0}
    assert f"judge/shop/{state['plan']['hash']}/report.html" in world.listed()


def test_promotion_again_moves_nothing(world: World, provider: Provider) -> None:
    knows_the_answers(provider)
    done = world.run(trained(world, provider))
    assert done.pop("promotion")["promoted"]
    assert world.run(done)["promotion"]["promoted"], "the run did promote it"
    assert (world.registry.champion("shop") or {})["revision"] == 1


def test_challenger_meets_the_champion_pinned_when_judging_began(
    world: World, provider: Provider
) -> None:
    knows_the_answers(provider)
    old = {"version": "old", "backend": "openai", "model_id": "ft:old"}
    pointers.promote(world.registry, "shop", old, who="ann", why="", at=1.0)
    state = world.run(trained(world, provider), until="plan")
    assert state["plan"]["champion"] == {**old, "base_model": ""}
    new = {"version": "new", "backend": "openai", "model_id": "ft:new"}
    pointers.promote(world.registry, "shop", new, who="bob", why="", at=2.0)
    for index in state["plan"]["batches"]:
        batch.handler(
            {**state, "model": state["poll"]["model"], "batch": index},
            None,
        )
    asked = {chat["model"] for chat in provider.chats}
    assert asked == {"ft:tuned", "small", "ft:old", "judge"}


def test_judged_batch_is_not_judged_again(world: World, provider: Provider) -> None:
    knows_the_answers(provider)
    state = world.run(trained(world, provider), until="judge")
    asked = len(provider.chats)
    batch.handler({**state, "model": state["poll"]["model"], "batch": 0}, None)
    assert len(provider.chats) == asked


def test_provider_in_trouble_makes_the_batch_retryable(world: World, provider: Provider) -> None:
    state = world.run(trained(world, provider), until="plan")
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        batch.handler({**state, "model": state["poll"]["model"], "batch": 0}, None)
    assert not world.listed("judge/")


# --- sagemaker


class FakeSageMaker:
    """Training jobs and inference components by name."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.components: dict[str, str] = {}

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:  # noqa: N803
        if TrainingJobName not in self.jobs:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "DescribeTrainingJob")
        return self.jobs[TrainingJobName]

    def describe_endpoint(self, **_: Any) -> dict[str, Any]:
        return {"EndpointStatus": "InService"}

    def describe_model(self, **_: Any) -> dict[str, Any]:
        source = {"S3DataSource": {"S3Uri": "s3://bucket/models/small/"}}
        return {"PrimaryContainer": {"Image": "image", "ModelDataSource": source}}

    def describe_inference_component(self, InferenceComponentName: str) -> dict[str, Any]:  # noqa: N803
        if InferenceComponentName == "base":
            about = {"Specification": {"ModelName": "small"}}
            return {"InferenceComponentStatus": "InService", **about}
        if InferenceComponentName not in self.components:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "Describe")
        return {"InferenceComponentStatus": self.components[InferenceComponentName]}

    def create_inference_component(self, InferenceComponentName: str, **_: Any) -> None:  # noqa: N803
        self.components[InferenceComponentName] = "Creating"


@pytest.fixture
def sagemaker(world: World, monkeypatch: pytest.MonkeyPatch) -> FakeSageMaker:
    fake = FakeSageMaker()
    backend = providers.SageMakerBackend("dropforge", "base", client=fake)  # type: ignore[arg-type]
    monkeypatch.setattr(providers, "sagemaker_backend", lambda endpoint, base, store: backend)
    world.put_project(PROJECT.replace("openai", "sagemaker"))
    return fake


def test_sagemaker_job_is_started_by_the_state_machine_of_one_run(
    world: World, sagemaker: FakeSageMaker
) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert state["job"]["start_training_job"]
    assert state["job"]["hyperparameters"]["epochs"] == "3"
    other = {**state, "run": {**state["run"], "run_id": "other"}}
    assert not launch.handler(other, None)["start_training_job"]
    name = state["job"]["training_job_name"]
    sagemaker.jobs[name] = {"TrainingJobName": name, "TrainingJobStatus": "InProgress"}
    assert not launch.handler(state, None)["start_training_job"]


def test_sagemaker_job_that_was_never_created_is_started_by_the_next_run(
    world: World, sagemaker: FakeSageMaker
) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    world.fail(state, RuntimeError("ResourceLimitExceeded"))
    again = world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert again["job"]["start_training_job"]
    assert again["job"]["training_job_name"] == state["job"]["training_job_name"]


def test_sagemaker_job_that_was_refused_leaves_it_to_the_next_backend(
    world: World, sagemaker: FakeSageMaker
) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    state["not_started"] = {"Error": "SageMaker.ResourceLimitExceededException", "Cause": "quota"}
    with pytest.raises(TrainingNotAvailableError, match=r"SageMaker refused the job.*quota"):
        poll.handler(state, None)


def test_sagemaker_job_that_was_created_though_the_answer_was_lost_is_polled(
    world: World, sagemaker: FakeSageMaker
) -> None:
    """The state machine's second create is refused, because the name is taken."""
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    name = state["job"]["training_job_name"]
    sagemaker.jobs[name] = {"TrainingJobName": name, "TrainingJobStatus": "InProgress"}
    state["not_started"] = {"Error": "SageMaker.ResourceInUseException", "Cause": "taken"}
    assert poll.handler(state, None) == {"state": "Pending"}


def test_sagemaker_model_answers_as_its_component(world: World, sagemaker: FakeSageMaker) -> None:
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    name = state["job"]["training_job_name"]
    sagemaker.jobs[name] = {
        "TrainingJobName": name,
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/model.tar.gz"},
        "FinalMetricDataList": [{"MetricName": "train_loss", "Value": 1.5}],
    }
    assert poll.handler(state, None) == {"state": "Pending"}
    (component,) = sagemaker.components
    sagemaker.components[component] = "InService"
    model = poll.handler(state, None)["model"]
    assert (model["model_id"], model["base_model_id"]) == (component, "base")


# --- fail


def test_our_own_error_is_told_beside_the_file_and_in_the_run(world: World) -> None:
    state = world.drop(tickets_csv(5))
    error = NoDataError("None of the 5 rows is usable.", hint="Export resolved tickets.")
    said = "NO_DATA: None of the 5 rows is usable. Export resolved tickets."
    assert world.fail(state, error) == {"message": said}
    assert world.store.read("exports/shop/tickets.csv.error.txt").decode() == said + "\n"
    item = world.run_item(state)
    assert (item["status"], item["error"]) == (FAILED, said)


@pytest.mark.parametrize(
    "error",
    [
        {"Error": "KeyError", "Cause": '{"errorMessage": "\'x\'", "stackTrace": ["secret"]}'},
        {
            "Error": "ClientError",
            "Cause": '{"errorMessage": "An error (AccessDenied) occurred: no"}',
        },
        {"Error": "States.Timeout", "Cause": "not JSON"},
        {"Error": "States.Runtime", "Cause": "[1]"},
        {"Error": "States.TaskFailed"},
    ],
)
def test_any_other_error_is_named_with_where_to_look(world: World, error: dict[str, str]) -> None:
    state = world.drop(tickets_csv(5))
    world.registry.update("shop", f"run#{state['run']['run_id']}", {"stage": "judge"})
    said = fail_handler.handler({**state, "error": error}, None)["message"]
    assert said.startswith(f"INTERNAL: The judge stage ended with {error['Error']}.")
    assert state["run"]["run_id"] in said
    assert "secret" not in said


def test_execution_that_was_aborted_is_told_too(world: World) -> None:
    state = world.drop(tickets_csv(5))
    event = {"detail": {"status": "ABORTED", "input": json.dumps(state)}}
    assert "ended with ABORTED" in fail_handler.handler(event, None)["message"]
    assert world.run_item(state)["status"] == FAILED


def test_execution_whose_input_the_event_leaves_out_is_looked_up(world: World) -> None:
    state = world.drop(tickets_csv(5))
    arn = world.arn.replace(":stateMachine:", ":execution:") + f":{state['run']['run_id']}"
    event = {"detail": {"status": "TIMED_OUT", "input": None, "executionArn": arn}}
    fail_handler.handler(event, None)
    assert world.run_item(state)["status"] == FAILED


def test_reason_of_a_failed_sagemaker_job_is_told(world: World) -> None:
    state = world.drop(tickets_csv(5))
    cause = {"TrainingJobName": "job-1", "FailureReason": "CUDA out of memory"}
    error = {"Error": "States.TaskFailed", "Cause": json.dumps(cause)}
    said = fail_handler.handler({**state, "error": error}, None)["message"]
    assert said == "TRAINING_FAILED: Job job-1 ended without a model: CUDA out of memory"


def test_second_word_of_a_failure_changes_nothing(world: World) -> None:
    state = world.drop(tickets_csv(5))
    first = world.fail(state, NoDataError("Nothing."))
    event = {"detail": {"status": "TIMED_OUT", "input": json.dumps(state)}}
    assert fail_handler.handler(event, None) == first


# --- schedule


TICK = {"time": "2026-12-01T05:00:00Z"}


def test_monthly_project_runs_its_newest_file_again(world: World, provider: Provider) -> None:
    world.put_project(PROJECT + "monthly: true\n")
    knows_the_answers(provider)
    done = world.run(trained(world, provider))
    started = schedule_handler.handler(TICK, None)["started"]
    assert len(started) == 1
    state = next(s for s in world.executions() if s["run"]["run_id"] == started[0])
    assert state["run"] == {**done["run"], "run_id": started[0]}
    again = world.run(state)
    assert again["poll"]["model"] == done["poll"]["model"]
    assert len(provider.jobs) == 1


def test_tick_delivered_twice_starts_one_run(world: World) -> None:
    world.put_project(PROJECT + "monthly: true\n")
    done = world.drop(tickets_csv(5))
    world.registry.update("shop", f"run#{done['run']['run_id']}", {"status": SUCCEEDED})
    for _ in range(2):
        schedule_handler.handler(TICK, None)
    assert len(world.executions()) == 2


def test_project_that_asks_for_no_schedule_or_has_no_run_is_left_alone(world: World) -> None:
    done = world.drop(tickets_csv(5))
    world.registry.update("shop", f"run#{done['run']['run_id']}", {"status": SUCCEEDED})
    world.put_project(PROJECT + "monthly: true\n", name="empty")
    assert schedule_handler.handler(TICK, None) == {"started": []}


# --- edge


@pytest.mark.parametrize("code", ["SlowDown", "ThrottlingException", "InternalServerError"])
def test_passing_trouble_of_aws_is_retryable(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    state = world.drop(tickets_csv(5))

    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": code}}, "UpdateItem")

    monkeypatch.setattr(edge.Registry, "update", refuse)
    with pytest.raises(RetryableError, match=code):
        world.run(state, until="clean")


def test_lost_connection_to_aws_is_retryable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = world.drop(tickets_csv(5))

    def lose(*_: Any, **__: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://s3.example")

    monkeypatch.setattr(edge.Store, "read", lose)
    with pytest.raises(RetryableError):
        world.run(state, until="clean")


def test_lasting_refusal_of_aws_is_not_retried(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.drop(tickets_csv(5))

    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")

    monkeypatch.setattr(edge.Store, "read", refuse)
    with pytest.raises(ClientError):
        world.run(state, until="clean")


def test_metrics_are_published_of_the_project(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    edge.count_metrics("shop", {"RunsStarted": 1})
    published = json.loads(capsys.readouterr().out)
    assert (published["project"], published["RunsStarted"]) == ("shop", [1.0])
    assert published["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Dropforge"
