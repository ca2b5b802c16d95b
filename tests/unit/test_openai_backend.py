"""The hosted providers' backend against a real HTTP server, for every preset's dialect and gaps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from dropforge.artifacts import FineTuneJob, FineTuneSpec
from dropforge.backends.openai_api import PROBE_FILE, ListedModel, OpenAIBackend, shutdown_date
from dropforge.errors import (
    BackendError,
    ModelRetiredError,
    RetryableError,
    TrainingFailedError,
    TrainingNotAvailableError,
)
from dropforge.providers import PRESETS
from dropforge.train import Completed, Failed, Pending, TrainingEvent
from tests.support.http import Fault, hangs, resets
from tests.support.provider import Provider, answers, garbles

SPEC = FineTuneSpec("shop", "d", "openai", "small", {"epochs": 2, "seed": 5, "lora_rank": 4})
INTENT = FineTuneJob(SPEC, 1, started_at=10.0)
FILES = {"train": b'{"messages":[]}\n', "validation": b'{"messages":[]}\n'}
QUESTION = [{"role": "user", "content": "Why?"}]
TODAY = date(2026, 11, 22)
Make = Callable[[str], OpenAIBackend]


@pytest.fixture
def make(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The backend of a preset, at a provider that keeps what such a provider keeps."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)

    def backend(name: str) -> OpenAIBackend:
        preset = PRESETS[name]
        provider.keeps_metadata, provider.takes_suffix = preset.metadata, preset.suffix
        return OpenAIBackend(
            provider.url, "sk-test", timeout=0.5, preset=preset, settle=0.01, today=lambda: TODAY
        )

    return backend


@pytest.fixture
def backend(make: Make) -> OpenAIBackend:
    return make("openai")


def launched(backend: OpenAIBackend) -> FineTuneJob:
    return backend.launch(INTENT, FILES)


def test_launch_sends_files_and_all_that_decides_the_job(make: Make, provider: Provider) -> None:
    job = launched(make("local"))
    assert (job.job_id, job.spec, job.attempt, job.started_at) == ("ftjob-1", SPEC, 1, 10.0)
    (create,) = provider.creates
    assert create["model"] == "small"
    assert (create["training_file"], create["validation_file"]) == ("file-1", "file-2")
    assert create["method"]["type"] == "supervised"
    assert create["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2, "lora_rank": 4}
    assert (create["seed"], create["suffix"]) == (5, f"{SPEC.version}-1")
    assert create["metadata"] == {"dropforge_spec": SPEC.hash, "dropforge_attempt": "1"}
    assert provider.keys == [f"{SPEC.hash}-1"]
    assert FILES["train"] in provider.files[0]
    assert provider.uploads[0]["filename"].startswith(f"dropforge-{SPEC.version}-1-train-")
    assert provider.uploads[0]["bytes"] == len(FILES["train"])


def test_launch_sends_no_provider_what_it_does_not_take(make: Make, provider: Provider) -> None:
    launched(make("bedrock"))
    (create,) = provider.creates
    assert create["method"]["supervised"]["hyperparameters"] == {"n_epochs": 2}
    assert not {"suffix", "metadata", "lora_rank"} & set(create)


def test_launch_speaks_togethers_words(make: Make, provider: Provider) -> None:
    launched(make("together"))
    (create,) = provider.creates
    assert provider.order[-1] == "POST /fine-tunes"
    assert create == {
        "model": "small",
        "training_file": "file-1",
        "validation_file": "file-2",
        "n_epochs": 2,
        "n_checkpoints": 1,
        "n_evals": 10,
        "random_seed": 5,
        "suffix": f"{SPEC.version}-1",
        "training_method": {"method": "sft", "train_on_inputs": "auto"},
        "training_type": {"type": "Lora", "lora_r": 4, "lora_alpha": 8},
    }
    assert provider.uploads[0]["filename"].startswith(f"dropforge-{SPEC.version}-1-train-")
    assert provider.keys == [f"{SPEC.hash}-1"]


def test_launch_without_validation_rows_names_no_such_file(
    backend: OpenAIBackend, provider: Provider
) -> None:
    backend.launch(INTENT, {"train": FILES["train"]})
    assert "validation_file" not in provider.creates[0]


EVERY = pytest.mark.parametrize("name", list(PRESETS))


@EVERY
def test_launch_again_finds_the_job(make: Make, provider: Provider, name: str) -> None:
    backend = make(name)
    assert launched(backend) == launched(backend)
    assert len(provider.creates) == 1
    assert len(provider.files) == 2


@EVERY
def test_another_attempt_is_another_job(make: Make, provider: Provider, name: str) -> None:
    backend = make(name)
    launched(backend)
    second = backend.launch(FineTuneJob(SPEC, 2, 10.0), FILES)
    assert second.job_id == "ftjob-2"


def test_job_of_another_spec_is_not_taken_for_ours(
    backend: OpenAIBackend, provider: Provider
) -> None:
    """A provider may ignore the filter of `jobs.list`, and two jobs may share a file."""
    launched(backend)
    provider.jobs[0]["metadata"] = {"dropforge_spec": "another", "dropforge_attempt": "1"}
    assert launched(backend).job_id == "ftjob-2"


@pytest.mark.parametrize("name", ["azure", "bedrock"])
def test_job_is_found_behind_hundreds_of_others(make: Make, provider: Provider, name: str) -> None:
    backend = make(name)
    launched(backend)
    other = {"status": "succeeded", "metadata": {}, "training_file": "x", "object": "job"}
    provider.jobs += [{**other, "id": f"ftjob-other-{i}"} for i in range(450)]
    assert launched(backend).job_id == "ftjob-1"


def test_server_that_does_not_page_is_asked_once(
    make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of further pages, and shows the same page whatever comes `after`."""
    backend = make("azure")
    provider.jobs += [{"id": "ftjob-x", "status": "running", "metadata": {}}]
    monkeypatch.setattr(
        "tests.support.provider._Handler._page",
        lambda handler, rows, query: handler.reply(200, {"object": "list", "data": rows}),
    )
    launched(backend)
    assert provider.order.count("GET /fine_tuning/jobs") == 1


