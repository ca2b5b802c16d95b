"""Every backend, and the way from one that ends to the next, as their users see it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from openai import OpenAI

from dropforge.artifacts import train_key
from dropforge.parity import Parity
from tests.e2e.conftest import ROOT, TICKETS, Instance, small_config, wait_for_run
from tests.support.provider import Provider, answers

TINY = {
    "epochs": "1",
    "max_rows": "12",
    "validation_rows": "4",
    "samples": "4",
    "max_answer_tokens": "16",
}
LIBRARY = ROOT / "examples/quillmere.jsonl"
pytestmark = pytest.mark.slow


def with_fallback(config: Path, backend: str = "openai") -> Path:
    entry = f"fallback: [{{backend: {backend}, model: smollm2-135m-instruct}}]\n"
    config.write_text(config.read_text() + entry)
    return config


def started(instance: Instance, project: str, config: Path, export: Path = TICKETS) -> str:
    """Drop an export without waiting for its run; returns its key."""
    instance.dropforge("drop", export, "-p", project, "-c", config, "--no-watch")
    return f"exports/{project}/{export.name}"


@pytest.mark.parametrize("backend", ["azure", "together", "sagemaker-serverless"])
def test_pipeline_runs_on_each_backend_by_changing_one_line(
    instance: Instance, tmp_path: Path, backend: str
) -> None:
    config = small_config(tmp_path / "config.yaml", backend=backend, **TINY)
    project = f"on-{backend}"
    printed = instance.dropforge("drop", TICKETS, "-p", project, "-c", config)
    [run] = instance.registry.items(project, "run#")
    assert run["status"] == "succeeded", printed
    assert run["train"]["backend"] == backend
    [model] = instance.registry.items(project, "model#")
    assert (model["backend"], model["base_model"]) == (backend, "smollm2-135m-instruct")
    client = OpenAI(base_url=f"{instance.api_url}/v1", api_key=instance.token(project))
    answered = client.chat.completions.create(
        model=f"{project}/{model['version']}",
        messages=[{"role": "user", "content": "How long does the lamp shine?"}],
        max_tokens=16,
    )
    assert answered.choices[0].message.content


def test_provider_that_ends_in_mid_run_leaves_one_job_each_and_a_model_of_the_next(
    instance: Instance, ending: dict[str, Provider], tmp_path: Path
) -> None:
    """One closes the account (403), the other stops answering (503); both at the same time."""
    runs = {}
    for backend, provider in ending.items():
        config = small_config(tmp_path / f"{backend}.yaml", backend=backend, **TINY)
        hours = "timeout_hours: 1\n"
        config.write_text(config.read_text().replace(hours, hours + "  patience_minutes: 0.05\n"))
        runs[backend] = started(instance, f"leaves-{backend}", with_fallback(config))
        until = time.monotonic() + 60
        while not provider.jobs and time.monotonic() < until:
            time.sleep(0.2)
        assert provider.jobs, "the job was made while the provider was well"
    ending["local"].refuses = answers(403, "training_not_available")
    ending["bedrock"].refuses = answers(503)
    try:
        for backend, key in runs.items():
            project = f"leaves-{backend}"
            run = wait_for_run(instance, project, key, seconds=180)
            assert run["status"] == "succeeded", run
            assert run["train"]["backend"] == "openai"
            [given_up] = run["tried"]
            assert given_up["backend"] == backend
            [model] = instance.registry.items(project, "model#")
            assert model["backend"] == "openai"
            assert len(ending[backend].creates) == 1
            assert "given up" in instance.dropforge("status", "-p", project)
    finally:
        for provider in ending.values():
            provider.refuses = None
    said = [instance.registry.items(f"leaves-{b}", "run#")[0]["tried"][0]["error"] for b in ending]
    assert said[0].startswith("TRAINING_NOT_AVAILABLE"), said
    assert said[1].startswith("PROVIDER_DOWN"), said


def test_model_past_its_shutdown_date_is_not_trained_but_the_next_one_is(
    instance: Instance, ending: dict[str, Provider], tmp_path: Path
) -> None:
    provider = ending["local"]
    creates, uploads = len(provider.creates), len(provider.files)
    provider.models = {"smollm2-135m-instruct": {"shutdown_date": "2026-01-31"}}
    try:
        config = small_config(tmp_path / "old.yaml", backend="local", **TINY)
        printed = instance.dropforge(
            "drop", TICKETS, "-p", "retired", "-c", with_fallback(config, "sagemaker")
        )
    finally:
        provider.models = None
    [run] = instance.registry.items("retired", "run#")
    assert run["status"] == "succeeded", printed
    assert run["tried"][0]["error"].startswith("MODEL_RETIRED")
    [model] = instance.registry.items("retired", "model#")
    assert model["backend"] == "sagemaker"
    assert (len(provider.creates), len(provider.files)) == (creates, uploads)


def test_two_projects_of_other_domains_train_side_by_side(
    instance: Instance, tmp_path: Path
) -> None:
    shop = small_config(tmp_path / "shop.yaml", backend="openai", **TINY | {"max_rows": "40"})
    library = tmp_path / "library.yaml"
    text = (ROOT / "examples/quillmere.yaml").read_text()
    for name, fewer in (("max_rows: 120", "40"), ("samples: 20", "4"), ("tokens: 56", "16")):
        text = text.replace(name, f"{name.split(':')[0]}: {fewer}")
    library.write_text(text)
    keys = {
        "side-shop": started(instance, "side-shop", shop),
        "side-library": started(instance, "side-library", library, LIBRARY),
    }
    ended = {p: wait_for_run(instance, p, key, seconds=240) for p, key in keys.items()}
    assert {p: run["status"] for p, run in ended.items()} == dict.fromkeys(keys, "succeeded")
    began, done = zip(
        *((run["started_at"], run["ended_at"]) for run in ended.values()), strict=True
    )
    assert max(began) < min(done), "they ran at the same time"
    models = {p: instance.registry.items(p, "model#") for p in keys}
    assert {p: len(found) for p, found in models.items()} == dict.fromkeys(keys, 1)
    datasets = {found[0]["dataset"] for found in models.values()}
    assert len(datasets) == 2
    token = instance.token("side-library")
    client = OpenAI(base_url=f"{instance.api_url}/v1", api_key=token)
    assert all(model.id.startswith("side-library") for model in client.models.list())


def test_served_model_is_the_one_that_was_trained(instance: Instance) -> None:
    """What the parity check kept of a SageMaker model that these tests have trained."""
    [model] = instance.registry.items("retired", "model#")
    kept = instance.store.load(train_key("retired", model["spec"], "parity.json"), Parity)
    assert (kept.compared, kept.prompts) == ("token ids", 4)
    assert model["package"].startswith("arn:aws:sagemaker:")
    curve = instance.store.read(train_key("retired", model["spec"], "events.jsonl")).splitlines()
    assert len(curve) == 4, "three steps, and the validation loss before the first"


def test_watch_retrains_elsewhere_what_goes_dark_and_migrate_reports(
    instance: Instance, tmp_path: Path
) -> None:
    """The model of `on-azure` answers, and its provider announces its end in twenty days."""
    project = "on-azure"
    [old] = instance.registry.items(project, "model#")
    instance.dropforge("promote", old["version"], "-p", project)
    config = small_config(tmp_path / "listed.yaml", backend="azure", **TINY)
    text = with_fallback(config, "sagemaker").read_text() + "shutdown: {retrain: true}\n"
    before = (instance.registry.get(project, "config") or {})["hash"]
    instance.store.write(f"projects/{project}/project.yaml", text)
    until = time.monotonic() + 30
    while (instance.registry.get(project, "config") or {})["hash"] == before:
        assert time.monotonic() < until
        time.sleep(0.3)
    announced = instance.state / "serving/lifecycle.json"
    ends = (datetime.now(UTC) + timedelta(days=20)).date().isoformat()
    announced.write_text(json.dumps({"smollm2-135m-instruct": ends}))
    try:
        printed = instance.dropforge("migrate", "record", "-p", project)
        assert "4 of 4 answers" in printed
        tick = json.dumps({"time": datetime.now(UTC).isoformat()})
        invoked = boto3.client("lambda").invoke(FunctionName="dropforge-watch", Payload=tick)
        [run_id] = json.loads(invoked["Payload"].read())["started"]
    finally:
        announced.unlink()
    [run] = [r for r in instance.registry.items(project, "run#") if r["run_id"] == run_id]
    ended = wait_for_run(instance, project, run["key"], seconds=180, run_id=run_id)
    assert ended["status"] == "succeeded", ended
    new = next(m for m in instance.registry.items(project, "model#") if m["run_id"] == run_id)
    assert (new["backend"], new["dataset"]) == ("sagemaker", old["dataset"])
    listed = instance.dropforge("migrate", "inventory", "-p", project)
    assert ends in listed
    told = instance.dropforge("migrate", "report", "-p", project, "--out", tmp_path / "moved.html")
    assert f"goes dark on {ends}" in told
    assert new["version"] in (tmp_path / "moved.html").read_text()


def test_webhook_brought_a_poll_forward(instance: Instance) -> None:
    logs = boto3.client("logs")
    streams = logs.filter_log_events(logGroupName="/dropforge/webhook")["events"]
    assert streams
