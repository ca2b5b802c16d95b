"""One conversation at a time: normalised, stripped of boilerplate, put in order, redacted.

No step here knows of another row, so a batch gives the same result wherever it is prepared: in one
Lambda, or in a thousand tasks of Spark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import cycle, repeat
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from dropforge.artifacts import Excerpt, digest
from dropforge.chat import ChatExample, Message
from dropforge.clean.boilerplate import Phrases, strip
from dropforge.clean.language import languages
from dropforge.clean.presidio import PresidioRedactor
from dropforge.clean.quality import Verdict, verdicts
from dropforge.clean.redact import Redactor, Scanned, scan
from dropforge.export import Conversation, Reason, Rejected, Row, Turn
from dropforge.export.rows import Side
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


class Candidate(msgspec.Struct, frozen=True, gc=False):
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
        return "\n".join([message.content for message in self.example.messages])

    @property
    def excerpt(self) -> Excerpt:
        return excerpt(self.position, self.text)


class Dropped(msgspec.Struct, frozen=True, gc=False):
    """A row that is not worth keeping, with its beginning where it could be read."""

    rejected: Rejected
    excerpt: Excerpt | None = None


def excerpt(position: int, redacted: str) -> Excerpt:
    """The beginning of a text without personal data."""
    return Excerpt(position, redacted[:_EXCERPT].replace("\n", " · "))


def exact_key(text: str) -> str:
    """The same for texts that differ in case and white space alone."""
    return same_text(text)


class _Shaped(NamedTuple):
    """A row of alternating turns, the customer's first."""

    conversation: Conversation
    texts: list[str]
    repairs: tuple[str, ...]

    @property
    def said(self) -> str:
        return "\n".join(self.texts[1::2])

    @property
    def asked(self) -> str:
        return "\n".join(self.texts[::2])


class Preparer:
    """Prepares batches of rows by a project's rules.

    Args:
        redactor: what makes the redactor of a conversation's names and of the values to keep;
            the rules say it, but for measurements without one.
    """

    def __init__(self, rules: Rules, redactor: Callable[..., Redactor] | None = None) -> None:
        self._rules = rules
        self._phrases = Phrases(rules.boilerplate)
        usual = PresidioRedactor if rules.redact == "presidio" else Redactor
        self._new_redactor = redactor or usual
        self._scans = redactor is None

    def __call__(self, rows: Sequence[Row]) -> list[Candidate | Dropped]:
        """What becomes of each row, in their order."""
        shaped = self._shaped(rows)
        good = [row for row in shaped if isinstance(row, _Shaped)]
        asked = [row.asked for row in good]
        poor = verdicts([row.said for row in good], asked, self._rules.shortest_answer)
        texts = [row.texts for row in good]
        seen = scan(texts) if self._scans else repeat(None)
        known = iter(zip(poor, languages(asked), seen, strict=False))
        return [
            self._judged(row, *next(known)) if isinstance(row, _Shaped) else row for row in shaped
        ]

    def _shaped(self, rows: Sequence[Row]) -> list[_Shaped | Dropped]:
        """The rows with clean, alternating turns."""
        texts = [turn.text for row in rows if isinstance(row, Conversation) for turn in row.turns]
        repairs: dict[int, tuple[str, ...]] = {}
        for place in unusual(texts, self._phrases):
            text, removed = strip(normalise(texts[place]), self._phrases)
            if removed or "\0" in texts[place]:
                nul = ["NUL"] if "\0" in texts[place] else []
                repairs[place] = tuple(f"{what} left out" for what in (*removed, *nul))
            texts[place] = text
        shaped: list[_Shaped | Dropped] = []
        end = 0
        for row in rows:
            if isinstance(row, Rejected):
                shaped.append(Dropped(row))
                continue
            begin, end = end, end + len(row.turns)
            done: set[str] = set()
            if repairs:
                done.update(*(repairs.get(place, ()) for place in range(begin, end)))
            shaped.append(self._in_order(row, texts[begin:end], done))
        return shaped

    def _in_order(
        self, row: Conversation, texts: list[str], repairs: Collection[str]
    ) -> _Shaped | Dropped:
        roles = tuple([turn.role for turn in row.turns])
        if roles in _ALTERNATING and "" not in texts and sum(map(len, texts)) <= MAX_CHARS:
            return _Shaped(row, texts, tuple(sorted(repairs)) if repairs else ())
        turns = tuple(Turn(role, text) for role, text in zip(roles, texts, strict=True) if text)
        normal = msgspec.structs.replace(row, turns=turns)
        repaired = repair_turns(normal)
        if isinstance(repaired, Rejected):
            return self._dropped(row, [turn.text for turn in turns], repaired)
        turns_left, more = repaired
        return _Shaped(row, [turn.text for turn in turns_left], (*sorted(repairs), *more))

    def _judged(
        self, row: _Shaped, poor: Verdict, language: str, seen: Scanned | None = None
    ) -> Candidate | Dropped:
        if poor is not None:
            rejected = Rejected(row.conversation.position, *poor)
            return self._dropped(row.conversation, row.texts, rejected)
        stated = row.conversation.language
        language = (stated and _stated(stated)) or language
        wanted = self._rules.languages
        if wanted and language not in wanted and language != "und":
            detail = f"{language}, where the project keeps {', '.join(wanted)}"
            rejected = Rejected(row.conversation.position, Reason.OTHER_LANGUAGE, detail)
            return self._dropped(row.conversation, row.texts, rejected)
        return self._candidate(row, language, seen)

    def _candidate(self, row: _Shaped, language: str, seen: Scanned | None) -> Candidate:
        conversation, texts, repairs = row
        redact = self._new_redactor(conversation.names, self._rules.keep)
        messages = tuple(map(Message, cycle(_SIDES), redact.conversation(texts, seen)))
        ticket = digest("conversation", conversation.id)[:16] if conversation.id else ""
        if conversation.customer:
            group = digest("customer", conversation.customer.casefold())[:16]
        else:
            group = ticket or digest("conversation", messages)[:16]
        topic = conversation.topic and redact(normalise(conversation.topic))[:_TOPIC]
        example = ChatExample(
            digest(messages)[:16],
            group,
            conversation.position,
            messages,
            ticket,
            language,
            topic,
        )
        return Candidate(example, tuple([kind.value for kind in redact.found]), repairs)

    def _dropped(self, row: Conversation, texts: Sequence[str], rejected: Rejected) -> Dropped:
        redact = self._new_redactor(row.names, self._rules.keep)
        text = "\n".join(redact.conversation([text[:MAX_CHARS] for text in texts[:4]]))
        return Dropped(rejected, excerpt(rejected.position, text) if text else None)


