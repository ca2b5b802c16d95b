"""What the shapes have in common: what they find, and how a turn is read from an object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from dropforge.export.mapping import Fields, Names, canonical_keys, plain
from dropforge.export.rows import Side, Turn, UnknownShapeError


class Found(NamedTuple):
    """A conversation as its shape states it; what is empty is looked up under the usual names."""

    turns: Iterable[Turn]
    id: str = ""
    customer: str = ""
    people: tuple[str, ...] = ()
    subject: str = ""
    language: str = ""
    topic: str = ""


class Said(NamedTuple):
    """One row of a transcript: a turn (None: one left out) and its conversation."""

    conversation: str
    turn: Turn | None
    when: Any
    about: Found
    position: int = 0


_ROLE_KEYS = (
    *("role", "author_role", "author_type", "sender_type", "sender_role", "user_type", "speaker"),
    *("direction", "from", "author", "sender"),
)
_AGENT_FLAGS = ("from_agent", "is_agent", "outgoing", "from_me")
_CUSTOMER_FLAGS = ("incoming", "inbound", "is_customer", "from_customer")
_TEXT_KEYS = (
    *("content", "value", "text", "body_text", "plain_body", "message", "body", "utterance"),
    *("description", "html_body"),
)
_YES = (True, "true", "True", "TRUE", "1", "yes")
_NO = (False, "false", "False", "FALSE", "0", "no")
_PRIVATE_FLAGS = ("private", "internal", "is_private", "is_internal", "is_note", "internal_note")


def objects(values: Any) -> list[Fields]:
    """The objects of a list of turns, under canonical names.

    Raises:
        UnknownShapeError: something in it is no object.
    """
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise UnknownShapeError("a turn that is not an object")
    return [canonical_keys(value) for value in values]


class _TurnKeys(NamedTuple):
    """Which of a turn's keys say what; the same for most turns of a file."""

    privacy: tuple[str, ...]
    kinds: tuple[str, ...]
    flags: tuple[tuple[str, bool], ...]
    roles: tuple[str, ...]
    texts: tuple[str, ...]


@lru_cache(maxsize=1024)
def _turn_keys(keys: tuple[str, ...]) -> _TurnKeys:
    known = frozenset(keys)
    customer = ((flag, True) for flag in _CUSTOMER_FLAGS)
    agent = ((flag, False) for flag in _AGENT_FLAGS)
    return _TurnKeys(
        privacy=tuple(key for key in ("public", *_PRIVATE_FLAGS) if key in known),
        kinds=tuple(key for key in ("part_type", "message_type", "type") if key in known),
        flags=tuple(flag for flag in (*customer, *agent) if flag[0] in known),
        roles=tuple(key for key in _ROLE_KEYS if key in known),
        texts=tuple(key for key in _TEXT_KEYS if key in known),
    )


def is_internal(turn: Fields) -> bool:
    """Whether it is a note that the customer never saw: no text to learn from."""
    keys = _turn_keys(tuple(turn))
    for key in keys.privacy:
        if turn[key] in (_NO if key == "public" else _YES):
            return True
    kinds = [turn[key] for key in keys.kinds]
    return any(isinstance(kind, str) and "note" in kind.lower().split("_") for kind in kinds)


def side_of(turn: Fields, names: Names) -> Side | None:
    """Whose turn an object is; None for one that is left out.

    Raises:
        UnknownShapeError: it does not say, or in a word not known.
    """
    chosen = names.value(turn, "role") if "role" in names.chosen else None
    if chosen is not None:
        return names.side(chosen)
    keys = _turn_keys(tuple(turn))
    for flag, customers in keys.flags:
        if isinstance(turn[flag], bool):
            return "user" if turn[flag] is customers else "assistant"
    for key in keys.roles:
        value = turn[key]
        if isinstance(value, dict):
            value = value.get("role") or value.get("type")
        if isinstance(value, str) and names.knows(value):
            return names.side(value)
    raise UnknownShapeError("a turn of neither the customer nor the agent")


def text_of(turn: Fields, names: Names) -> str | None:
    """An object's text; None if it has none. A list of parts (OpenAI) gives its text parts."""
    chosen = names.value(turn, "text") if "text" in names.chosen else None
    keys = _turn_keys(tuple(turn)).texts
    for value in [chosen] if chosen is not None else [turn[key] for key in keys]:
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "\n".join(_parts(value))
    return None


def _parts(values: list[Any]) -> Iterator[str]:
    for part in values:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield text


def in_time_order(items: list[Fields]) -> list[Fields]:
    """Sorted by their time if every one of them has one; else as they stand."""
    times = [when(item.get("created_at")) for item in items]
    if None in times:
        return items
    order = sorted(range(len(items)), key=lambda i: times[i] or 0.0)
    return [items[i] for i in order]


def when(value: Any) -> float | None:
    """A point in time, or a place in an order, as a number; None if it cannot be told."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, str):
            return None
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return float(text)
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,9})?")


def first_label(value: Any) -> str:
    """The first of an export's tags: of a list, of a comma-separated text, of named objects."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = next((v for v in value.values() if isinstance(v, list)), value.get("name"))
    if isinstance(value, list):
        value = value[0] if value else ""
        if isinstance(value, dict):
            value = value.get("name", value.get("label", ""))
    return re.split(r"[,;|]", plain(value), maxsplit=1)[0].strip()


def person(value: Any) -> str:
    """A person's name as an export states it: not a number, not an address."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = value.get("name") or value.get("display_name")
    text = plain(value)
    if not text:
        return ""
    named = len(text) <= 100 and "@" not in text and any(c.isalpha() for c in text)
    return text if named else ""


def identity(value: Any) -> str:
    """What a customer is known by: of an object the address or the id."""
    if isinstance(value, dict):
        return next((t for k in ("email", "id", "external_id") if (t := plain(value.get(k)))), "")
    return plain(value)


_WORD = re.compile(r"\w+")
_PREFIXES = frozenset(("re", "fw", "fwd", "aw", "wg"))


def with_subject(subject: str, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The subject put before the customer's first words, if it says what they do not."""
    for place, turn in enumerate(turns):
        if turn.role == "user":
            said = turn.text.lower()
            words = _WORD.findall(subject.lower())
            if all(word in said or word in _PREFIXES for word in words):
                return turns
            opening = Turn("user", f"{subject}\n\n{turn.text}")
            return (*turns[:place], opening, *turns[place + 1 :])
    return turns
