"""A look's questions -> batches at the judges' providers: half the price, and up to a day.

Each judge of the panel has batches of its own. One whose provider, or whose server, has no batch
API is asked directly, by collect.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from dropforge.backends.openai_api.batches import Request
from dropforge.judge import Juror, Question, jurors
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event, Result, stage
from lambdas.judge.cheap import Look, Sent, batches_of


@stage("judge", JudgeSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = JudgeSettings.from_environment()
    look = Look(edge, event)
    waits = any(_sent(look, settings).batches.values()) if look.unjudged else False
    return {"done": False, "poll_seconds": settings.poll_seconds if waits else 1}


def _sent(look: Look, settings: JudgeSettings) -> Sent:
    """All batches of the look, created unless they were before."""
    store = look.edge.store
    known = store.find_manifest(look.sent_key, Sent)
    sent = known or Sent(time.time())
    if known is None:
        store.save(look.sent_key, sent)
    for number, juror in enumerate(jurors(look.edge.config.judge)):
        if number not in sent.batches:
            ids = _send(look, number, juror, settings, again=known is not None)
            created = time.time() if ids else sent.started_at
            sent = Sent(created, {**sent.batches, number: ids})
            store.save(look.sent_key, sent)
    return sent


def _send(
    look: Look, number: int, juror: Juror, settings: JudgeSettings, *, again: bool
) -> tuple[str, ...]:
    asked = [question for question in look.all if question.juror == number]
    batches = batches_of(juror.choice, settings)
    if not asked or batches is None or not batches.offered():
        return ()
    return batches.submit(look.order_name(number), _requests(asked, juror), again=again)


def _requests(asked: Sequence[Question], juror: Juror) -> Iterator[Request]:
    """The same request as a judge gets that is asked directly."""
    for question in asked:
        body = {
            "model": juror.choice.model,
            "messages": question.messages,
            "max_tokens": juror.template.max_tokens,
            "temperature": 0,
        }
        yield question.id, body
