"""What a panel of judges is asked about a pair of answers, and what its opinions mean together.

Every judge sees every pair in both orders. One that changes its mind with the order has not
decided: a tie. An answer of a judge that cannot be read is asked for once more, then that judge has
not scored the pair: counted, reported, and never a win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from dropforge.artifacts import digest
from dropforge.chat import ChatExample
from dropforge.judge.samples import Judged, JudgedBy, Outcome
from dropforge.judges import Template, template
from dropforge.judges.opinion import Opinion
from dropforge.project.judging import JudgeChoice, Judging
from dropforge.text import normalise

TURNS = 6
"""How many of a conversation's last turns a judge sees."""

Messages = list[dict[str, str]]
Order = Literal["first", "second"]
"""Where the challenger's answer stands: first is A."""


class Question(msgspec.Struct, frozen=True):
    """One prompt to one judge.

    Attributes:
        id: unique within an evaluation.
        juror: the judge's place in the panel.
    """

    id: str
    juror: int
    messages: Messages


AskAll = Callable[[Sequence[Question]], Sequence[str]]
"""Puts questions to their judges, all at once, and returns the answers' texts in their order."""


class Juror(NamedTuple):
    """One judge of the panel, with the version that its opinions are kept under."""

    version: str
    choice: JudgeChoice
    template: Template


class Pair(NamedTuple):
    """A ticket with the challenger's answer and one opponent's.

    `nonce` stands in the marks around every text of its prompts; no answer may know it.
    """

    example: ChatExample
    arm: str
    challenger: str
    opponent: str
    nonce: str


def judge_version(choice: JudgeChoice, rubric: str) -> str:
    """What stands for a judge where its opinions are compared: `<model>/<template>/<8 hex>`.

    The digits are taken over prompt, parser, configuration and rubric: another of these is another
    judge.
    """
    own = digest("judge version", choice.provider, template(choice.template).digest, rubric)
    return f"{choice.model}/{choice.template}/{own[:8]}"


def jurors(judging: Judging) -> tuple[Juror, ...]:
    """The project's panel."""
    return tuple(
        Juror(judge_version(choice, judging.rubric), choice, template(choice.template))
        for choice in judging.jurors
    )


def judge_prompt(
    example: ChatExample, answer_a: str, answer_b: str, *, asked: Template, rubric: str, nonce: str
) -> Messages:
    """The chat messages that ask a judge about one ordered pair.

    The marks carry a nonce that no answer can know (`nonce_of`), so no answer can close its own.
    """

    def fenced(name: str, text: str) -> str:
        return f'<{name} nonce="{nonce}">\n{text}\n</{name} nonce="{nonce}">'

    conversation = "\n".join(f"{m.role}: {m.content}" for m in example.prompt[-TURNS:])
    ask = "\n\n".join(
        [
            rubric,
            fenced("question", normalise(conversation)),
            fenced("reference", normalise(example.reference)),
            fenced("answer_a", normalise(answer_a)),
            fenced("answer_b", normalise(answer_b)),
            asked.ask,
        ]
    )
    return [{"role": "system", "content": asked.system}, {"role": "user", "content": ask}]


def nonce_of(evaluation: str, ticket: str, arm: str) -> str:
    """The nonce of a pair: 16 hex digits, the same whenever the evaluation is run again.

    The evaluation's hash is taken over the trained version and its dataset, so it is there only
    after the model was trained: no answer can know it, nor what follows from it.
    """
    return digest("nonce", evaluation, ticket, arm)[:16]


def questions(pair: Pair, panel: Sequence[Juror], rubric: str) -> list[Question]:
    """All that a panel is asked about a pair: both orders for every judge, in `settle`'s order."""
    return [
        Question(
            _id(pair.example.id, pair.arm, number, order),
            number,
            judge_prompt(
                pair.example,
                *_ordered(pair, order),
                asked=juror.template,
                rubric=rubric,
                nonce=pair.nonce,
            ),
        )
        for number, juror in enumerate(panel)
        for order in _ORDERS
    ]


