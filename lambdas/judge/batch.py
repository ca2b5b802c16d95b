"""A batch of test tickets -> answers of every arm, judged, in `judge/…/batch-NNN.jsonl`.

A champion that its provider has shut down is judged by its golden answers, where some were recorded
in time (dropforge/golden.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from secrets import token_hex
from typing import Any, NamedTuple

from dropforge.artifacts import batch_name, dataset_key, evaluation_key, golden_key
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.chat import ChatExample, chat_messages, decode_examples, encode_lines
from dropforge.errors import AsleepError, BackendError, JudgeError
from dropforge.golden import Golden, decode_golden
from dropforge.judge import Ask, Sample, choose_samples, judge_sample
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event, Result, logger, stage
from lambdas.providers import chat_model, openai_backend

MAX_VERDICT_TOKENS = 300


class Answers(NamedTuple):
    """One arm's, in the tickets' order; None where nothing is known of it.

    `recorded`: the day (ISO 8601) they were recorded on, if they were not given just now.
    """

    texts: list[str | None]
    recorded: str | None = None


@stage("judge", JudgeSettings)
def handler(edge: Edge, event: Event) -> Result:
    plan, index = event["plan"], int(event["batch"])
    key = evaluation_key(edge.run.project, plan["hash"], batch_name(index))
    if edge.store.find(key) is None:
        settings = JudgeSettings.from_environment()
        tickets = _tickets(edge, plan["dataset"], index)
        answers = _answers(edge, settings, tickets, event)
        edge.store.write(key, encode_lines(_judged(edge, settings, tickets, answers)))
    edge.note({f"judged.batch{index}": edge.config.judge.batch})
    return {"batch": index}


def _tickets(edge: Edge, dataset: str, index: int) -> list[ChatExample]:
    judging = edge.config.judge
    test = decode_examples(edge.store.read(dataset_key(edge.run.project, dataset, "test.jsonl")))
    start = index * judging.batch
    return choose_samples(test, judging.samples)[start : start + judging.batch]


def _answers(
    edge: Edge, settings: JudgeSettings, tickets: list[ChatExample], event: Event
) -> dict[str, Answers]:
    """Every arm's answers, one arm after the other; the base answers where the challenger does."""
    model, champion = event["model"], event["plan"]["champion"]
    backend = model["backend"]
    found = {
        "challenger": Answers(_asked(edge, settings, tickets, backend, model["model_id"])),
        "base": Answers(_asked(edge, settings, tickets, backend, model["base_model_id"])),
    }
    if champion:
        dataset = event["plan"]["dataset"]
        found["champion"] = _of_champion(edge, settings, tickets, champion, dataset)
    return found


def _asked(
    edge: Edge, settings: JudgeSettings, tickets: list[ChatExample], backend: str, model_id: str
) -> list[str | None]:
    """A model's answers, all tickets asked at once."""
    config, model = edge.config, chat_model(backend, settings)

    def answer(ticket: ChatExample) -> str:
        messages = chat_messages(ticket.prompt, config.system_prompt)
        return model.complete(model_id, messages, config.judge.max_answer_tokens)

    with ThreadPoolExecutor(config.judge.batch) as pool:
        return list(pool.map(answer, tickets))


def _of_champion(
    edge: Edge,
    settings: JudgeSettings,
    tickets: list[ChatExample],
    champion: dict[str, Any],
    dataset: str,
) -> Answers:
    """Its answers, or those recorded of it, where it does not answer or is not to be asked.

    Raises:
        BackendError: it fails for another reason than its end, and nothing was recorded.
        JudgeError: its recorded answers are asked for, and there are none.
    """
    golden = _golden(edge, champion["version"], dataset)
    if champion.get("recorded"):
        if golden is None and not champion["dark"]:
            raise JudgeError(
                f"No answers of {champion['version']} to these tickets were recorded.",
                hint="Run `dropforge migrate record` while it answers, then start again.",
            )
        return _recorded(golden, tickets)
    try:
        backend, model_id = champion["backend"], champion["model_id"]
        return Answers(_asked(edge, settings, tickets, backend, model_id))
    except AsleepError:
        raise
    except BackendError as error:
        if golden is None and not _is_gone(error):
            raise
        logger.warning("the champion does not answer", version=champion["version"])
        return _recorded(golden, tickets)


def _is_gone(error: BackendError) -> bool:
    """Whether the provider knows no such model (404), rather than refusing for another reason."""
    return getattr(error.__cause__, "status_code", None) == 404


def _golden(edge: Edge, version: str, dataset: str) -> Golden | None:
    """The answers recorded of a version, if they were asked for as the judge would ask now."""
    data = edge.store.find(golden_key(edge.run.project, version, dataset))
    golden = decode_golden(data) if data else None
    config = edge.config
    fits = golden and golden.fits(config.judge.max_answer_tokens, config.system_prompt)
    return golden if fits else None


def _recorded(golden: Golden | None, tickets: list[ChatExample]) -> Answers:
    if golden is None:
        return Answers([None] * len(tickets))
    return Answers([golden.answers.get(t.id) for t in tickets], golden.recording.recorded)


def _judged(
    edge: Edge, settings: JudgeSettings, tickets: list[ChatExample], answers: dict[str, Answers]
) -> list[Sample]:
    judging = edge.config.judge
    ask = _asker(openai_backend(settings.judge_base_url, settings.judge_secret_arn), judging.model)

    def one(index: int) -> Sample:
        texts = {arm: text for arm, of in answers.items() if (text := of.texts[index]) is not None}
        days = {arm: of.recorded for arm, of in answers.items() if of.recorded and arm in texts}
        return judge_sample(
            tickets[index],
            texts,
            ask,
            rubric=judging.rubric,
            nonce=token_hex(8),
            recorded=days,
        )

    with ThreadPoolExecutor(judging.batch) as pool:
        return list(pool.map(one, range(len(tickets))))


def _asker(judge: OpenAIBackend, model: str) -> Ask:
    return lambda messages: judge.complete(model, messages, MAX_VERDICT_TOKENS)
