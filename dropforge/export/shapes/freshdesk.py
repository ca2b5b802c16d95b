"""Freshdesk: a ticket with its `description_text` and `conversations`.

A conversation is a reply or note with `incoming` (from the customer), `private` (internal), and
its text as `body_text` and, in HTML, as `body`.
https://developers.freshdesk.com/api/#list_all_ticket_notes
"""

from __future__ import annotations

from dropforge.export.mapping import Fields, Names, plain
from dropforge.export.rows import Turn
from dropforge.export.shapes.found import (
    Found,
    identity,
    in_time_order,
    is_internal,
    objects,
    person,
)

_REPLY_KEYS = frozenset(("incoming", "body_text", "private"))


def may_be(keys: frozenset[str], _: Names) -> bool:
    return "conversations" in keys


def read(fields: Fields, _: Names) -> Found | None:
    replies = fields["conversations"]
    ticket = "description_text" in fields or "description" in fields
    if not isinstance(replies, list) or not (ticket or _are_replies(replies)):
        return None
    public = in_time_order([reply for reply in objects(replies) if not is_internal(reply)])
    description = plain(fields.get("description_text")) or plain(fields.get("description"))
    turns = [Turn("user", description)] if description else []
    for reply in public:
        text = plain(reply.get("body_text")) or plain(reply.get("body"))
        if text:
            turns.append(Turn("user" if reply.get("incoming") is True else "assistant", text))
    requester = fields.get("requester")
    return Found(
        turns,
        customer=identity(requester) or plain(fields.get("requester_id")),
        people=tuple(person(fields.get(key)) for key in ("requester", "responder", "agent")),
        subject=plain(fields.get("subject")),
    )


def _are_replies(values: list[object]) -> bool:
    return bool(values) and all(isinstance(v, dict) and _REPLY_KEYS & v.keys() for v in values)