UNANSWERED = pytest.mark.parametrize(
    "fault",
    [answers(500), answers(503), answers(429), answers(409), resets, hangs, garbles],
    ids=["500", "503", "429", "409", "dropped", "timeout", "half a JSON"],
)


@EVERY
@UNANSWERED
def test_create_whose_answer_was_lost_is_found_at_once(
    make: Make, provider: Provider, fault: Fault, name: str
) -> None:
    backend = make(name)
    provider.create_faults = [fault]
    assert launched(backend).job_id == "ftjob-1"
    assert len(provider.creates) == 1


@EVERY
@UNANSWERED
def test_create_that_came_to_nothing_is_retryable_and_sent_once(
    make: Make, provider: Provider, fault: Fault, name: str
) -> None:
    backend = make(name)
    provider.create_faults, provider.keeps_job = [fault], False
    with pytest.raises(RetryableError):
        launched(backend)
    assert len(provider.creates) == 1
    assert launched(backend).job_id == "ftjob-1"
    assert len(provider.files) == 2, "the same files, used again"


@EVERY
@pytest.mark.parametrize("hides", [1, 2])
def test_job_that_lists_show_late_is_not_made_again(
    make: Make, provider: Provider, name: str, hides: int
) -> None:
    """Neither where the answer was lost, nor where the function died before it could keep it."""
    backend = make(name)
    provider.hides, provider.create_faults = hides, [answers(500)]
    first = launched(backend)
    provider.jobs[0]["hidden"] = hides
    assert launched(backend).job_id == first.job_id == "ftjob-1"
    assert len(provider.creates) == 1


@EVERY
@pytest.mark.parametrize("fault", [answers(503), hangs, resets])
def test_upload_whose_answer_was_lost_is_not_sent_again(
    make: Make, provider: Provider, name: str, fault: Fault
) -> None:
    backend = make(name)
    provider.upload_faults = [fault]
    with pytest.raises(RetryableError):
        launched(backend)
    assert launched(backend).job_id == "ftjob-1"
    assert len(provider.files) == 2


