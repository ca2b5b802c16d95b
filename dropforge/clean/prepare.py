"""One conversation at a time: normalised, stripped of boilerplate, put in order, redacted.

No step here knows of another row, so a batch gives the same result wherever it is prepared: in one
Lambda, or in a thousand tasks of Spark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from dropforge.artifacts import Excerpt, digest
from dropforge.chat import ChatExample, Message
from dropforge.clean.boilerplate import Phrases, strip
from dropforge.clean.language import languages
from dropforge.clean.presidio import PresidioRedactor
from dropforge.clean.quality import verdict
from dropforge.clean.redact import Redactor
from dropforge.export import Conversation, Reason, Rejected, Row, Turn
from dropforge.project import ProjectConfig
from dropforge.text import normalise, same_text

MAX_CHARS = 64_000
"""Characters a conversation may have; no context window trained here holds more."""

_EXCERPT = 200
_TOPIC = 40


class Rules(msgspec.Struct, frozen=True):
    """What a project says about cleaning: see `clean:` and `keep:` in docs/project.md."""

    keep: tuple[str, ...] = ()
    redact: Literal["rules", "presidio"] = "rules"
    boilerplate: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    shortest_answer: int = 2

    @classmethod
    def of(cls, config: ProjectConfig) -> Rules:
        chosen = config.clean
        return cls(
            tuple(sorted(config.keep)),
            chosen.redact,
            chosen.boilerplate,
            tuple(sorted(chosen.languages)),
            chosen.shortest_answer,
        )


class Candidate(msgspec.Struct, frozen=True):
    """A row that is worth keeping unless another row says the same.

    `redacted` and `repaired` name what was taken out and put right, each once.
    """

    example: ChatExample
    redacted: tuple[str, ...]
    repaired: tuple[str, ...]

    @property
    def position(self) -> int:
        return self.example.position

    @property
    def text(self) -> str:
        """What is compared with other rows."""
        return "\n".join(message.content for message in self.example.messages)

    @property
    def excerpt(self) -> Excerpt:
        return excerpt(self.position, self.text)


class Dropped(msgspec.Struct, frozen=True):
    """A row that is not worth keeping, with its beginning where it could be read."""

    rejected: Rejected
    excerpt: Excerpt | None = None


def excerpt(position: int, redacted: str) -> Excerpt:
    """The beginning of a text without personal data."""
    return Excerpt(position, redacted[:_EXCERPT].replace("\n", " · "))


def exact_key(text: str) -> str:
    """The same for texts that differ in case and white space alone."""
    return same_text(text)


class Preparer:
    """Prepares batches of rows by a project's rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._phrases = Phrases(rules.boilerplate)

    def __call__(self, rows: Sequence[Row]) -> list[Candidate | Dropped]:
        """What becomes of each row, in their order."""
        shaped = [self._shape(row) for row in rows]
        spoken = iter(languages([_customer(s[0]) for s in shaped if isinstance(s, tuple)]))
        return [self._candidate(*s, next(spoken)) if isinstance(s, tuple) else s for s in shaped]

    def _shape(self, row: Row) -> tuple[Conversation, list[str]] | Dropped:
        """The row with clean, alternating turns, and what was repaired."""
        if isinstance(row, Rejected):
            return Dropped(row)
        normal, repairs = self._normalised(row)
        shaped = repair_turns(normal)
        if isinstance(shaped, Rejected):
            return self._dropped(normal, shaped)
        turns, more = shaped
        conversation = msgspec.structs.replace(normal, turns=tuple(turns))
        poor = verdict(turns, self._rules.shortest_answer)
        if poor is not None:
            return self._dropped(conversation, Rejected(row.position, *poor))
        return conversation, repairs + more

    def _normalised(self, conversation: Conversation) -> tuple[Conversation, list[str]]:
        repairs: set[str] = set()
        turns = []
        for turn in conversation.turns:
            if "\0" in turn.text:
                repairs.add("NUL left out")
            text, removed = strip(normalise(turn.text), self._phrases)
            repairs.update(f"{what} left out" for what in removed)
            if text:
                turns.append(Turn(turn.role, text))
        return msgspec.structs.replace(conversation, turns=tuple(turns)), sorted(repairs)

    def _candidate(
        self, conversation: Conversation, repairs: list[str], language: str
    ) -> Candidate | Dropped:
        language = _stated(conversation.language) or language
        wanted = self._rules.languages
        if wanted and language not in wanted and language != "und":
            detail = f"{language}, where the project keeps {', '.join(wanted)}"
            rejected = Rejected(conversation.position, Reason.OTHER_LANGUAGE, detail)
            return self._dropped(conversation, rejected)
        redact = self._redactor(conversation)
        texts = redact.conversation([turn.text for turn in conversation.turns])
        messages = tuple(
            Message(turn.role, text) for turn, text in zip(conversation.turns, texts, strict=True)
        )
        example = ChatExample(
            id=digest(messages)[:16],
            group=_group(conversation, messages),
            position=conversation.position,
            messages=messages,
            conversation=digest("conversation", conversation.id)[:16] if conversation.id else "",
            language=language,
            topic=redact(normalise(conversation.topic))[:_TOPIC] if conversation.topic else "",
        )
        return Candidate(example, tuple(kind.value for kind in redact.found), tuple(repairs))

    def _redactor(self, conversation: Conversation) -> Redactor:
        kind = PresidioRedactor if self._rules.redact == "presidio" else Redactor
        return kind(conversation.names, self._rules.keep)

    def _dropped(self, conversation: Conversation, rejected: Rejected) -> Dropped:
        redact = self._redactor(conversation)
        text = "\n".join(redact.conversation([t.text[:MAX_CHARS] for t in conversation.turns[:4]]))
        return Dropped(rejected, excerpt(rejected.position, text) if text else None)


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


def _stated(language: str) -> str:
    """The ISO 639 code in what the export says, such as `en`, `de-AT` or `pt_BR`; "" for no code."""
    found = re.match(r"([A-Za-z]{2,3})(?:[-_][A-Za-z]{2,4})?$", language.strip())
    return found[1].lower() if found else ""


def _customer(conversation: Conversation) -> str:
    return " ".join(turn.text for turn in conversation.turns if turn.role == "user")


def _group(conversation: Conversation, messages: tuple[Message, ...]) -> str:
    """Stands for the customer where the export names one, for the conversation otherwise."""
    if conversation.customer:
        return digest("customer", conversation.customer.casefold())[:16]
    return digest("conversation", conversation.id or messages)[:16]
