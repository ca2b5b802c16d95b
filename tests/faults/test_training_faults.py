"""Faults 31-34: what providers of training can do, named by their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dropforge.artifacts import FineTuneJob
from dropforge.backends import pointers
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.backends.registry import FAILED
from dropforge.errors import (
    ModelRetiredError,
    RetryableError,
    TrainingFailedError,
    TrainingNotAvailableError,
    TrainingTimedOutError,
)
from dropforge.providers import PRESETS
from lambdas import providers
from lambdas.train import launch, poll
from tests.support.http import Fault, hangs, resets
from tests.support.provider import Provider, answers, garbles
from tests.support.tickets import tickets_csv
from tests.support.world import PROJECT, World

FEW, ENOUGH = 120, 240
A_MOMENT = 0.5
OLD = {"version": "old", "backend": "openai", "model_id": "ft:old"}


@pytest.fixture
def prepare(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Makes a dataset to train on with a backend, at a provider that keeps what this one keeps.

    Its client waits for `patience` seconds at most: a moment, where the provider never answers.
    """
    usual = providers.OpenAIBackend

    def prepared(name: str, patience: float = 20.0) -> dict[str, Any]:
        def client(url: str, key: str, timeout: float = patience, **more: Any) -> OpenAIBackend:
            return usual(url, key, min(timeout, patience), settle=0.01, **more)

        monkeypatch.setattr(providers, "OpenAIBackend", client)
        preset = PRESETS[name]
        provider.keeps_metadata, provider.takes_suffix = preset.metadata, preset.suffix
        world.put_project(PROJECT.replace("openai", name))
        return world.run(world.drop(tickets_csv(FEW)), until="validate")

    return prepared