def test_file_of_other_content_is_not_used_again(
    backend: OpenAIBackend, provider: Provider
) -> None:
    provider.create_faults, provider.keeps_job = [answers(500)], False
    with pytest.raises(RetryableError):
        launched(backend)
    backend.launch(INTENT, {**FILES, "train": FILES["train"][::-1]})
    assert provider.creates[-1]["training_file"] == "file-3"
    assert provider.creates[-1]["validation_file"] == "file-2"


@pytest.mark.parametrize(
    ("name", "checking", "checked"),
    [
        ("azure", {"status": "pending"}, {"status": "processed"}),
        ("together", {"processing_status": "RUNNING"}, {"processing_status": "COMPLETED"}),
    ],
)
def test_job_waits_until_its_file_is_checked(
    make: Make,
    provider: Provider,
    name: str,
    checking: dict[str, str],
    checked: dict[str, str],
) -> None:
    backend = make(name)
    provider.file_status = checking
    with pytest.raises(RetryableError, match="not checked"):
        launched(backend)
    assert not provider.creates
    for file in provider.uploads:
        file.update(checked)
    provider.file_status = checked
    assert launched(backend).job_id == "ftjob-1"
    assert len(provider.files) == 2


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("openai", {"status": "error", "status_details": "line 3"}),
        (
            "together",
            {"processing_status": "INVALID_FORMAT", "validation_report": {"error": "line 3"}},
        ),
    ],
)
def test_file_that_the_provider_rejects_is_a_failed_training(
    make: Make, provider: Provider, name: str, status: dict[str, Any]
) -> None:
    backend = make(name)
    provider.file_status = status
    with pytest.raises(TrainingFailedError, match="line 3"):
        launched(backend)
    assert not provider.creates


def test_refused_file_is_a_failed_training(backend: OpenAIBackend, provider: Provider) -> None:
    provider.create_faults, provider.keeps_job = [answers(400)], False
    with pytest.raises(TrainingFailedError):
        launched(backend)


@pytest.mark.parametrize("status", [400, 404])
def test_create_for_a_model_that_is_gone_is_a_typed_error(
    backend: OpenAIBackend, provider: Provider, status: int
) -> None:
    provider.create_faults, provider.keeps_job = [answers(status, "model_not_available")], False
    with pytest.raises(ModelRetiredError):
        launched(backend)


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_key_says_where_the_key_is(
    backend: OpenAIBackend, provider: Provider, status: int
) -> None:
    provider.refuses = answers(status)
    with pytest.raises(BackendError, match="Secrets Manager"):
        launched(backend)


# --- preflight


@EVERY
def test_preflight_of_an_open_account_uploads_and_creates_nothing(
    make: Make, provider: Provider, name: str
) -> None:
    make(name).preflight(INTENT)
    assert not provider.files
    assert not provider.jobs
    assert [probe["training_file"] for probe in provider.probes] == (
        [PROBE_FILE] if PRESETS[name].probe else []
    )


def test_preflight_of_a_closed_account_is_a_typed_error(
    backend: OpenAIBackend, provider: Provider
) -> None:
    provider.closed = True
    with pytest.raises(TrainingNotAvailableError):
        backend.preflight(INTENT)
    assert not provider.files


@EVERY
def test_preflight_where_jobs_may_not_be_listed_is_a_typed_error(
    make: Make, provider: Provider, name: str
) -> None:
    backend = make(name)
    provider.refuses = answers(403, "training_not_available")
    with pytest.raises(TrainingNotAvailableError):
        backend.preflight(INTENT)
    provider.refuses = answers(401)
    with pytest.raises(BackendError, match="Secrets Manager"):
        backend.preflight(INTENT)
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        backend.preflight(INTENT)


def test_preflight_cancels_a_probe_that_was_taken(
    backend: OpenAIBackend, provider: Provider
) -> None:
    provider.trusts_files = True
    backend.preflight(INTENT)
    assert [job["status"] for job in provider.jobs] == ["cancelled"]
    assert launched(backend).job_id == "ftjob-2", "a probe is nobody's job"


