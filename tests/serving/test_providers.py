"""Hosted backends against the model server, on the tiny model: dialects, ends and webhooks.

What is one for all backends of a dialect is asked of one; all the way goes tests/e2e.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.errors import BackendError, ModelRetiredError, TrainingNotAvailableError
from dropforge.providers import PRESETS, taken
from dropforge.train import Completed, Failed, JobState, Pending
from serving.webhooks import Webhooks
from serving.weights import BASE_MODEL
from tests.training.tiny import rows
from tests.unit.http_stub import Stub, replies

pytestmark = pytest.mark.slow
PATHS = {"azure": "/openai/v1", "bedrock": "/v1", "together": "/together/v1", "local": "/v1"}
EVERY = pytest.mark.parametrize("name", list(PATHS))
DIALECTS = pytest.mark.parametrize("name", ["local", "together"])
SECRET = "whsec_dGhpcnR5LXR3byBieXRlcyBvZiBhIHNlY3JldCBrZXk="
ASKED: dict[str, float | int] = {"epochs": 1, "seed": 3, "lora_rank": 2, "learning_rate": 1e-3}


def backend(server: str, name: str) -> OpenAIBackend:
    return OpenAIBackend(server + PATHS[name], "any", 30, PRESETS[name], settle=0.05)


def intent(name: str, dataset: str) -> FineTuneJob:
    spec = FineTuneSpec("shop", dataset, name, BASE_MODEL, taken(name, ASKED))  # type: ignore[arg-type]
    return FineTuneJob(spec, 1, time.time())


def lines(count: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(count)).encode()


FILES = {"train": lines(12), "validation": lines(2)}


def ended(at: OpenAIBackend, job: FineTuneJob) -> JobState:
    deadline = time.monotonic() + 90
    while isinstance(state := at.poll(job), Pending) and time.monotonic() < deadline:
        time.sleep(0.1)
    return state


@DIALECTS
def test_hosted_backend_trains_a_model_that_answers_until_it_or_its_base_ends(
    server: str, name: str, lifecycle: Callable[[dict[str, Any]], None]
) -> None:
    at = backend(server, name)
    wanted = intent(name, "d1")
    at.preflight(wanted)
    job = at.launch(wanted, FILES)
    assert at.launch(wanted, FILES).job_id == job.job_id
    done = ended(at, job)
    assert isinstance(done, Completed), done
    curve = at.events(job)
    assert [point.train_loss for point in curve if point.train_loss is not None]
    assert [point.eval_loss for point in curve if point.eval_loss is not None]
    at.complete(done.model_id, [{"role": "user", "content": "Why?"}], 4)
    assert {BASE_MODEL, done.model_id} <= {model.id for model in at.models()}
    at.cancel(job)
    for gone, stays in ((BASE_MODEL, None), (done.model_id, BASE_MODEL)):
        lifecycle({gone: day(-1)})
        with pytest.raises(BackendError, match="does not exist"):
            at.complete(done.model_id, [{"role": "user", "content": "Why?"}], 4)
        if stays:
            at.complete(stays, [{"role": "user", "content": "Why?"}], 4)


@DIALECTS
def test_hosted_backend_hears_why_a_job_failed(server: str, name: str) -> None:
    at = backend(server, name)
    job = at.launch(intent(name, "d2"), {"train": lines(3)})
    state = ended(at, job)
    assert isinstance(state, Failed)
    assert "must have at least 10" in state.reason


@EVERY
def test_hosted_backend_cancels_a_job_whose_id_it_never_learned(server: str, name: str) -> None:
    at = backend(server, name)
    wanted = intent(name, "d3")
    many = {"train": lines(400)}
    job = at.launch(wanted, many)
    at.cancel(wanted)
    assert at.poll(job) == Failed("cancelled")


@EVERY
def test_closed_account_is_told_before_anything_is_uploaded(
    server: str, name: str, lifecycle: Callable[[dict[str, Any]], None]
) -> None:
    lifecycle({"training_closed": True})
    at = backend(server, name)
    before = httpx.get(f"{server}/v1/files").json()["data"]
    if PRESETS[name].probe:
        with pytest.raises(TrainingNotAvailableError):
            at.preflight(intent(name, "d4"))
        assert httpx.get(f"{server}/v1/files").json()["data"] == before
    with pytest.raises(TrainingNotAvailableError):
        at.launch(intent(name, "d4"), FILES)


def day(offset: int) -> str:
    return (datetime.now(UTC) + timedelta(days=offset)).date().isoformat()


@pytest.mark.parametrize("name", ["azure", "local"])
def test_model_past_its_shutdown_date_is_neither_trained_nor_asked(
    server: str, name: str, lifecycle: Callable[[dict[str, Any]], None]
) -> None:
    at = backend(server, name)
    lifecycle({BASE_MODEL: day(1)})
    at.preflight(intent(name, "d5"))
    at.complete(BASE_MODEL, [{"role": "user", "content": "Why?"}], 4)
    lifecycle({BASE_MODEL: day(0)})
    with pytest.raises(ModelRetiredError):
        at.preflight(intent(name, "d5"))
    with pytest.raises(ModelRetiredError):
        at.launch(intent(name, "d5"), FILES)
    with pytest.raises(BackendError, match="does not exist"):
        at.complete(BASE_MODEL, [{"role": "user", "content": "Why?"}], 4)
    ends = {model.id: model.shutdown_date for model in at.models()}
    assert str(ends[BASE_MODEL]) == day(0)
    assert ends["reference-judge"] is None


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", "/together/v1/fine-tunes"])
def test_same_idempotency_key_is_the_same_job(server: str, path: str) -> None:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="any") as client:
        file = client.files.create(file=("few.jsonl", lines(3)), purpose="fine-tune").id
    body = {"model": BASE_MODEL, "training_file": file}

    def create(key: str) -> str:
        answer = httpx.post(server + path, json=body, headers={"Idempotency-Key": key}, timeout=30)
        return str(answer.json()["id"])

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(create, [f"{path}-1"] * 6))
    assert len(set(made)) == 1
    assert create(f"{path}-2") != made[0]


def test_together_refuses_a_model_it_cannot_train(server: str) -> None:
    spec = FineTuneSpec("shop", "d", "together", "meta-llama/none", {})
    with pytest.raises(ModelRetiredError):
        backend(server, "together").preflight(FineTuneJob(spec, 1, 0.0))


# --- webhooks


@pytest.fixture
def receiver(state: Path) -> Iterator[Stub]:
    """Who is told; `webhooks.json` names it."""
    stub = Stub()
    stub.routes["/hook"] = replies(200, {})
    told = {"url": f"{stub.url}/hook", "secret": SECRET}
    (state / "webhooks.json").write_text(json.dumps(told))
    yield stub
    (state / "webhooks.json").unlink()
    stub.stop()


def received(stub: Stub, count: int = 1) -> list[dict[str, Any]]:
    """So many webhooks, each checked by OpenAI's SDK."""
    deadline = time.monotonic() + 20
    while len(stub.seen) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    with openai.OpenAI(api_key="any", webhook_secret=SECRET) as client:
        unwrap = client.webhooks.unwrap
        return [unwrap(told.body.decode(), told.headers).to_dict() for told in stub.seen]


