"""A batch of test tickets -> answers of every arm, judged, in `judge/…/batch-NNN.jsonl`.

Batches below 0 are the golden questions: answered by every arm, checked without a judge. A champion
that its provider has shut down is judged by its recorded answers, where some were recorded in time
(dropforge/recorded.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dropforge.artifacts import (
    batch_name,
    dataset_key,
    evaluation_key,
    golden_snapshot_key,
    recorded_key,
)
from dropforge.chat import ChatExample, Message, chat_messages, decode_examples, encode_lines
from dropforge.errors import AsleepError, BackendError, JudgeError, RetryableError
from dropforge.golden import decode_golden, encode_results, graded
from dropforge.judge import (
    AnswerUsage,
    Judged,
    Pair,
    Sample,
    choose_samples,
    cosine,
    judge_pairs,
    make_sample,
    nonce_of,
    ticket_name,
)
from dropforge.recorded import RecordedAnswers, decode_recorded
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event, Result, logger, stage
from lambdas.judge.asking import Kept, Panel, answers
from lambdas.judge.plan import golden_name, golden_part
from lambdas.providers import openai_backend


class Answers(NamedTuple):
    """One arm's, in the tickets' order; None where nothing is known of it.

    `recorded`: the day (ISO 8601) they were recorded on, if they were not given just now.
    """

    texts: Sequence[str | None]
    usage: Sequence[AnswerUsage | None] = ()
    recorded: str | None = None


class Batch:
    """One task: a part of an evaluation's tickets, and who answers them."""

    def __init__(self, edge: Edge, event: Event) -> None:
        self.edge = edge
        self.settings = JudgeSettings.from_environment()
        self.plan, self.model, self.index = event["plan"], event["model"], int(event["batch"])

    def key(self, name: str) -> str:
        return evaluation_key(self.edge.run.project, self.plan["hash"], name)

    def ask(
        self, model: Mapping[str, Any], prompts: Sequence[Sequence[Message]], *, base: bool = False
    ) -> Answers:
        """A model's answers to prompts, as the project asks it.

        Args:
            base: whether its base model is asked instead.
        """
        config, project = self.edge.config, self.edge.run.project
        found = answers(
            config,
            self.settings,
            self.edge.store,
            project,
            model["backend"],
            model["base_model_id" if base else "model_id"],
            [chat_messages(prompt, config.system_prompt) for prompt in prompts],
            base_model=model["base_model"],
        )
        return Answers([one.text for one in found], [one.usage for one in found])


@stage("judge", JudgeSettings)
def handler(edge: Edge, event: Event) -> Result:
    batch = Batch(edge, event)
    if batch.index < 0:
        _golden(batch)
    elif edge.store.find(batch.key(batch_name(batch.index))) is None:
        _judge(batch)
        edge.note({f"judged.batch{batch.index}": edge.config.judge.batch})
    return {"batch": batch.index}


def _judge(batch: Batch) -> None:
    edge, judging = batch.edge, batch.edge.config.judge
    tickets = _tickets(batch)
    arms = _arms(batch, [ticket.prompt for ticket in tickets], tickets)
    meant = _similarities(batch, tickets, arms)
    pairs = _pairs(batch, tickets, arms)
    panel = Panel(edge.config, batch.settings, Kept(edge.store, edge.run.project))
    judged = dict(zip(map(_at, pairs), judge_pairs(pairs, panel.ask, judging), strict=True))
    samples = _samples(batch, tickets, arms, meant, judged, panel.calls)
    edge.store.write(batch.key(batch_name(batch.index)), encode_lines(samples))


def _tickets(batch: Batch) -> list[ChatExample]:
    edge, judging = batch.edge, batch.edge.config.judge
    key = dataset_key(edge.run.project, batch.plan["dataset"], "test.jsonl")
    start = batch.index * judging.batch
    chosen = choose_samples(decode_examples(edge.store.read(key)), judging.samples)
    return chosen[start : start + judging.batch]


def _arms(
    batch: Batch, prompts: Sequence[Sequence[Message]], tickets: Sequence[ChatExample] | None
) -> dict[str, Answers]:
    """Every arm's answers, one arm after the other; the base answers where the challenger does.

    Args:
        tickets: those whose answers may have been recorded; None where none can have been.
    """
    model, champion = batch.model, batch.plan["champion"]
    found = {
        "challenger": batch.ask(model, prompts),
        "base": batch.ask(model, prompts, base=True),
    }
    if champion and tickets is not None:
        found["champion"] = _of_champion(batch, champion, prompts, tickets)
    elif champion and not champion.get("recorded"):
        try:
            found["champion"] = batch.ask(champion, prompts)
        except BackendError as error:
            if not _is_gone(error):
                raise
            logger.warning("the champion does not answer", version=champion["version"])
    return found


