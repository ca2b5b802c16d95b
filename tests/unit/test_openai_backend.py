from __future__ import annotations

import pytest

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.errors import (
    BackendError,
    RetryableError,
    TrainingFailedError,
    TrainingNotAvailableError,
)
from dropforge.train import Completed, Failed, Pending, TrainingEvent
from tests.support.provider import Fault, Provider, answers, drops, garbles, hangs

SPEC = FineTuneSpec("shop", "d", "openai", "small", {"epochs": 2, "seed": 5, "lora_rank": 4})
INTENT = FineTuneJob(SPEC, 1, started_at=10.0)
FILES = {"train": b'{"messages":[]}\n', "validation": b'{"messages":[]}\n'}
QUESTION = [{"role": "user", "content": "Why?"}]


@pytest.fixture
def backend(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> OpenAIBackend:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    return OpenAIBackend(provider.url, "sk-test", timeout=0.5)


def launched(backend: OpenAIBackend) -> FineTuneJob:
    return backend.launch(INTENT, FILES)


def test_launch_sends_files_and_all_that_decides_the_job(
    backend: OpenAIBackend, provider: Provider
) -> None:
    job = launched(backend)
    assert (job.job_id, job.spec, job.attempt, job.started_at) == ("ftjob-1", SPEC, 1, 10.0)
    (create,) = provider.creates
    assert create["model"] == "small"
    assert (create["training_file"], create["validation_file"]) == ("file-1", "file-2")
    assert create["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2, "lora_rank": 4}
    assert (create["seed"], create["suffix"]) == (5, SPEC.version)
    assert create["metadata"] == {"dropforge_spec": SPEC.hash, "dropforge_attempt": "1"}
    assert FILES["train"] in provider.files[0]


def test_launch_without_validation_rows_names_no_such_file(
    backend: OpenAIBackend, provider: Provider
) -> None:
    backend.launch(INTENT, {"train": FILES["train"]})
    assert "validation_file" not in provider.creates[0]


def test_launch_again_finds_the_job(backend: OpenAIBackend, provider: Provider) -> None:
    assert launched(backend) == launched(backend)
    assert len(provider.creates) == 1
    assert len(provider.files) == 2


def test_another_attempt_is_another_job(backend: OpenAIBackend) -> None:
    launched(backend)
    second = backend.launch(FineTuneJob(SPEC, 2, 10.0), FILES)
    assert second.job_id == "ftjob-2"


def test_job_of_another_spec_is_not_taken_for_ours(
    backend: OpenAIBackend, provider: Provider
) -> None:
    """A provider may ignore the filter of `jobs.list`."""
    launched(backend)
    provider.jobs[0]["metadata"] = {"dropforge_spec": SPEC.hash, "dropforge_attempt": "1", "x": "y"}
    assert launched(backend).job_id == "ftjob-2"


UNANSWERED = pytest.mark.parametrize(
    "fault",
    [answers(500), answers(503), answers(429), answers(409), drops, hangs, garbles],
    ids=["500", "503", "429", "409", "dropped", "timeout", "half a JSON"],
)


@UNANSWERED
def test_create_whose_answer_was_lost_is_found_at_once(
    backend: OpenAIBackend, provider: Provider, fault: Fault
) -> None:
    provider.create_faults = [fault]
    assert launched(backend).job_id == "ftjob-1"
    assert len(provider.creates) == 1


@UNANSWERED
def test_create_that_came_to_nothing_is_retryable_and_sent_once(
    backend: OpenAIBackend, provider: Provider, fault: Fault
) -> None:
    provider.create_faults, provider.keeps_job = [fault], False
    with pytest.raises(RetryableError):
        launched(backend)
    assert len(provider.creates) == 1
    assert launched(backend).job_id == "ftjob-1"


def test_refused_file_is_a_failed_training(backend: OpenAIBackend, provider: Provider) -> None:
    provider.create_faults, provider.keeps_job = [answers(400)], False
    with pytest.raises(TrainingFailedError):
        launched(backend)


def test_closed_account_is_a_typed_error(backend: OpenAIBackend, provider: Provider) -> None:
    provider.create_faults = [answers(403, "training_not_available")]
    provider.keeps_job = False
    with pytest.raises(TrainingNotAvailableError, match="backend: sagemaker"):
        launched(backend)


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_key_says_where_the_key_is(
    backend: OpenAIBackend, provider: Provider, status: int
) -> None:
    provider.refuses = answers(status)
    with pytest.raises(BackendError, match="Secrets Manager"):
        launched(backend)


@pytest.mark.parametrize("status", ["validating_files", "queued", "running", "paused"])
def test_job_under_way_is_pending(backend: OpenAIBackend, provider: Provider, status: str) -> None:
    job = launched(backend)
    provider.finish(status, None)
    assert backend.poll(job) == Pending(status)


@pytest.mark.parametrize(
    ("status", "model", "state"),
    [
        ("succeeded", "ft:1", Completed("ft:1")),
        ("succeeded", None, Failed("the job succeeded but names no model")),
        ("succeeded", "", Failed("the job succeeded but names no model")),
        ("failed", None, Failed("failed")),
        ("cancelled", "ft:1", Failed("cancelled")),
    ],
)
def test_ended_job_has_a_model_or_a_reason(
    backend: OpenAIBackend, provider: Provider, status: str, model: str | None, state: object
) -> None:
    job = launched(backend)
    provider.finish(status, model)
    assert backend.poll(job) == state


def test_failed_job_gives_the_providers_reason(backend: OpenAIBackend, provider: Provider) -> None:
    job = launched(backend)
    provider.jobs[0].update(
        status="failed", error={"code": "x", "message": "bad file", "param": ""}
    )
    assert backend.poll(job) == Failed("bad file")


def test_job_unknown_to_the_provider_has_failed(backend: OpenAIBackend, provider: Provider) -> None:
    """As after a change of base URL: the next run may start it anew."""
    job = launched(backend)
    provider.jobs.clear()
    assert backend.poll(job) == Failed("the provider does not know the job")


def test_intent_without_a_job_cannot_be_polled(backend: OpenAIBackend) -> None:
    with pytest.raises(TrainingFailedError):
        backend.poll(INTENT)


def test_events_become_the_curve_in_order(backend: OpenAIBackend, provider: Provider) -> None:
    job = launched(backend)
    provider.events = [
        {"id": "3", "data": {"step": 9, "train_loss": 1.0, "valid_loss": 1.5, "total_steps": 9}},
        {"id": "2", "data": {"step": 1, "train_loss": 3.0, "full_valid_loss": 0.0}},
        {"id": "1", "data": None},
        {"id": "0", "data": {"message": "queued"}},
    ]
    assert backend.events(job) == [
        TrainingEvent(1, 3.0, 0.0),
        TrainingEvent(9, 1.0, 1.5, steps=9),
    ]


def test_cancel_stops_a_running_job_alone(backend: OpenAIBackend, provider: Provider) -> None:
    job = launched(backend)
    backend.cancel(job)
    assert provider.jobs[0]["status"] == "cancelled"
    provider.finish("succeeded", "ft:1")
    backend.cancel(job)
    assert provider.jobs[0]["status"] == "succeeded"


def test_chat_asks_at_temperature_zero(backend: OpenAIBackend, provider: Provider) -> None:
    assert backend.complete("ft:1", QUESTION, 50) == "Hello"
    assert provider.chats == [
        {"model": "ft:1", "messages": QUESTION, "max_tokens": 50, "temperature": 0}
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]},
        {"choices": [{"index": 0, "message": {"content": None, "refusal": "I cannot"}}]},
    ],
)
def test_chat_without_a_text_is_empty(
    backend: OpenAIBackend, provider: Provider, body: dict[str, object]
) -> None:
    provider.chat = lambda model, messages: body
    assert backend.complete("m", QUESTION, 50) == ""


def test_chat_held_back_by_a_filter_is_empty(backend: OpenAIBackend, provider: Provider) -> None:
    provider.refuses = answers(400, "content_filter")
    assert backend.complete("m", QUESTION, 50) == ""


def test_chat_with_half_a_character_can_be_stored(
    backend: OpenAIBackend, provider: Provider
) -> None:
    provider.chat = lambda model, messages: "cut \ud83d"
    assert backend.complete("m", QUESTION, 50).encode() == b"cut ?"


@pytest.mark.parametrize("fault", [answers(500), answers(429), drops, garbles])
def test_chat_is_retryable_while_the_provider_is_in_trouble(
    backend: OpenAIBackend, provider: Provider, fault: Fault
) -> None:
    provider.refuses = fault
    with pytest.raises(RetryableError):
        backend.complete("m", QUESTION, 50)


def test_chat_with_an_unknown_model_is_no_failed_training(
    backend: OpenAIBackend, provider: Provider
) -> None:
    provider.refuses = answers(404, "model_not_found")
    with pytest.raises(BackendError) as refused:
        backend.complete("m", QUESTION, 50)
    assert type(refused.value) is BackendError