@EVERY
def test_preflight_for_a_model_that_is_not_listed(
    make: Make, provider: Provider, name: str
) -> None:
    """Azure and Bedrock train models that they do not list."""
    backend = make(name)
    provider.models = {}
    if PRESETS[name].lists_models:
        with pytest.raises(ModelRetiredError, match="not there for this account"):
            backend.preflight(INTENT)
    else:
        backend.preflight(INTENT)


@pytest.mark.parametrize(
    "about",
    [
        {"shutdown_date": "2026-11-22"},
        {"shutdown_date": "2026-11-21T23:00:00+00:00"},
        {"shutdown_date": 1795305600},
        {"shutdown_date": "1795305600"},
        {"deprecation": {"fine_tune": 1795305600, "inference": 1827000000}},
        {"capabilities": {"fine_tune": False}},
    ],
)
def test_preflight_for_a_model_past_its_end_fails_closed(
    make: Make, provider: Provider, about: dict[str, Any]
) -> None:
    provider.models = {"small": about}
    for name in ("openai", "azure"):
        with pytest.raises(ModelRetiredError, match="cannot be fine-tuned"):
            make(name).preflight(INTENT)
    assert not provider.files


@pytest.mark.parametrize(
    "about",
    [
        {"shutdown_date": "2026-11-23"},
        {"shutdown_date": None},
        {"shutdown_date": "some day"},
        {"deprecation": {"fine_tune": 1827000000}},
        {"capabilities": {"fine_tune": True}},
    ],
)
def test_preflight_for_a_model_that_lives_passes(
    backend: OpenAIBackend, provider: Provider, about: dict[str, Any]
) -> None:
    provider.models = {"small": about}
    backend.preflight(INTENT)


def test_preflight_after_the_providers_own_end_asks_nobody() -> None:
    preset = PRESETS["openai"]
    backend = OpenAIBackend(
        preset.base_url, "sk-test", preset=preset, today=lambda: date(2027, 1, 6)
    )
    with pytest.raises(TrainingNotAvailableError, match="2027-01-05"):
        backend.preflight(INTENT)


def test_preflight_of_another_server_in_the_providers_place_is_not_bound_by_its_end(
    provider: Provider,
) -> None:
    OpenAIBackend(provider.url, "sk-test", today=lambda: date(2030, 1, 1)).preflight(INTENT)
    assert provider.probes


@pytest.mark.parametrize("status", [400, 429])
def test_preflight_that_was_put_off_is_retryable_and_one_that_was_refused_is_open(
    backend: OpenAIBackend, provider: Provider, status: int
) -> None:
    provider.trusts_files, provider.keeps_job = True, False
    provider.create_faults = [answers(status)]
    if status == 429:
        with pytest.raises(RetryableError):
            backend.preflight(INTENT)
    else:
        backend.preflight(INTENT)


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ({"shutdown_date": "2027-01-14"}, date(2027, 1, 14)),
        ({"shutdown_date": "2027-01-14T00:00:00Z"}, date(2027, 1, 14)),
        ({"shutdown_date": 1799884800}, date(2027, 1, 14)),
        ({"deprecation": {"inference": 1799884800, "fine_tune": 1}}, date(2027, 1, 14)),
        ({"shutdown_date": None}, None),
        ({"shutdown_date": ""}, None),
        ({"shutdown_date": True}, None),
        ({"shutdown_date": 1e300}, None),
        ({}, None),
        (None, None),
        (ListedModel("m", date(2027, 1, 14)), None),
    ],
)
def test_shutdown_date_of_a_model(model: object, day: date | None) -> None:
    if isinstance(model, ListedModel):
        assert model.shutdown_date == date(2027, 1, 14)
    else:
        assert shutdown_date(model) == day


def test_models_tell_when_they_end(backend: OpenAIBackend, provider: Provider) -> None:
    provider.models = {"a": {"owned_by": "us", "shutdown_date": "2027-01-14"}, "b": {}}
    assert backend.models() == [
        ListedModel("a", date(2027, 1, 14), "us"),
        ListedModel("b", None, ""),
    ]


