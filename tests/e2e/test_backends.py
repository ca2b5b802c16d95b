"""Every backend, and the way from one that ends to the next, as their users see it.

What is trained is a tiny model: here it counts who trains, how often, and whose model answers.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from openai import OpenAI

from dropforge.artifacts import DatasetManifest, dataset_key, train_key
from dropforge.backends.registry import Item
from dropforge.parity import Parity
from local.settings import BASE_MODEL
from tests.e2e.conftest import (
    PATIENCE_SECONDS,
    ROOT,
    TICKETS,
    Instance,
    small_config,
    wait_for_run,
)
from tests.support.provider import Provider, answers

TINY = {
    "epochs": "1",
    "max_rows": "12",
    "validation_rows": "4",
    "samples": "4",
    "max_answer_tokens": "16",
}
LIBRARY = ROOT / "examples/quillmere.jsonl"
NEXT = {"local": "openai", "bedrock": "sagemaker-serverless"}
"""The backends that end in mid-run, and who trains in their place."""
pytestmark = pytest.mark.slow


def with_fallback(config: Path, backend: str) -> Path:
    entry = f"fallback: [{{backend: {backend}, model: smollm2-135m-instruct}}]\n"
    config.write_text(config.read_text() + entry)
    return config


def library(path: Path) -> Path:
    """The second example's project, as little of it as TINY: Bedrock first, then serverless."""
    text = (ROOT / "examples/quillmere.yaml").read_text()
    for old, new in (
        ("backend: sagemaker\n", "backend: bedrock\n"),
        ("- backend: local", f"- backend: {NEXT['bedrock']}"),
        ("epochs: 2", "epochs: 1"),
        ("max_rows: 120", "max_rows: 12"),
        ("validation_rows: 12", "validation_rows: 4"),
        ("samples: 20", "samples: 4"),
        ("max_answer_tokens: 56", "max_answer_tokens: 16"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def model_of(instance: Instance, project: str) -> Item:
    """The only model of a project, once it has answered over the API."""
    [model] = instance.registry.items(project, "model#")
    ask(instance, project, model)
    return model


def ask(instance: Instance, project: str, model: Item) -> None:
    """Have a model answer over the API."""
    name = f"{project}/{model['version']}"
    token = instance.token_of(project)
    client = OpenAI(base_url=f"{instance.api_url}/v1", api_key=token, max_retries=0)
    answered = client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "How long does it shine?"}], max_tokens=16
    )
    assert (answered.model, answered.choices[0].finish_reason) == (name, "length")
    assert all(listed.id.startswith(f"{project}/") for listed in client.models.list())


def test_pipeline_runs_on_another_backend_by_changing_one_line(
    instance: Instance, tmp_path: Path
) -> None:
    config = small_config(tmp_path / "config.yaml", backend="azure", **TINY)
    printed = instance.dropforge("drop", TICKETS, "-p", "on-azure", "-c", config)
    [run] = instance.registry.items("on-azure", "run#")
    assert run["status"] == "succeeded", printed
    assert run["train"]["backend"] == "azure"
    model = model_of(instance, "on-azure")
    assert (model["backend"], model["base_model"]) == ("azure", BASE_MODEL)


def test_providers_that_end_in_mid_run_leave_one_job_each_and_a_model_of_the_next(
    instance: Instance, ending: dict[str, Provider], tmp_path: Path
) -> None:
    """Two projects of other domains side by side: one's provider closes the account (403), the
    other's stops answering (503)."""
    shop = with_fallback(
        small_config(tmp_path / "shop.yaml", backend="local", **TINY), NEXT["local"]
    )
    for config, export, backend in (
        (shop, TICKETS, "local"),
        (library(tmp_path / "library.yaml"), LIBRARY, "bedrock"),
    ):
        hours = "timeout_hours: 1\n"
        config.write_text(config.read_text().replace(hours, hours + "  patience_minutes: 0.05\n"))
        instance.dropforge("drop", export, "-p", f"leaves-{backend}", "-c", config, "--no-watch")
    until = time.monotonic() + PATIENCE_SECONDS
    while not all(provider.jobs for provider in ending.values()) and time.monotonic() < until:
        time.sleep(0.1)
    assert all(p.jobs for p in ending.values()), "the jobs were made while the providers were well"
    ending["local"].refuses = answers(403, "training_not_available")
    ending["bedrock"].refuses = answers(503)
    runs = {}
    try:
        for backend, export in (("local", TICKETS), ("bedrock", LIBRARY)):
            project = f"leaves-{backend}"
            runs[backend] = run = wait_for_run(
                instance, project, f"exports/{project}/{export.name}"
            )
            assert run["status"] == "succeeded", run
            assert run["train"]["backend"] == NEXT[backend]
            [given_up] = run["tried"]
            assert given_up["backend"] == backend
            assert len(ending[backend].creates) == 1
            assert "given up" in instance.dropforge("status", "-p", project)
    finally:
        for provider in ending.values():
            provider.refuses = None
    began, done = zip(*((r["started_at"], r["ended_at"]) for r in runs.values()), strict=True)
    assert max(began) < min(done), "they ran at the same time"
    models = {backend: model_of(instance, f"leaves-{backend}") for backend in ending}
    assert {backend: model["backend"] for backend, model in models.items()} == NEXT
    assert len({model["dataset"] for model in models.values()}) == 2
    assert runs["local"]["tried"][0]["error"].startswith("TRAINING_NOT_AVAILABLE")
    assert runs["bedrock"]["tried"][0]["error"].startswith("PROVIDER_DOWN")


