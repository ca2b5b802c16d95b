from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from dropforge.artifacts import FineTuneJob, FineTuneSpec, train_key
from dropforge.backends.sagemaker import SageMakerBackend
from dropforge.errors import ParityError
from lambdas.train import parity
from tests.support.world import World

SPEC = FineTuneSpec("shop", "d" * 64, "sagemaker", "llama", {"epochs": 2})
MODEL = f"dropforge-shop-{SPEC.version}"
JOB = FineTuneJob(SPEC, 1, 10.0, job_id=f"{MODEL}-1", model_id=MODEL)
QUESTION = "Where is the parcel of Ann?"
RECORDED = {
    "base_model": "llama",
    "prompts": [
        {
            "messages": [{"role": "user", "content": QUESTION}],
            "prompt_token_ids": [1, 5],
            "output_token_ids": [30, 2],
            "margins": [8.0, 8.0],
            "text": "Here",
        }
    ],
}


@pytest.fixture
def backend(world: World, monkeypatch: pytest.MonkeyPatch) -> SageMakerBackend:
    backend = SageMakerBackend("dropforge", "base", world.store)
    monkeypatch.setattr(parity, "trainer", lambda *_: backend)
    world.store.save(train_key("shop", SPEC.hash), JOB)
    return backend


@pytest.fixture
def state(world: World) -> dict[str, Any]:
    run = world.drop("question,answer\na,b\n")["run"]
    return {"run": run, "job": {"spec": SPEC.hash}, "poll": {"model": {"model_id": MODEL}}}


def record(world: World) -> None:
    """What SageMaker uploads of the job's output data."""
    packed, data = io.BytesIO(), json.dumps(RECORDED).encode()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("parity.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    key = train_key("shop", SPEC.hash, f"output/{JOB.job_id}/output/output.tar.gz")
    world.store.write(key, packed.getvalue())


def says(runtime: Stubber, *tokens: int) -> None:
    """The endpoint's answer to the recorded prompt."""
    choice = {"message": {"content": "Here"}, "token_ids": list(tokens)}
    body = json.dumps({"choices": [choice], "prompt_token_ids": [1, 5]}).encode()
    answer = {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentType": "json"}
    wanted = {"InferenceComponentName": MODEL, "EndpointName": "dropforge"}
    runtime.add_response(
        "invoke_endpoint", answer, {**wanted, "Body": ANY, "ContentType": "application/json"}
    )


def test_served_model_that_is_the_trained_one_passes(
    world: World, backend: SageMakerBackend, state: dict[str, Any]
) -> None:
    record(world)
    with Stubber(backend.endpoint.runtime) as runtime:
        says(runtime, 30, 2)
        result = parity.handler(state, None)
    assert result == {"compared": "token ids", "prompts": 1, "tokens": 2, "near_ties": 0}
    assert world.run_item(state)["parity"] == result
    kept = world.store.read(train_key("shop", SPEC.hash, "parity.json"))
    assert json.loads(kept) == result


def test_served_model_that_is_another_one_stops_the_run_and_tells_no_text(
    world: World, backend: SageMakerBackend, state: dict[str, Any]
) -> None:
    record(world)
    with Stubber(backend.endpoint.runtime) as runtime:
        says(runtime, 31, 2)
        with pytest.raises(ParityError) as error:
            parity.handler(state, None)
    assert "position 0 is token 30 in training and token 31 served" in str(error.value)
    assert "Ann" not in str(error.value)
    assert world.store.find(train_key("shop", SPEC.hash, "parity.json")) is None


def test_job_that_recorded_nothing_passes_and_says_so(
    world: World, backend: SageMakerBackend, state: dict[str, Any]
) -> None:
    assert parity.handler(state, None)["compared"] == "not recorded"


def test_hosted_model_is_not_compared(
    world: World, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "trainer", lambda *_: object())
    world.store.save(train_key("shop", SPEC.hash), JOB)
    assert parity.handler(state, None)["compared"] == "not recorded"
