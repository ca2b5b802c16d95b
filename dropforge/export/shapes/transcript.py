"""A turn in each row: the conversation it is in, who speaks, what is said, and mostly when."""

from __future__ import annotations

from dropforge.export.mapping import Fields, Names, plain
from dropforge.export.rows import Side, Turn, UnknownShapeError
from dropforge.export.shapes import hubspot
from dropforge.export.shapes.found import (
    Found,
    Said,
    identity,
    is_internal,
    person,
    side_of,
    text_of,
)

_MESSAGE_IDS = frozenset(("id",))
"""Usual names of an id that in a transcript is the message's own."""


def may_be(keys: frozenset[str], names: Names) -> bool:
    """Rows of pairs have all of this too at times; then it is the answer that tells."""
    if "role" in names.chosen and "text" in names.chosen:
        return True
    has_id = names.has(keys - _MESSAGE_IDS if "id" not in names.chosen else keys, "id")
    if "conversations_thread_id" in keys:
        return True
    sides = names.has(keys, "role") or "from_agent" in keys
    return has_id and sides and names.has(keys, "text") and not names.has(keys, "answer")


def read(fields: Fields, names: Names) -> Said | None:
    conversation = names.text(fields, "id")
    if not conversation:
        raise UnknownShapeError("a turn without the id of its conversation")
    about = Found((), subject=names.text(fields, "subject"))
    if "conversations_thread_id" in fields:
        senders = hubspot.senders_of(fields)
        customer = identity(senders[0]) or plain(senders[0].get("actorId")) if senders else ""
        incoming = str(fields.get("direction")).upper() == "INCOMING"
        people = tuple(person(sender) for sender in senders)
        about = about._replace(people=people, customer=customer if incoming else "")
        if not hubspot.is_public(fields):
            return Said(conversation, None, None, about)
    side = None if is_internal(fields) else _side(fields, names)
    text = text_of(fields, names) if side else None
    turn = Turn(side, text.strip()) if side and text and text.strip() else None
    return Said(conversation, turn, names.value(fields, "time"), about)


def _side(fields: Fields, names: Names) -> Side | None:
    for flag in ("inbound", "incoming", "from_agent"):
        word = str(fields[flag]).lower() if flag in fields else ""
        if word in ("true", "false", "1", "0"):
            said_so = word in ("true", "1")
            return "user" if said_so is (flag != "from_agent") else "assistant"
    return side_of(fields, names)
