"""From an answer of the deployed API to a row of a dataset, and out of it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from openai import OpenAI

from dropforge.artifacts import DatasetManifest, clean_key, collected_key, dataset_key
from dropforge.backends.collected import Answers
from tests.e2e.conftest import PATIENCE_SECONDS, TICKETS, Instance
from tests.support.provider import Provider

NAME = "collects"
BACKEND = "bedrock"
PROJECT = """\
backend: openai
model: smollm2-135m-instruct
monthly: true
collect: {consent: true}
budget: {training_usd: 0, usd_per_million_tokens: 1}
"""
"""The budget of nothing ends each run behind its dataset."""
CARD = "4111 1111 1111 1111"
QUESTION = f"Say yes or no, and nothing else: may I pay with card {CARD}?"
pytestmark = pytest.mark.slow


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < ends, "it did not come in time"
        time.sleep(0.2)


def dataset_of(instance: Instance, key: str) -> dict[str, Any]:
    """The newest run of the key, once it has ended behind its dataset."""
    found: list[dict[str, Any]] = []

    def is_over() -> bool:
        runs = [run for run in instance.registry.items(NAME, "run#") if run["key"] == key]
        found[:] = sorted(runs, key=lambda run: run["started_at"])
        return bool(found) and found[-1]["status"] != "running"

    until(is_over)
    assert "BUDGET" in found[-1]["error"]
    return found[-1]


def ask(client: OpenAI, question: str) -> tuple[str, str]:
    """An answer's id, and how it ended."""
    answer = client.chat.completions.create(
        model=NAME,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        user="ada",
    )
    return answer.id, answer.choices[0].finish_reason


def chat(model: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    """What the champion says: it answers one question, and is cut off at any other."""
    whole = messages[-1]["content"] == QUESTION
    message = {"role": "assistant", "content": "Yes." if whole else "1, 2, 3, 4"}
    end = "stop" if whole else "length"
    return {"choices": [{"index": 0, "message": message, "finish_reason": end}]}


def serve(instance: Instance) -> OpenAI:
    """A client of the project, whose champion is a provider's model."""
    instance.store.write(f"projects/{NAME}/project.yaml", PROJECT)
    until(lambda: NAME in instance.registry.projects())
    champion = {"version": "v1", "backend": BACKEND, "model_id": "steady"}
    instance.registry.put(NAME, "champion", {**champion, "revision": 1, "at": time.time()})
    return OpenAI(base_url=f"{instance.api_url}/v1", api_key=instance.token(NAME))


def test_rated_answer_of_the_api_becomes_a_row_of_the_next_dataset(
    instance: Instance, ending: dict[str, Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending[BACKEND], "chat", chat)
    client = serve(instance)
    answer, end = ask(client, QUESTION)
    _, cut = ask(client, "Count to 1,000.")
    assert (end, cut) == ("stop", "length")
    answers = Answers(instance.outputs["table"])
    until(lambda: bool(answers.of(NAME)))
    (kept,) = answers.of(NAME)
    assert kept.id == answer
    assert "[CARD_1]" in kept.messages[0].content
    rating = {"id": answer, "rating": 1, "model": NAME}
    client.post("/feedback", cast_to=object, body=rating)

    instance.store.upload(f"exports/{NAME}/{TICKETS.name}", TICKETS)
    dataset_of(instance, f"exports/{NAME}/{TICKETS.name}")
    assert "1 conversations written" in instance.dropforge("collected", "-p", NAME, "--export")
    run = dataset_of(instance, collected_key(NAME))
    address, part = run["validate"]["hash"], run["clean"]["hash"]
    manifest = instance.store.load(dataset_key(NAME, address), DatasetManifest)
    assert part in manifest.parts
    assert len(manifest.parts) == 2
    train = instance.store.read(dataset_key(NAME, address, "train.jsonl")).decode()
    assert len([line for line in train.splitlines() if "pay with card [CARD_1]" in line]) == 1
    assert CARD not in train
    assert CARD not in instance.store.read(clean_key(NAME, part, "part.jsonl")).decode()

    told = instance.dropforge("collected", "-p", NAME, "--forget-user", "ada")
    assert "1 answer forgotten" in told
    assert answers.of(NAME) == []
    assert instance.store.read(collected_key(NAME)) == b""
    versions = boto3.client("s3").list_object_versions(
        Bucket=instance.outputs["bucket"], Prefix=collected_key(NAME)
    )["Versions"]
    assert [v["Key"] for v in versions].count(collected_key(NAME)) == 1