def test_job_that_ends_is_told_by_a_signed_webhook(server: str, receiver: Stub) -> None:
    at = backend(server, "local")
    job = at.launch(intent("local", "d7"), {"train": lines(3)})
    ended(at, job)
    (event,) = received(receiver)
    assert (event["type"], event["data"]) == ("fine_tuning.job.failed", {"id": job.job_id})
    job = at.launch(intent("local", "d8"), {"train": lines(400)})
    at.cancel(job)
    told = received(receiver, 2)[1]
    assert (told["type"], told["data"]) == ("fine_tuning.job.cancelled", {"id": job.job_id})


def test_webhook_is_tried_three_times(tmp_path: Path) -> None:
    stub = Stub()
    stub.routes["/hook"] = replies(500, {})
    told = {"url": f"{stub.url}/hook", "secret": SECRET}
    (tmp_path / "webhooks.json").write_text(json.dumps(told))
    Webhooks(tmp_path, pauses=(0.01, 0.01)).job_ended({"id": "ftjob-1", "status": "succeeded"})
    events = received(stub, 3)
    time.sleep(0.2)
    assert len(stub.seen) == 3
    assert {event["id"] for event in events} == {events[0]["id"]}, "so that it is known again"
    stub.stop()


def test_without_webhooks_json_nobody_is_told(tmp_path: Path) -> None:
    Webhooks(tmp_path).job_ended({"id": "ftjob-1", "status": "succeeded"})
    assert not [thread for thread in threading.enumerate() if thread.name == "webhook"]
