"""A batch of test tickets -> answers of every arm, judged, in `judge/…/batch-NNN.jsonl`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any

from dropforge.artifacts import batch_name, dataset_key, evaluation_key
from dropforge.backends import ChatModel
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.chat import ChatExample, chat_messages, decode_examples, encode_lines
from dropforge.judge import Ask, choose_samples, judge_sample
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event, Result, stage
from lambdas.providers import chat_model, openai_backend

MAX_VERDICT_TOKENS = 300


@stage("judge", JudgeSettings)
def handler(edge: Edge, event: Event) -> Result:
    plan, index = event["plan"], int(event["batch"])
    key = evaluation_key(edge.run.project, plan["hash"], batch_name(index))
    if edge.store.find(key) is None:
        settings = JudgeSettings.from_environment()
        tickets = _tickets(edge, plan["dataset"], index)
        answers = _answers(edge, settings, tickets, {**_arms(event["model"], plan["champion"])})
        edge.store.write(key, encode_lines(_judged(edge, settings, tickets, answers)))
    edge.note({f"judged.batch{index}": edge.config.judge.batch})
    return {"batch": index}


def _tickets(edge: Edge, dataset: str, index: int) -> list[ChatExample]:
    judging = edge.config.judge
    test = decode_examples(edge.store.read(dataset_key(edge.run.project, dataset, "test.jsonl")))
    start = index * judging.batch
    return choose_samples(test, judging.samples)[start : start + judging.batch]


def _arms(model: dict[str, Any], champion: dict[str, Any] | None) -> dict[str, tuple[str, str]]:
    """(backend, model id) of every arm; the base answers where the challenger does."""
    arms = {
        "challenger": (model["backend"], model["model_id"]),
        "base": (model["backend"], model["base_model_id"]),
    }
    if champion:
        arms["champion"] = (champion["backend"], champion["model_id"])
    return arms


def _answers(
    edge: Edge,
    settings: JudgeSettings,
    tickets: list[ChatExample],
    arms: dict[str, tuple[str, str]],
) -> dict[str, list[str]]:
    """Every arm's answers, in the tickets' order; one arm after the other, its tickets at once."""
    config = edge.config

    def answer(model: ChatModel, model_id: str, ticket: ChatExample) -> str:
        messages = chat_messages(ticket.prompt, config.system_prompt)
        return model.complete(model_id, messages, config.judge.max_answer_tokens)

    found = {}
    with ThreadPoolExecutor(config.judge.batch) as pool:
        for arm, (backend, model_id) in arms.items():
            model = chat_model(backend, settings)
            found[arm] = list(pool.map(lambda t, m=model, i=model_id: answer(m, i, t), tickets))
    return found


def _judged(
    edge: Edge,
    settings: JudgeSettings,
    tickets: list[ChatExample],
    answers: dict[str, list[str]],
) -> list[object]:
    judging = edge.config.judge
    judge = openai_backend(settings.judge_base_url, settings.judge_secret_arn)
    ask = _asker(judge, judging.model)

    def one(index: int) -> object:
        texts = {arm: listed[index] for arm, listed in answers.items()}
        return judge_sample(tickets[index], texts, ask, rubric=judging.rubric, nonce=token_hex(8))

    with ThreadPoolExecutor(judging.batch) as pool:
        return list(pool.map(one, range(len(tickets))))


def _asker(judge: OpenAIBackend, model: str) -> Ask:
    return lambda messages: judge.complete(model, messages, MAX_VERDICT_TOKENS)
