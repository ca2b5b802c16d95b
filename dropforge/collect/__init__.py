"""Collect: answers that the champion gave, and how they were rated -> an export to train on.

Each answer is kept once, redacted (`redaction.py`), in the registry. From those and the ratings the
monthly tick writes one export per project, `exports/<project>/collected/answers.jsonl`; it takes
the place of the one before, so that what was forgotten or is too old is in no later dataset.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from dropforge.artifacts import digest
from dropforge.chat import Message, encode_lines
from dropforge.text import same_text

KEEP_DAYS = 365
"""How long an answer is kept after it was given, and so how long models are trained on it."""
MOST_BYTES = 128 << 20
"""The largest export, uncompressed: beyond that its oldest answers are left out."""


class Kept(msgspec.Struct, frozen=True):
    """An answer with what was said before it. Personal data and secrets are taken out.

    Attributes:
        id: the answer's, as its caller knows it.
        at: when it was asked for, in seconds since the epoch.
        user: the user's pseudonym; "" where none is known.
        conversation: the conversation's pseudonym.
        customer: stands for the two in exports: see `redaction.customer_of`.
        wrote: the model's own earlier answers in `messages`, in order, each as a digest.
        said: this answer as such a digest.
        expires_at: when it is forgotten, in seconds since the epoch.
    """

    id: str
    at: float
    user: str
    conversation: str
    customer: str
    messages: tuple[Message, ...]
    wrote: tuple[str, ...]
    said: str
    expires_at: int


STORED = Kept.__struct_fields__
"""The attributes of an answer's registry item, beside its keys."""


def words(text: str) -> str:
    """A digest of an answer's words (32 hex digits), whatever its case and white space."""
    return digest("answer/1", same_text(text))[:32]


def chosen(
    kept: Iterable[Kept],
    ratings: Mapping[str, int],
    *,
    unrated: bool,
    now: float,
    golden: Collection[str] = (),
) -> list[Kept]:
    """The answers to train on, the oldest first; their order is that of nothing else.

    An answer is chosen if it was rated well, or by nobody where `unrated` is set. What the model
    said earlier in its conversation has to be answers that were kept, too, and none of them rated
    badly: a caller can put anything into its mouth, a challenger's words among them. An answer
    whose conversation goes on in another chosen one is in there already.

    Args:
        ratings: 1 or -1, by an answer's id.
        now: answers that expired by then are no more.
        golden: texts of the questions that models are examined by, as `same_text` makes them.
    """
    alive = sorted((a for a in kept if a.expires_at > now), key=lambda a: (a.at, a.id))
    disliked = {a.said for a in alive if ratings.get(a.id, 0) < 0}
    ours = {a.said for a in alive} - disliked
    good = [
        a
        for a in alive
        if (ratings.get(a.id, 0) > 0 or (unrated and not ratings.get(a.id)))
        and a.said in ours
        and ours.issuperset(a.wrote)
        and not any(same_text(m.content) in golden for m in a.messages if m.role == "user")
    ]
    longer = {(a.conversation, a.wrote[:end]) for a in good for end in range(1, len(a.wrote) + 1)}
    return [a for a in good if (a.conversation, (*a.wrote, a.said)) not in longer]


def encode_export(answers: Iterable[Kept]) -> bytes:
    """JSONL that the readers of exports know (OpenAI chat); the same answers give the same bytes.

    The newest that fit MOST_BYTES, the oldest first.
    """
    lines: list[bytes] = []
    size = 0
    for answer in reversed(list(answers)):
        line = encode_lines([_row(answer)])
        size += len(line)
        if size > MOST_BYTES:
            break
        lines.append(line)
    return b"".join(reversed(lines))


def _row(answer: Kept) -> dict[str, Any]:
    return {
        "conversation_id": answer.conversation,
        "customer_id": answer.customer,
        "messages": answer.messages,
        "answer_id": answer.id,
    }
