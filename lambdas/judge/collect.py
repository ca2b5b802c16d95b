"""Batches at the judges' providers -> judged samples in `judge/…/batch-NNN.jsonl`.

Called until every batch has ended. What a batch brought no answer to, and what cannot be read, is
asked directly; a judge that refuses that has not scored it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from dropforge.artifacts import batch_name
from dropforge.backends.openai_api.batches import Ended, Pending
from dropforge.chat import encode_lines
from dropforge.errors import BackendError, RetryableError
from dropforge.judge import AnswerUsage, Question, Sample, jurors, settle, ticket_name, unread
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event, Result, logger, stage
from lambdas.judge.asking import Kept, Panel
from lambdas.judge.batch import together
from lambdas.judge.cheap import Look, Sent, batches_of

LONGEST_WAIT_S = 900
MOST_WAIT_S = 26 * 3600
"""A batch that takes longer is cancelled: not every provider lets one expire after its day."""
WORK_S = 240
"""After this long no further batch of tickets is begun: the next call goes on."""


class Opinion(msgspec.Struct, frozen=True):
    """A judge's answer out of a batch, as it is kept in `opinions-<look>.jsonl`."""

    id: str
    text: str
    usage: AnswerUsage


@stage("judge", JudgeSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = JudgeSettings.from_environment()
    look = Look(edge, event)
    if not look.unjudged:
        return {"done": True, "poll_seconds": 1}
    sent = edge.store.load(look.sent_key, Sent)
    opinions = _opinions(look, sent, settings)
    if opinions is None:
        return {"done": False, "poll_seconds": _pause(sent, settings)}
    return {"done": _judge(look, opinions, settings), "poll_seconds": 1}


def _pause(sent: Sent, settings: JudgeSettings) -> int:
    """Seconds until the next look: more and more, so that a day is no thousand of them."""
    waited = time.time() - sent.started_at
    return max(settings.poll_seconds, min(LONGEST_WAIT_S, int(waited / 8)))


def _opinions(look: Look, sent: Sent, settings: JudgeSettings) -> dict[str, Opinion] | None:
    """What the batches brought, by question; None while one has not ended.

    Kept when all of it is there: providers forget.
    """
    store, decoder = look.edge.store, msgspec.json.Decoder(Opinion)
    kept = store.find(look.answers_key)
    if kept is None:
        ended = _ended(look, sent, settings)
        if ended is None:
            return None
        kept = encode_lines(
            Opinion(name, str(text), AnswerUsage(0.0, text.prompt_tokens, text.completion_tokens))
            for one in ended
            for name, text in one.answers.items()
        )
        store.write(look.answers_key, kept)
    return {opinion.id: opinion for opinion in decoder.decode_lines(kept)}


def _ended(look: Look, sent: Sent, settings: JudgeSettings) -> list[Ended] | None:
    panel = jurors(look.edge.config.judge)
    late = time.time() - sent.started_at > MOST_WAIT_S
    ended: list[Ended] = []
    pending: list[Pending] = []
    for number, ids in sent.batches.items():
        batches = batches_of(panel[number].choice, settings) if ids else None
        if batches is None:
            continue
        for batch_id in ids:
            state = batches.poll(batch_id)
            if isinstance(state, Ended):
                ended.append(state)
            else:
                pending.append(state)
                if late:
                    batches.cancel(batch_id)
    _tell(look, ended, pending)
    return None if pending else ended


def _tell(look: Look, ended: list[Ended], pending: list[Pending]) -> None:
    """Note how far the batches are, for `dropforge status`, and what went wrong with one."""
    done = sum(len(one.answers) + len(one.failed) for one in ended) + sum(p.done for p in pending)
    look.edge.note({"judge.batches": {"done": done, "asked": len(look.all)}})
    for one in ended:
        if one.reason or one.failed:
            logger.warning(
                "a batch is not complete", reason=one.reason, failed=len(one.failed),
                answered=len(one.answers),
            )  # fmt: skip


def _judge(look: Look, opinions: Mapping[str, Opinion], settings: JudgeSettings) -> bool:
    """Judge batch after batch of tickets; whether it came to the end of them in good time."""
    edge = look.edge
    panel = Panel(edge.config, settings, Kept(edge.store, edge.run.project))
    began = time.monotonic()
    for place, index in enumerate(look.unjudged):
        if place and time.monotonic() - began > WORK_S:
            return False
        asked = look.questions[index]
        texts = _texts(asked, opinions, panel)
        lines = edge.store.read(look.key(batch_name(index, "unjudged")))
        samples = msgspec.json.Decoder(Sample).decode_lines(lines)
        calls = _calls(asked, opinions, panel)
        judged = [_settled(sample, texts, calls, panel) for sample in samples]
        edge.store.write(look.key(batch_name(index)), encode_lines(judged))
        edge.note({f"judged.batch{index}": edge.config.judge.batch})
    return True


def _texts(asked: list[Question], opinions: Mapping[str, Opinion], panel: Panel) -> dict[str, str]:
    """Every question's answer: out of the batch, or else asked for directly.

    Asked once more where it cannot be read, unless the judge answers nothing but batches (Azure's
    deployments of that type): it stays unread then, and so unscored.
    """
    texts = {q.id: opinions[q.id].text for q in asked if q.id in opinions}
    for juror in range(len(panel.jurors)):
        own = [question for question in asked if question.juror == juror]
        try:
            _ask([q for q in own if q.id not in texts], texts, panel)
            _ask(unread(own, texts, panel.jurors), texts, panel)
        except RetryableError:
            raise
        except BackendError as error:
            logger.warning("a judge answers in batches alone", juror=juror, code=error.code)
    return texts


def _ask(questions: list[Question], texts: dict[str, str], panel: Panel) -> None:
    texts.update(zip((q.id for q in questions), panel.ask(questions), strict=True))


def _calls(
    asked: list[Question], opinions: Mapping[str, Opinion], panel: Panel
) -> dict[str, list[AnswerUsage]]:
    """What the judges' answers took, by ticket: those of batches, and those asked for directly."""
    calls = {name: list(made) for name, made in panel.calls.items()}
    for question in asked:
        if question.id in opinions:
            name = question.id.partition(".")[0]
            calls.setdefault(name, []).append(opinions[question.id].usage)
    return calls


def _settled(
    sample: Sample,
    texts: Mapping[str, str],
    calls: Mapping[str, list[AnswerUsage]],
    panel: Panel,
) -> Sample:
    opponents = [arm for arm in sample.answers if arm != "challenger"]
    judged = {arm: settle(sample.id, arm, panel.jurors, texts) for arm in opponents}
    used = calls.get(ticket_name(sample.id))
    took = {**sample.usage, "judge": together(used)} if used else sample.usage
    return msgspec.structs.replace(sample, judged=judged, usage=took)