def _of_champion(
    batch: Batch,
    champion: dict[str, Any],
    prompts: Sequence[Sequence[Message]],
    tickets: Sequence[ChatExample],
) -> Answers:
    """Its answers, or those recorded of it, where it does not answer or is not to be asked.

    Raises:
        BackendError: it fails for another reason than its end, and nothing was recorded.
        JudgeError: its recorded answers are asked for, and there are none.
    """
    kept = _kept(batch, champion["version"])
    if champion.get("recorded"):
        if kept is None and not champion["dark"]:
            raise JudgeError(
                f"No answers of {champion['version']} to these tickets were recorded.",
                hint="Run `dropforge migrate record` while it answers, then start again.",
            )
        return _recorded(kept, tickets)
    try:
        return batch.ask(champion, prompts)
    except AsleepError:
        raise
    except BackendError as error:
        if kept is None and not _is_gone(error):
            raise
        logger.warning("the champion does not answer", version=champion["version"])
        return _recorded(kept, tickets)


def _is_gone(error: BackendError) -> bool:
    """Whether the provider knows no such model (404), rather than refusing for another reason."""
    return getattr(error.__cause__, "status_code", None) == 404


def _kept(batch: Batch, version: str) -> RecordedAnswers | None:
    """The answers recorded of a version, if they were asked for as the judge would ask now."""
    edge, config = batch.edge, batch.edge.config
    data = edge.store.find(recorded_key(edge.run.project, version, batch.plan["dataset"]))
    kept = decode_recorded(data) if data else None
    fits = kept and kept.fits(config.judge.max_answer_tokens, config.system_prompt)
    return kept if fits else None


def _recorded(kept: RecordedAnswers | None, tickets: Sequence[ChatExample]) -> Answers:
    if kept is None:
        return Answers([None] * len(tickets))
    return Answers([kept.answers.get(t.id) for t in tickets], recorded=kept.recording.recorded)


def _pairs(batch: Batch, tickets: Sequence[ChatExample], arms: Mapping[str, Answers]) -> list[Pair]:
    """The challenger's answer beside every other arm's, ticket by ticket."""
    address = batch.plan["hash"]
    return [
        Pair(
            ticket, arm, str(arms["challenger"].texts[at]), text, nonce_of(address, ticket.id, arm)
        )
        for at, ticket in enumerate(tickets)
        for arm, of in arms.items()
        if arm != "challenger" and (text := of.texts[at]) is not None
    ]


def _at(pair: Pair) -> tuple[str, str]:
    return pair.example.id, pair.arm


def _samples(
    batch: Batch,
    tickets: Sequence[ChatExample],
    arms: Mapping[str, Answers],
    meant: Sequence[Mapping[str, float]] | None,
    judged: Mapping[tuple[str, str], Judged],
    calls: Mapping[str, Sequence[AnswerUsage]],
) -> list[Sample]:
    found = []
    for at, ticket in enumerate(tickets):
        given = {arm: of for arm, of in arms.items() if of.texts[at] is not None}
        took = {arm: u for arm, of in given.items() if of.usage and (u := of.usage[at])}
        if asked := calls.get(ticket_name(ticket.id)):
            took["judge"] = together(asked)
        found.append(
            make_sample(
                ticket,
                {arm: str(of.texts[at]) for arm, of in given.items()},
                {arm: judged[ticket.id, arm] for arm in given if (ticket.id, arm) in judged},
                batch.edge.config.judge,
                recorded={arm: of.recorded for arm, of in given.items() if of.recorded},
                usage=took,
                similarity=meant[at] if meant else None,
            )
        )
    return found


def together(calls: Sequence[AnswerUsage]) -> AnswerUsage:
    """What several calls took, one after the other."""
    return AnswerUsage(
        sum(call.seconds for call in calls),
        sum(call.prompt_tokens or 0 for call in calls),
        sum(call.completion_tokens or 0 for call in calls),
    )


def _similarities(
    batch: Batch, tickets: Sequence[ChatExample], arms: Mapping[str, Answers]
) -> list[dict[str, float]] | None:
    """Each answer's likeness in meaning to the reference, where the project asks for it.

    None too where the embedding model refuses, as it does for a text that is too long for it: the
    verdict does not depend on it.
    """
    model = batch.edge.config.judge.embedding_model
    if model is None:
        return None
    texts = {text for of in arms.values() for text in of.texts if text}
    listed = sorted(texts | {ticket.reference for ticket in tickets})
    settings = batch.settings
    judge = openai_backend(settings.judge_base_url, settings.judge_secret_arn)
    try:
        vectors = dict(zip(listed, judge.embed(model, listed), strict=True))
    except RetryableError:
        raise
    except BackendError as error:
        logger.warning("no similarity", code=error.code)
        return None
    return [
        {
            arm: cosine(vectors[text], vectors[ticket.reference])
            for arm, of in arms.items()
            if (text := of.texts[at])
        }
        for at, ticket in enumerate(tickets)
    ]


def _golden(batch: Batch) -> None:
    """Ask every arm some of the golden questions."""
    edge, key = batch.edge, batch.key(golden_name(batch.index))
    if edge.store.find(key) is not None:
        return
    snapshot = golden_snapshot_key(edge.run.project, batch.plan["golden"])
    asked = decode_golden(edge.store.read(snapshot))[golden_part(batch.index)]
    arms = _arms(batch, [question.messages for question in asked], None)
    results = [
        graded(question, {arm: str(of.texts[at]) for arm, of in arms.items()})
        for at, question in enumerate(asked)
    ]
    edge.store.write(key, encode_results(results))
