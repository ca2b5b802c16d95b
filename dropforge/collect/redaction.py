"""An answer as it came -> the answer as it is kept: by its project's own rules of cleaning."""

from __future__ import annotations

from itertools import count

from dropforge.artifacts import digest
from dropforge.clean.prepare import Candidate, Preparer, Rules
from dropforge.collect import KEEP_DAYS, Kept, words
from dropforge.export import Conversation
from dropforge.export.rows import Turn
from dropforge.project import ProjectConfig
from dropforge.serve.collecting import Answered
from dropforge.validate.split import split_of


def redacted(answered: Answered, config: ProjectConfig) -> Kept | None:
    """The answer as it is kept; None where cleaning would reject the row.

    It is normalised, stripped of boilerplate and redacted as a row of an export is, with Presidio
    where the project asks for it. Cleaning the export later changes nothing more.

    Raises:
        ProjectError: the project asks for Presidio, which is not installed.
    """
    turns = tuple(Turn(turn.role, turn.content) for turn in answered.turns)
    row = Conversation(1, (*turns, Turn("assistant", answered.answer)))
    (prepared,) = Preparer(Rules.of(config))([row])
    if not isinstance(prepared, Candidate):
        return None
    return Kept(
        id=answered.id,
        at=answered.at,
        user=answered.user,
        conversation=answered.conversation,
        customer=customer_of(answered.user or answered.conversation),
        messages=prepared.example.messages,
        wrote=tuple(words(turn.content) for turn in answered.turns if turn.role == "assistant"),
        said=words(answered.answer),
        expires_at=int(answered.at) + KEEP_DAYS * 86400,
    )


def customer_of(subject: str) -> str:
    """A pseudonym of the subject whose rows all fall into the training split.

    What a model wrote is no reference to judge models by. Cleaning makes a group of the pseudonym,
    and the split is drawn by the group, so a number behind it decides; one in 1.25 fits.
    """
    for number in count():
        name = f"{subject}-{number}"
        if split_of(digest("customer", name.casefold())[:16]) == "train":
            return name
    raise AssertionError