@pytest.fixture
def ready(prepare: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A dataset to train on with OpenAI."""
    return prepare("openai")


EVERY = pytest.mark.parametrize("name", list(PRESETS))
UNANSWERED = pytest.mark.parametrize(
    "fault",
    [answers(500), answers(503), answers(429), answers(409), resets, hangs, garbles],
    ids=["500", "503", "429", "409", "dropped", "timeout", "half a JSON"],
)


def launches(state: dict[str, Any], times: int = 4) -> None:
    """The stage as the state machine tries it: again after each passing trouble."""
    for _ in range(times):
        try:
            launch.handler(state, None)
        except RetryableError:
            continue


@pytest.mark.parametrize("name", ["openai", "bedrock", "together"])
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
@UNANSWERED
def test_fault_31_unanswered_create_makes_exactly_one_job(
    world: World,
    provider: Provider,
    prepare: Callable[..., dict[str, Any]],
    fault: Fault,
    kept: bool,
    name: str,
) -> None:
    """Whether or not the provider kept the job, and however often the stage is retried."""
    ready = prepare(name, patience=A_MOMENT if fault is hangs else 20.0)
    provider.create_faults, provider.keeps_job = [fault], kept
    launches(ready)
    assert len(provider.jobs) == 1
    assert len(provider.files) <= 2, "the data is uploaded once"
    spec = launch.handler(ready, None)["spec"]
    job = world.store.load(f"train/shop/{spec}/manifest.json", FineTuneJob)
    assert job.job_id == provider.jobs[0]["id"]


@EVERY
def test_fault_31_job_that_lists_show_late_is_not_made_again(
    provider: Provider, prepare: Callable[..., dict[str, Any]], name: str
) -> None:
    ready = prepare(name, patience=A_MOMENT)
    provider.create_faults, provider.hides = [hangs, hangs], 2
    launches(ready)
    assert len(provider.jobs) == 1


def test_fault_31_intent_is_written_before_anything_is_uploaded(
    world: World, provider: Provider, ready: dict[str, Any]
) -> None:
    provider.upload_faults = [answers(500)]
    with pytest.raises(RetryableError):
        launch.handler(ready, None)
    (key,) = [key for key in world.listed("train/") if key.endswith("manifest.json")]
    assert world.store.load(key, FineTuneJob).job_id is None


@EVERY
def test_fault_31_another_run_finds_the_job_of_one_that_died(
    world: World, provider: Provider, prepare: Callable[..., dict[str, Any]], name: str
) -> None:
    """Created, but the function ended before it could keep the answer, and so did the run."""
    ready = prepare(name, patience=A_MOMENT)
    provider.create_faults = [hangs]
    key = f"train/shop/{launch.handler(ready, None)['spec']}/manifest.json"
    job = world.store.load(key, FineTuneJob)
    world.store.save(key, FineTuneJob(job.spec, job.attempt, job.started_at))
    world.fail(ready, RuntimeError("killed"))
    state = world.run(world.drop(tickets_csv(FEW)), until="launch")
    assert state["run"]["run_id"] != ready["run"]["run_id"]
    assert len(provider.creates) == 1


@EVERY
def test_fault_31_given_up_job_whose_id_was_never_learned_is_cancelled(
    world: World, provider: Provider, prepare: Callable[..., dict[str, Any]], name: str
) -> None:
    """The provider took the job and answered nobody any more; the run goes on elsewhere."""
    ready = prepare(name)
    key = f"train/shop/{launch.handler(ready, None)['spec']}/manifest.json"
    job = world.store.load(key, FineTuneJob)
    world.store.save(key, FineTuneJob(job.spec, job.attempt, job.started_at))
    world.fall_back(ready, RetryableError("The provider did not answer."))
    assert [job["status"] for job in provider.jobs] == ["cancelled"]


def test_fault_32_stuck_job_times_out_and_is_cancelled(
    world: World, provider: Provider, ready: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.run(ready, until="launch")
    provider.finish("paused", None)
    now = poll.time.time()
    assert poll.handler(state, None) == {"state": "Pending"}
    provider.finish("running", None)
    monkeypatch.setattr(poll.time, "time", lambda: now + 24 * 3600 + 60)
    with pytest.raises(TrainingTimedOutError) as late:
        poll.handler(state, None)
    world.fall_back(state, late.value)
    assert provider.jobs[0]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("name", "status"), [("openai", "succeeded"), ("azure", "succeeded"), ("together", "completed")]
)
@pytest.mark.parametrize("model", [None, ""])
def test_fault_33_success_without_a_model_moves_no_pointer(
    world: World,
    provider: Provider,
    prepare: Callable[..., dict[str, Any]],
    model: str | None,
    name: str,
    status: str,
) -> None:
    pointers.promote(world.registry, "shop", OLD, who="ann", why="", at=1.0)
    state = world.run(prepare(name), until="launch")
    provider.finish(status, model)
    with pytest.raises(TrainingFailedError, match="names no model"):
        world.run(state)
    assert (world.registry.champion("shop") or {})["version"] == "old"
    assert not world.registry.items("shop", "model#")


@pytest.mark.parametrize(
    "about",
    [
        {"shutdown_date": "2026-01-01"},
        {"shutdown_date": "2026-01-01T00:00:00Z"},
        {"shutdown_date": 1767225600},
        {"deprecation": {"fine_tune": 1767225600}},
        None,
    ],
    ids=["date", "time", "seconds", "azure", "gone"],
)
def test_fault_33_model_past_its_shutdown_date_fails_closed(
    world: World, provider: Provider, ready: dict[str, Any], about: dict[str, Any] | None
) -> None:
    pointers.promote(world.registry, "shop", OLD, who="ann", why="", at=1.0)
    provider.models = {} if about is None else {"small": about}
    with pytest.raises(ModelRetiredError):
        launch.handler(ready, None)
    assert not provider.files
    assert not provider.jobs
    assert (world.registry.champion("shop") or {})["version"] == "old"


def test_fault_34_closed_account_is_a_typed_error_that_says_what_to_do(
    world: World, provider: Provider, ready: dict[str, Any]
) -> None:
    """The preflight hears of it, so no customer's data is uploaded."""
    provider.closed = True
    with pytest.raises(TrainingNotAvailableError) as refused:
        launch.handler(ready, None)
    assert not provider.files
    world.fail(ready, refused.value)
    item = world.run_item(ready)
    assert item["status"] == FAILED
    assert "Set `backend: sagemaker` in project.yaml" in item["error"]


@EVERY
def test_fault_34_account_that_closes_after_the_preflight_is_a_typed_error(
    provider: Provider, prepare: Callable[..., dict[str, Any]], name: str
) -> None:
    ready = prepare(name)
    provider.create_faults = [answers(403, "training_not_available")]
    provider.keeps_job = False
    with pytest.raises(TrainingNotAvailableError):
        launch.handler(ready, None)
    assert not provider.jobs


def test_fault_34_project_moved_to_sagemaker_goes_on_with_the_same_data(
    world: World, provider: Provider, ready: dict[str, Any]
) -> None:
    provider.refuses = answers(403, "training_not_available")
    with pytest.raises(TrainingNotAvailableError) as refused:
        launch.handler(ready, None)
    world.fail(ready, refused.value)
    world.put_project(PROJECT.replace("openai", "sagemaker"))
    state = world.run(world.drop(tickets_csv(FEW)), until="validate")
    assert state["dataset"]["hash"] == ready["dataset"]["hash"]
