"""Clean: conversations -> training examples, without personal data and without repetition.

Reads the rows of one dropped file. What is kept goes to `clean/<project>/<hash>/part.jsonl`, every
other row, with position and reason, to `rejected/<project>/<hash>.jsonl`.

A step takes a conversation and returns it changed, or says `Rejected` with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from dropforge.artifacts import digest
from dropforge.chat import ChatExample, Message
from dropforge.clean.deduplicate import Deduplicator
from dropforge.clean.redact import Redactor
from dropforge.errors import NoDataError, TooManyRejectedError
from dropforge.export import Conversation, Reason, Rejected, Row, Turn
from dropforge.text import normalise, same_text

KERNEL = "clean/1"
"""Part of every clean hash: raise it when the same file would come out differently."""

MAX_CHARS = 64_000
"""Characters a conversation may have; no context window trained here holds more."""

MAX_BROKEN = 0.2
"""Share of rows that may be unreadable before the file is taken for a wrong one."""

_UNREADABLE = (Reason.BROKEN_ROW, Reason.ENCODING, Reason.UNKNOWN_SHAPE)


class Cleaned(msgspec.Struct, frozen=True):
    """What became of every row: `read == len(examples) + len(rejected)`.

    `redacted_rows` counts rows holding each kind of personal data or secret, `repaired` the rows
    that a repair changed.
    """

    read: int
    examples: tuple[ChatExample, ...]
    rejected: tuple[Rejected, ...]
    redacted_rows: dict[str, int]
    repaired: dict[str, int]

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        return dict(sorted(Counter(row.reason.value for row in self.rejected).items()))


def clean_hash(source_sha256: str, columns: object, keep: Iterable[str]) -> str:
    """The address of what cleaning makes of a file: content, options and kernel decide it."""
    return digest(KERNEL, source_sha256, columns, sorted(keep))


def clean(rows: Iterable[Row], keep: Iterable[str] = ()) -> Cleaned:
    """Normalise, repair, redact and deduplicate every row, in order.

    Args:
        rows: what `dropforge.export.read` yields.
        keep: e-mail addresses, phone numbers and the like of the company itself, not redacted.

    Raises:
        NoDataError: no row is usable.
        TooManyRejectedError: more than a fifth of the rows cannot be read.
    """
    run = _Cleaning(tuple(keep))
    examples: list[ChatExample] = []
    rejected: list[Rejected] = []
    for row in rows:
        kept = row if isinstance(row, Rejected) else run.example(row)
        if isinstance(kept, Rejected):
            rejected.append(kept)
        else:
            examples.append(kept)
    cleaned = Cleaned(
        read=len(examples) + len(rejected),
        examples=tuple(examples),
        rejected=tuple(rejected),
        redacted_rows=dict(sorted(run.redacted.items())),
        repaired=dict(sorted(run.repaired.items())),
    )
    _check(cleaned)
    return cleaned


class _Cleaning:
    """What cleaning one file remembers from row to row."""

    def __init__(self, keep: tuple[str, ...]) -> None:
        self._keep = keep
        self._exact: dict[bytes, int] = {}
        self._near = Deduplicator()
        self.redacted: Counter[str] = Counter()
        self.repaired: Counter[str] = Counter()

    def example(self, conversation: Conversation) -> ChatExample | Rejected:
        shaped = repair_turns(_normalised(conversation))
        if isinstance(shaped, Rejected):
            return shaped
        turns, repairs = shaped
        if any("\0" in turn.text for turn in conversation.turns):
            repairs.append("NUL left out")
        redact = Redactor(conversation.names, self._keep)
        messages = tuple(Message(turn.role, redact(turn.text)) for turn in turns)
        repeated = self._repeated(messages, conversation.position)
        if repeated:
            return repeated
        self.redacted.update(kind.value for kind in redact.found)
        self.repaired.update(repairs)
        return ChatExample(
            id=digest(messages)[:16],
            group=_group(conversation, messages),
            position=conversation.position,
            messages=messages,
        )

    def _repeated(self, messages: tuple[Message, ...], position: int) -> Rejected | None:
        text = same_text("\n".join(message.content for message in messages))
        key = sha256(text.encode()).digest()
        first = self._exact.setdefault(key, position)
        if first != position:
            return Rejected(position, Reason.DUPLICATE, f"same text as row {first}")
        near = self._near.nearest(text, position)
        if near is not None:
            return Rejected(position, Reason.NEAR_DUPLICATE, f"nearly the text of row {near}")
        return None


def _normalised(conversation: Conversation) -> Conversation:
    turns = (Turn(turn.role, normalise(turn.text)) for turn in conversation.turns)
    return msgspec.structs.replace(conversation, turns=tuple(t for t in turns if t.text))


def repair_turns(conversation: Conversation) -> tuple[list[Turn], list[str]] | Rejected:
    """Turns that alternate, open with the customer and close with the agent; and what was repaired.

    Turns of one side in a row become one; a greeting before the customer's first words and
    words after the agent's last are left out.
    """

    def reject(reason: Reason, detail: str) -> Rejected:
        return Rejected(conversation.position, reason, detail)

    turns, repairs = _merged(conversation.turns), []
    if len(turns) < len(conversation.turns):
        repairs.append("turns merged")
    if turns and turns[0].role == "assistant":
        turns = turns[1:]
        repairs.append("greeting left out")
    if turns and turns[-1].role == "user" and len(turns) > 1:
        turns = turns[:-1]
        repairs.append("unanswered end left out")
    if not any(turn.role == "user" for turn in turns):
        return reject(Reason.NO_QUESTION, "no words of the customer before the agent's")
    if not any(turn.role == "assistant" for turn in turns):
        return reject(Reason.UNANSWERED, "no answer of an agent")
    if sum(len(turn.text) for turn in turns) > MAX_CHARS:
        return reject(Reason.TOO_LONG, f"more than {MAX_CHARS} characters")
    return turns, repairs


def _merged(turns: Iterable[Turn]) -> list[Turn]:
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            merged[-1] = Turn(turn.role, f"{merged[-1].text}\n{turn.text}")
        else:
            merged.append(turn)
    return merged


def _group(conversation: Conversation, messages: tuple[Message, ...]) -> str:
    """Stands for the customer where the export names one, for the conversation otherwise."""
    if conversation.customer:
        return digest("customer", conversation.customer.casefold())[:16]
    return digest("conversation", conversation.id or messages)[:16]


def _check(cleaned: Cleaned) -> None:
    if not cleaned.read:
        raise NoDataError("The file has no rows.", hint="Export at least 100 resolved tickets.")
    broken = sum(row.reason in _UNREADABLE for row in cleaned.rejected)
    if broken > MAX_BROKEN * cleaned.read:
        first = next(row for row in cleaned.rejected if row.reason in _UNREADABLE)
        raise TooManyRejectedError(
            f"{broken} of {cleaned.read} rows cannot be read; the first is row {first.position}: "
            f"{first.detail}.",
            hint="Check that this is the right file, or map its columns in project.yaml.",
        )
    if not cleaned.examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in cleaned.rejected_by_reason.items())
        raise NoDataError(
            f"None of the {cleaned.read} rows is usable: {reasons}.",
            hint="Export resolved tickets, with the agent's answer.",
        )
