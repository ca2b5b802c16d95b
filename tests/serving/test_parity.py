"""Trained by training/train.py, served by the model server, compared as the pipeline does it."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from fastapi.testclient import TestClient

from dropforge.backends.sagemaker_endpoint import Endpoint
from dropforge.errors import ParityError
from dropforge.parity import Recording, Served, compare, read_recording
from serving.server import create_app
from serving.weights import BASE_MODEL
from tests.training.conftest import job
from training import train

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
TUNED = "dropforge-shop-1"


class Runtime:
    """SageMaker's runtime as far as an endpoint uses it: a component answers as its model."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        body = {**json.loads(request["Body"]), "model": request["InferenceComponentName"]}
        answer = self._client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        return {"Body": io.BytesIO(answer.content)}


@pytest.fixture(scope="module")
def trained(sharp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job that has learnt four answers by heart: no rounding changes them."""
    folder = tmp_path_factory.mktemp("job")
    by_heart: dict[str, Any] = {"epochs": 40, "eval_steps": 20, "lora_layers": 0, "dtype": "fp32"}
    assert train.run(job(folder, sharp, count=4, **by_heart))
    return folder


@pytest.fixture(scope="module")
def recording(trained: Path) -> Recording:
    return read_recording((trained / "output/data/parity.json").read_bytes())


@pytest.fixture(scope="module")
def client(
    sharp: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """The server on the base model, with the adapter loaded."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(sharp, folder / "weights" / BASE_MODEL)
    with TestClient(create_app(folder / "state", folder / "weights")) as client:
        loaded = {"lora_name": TUNED, "lora_path": str(trained / "model")}
        assert client.post("/v1/load_lora_adapter", json=loaded).status_code == 200
        yield client


def asked(client: TestClient, recording: Recording, model: str) -> list[Served]:
    endpoint = Endpoint("dropforge", "base", boto3.client("sagemaker"), 30.0)
    endpoint.runtime = Runtime(client)
    return [
        endpoint.answer(model, prompt.messages, len(prompt.output_token_ids))
        for prompt in recording.prompts
    ]


def test_served_adapter_says_what_the_trained_one_said(
    client: TestClient, recording: Recording
) -> None:
    parity = compare(recording.prompts, asked(client, recording, TUNED))
    assert parity.compared == "token ids"
    learnt = recording.prompts[1:]
    assert parity.prompts == len(recording.prompts) > 1
    assert all(prompt.settled == len(prompt.output_token_ids) for prompt in learnt)
    assert parity.tokens >= sum(len(prompt.output_token_ids) for prompt in learnt)


def test_base_model_served_in_the_adapters_place_is_found(
    client: TestClient, recording: Recording
) -> None:
    with pytest.raises(ParityError, match="output position"):
        compare(recording.prompts, asked(client, recording, BASE_MODEL))


def test_text_and_length_agree_where_ids_are_left_out(
    client: TestClient, recording: Recording
) -> None:
    whole = asked(client, recording, TUNED)
    bare = [msgspec.structs.replace(s, prompt_token_ids=None, token_ids=None) for s in whole]
    assert compare(recording.prompts, bare).compared == "text"


def test_end_token_is_among_the_ids_and_not_in_the_usage(
    client: TestClient, recording: Recording
) -> None:
    prompt = recording.prompts[-1]
    body = {"model": TUNED, "messages": prompt.messages, "max_tokens": 64, "temperature": 0}
    answer = client.post("/v1/chat/completions", json={**body, "return_token_ids": True}).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["token_ids"]) == answer["usage"]["completion_tokens"] + 1
    assert answer["prompt_token_ids"] == prompt.prompt_token_ids
    plain = client.post("/v1/chat/completions", json=body).json()
    assert "prompt_token_ids" not in plain
    assert "token_ids" not in plain["choices"][0]
    streamed = client.post(
        "/v1/chat/completions", json={**body, "return_token_ids": True, "stream": True}
    )
    assert streamed.json()["error"]["param"] == "return_token_ids"