_SIDES: tuple[Side, Side] = ("user", "assistant")
_ALTERNATING = frozenset(_SIDES * exchanges for exchanges in range(1, 50))

# What a byte can be of: what has to be read by `normalise` or `strip`; two white ones in a row; a
# mark that opens a line of boilerplate, behind another one or at the beginning; ", Name".
_ODD, _WHITE, _MARK, _COMMA, _CAPITAL = 1, 2, 4, 8, 16
_KINDS = bytes(
    (_ODD if not 32 <= b < 127 or chr(b) in "<&" else 0) * (b != 0)
    | (_WHITE if chr(b) in "\0 \n" else 0)
    | (_MARK if chr(b) in "\0[#" else 0)
    | (_COMMA if chr(b) == "," else 0)
    | (_CAPITAL if chr(b).isupper() else 0)
    for b in range(256)
)
_SIGNED = 110
"""Bytes at a text's end in which a closing formula and a name may be."""


def unusual(texts: Sequence[str], phrases: Phrases) -> list[int]:
    """Which of the texts `normalise` and `strip` may change: what is not one plain ASCII line.

    All are looked at in one go, by their bytes.
    """
    if not texts:
        return []
    joined = "\0".join(texts)
    raw = joined.encode("ascii", "replace").join((b"\0", b"\0"))
    kinds = np.frombuffer(raw.translate(_KINDS), np.uint8)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
    suspect = np.zeros(len(texts), np.bool_)
    pairs = kinds[:-1] & kinds[1:]
    pairs &= _WHITE | _MARK
    pairs |= kinds[1:] & _ODD
    suspect[np.searchsorted(ends, np.flatnonzero(pairs) + 1, "left")] = True
    names = np.flatnonzero((kinds[:-2] << 1) & kinds[2:] & _CAPITAL) + 2
    signed = np.searchsorted(ends, names, "left")
    suspect[signed[ends[signed] - names < _SIGNED]] = True
    found = set(np.flatnonzero(suspect).tolist())
    if not joined.isascii() or joined.count("\0") >= len(texts):
        found.update(i for i, text in enumerate(texts) if not text.isascii() or "\0" in text)
    if phrases:
        found.update(i for i, text in enumerate(texts) if phrases.may_be_in(text))
    return sorted(found)


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
    """The ISO 639 code in what the export says, such as `en`, `de-AT` or `pt_BR`; "" for none."""
    found = re.match(r"([A-Za-z]{2,3})(?:[-_][A-Za-z]{2,4})?$", language.strip())
    return found[1].lower() if found else ""
