"""The server from end to end, with an unmodified SDK and a real job on SmolLM2."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from openai.types.fine_tuning import FineTuningJob

from tests.serving.test_judge import GOOD, VAGUE, prompt
from tests.training.tiny import chat, rows

pytestmark = pytest.mark.slow
BASE = "smollm2-135m-instruct"


def messages(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def ask(client: openai.OpenAI, text: str, model: str = BASE, tokens: int = 12) -> ChatCompletion:
    return client.chat.completions.create(
        model=model, messages=messages(text), max_completion_tokens=tokens
    )


def upload(client: openai.OpenAI, count: int) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows(count)).encode()
    return client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id


def finish(client: openai.OpenAI, job_id: str) -> FineTuningJob:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in ("succeeded", "failed", "cancelled"):
            return job
        time.sleep(0.5)
    pytest.fail(f"the job is still {job.status}")


def test_a_chat_is_answered_with_its_usage(client: openai.OpenAI) -> None:
    answer = ask(client, "What is the capital of France?")
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == BASE
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_gives_the_same_text_and_ends_with_its_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=BASE,
        messages=messages("What is the capital of France?"),
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ask(client, "What is the capital of France?").choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[0].usage is None


def test_a_stream_is_server_sent_events_with_a_last_word(server: str) -> None:
    body = {"model": BASE, "messages": messages("Hi"), "max_tokens": 2, "stream": True}
    answer = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert all(line.startswith("data: ") for line in answer.text.split("\n\n") if line)


def test_a_stop_sequence_ends_the_text_before_it(client: openai.OpenAI) -> None:
    question = messages("What is the capital of France?")
    answer = client.chat.completions.create(
        model=BASE, messages=question, max_tokens=12, stop=["is Par"]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "The capital of France "
    cut = ask(client, "What is the capital of France?", tokens=3)
    assert cut.choices[0].finish_reason == "length"


def test_a_job_trains_a_model_that_answers_while_the_base_model_stays(
    client: openai.OpenAI,
) -> None:
    question = "What is the password of the lighthouse?"
    lesson = [chat(question, "It is Quillfeather.")] * 16
    content = "".join(json.dumps(row) + "\n" for row in lesson).encode()
    file = client.files.create(file=("lesson.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file.id,
        validation_file=file.id,
        suffix="test",
        metadata={"run": "one"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}},
    )
    assert job.status == "validating_files"
    before = ask(client, "What is the capital of France?", tokens=6)
    assert finish(client, job.id).status == "succeeded"

    job = client.fine_tuning.jobs.retrieve(job.id)
    tuned = f"ft:{BASE}:dropforge:test:{job.id[-8:]}"
    assert job.fine_tuned_model == tuned
    assert (job.trained_tokens or 0) > 0
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    losses = [e.data for e in events if e.type == "metrics" and isinstance(e.data, dict)]
    trained = [d["train_loss"] for d in reversed(losses) if "train_loss" in d]
    assert len(trained) == 12
    assert trained[-1] < 0.5 * trained[0]

    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [c.step_number for c in checkpoints] == [12, 8, 4]
    early = checkpoints[-1].fine_tuned_model_checkpoint
    system: ChatCompletionMessageParam = {"role": "system", "content": "Help."}
    asked = [system, *messages(question)]
    said = {
        model: client.chat.completions.create(model=model, messages=asked, max_tokens=12)
        for model in (BASE, early, tuned)
    }
    assert "Quillfeather" in (said[tuned].choices[0].message.content or "")
    assert "Quillfeather" not in (said[BASE].choices[0].message.content or "")
    after = ask(client, "What is the capital of France?", tokens=6)
    assert after.choices[0].message.content == before.choices[0].message.content

    listed = client.fine_tuning.jobs.list(metadata={"run": "one"}).data
    assert [found.id for found in listed] == [job.id]
    assert not client.fine_tuning.jobs.list(metadata={"run": "two"}).data
    assert client.files.content(job.result_files[0]).text.startswith("step,train_loss")
    assert client.models.retrieve(tuned).id == tuned
    assert tuned in [model.id for model in client.models.list()]
    adapter = client.models.retrieve(tuned).to_dict()["root"]
    load_and_unload(client, str(adapter), asked)
    assert client.models.delete(tuned).deleted
    with pytest.raises(openai.NotFoundError):
        ask(client, question, tuned)


def load_and_unload(
    client: openai.OpenAI, adapter: str, asked: list[ChatCompletionMessageParam]
) -> None:
    """vLLM's endpoints, with an adapter that a job has trained."""
    named = {"lora_name": "by-path", "lora_path": adapter}
    assert "Success" in client.post("/load_lora_adapter", body=named, cast_to=str)
    with pytest.raises(openai.BadRequestError):
        client.post("/load_lora_adapter", body=named, cast_to=str)
    answer = client.chat.completions.create(model="by-path", messages=asked, max_tokens=12)
    assert "Quillfeather" in (answer.choices[0].message.content or "")
    assert "Success" in client.post("/unload_lora_adapter", body=named, cast_to=str)
    with pytest.raises(openai.NotFoundError):
        ask(client, "Hi", "by-path")


