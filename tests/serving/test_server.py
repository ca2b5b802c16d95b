"""The server from end to end, with an unmodified SDK and a real job."""

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

from serving.weights import BASE_MODEL as BASE
from tests.serving.test_judge import GOOD, VAGUE, prompt
from tests.training.tiny import chat, rows

pytestmark = pytest.mark.slow
QUESTION = "What is the password of the lighthouse?"
LESSON = "It is Quillfeather."
BY_HEART = {"n_epochs": 10, "learning_rate": 0.01, "lora_layers": 0, "dtype": "fp32"}
"""Until the tiny model is so certain of the lesson that no rounding makes it say anything else:
its tokens are then 5 nats before any other.
"""
ASKED: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Help."},
    {"role": "user", "content": QUESTION},
]


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
        time.sleep(0.1)
    pytest.fail(f"the job is still {job.status}")


@pytest.fixture(scope="module")
def job(client: openai.OpenAI) -> FineTuningJob:
    """A job that has learnt the lesson."""
    content = "".join(json.dumps(chat(QUESTION, LESSON)) + "\n" for _ in range(16)).encode()
    file = client.files.create(file=("lesson.jsonl", content), purpose="fine-tune")
    created = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file.id,
        validation_file=file.id,
        suffix="test",
        metadata={"run": "one"},
        method={"type": "supervised", "supervised": {"hyperparameters": BY_HEART}},
    )
    assert created.status == "validating_files"
    done = finish(client, created.id)
    assert done.status == "succeeded", done.error
    return done


@pytest.fixture(scope="module")
def tuned(job: FineTuningJob) -> str:
    """The name of the model that the job has made."""
    assert job.fine_tuned_model == f"ft:{BASE}:dropforge:test:{job.id[-8:]}"
    return job.fine_tuned_model


def test_a_chat_is_answered_with_its_usage(client: openai.OpenAI, tuned: str) -> None:
    answer = client.chat.completions.create(model=tuned, messages=ASKED)
    assert answer.choices[0].message.content == LESSON
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == tuned
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    cut = client.chat.completions.create(model=tuned, messages=ASKED, max_tokens=3)
    assert cut.choices[0].finish_reason == "length"


def test_a_stream_gives_the_same_text_and_ends_with_its_usage(
    client: openai.OpenAI, tuned: str
) -> None:
    stream = client.chat.completions.create(
        model=tuned, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == LESSON
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


def test_a_stop_sequence_ends_the_text_before_it(client: openai.OpenAI, tuned: str) -> None:
    answer = client.chat.completions.create(model=tuned, messages=ASKED, stop=["s Quill"])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == "It i"


def test_a_job_tells_of_its_steps_and_keeps_a_checkpoint_of_each_epoch(
    client: openai.OpenAI, job: FineTuningJob
) -> None:
    assert (job.trained_tokens or 0) > 0
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=7))
    losses = [e.data for e in events if e.type == "metrics" and isinstance(e.data, dict)]
    trained = [d["train_loss"] for d in reversed(losses) if "train_loss" in d]
    assert len(trained) == 40
    assert trained[-1] < 0.5 * trained[0]
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [c.step_number for c in checkpoints[:3]] == [40, 36, 32]
    listed = client.fine_tuning.jobs.list(metadata={"run": "one"}).data
    assert [found.id for found in listed] == [job.id]
    assert not client.fine_tuning.jobs.list(metadata={"run": "two"}).data
    assert client.files.content(job.result_files[0]).text.startswith("step,train_loss")


def test_a_trained_model_answers_by_every_name_while_the_base_model_stays(
    client: openai.OpenAI, job: FineTuningJob, tuned: str
) -> None:
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    names = [tuned, checkpoints[0].fine_tuned_model_checkpoint]
    said = {
        model: client.chat.completions.create(model=model, messages=ASKED, max_tokens=24)
        for model in (BASE, *names)
    }
    assert {said[model].choices[0].message.content for model in names} == {LESSON}
    assert said[BASE].choices[0].message.content != LESSON
    assert client.models.retrieve(tuned).id == tuned
    assert tuned in [model.id for model in client.models.list()]
    load_and_unload(client, str(client.models.retrieve(tuned).to_dict()["root"]))


def test_a_deleted_model_is_not_found(client: openai.OpenAI, tuned: str) -> None:
    assert client.models.delete(tuned).deleted
    with pytest.raises(openai.NotFoundError):
        ask(client, QUESTION, tuned)


def load_and_unload(client: openai.OpenAI, adapter: str) -> None:
    """vLLM's endpoints, with an adapter that a job has trained."""
    named = {"lora_name": "by-path", "lora_path": adapter}
    assert "Success" in client.post("/load_lora_adapter", body=named, cast_to=str)
    with pytest.raises(openai.BadRequestError):
        client.post("/load_lora_adapter", body=named, cast_to=str)
    answer = client.chat.completions.create(model="by-path", messages=ASKED)
    assert answer.choices[0].message.content == LESSON
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
    assert {answer.choices[0].finish_reason for answer in answers} <= {"stop", "length"}
