"""HubSpot: a thread of the Conversations API with its messages.

A message has a `type` (MESSAGE and WELCOME_MESSAGE; COMMENT is internal), a `direction` (INCOMING:
from the customer) and `senders`. The API gives the newest first. Single messages, one a row with
`conversationsThreadId`, are read as a transcript; the CSV export of tickets as a table.
https://developers.hubspot.com/docs/api-reference/conversations-conversations-inbox-&-messages-v3
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dropforge.export.mapping import Fields, Names, plain
from dropforge.export.rows import Turn
from dropforge.export.shapes.found import Found, identity, in_time_order, objects, person


def may_be(keys: frozenset[str], _: Names) -> bool:
    return "messages" in keys or "results" in keys


def read(fields: Fields, names: Names) -> Found | None:
    values = fields.get("messages", fields.get("results"))
    if isinstance(values, dict):
        values = values.get("results")
    if not isinstance(values, list) or not _are_messages(values):
        return None
    said = [message for message in in_time_order(objects(values)) if is_public(message)]
    turns = [
        Turn(side, text)
        for message in said
        if (text := plain(message.get("text")) or plain(message.get("rich_text")))
        and (side := names.side(message.get("direction", "")))
    ]
    senders = [sender for message in said for sender in senders_of(message)]
    incoming = next((m for m in said if str(m.get("direction")).upper() == "INCOMING"), {})
    return Found(
        turns,
        customer=plain(fields.get("associated_contact_id"))
        or next((identity(s) or plain(s.get("actorId")) for s in senders_of(incoming)), ""),
        people=tuple(person(sender) for sender in senders),
        subject=next((s for m in said if (s := plain(m.get("subject")))), ""),
    )


def is_public(message: Fields) -> bool:
    """Whether it is a message at all: neither an internal comment nor an event."""
    return str(message.get("type", "MESSAGE")).upper() in ("MESSAGE", "WELCOME_MESSAGE")


def senders_of(message: Fields) -> list[Mapping[str, Any]]:
    senders = message.get("senders")
    return [s for s in senders if isinstance(s, dict)] if isinstance(senders, list) else []


def _are_messages(values: list[Any]) -> bool:
    return any(
        isinstance(v, dict) and str(v.get("direction")).upper() in ("INCOMING", "OUTGOING")
        for v in values
    )