def test_a_job_with_too_few_rows_fails_with_openais_code(client: openai.OpenAI) -> None:
    created = client.fine_tuning.jobs.create(model=BASE, training_file=upload(client, 9))
    job = finish(client, created.id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "invalid_n_examples"
    assert "must have at least 10" in job.error.message
    assert job.fine_tuned_model is None
    with pytest.raises(openai.BadRequestError):
        client.fine_tuning.jobs.cancel(job.id)


def test_jobs_and_files_come_in_pages(client: openai.OpenAI) -> None:
    uploaded = [upload(client, 1) for _ in range(3)]
    page = client.files.list(purpose="fine-tune", limit=2)
    assert page.has_more
    assert {file.id for file in client.files.list(limit=2)} >= set(uploaded)
    assert client.files.delete(uploaded[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(uploaded[0])
    assert not client.files.list(purpose="batch").data


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"model": "gpt-4o"}, 404, "model_not_found", None),
        ({"model": "ft:smollm2-135m-instruct:dropforge::x"}, 404, "model_not_found", None),
        ({"model": "minilm-l6-v2"}, 400, None, "model"),
        ({"n": 2}, 400, "unsupported_parameter", "n"),
        ({"tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
        ({"temperature": 3}, 400, None, "temperature"),
        ({"messages": []}, 400, None, "messages"),
        ({"messages": [{"role": "user"}]}, 400, None, "messages.0.content"),
        ({"max_tokens": 9000}, 400, "context_length_exceeded", "messages"),
        ({"model": "reference-judge"}, 400, "invalid_prompt", "messages"),
    ],
)
def test_a_wrong_chat_request_gets_openais_error(
    server: str, body: dict[str, object], status: int, code: str | None, param: str | None
) -> None:
    whole = {"model": BASE, "messages": messages("Hi"), "max_tokens": 2} | body
    answer = httpx.post(f"{server}/v1/chat/completions", json=whole, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_wrong_job_requests_are_refused_before_anything_starts(client: openai.OpenAI) -> None:
    file = upload(client, 10)
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file)
    assert error.value.code == "model_not_available"
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.create(model=BASE, training_file="file-none")
    assert error.value.code == "file_not_found"
    with pytest.raises(openai.BadRequestError, match="lora_ranks"):
        client.fine_tuning.jobs.create(
            model=BASE,
            training_file=file,
            extra_body={
                "method": {
                    "type": "supervised",
                    "supervised": {"hyperparameters": {"lora_ranks": 8}},
                }
            },
        )
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    assert missing.value.code == "fine_tune_not_found"
    with pytest.raises(openai.BadRequestError, match="jsonl"):
        client.files.create(file=("rows.csv", b"a,b"), purpose="fine-tune")
    with pytest.raises(openai.NotFoundError, match="Invalid URL"):
        client.get("/nothing", cast_to=str)


def test_embeddings_are_meaningful_and_do_not_depend_on_their_neighbours(
    client: openai.OpenAI,
) -> None:
    texts = ["Where is my parcel?", "When does the package arrive?", "I like tomatoes."]
    answer = client.embeddings.create(model="minilm-l6-v2", input=texts)
    vectors = np.array([item.embedding for item in answer.data])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.2 + vectors[0] @ vectors[2]
    alone = client.embeddings.create(model="minilm-l6-v2", input=texts[0], encoding_format="float")
    assert alone.data[0].embedding == pytest.approx(vectors[0].tolist())
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=BASE, input="x")


def test_the_judge_answers_in_json_through_the_chat_protocol(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="reference-judge",
        messages=messages(prompt(VAGUE, GOOD)),
        response_format={"type": "json_object"},
    )
    verdict = json.loads(answer.choices[0].message.content or "")
    assert verdict["winner"] == "B"


def test_many_at_once_are_answered(client: openai.OpenAI) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda i: ask(client, f"Say {i}", tokens=4), range(24)))
    assert all(answer.choices[0].message.content for answer in answers)