def test_webhook_brought_a_poll_forward(instance: Instance) -> None:
    logs = boto3.client("logs")
    streams = logs.filter_log_events(logGroupName="/dropforge/webhook")["events"]
    assert streams


def test_model_past_its_shutdown_date_is_not_trained_but_the_next_one_is(
    instance: Instance, ending: dict[str, Provider], tmp_path: Path
) -> None:
    provider = ending["local"]
    creates, uploads = len(provider.creates), len(provider.files)
    provider.models = {BASE_MODEL: {"shutdown_date": "2026-01-31"}}
    try:
        config = small_config(tmp_path / "old.yaml", backend="local", **TINY)
        printed = instance.dropforge(
            "drop", TICKETS, "-p", "retired", "-c", with_fallback(config, "together")
        )
    finally:
        provider.models = None
    [run] = instance.registry.items("retired", "run#")
    assert run["status"] == "succeeded", printed
    assert run["tried"][0]["error"].startswith("MODEL_RETIRED")
    model = model_of(instance, "retired")
    assert model["backend"] == "together"
    assert (len(provider.creates), len(provider.files)) == (creates, uploads)


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
    until = time.monotonic() + PATIENCE_SECONDS
    while (instance.registry.get(project, "config") or {})["hash"] == before:
        assert time.monotonic() < until
        time.sleep(0.1)
    announced = instance.state / "serving/lifecycle.json"
    ends = (datetime.now(UTC) + timedelta(days=20)).date().isoformat()
    announced.write_text(json.dumps({BASE_MODEL: ends}))
    try:
        printed = instance.dropforge("migrate", "record", "-p", project)
        assert "4 of 4 answers" in printed
        tick = json.dumps({"time": datetime.now(UTC).isoformat()})
        invoked = boto3.client("lambda").invoke(FunctionName="dropforge-watch", Payload=tick)
        [run_id] = json.loads(invoked["Payload"].read())["started"]
    finally:
        announced.unlink()
    [run] = [r for r in instance.registry.items(project, "run#") if r["run_id"] == run_id]
    ended = wait_for_run(instance, project, run["key"], run_id=run_id)
    assert ended["status"] == "succeeded", ended
    new = next(m for m in instance.registry.items(project, "model#") if m["run_id"] == run_id)
    assert (new["backend"], new["dataset"]) == ("sagemaker", old["dataset"])
    ask(instance, project, new)
    listed = instance.dropforge("migrate", "inventory", "-p", project)
    assert ends in listed
    told = instance.dropforge("migrate", "report", "-p", project, "--out", tmp_path / "moved.html")
    assert f"goes dark on {ends}" in told
    assert new["version"] in (tmp_path / "moved.html").read_text()


def test_served_sagemaker_model_is_the_one_that_was_trained(instance: Instance) -> None:
    """What training and the parity check left of the model that `watch` has had trained."""
    models = instance.registry.items("on-azure", "model#")
    [model] = [found for found in models if found["backend"] == "sagemaker"]
    job = boto3.client("sagemaker").describe_training_job(TrainingJobName=model["job_id"])
    assert job["TrainingJobStatus"] == "Completed"
    manifest = instance.store.load(dataset_key("on-azure", model["dataset"]), DatasetManifest)
    assert manifest.examples["train"] == 12
    kept = instance.store.load(train_key("on-azure", model["spec"], "parity.json"), Parity)
    assert (kept.compared, kept.prompts) == ("token ids", 4)
    assert model["package"].startswith("arn:aws:sagemaker:")
    curve = instance.store.read(train_key("on-azure", model["spec"], "events.jsonl")).splitlines()
    assert len(curve) == 4, "three steps, and the validation loss before the first"
