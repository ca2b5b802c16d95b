"""From a dropped file to an answer over HTTPS, on the deployed template, with SmolLM2. The order of
tests counts: the first one trains the model that the others ask.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import boto3
import pytest
from openai import OpenAI

from dropforge.artifacts import Verdict, evaluation_key
from tests.e2e.conftest import CONFIG, ROOT, TICKETS, Instance, customers, small_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("smollm2")]
PROJECT = "orrinvale"


def test_dropped_export_becomes_promoted_model_with_openai_backend(instance: Instance) -> None:
    with customers(instance, PROJECT) as people:
        printed = instance.dropforge("drop", TICKETS, "-p", PROJECT, "-c", CONFIG)
    [run] = instance.registry.items(PROJECT, "run#")
    assert run["status"] == "succeeded", printed
    assert not people.refused
    assert {one.arm for one in people.asked} == {"champion", "challenger"}
    assert run["promoted"] is True, printed
    expected = json.loads((ROOT / "examples/tickets.expected.json").read_text())
    assert f"{expected['clean']} of {expected['rows']} rows kept" in printed
    evaluation = instance.store.load(
        evaluation_key(PROJECT, run["verdict"]["hash"]), Verdict
    ).evaluation
    assert evaluation.samples == 28
    assert evaluation.comparisons["base"].win_rate.low > 0.5
    assert evaluation.fact_recall["challenger"] >= 3 * evaluation.fact_recall["base"]
    champion = instance.registry.champion(PROJECT)
    assert champion is not None
    assert champion["version"] == evaluation.version
    assert champion["model_id"].startswith("ft:smollm2-135m-instruct:")


def test_promotion_went_through_a_canary_by_steps(instance: Instance) -> None:
    moves = instance.registry.items(PROJECT, "move#")
    assert [move["action"] for move in moves] == ["canary", "step", "promote"]
    assert [move["version"] for move in moves[:2]] == ["base", "base"], "it held the place"
    assert [move["canary"]["share"] for move in moves[:2]] == [0.25, 0.5]
    assert [move["who"] for move in moves] == ["pipeline", "canary", "canary"]
    arms = {item["sk"]: item for item in instance.registry.items(PROJECT, "arm#")}
    challengers = [item["requests"] for sk, item in arms.items() if sk.endswith("challenger")]
    assert min(challengers) >= 4
    assert not any(item.get("errors") for item in arms.values())
    rated = instance.registry.items(PROJECT, f"feedback#{moves[-1]['version']}#")
    assert len(rated) >= 8
    assert [item["arm"] for item in rated].count("challenger") >= 8


def test_unmodified_openai_sdk_gets_champions_answer_over_https_api(instance: Instance) -> None:
    champion = instance.registry.champion(PROJECT)
    assert champion is not None
    client = OpenAI(base_url=f"{instance.api_url}/v1", api_key=instance.token(PROJECT))
    answered = client.chat.completions.with_raw_response.create(
        model=PROJECT, messages=[{"role": "user", "content": "How long does the lamp shine?"}]
    )
    assert answered.headers["x-dropforge-model"] == f"{PROJECT}/{champion['version']}"
    assert answered.headers["x-dropforge-arm"] == "champion"
    completion = answered.parse()
    assert completion.choices[0].message.content
    assert completion.model == f"{PROJECT}/{champion['version']}"
    chunks = list(
        client.chat.completions.create(
            model=f"{PROJECT}/base",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    told = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert len(told) >= 3
    assert "Paris" in "".join(told), "the converted weights are SmolLM2's: no near tie for it"
    assert chunks[-1].usage is not None
    assert 1 <= chunks[-1].usage.completion_tokens <= 12
    assert f"{PROJECT}/{champion['version']}" in {model.id for model in client.models.list()}


def test_same_content_dropped_again_is_repeated_and_trains_nothing(instance: Instance) -> None:
    client = OpenAI(base_url=f"{instance.model_url}/v1", api_key="-")
    before = instance.executions(), len(client.fine_tuning.jobs.list(limit=100).data)
    printed = instance.dropforge("drop", TICKETS, "-p", PROJECT)
    assert "nothing to do" in printed
    assert (instance.executions(), len(client.fine_tuning.jobs.list(limit=100).data)) == before
    assert len(instance.registry.items(PROJECT, "model#")) == 1


def test_same_event_delivered_again_starts_nothing(instance: Instance) -> None:
    runs = instance.registry.items(PROJECT, "run#")
    first = min(runs, key=lambda run: run["started_at"])
    event = {
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {
            "bucket": {"name": instance.outputs["bucket"]},
            "object": {"key": first["key"], "version-id": first["version_id"]},
        },
    }
    before = instance.executions()
    queue = _drop_queue()
    sqs = boto3.client("sqs")
    for _ in range(5):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    until = time.monotonic() + 30
    while time.monotonic() < until and _waiting(queue):
        time.sleep(0.2)
    assert _waiting(queue) == 0
    assert instance.executions() == before
    assert len(instance.registry.items(PROJECT, "run#")) == len(runs)


def _drop_queue() -> str:
    client = boto3.client("lambda")
    sources = client.list_event_source_mappings()["EventSourceMappings"]
    arns = {s["EventSourceArn"] for s in sources if "-drop" in s["FunctionArn"].lower()}
    [arn] = {arn for arn in arns if ":sqs:" in arn}
    url: str = boto3.client("sqs").get_queue_url(QueueName=arn.split(":")[-1])["QueueUrl"]
    return url


def _waiting(queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = boto3.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)
    return sum(int(found["Attributes"][name]) for name in names)


def test_lineage_walks_from_answer_to_dropped_file_and_back(instance: Instance) -> None:
    version = instance.registry.items(PROJECT, "model#")[0]["version"]
    back = instance.dropforge("lineage", f"{PROJECT}/{version}")
    run = min(instance.registry.items(PROJECT, "run#"), key=lambda r: r["started_at"])
    assert f"exports/{PROJECT}/tickets.csv" in back
    assert run["version_id"] in back
    assert f"{PROJECT}/{version}" in instance.dropforge("lineage", run["key"])


def test_reports_and_status_tell_what_happened(instance: Instance, tmp_path: Path) -> None:
    verdict, data = tmp_path / "verdict.html", tmp_path / "data.html"
    instance.dropforge("report", "-p", PROJECT, "--out", verdict)
    instance.dropforge("report", "-p", PROJECT, "--data", "--out", data)
    assert "promote" in verdict.read_text()
    assert "near-duplicate" in data.read_text()
    assert "succeeded" in instance.dropforge("status", "-p", PROJECT)
    assert "champion" in instance.dropforge("models", "-p", PROJECT)


def test_worse_challenger_is_rejected_and_champion_stays(
    instance: Instance, tmp_path: Path
) -> None:
    before = instance.registry.champion(PROJECT)
    config = small_config(
        tmp_path / "weak.yaml", epochs="1", max_rows="10", learning_rate="1e-6", samples="20",
        max_answer_tokens="32",
    )  # fmt: skip
    # OpenAI's protocol has a factor in its place.
    config.write_text(config.read_text().replace("rate: 1e-6", "rate_multiplier: 0.0003"))
    printed = instance.dropforge("drop", TICKETS, "-p", PROJECT, "-c", config)
    assert "reject" in printed
    assert instance.registry.champion(PROJECT) == before
    assert len(instance.registry.items(PROJECT, "model#")) == 2


def test_promote_and_rollback_by_hand_change_who_answers(instance: Instance) -> None:
    champion = instance.registry.champion(PROJECT)
    assert champion is not None
    other = next(
        m["version"]
        for m in instance.registry.items(PROJECT, "model#")
        if m["version"] != champion["version"]
    )
    instance.dropforge("promote", other, "-p", PROJECT, "--why", "to see it")
    moved = instance.registry.champion(PROJECT)
    assert moved is not None
    assert (moved["version"], moved["previous"], moved["why"]) == (
        other,
        champion["version"],
        "to see it",
    )
    instance.dropforge("rollback", "-p", PROJECT)
    back = instance.registry.champion(PROJECT)
    assert back is not None
    assert back["version"] == champion["version"]
    instance.environment["DROPFORGE_TOKEN"] = instance.token(PROJECT)
    assert champion["version"] in instance.dropforge("chat", "-p", PROJECT, "Hello?")