_ORDERS: tuple[Order, Order] = ("first", "second")


def ticket_name(ticket: str) -> str:
    """What the ids of all questions about a ticket begin with, before the first dot."""
    return digest(ticket)[:32]


def _id(ticket: str, arm: str, juror: int, order: Order) -> str:
    return f"{ticket_name(ticket)}.{arm}.{juror}.{order}"


def _ordered(pair: Pair, order: Order) -> tuple[str, str]:
    if order == "first":
        return pair.challenger, pair.opponent
    return pair.opponent, pair.challenger


def judge_pairs(pairs: Sequence[Pair], ask: AskAll, judging: Judging) -> list[Judged]:
    """Judge pairs, in their order.

    Args:
        ask: called with all questions, and once more with those whose answers cannot be read.
    """
    panel = jurors(judging)
    asked = [question for pair in pairs for question in questions(pair, panel, judging.rubric)]
    texts = dict(zip((q.id for q in asked), ask(asked), strict=True)) if asked else {}
    again = unread(asked, texts, panel)
    if again:
        texts.update(zip((q.id for q in again), ask(again), strict=True))
    return [settle(pair.example.id, pair.arm, panel, texts) for pair in pairs]


def unread(
    asked: Sequence[Question], texts: Mapping[str, str], panel: Sequence[Juror]
) -> list[Question]:
    """The questions whose answers cannot be read, or are missing: to be asked once more."""
    return [q for q in asked if panel[q.juror].template.parse(texts.get(q.id, "")) is None]


def settle(ticket: str, arm: str, panel: Sequence[Juror], texts: Mapping[str, str]) -> Judged:
    """What the panel's answers, by the id of their question, mean for a ticket and an opponent.

    A pair is scored where more than half of the judges scored it; its score is their mean.
    """
    by = tuple(_judged_by(ticket, arm, number, texts, juror) for number, juror in enumerate(panel))
    scored = [one for one in by if one.outcome is not Outcome.UNSCORED]
    if 2 * len(scored) <= len(panel):
        return Judged(Outcome.UNSCORED, by=by)
    score = sum(SCORES[one.outcome] for one in scored) / len(scored)
    outcome = Outcome.WIN if score > 0.5 else Outcome.LOSS if score < 0.5 else Outcome.TIE
    said = next((one for one in scored if one.outcome is outcome), scored[0])
    return Judged(
        outcome,
        flipped=2 * sum(one.flipped for one in scored) > len(scored),
        confidence=sum(one.confidence for one in scored) / len(scored),
        rationale=said.rationale,
        score=score,
        by=by,
    )


SCORES = {Outcome.WIN: 1.0, Outcome.TIE: 0.5, Outcome.LOSS: 0.0}


def _judged_by(
    ticket: str, arm: str, number: int, texts: Mapping[str, str], juror: Juror
) -> JudgedBy:
    parse = juror.template.parse
    first, second = (parse(texts.get(_id(ticket, arm, number, order), "")) for order in _ORDERS)
    if first is None or second is None:
        return JudgedBy(juror.version, Outcome.UNSCORED)
    outcomes = (_seen_from("A", first), _seen_from("B", second))
    agreed = outcomes[0] == outcomes[1]
    return JudgedBy(
        juror.version,
        outcomes[0] if agreed else Outcome.TIE,
        flipped=not agreed and Outcome.TIE not in outcomes,
        confidence=(first.confidence + second.confidence) / 2,
        rationale=first.rationale,
        first=sum(opinion.winner == "A" for opinion in (first, second)),
    )


def _seen_from(side: Literal["A", "B"], opinion: Opinion) -> Outcome:
    if opinion.winner == "tie":
        return Outcome.TIE
    return Outcome.WIN if opinion.winner == side else Outcome.LOSS