def test_models_of_together_are_a_bare_list(
    make: Make, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.models = {"a": {"organization": "Meta"}}
    monkeypatch.setattr(
        "tests.support.provider._Handler._list", lambda handler, rows: handler.reply(200, rows)
    )
    assert make("together").models() == [ListedModel("a", None, "Meta")]


# --- poll, events, cancel


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


@pytest.mark.parametrize(
    ("status", "model", "state"),
    [
        ("pending", None, Pending("pending")),
        ("cancel_requested", None, Pending("cancel_requested")),
        ("uploading", None, Pending("uploading")),
        ("completed", "me/small-1", Completed("me/small-1")),
        ("completed", None, Failed("the job succeeded but names no model")),
        ("error", None, Failed("out of memory")),
        ("cancelled", None, Failed("out of memory")),
    ],
)
def test_state_of_a_job_at_together(
    make: Make, provider: Provider, status: str, model: str | None, state: object
) -> None:
    backend = make("together")
    job = launched(backend)
    provider.finish(status, model)
    provider.jobs[0]["events"] = [{"type": "job_error", "message": "out of memory"}]
    assert backend.poll(job) == state


def test_metrics_of_together_become_the_curve(make: Make, provider: Provider) -> None:
    backend = make("together")
    job = launched(backend)
    provider.events = [
        {"train/global_step": 9.0, "train/loss": 1.0, "train/epoch": 1.0},
        {"train/global_step": 9.0, "eval/loss": 1.5},
        {"train/global_step": 1.0, "train/loss": 3.0},
        {"timestamp": 1.0},
    ]
    assert backend.events(job) == [
        TrainingEvent(1, 3.0),
        TrainingEvent(9, 1.0),
        TrainingEvent(9, eval_loss=1.5),
    ]


def test_cancel_stops_a_running_job_alone(backend: OpenAIBackend, provider: Provider) -> None:
    job = launched(backend)
    backend.cancel(job)
    assert provider.jobs[0]["status"] == "cancelled"
    provider.finish("succeeded", "ft:1")
    backend.cancel(job)
    assert provider.jobs[0]["status"] == "succeeded"


@EVERY
def test_cancel_finds_a_job_whose_id_was_never_learned(
    make: Make, provider: Provider, name: str
) -> None:
    backend = make(name)
    launched(backend)
    provider.jobs.append({**provider.jobs[0], "id": "another", "metadata": {"dropforge_spec": "x"}})
    provider.jobs[1].update(training_file="x", user_provided_suffix="x")
    provider.jobs[0]["hidden"] = 1
    backend.cancel(INTENT)
    assert [job["status"] for job in provider.jobs] == ["cancelled", "running"]


@EVERY
def test_cancel_of_a_job_that_never_was_is_no_error(
    make: Make, provider: Provider, name: str
) -> None:
    backend = make(name)
    backend.cancel(INTENT)
    backend.cancel(FineTuneJob(SPEC, 1, 10.0, job_id="ftjob-gone"))
    assert not provider.jobs


def test_cancel_of_a_job_that_ends_meanwhile_is_no_error(
    backend: OpenAIBackend, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = launched(backend)

    def ends(handler: Any, job_id: str) -> None:
        provider.finish("succeeded", "ft:1")
        answers(400, "invalid_status")(handler)

    monkeypatch.setattr("tests.support.provider._Handler._cancel", ends)
    backend.cancel(job)
    assert provider.jobs[0]["status"] == "succeeded"


def test_cancel_that_is_refused_is_told(
    backend: OpenAIBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = launched(backend)
    monkeypatch.setattr(
        "tests.support.provider._Handler._cancel", lambda handler, job_id: answers(400)(handler)
    )
    with pytest.raises(BackendError):
        backend.cancel(job)


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


@pytest.mark.parametrize("fault", [answers(500), answers(429), resets, garbles])
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
    with pytest.raises(BackendError, match="only once it is deployed there") as refused:
        backend.complete("m", QUESTION, 50)
    assert type(refused.value) is BackendError
