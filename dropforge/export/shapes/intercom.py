"""Intercom: a conversation with its `source` and `conversation_parts`.

The source is what opened it; every part has an `author.type` (user, lead and contact against admin
and bot), a `part_type` (note: internal) and an HTML `body`.
https://developers.intercom.com/docs/references/rest-api/api.intercom.io/conversations/conversation
"""

from __future__ import annotations

from typing import Any

from dropforge.export.mapping import Fields, Names, canonical_keys, plain
from dropforge.export.rows import Turn
from dropforge.export.shapes.found import Found, first_label, identity, is_internal, objects, person


def may_be(keys: frozenset[str], _: Names) -> bool:
    return "conversation_parts" in keys


def read(fields: Fields, names: Names) -> Found | None:
    parts = fields["conversation_parts"]
    if isinstance(parts, dict):
        parts = parts.get("conversation_parts", parts.get("parts"))
    if not isinstance(parts, list):
        return None
    opened = fields.get("source") or fields.get("conversation_message") or {}
    source = canonical_keys(opened) if isinstance(opened, dict) else {}
    said = [part for part in (source, *objects(parts)) if not is_internal(part)]
    turns = [
        Turn(side, text)
        for part in said
        if (text := plain(part.get("body"))) and (side := names.side(_author_type(part)))
    ]
    return Found(
        turns,
        customer=_customer(fields, source),
        people=tuple(person(part.get("author")) for part in said),
        subject=plain(source.get("subject")),
        topic=first_label(fields.get("tags")),
    )


def _author_type(part: Fields) -> str:
    author = part.get("author")
    kind = author.get("type") if isinstance(author, dict) else author
    return "event" if kind in (None, "", "team") else str(kind)


def _customer(fields: Fields, source: Fields) -> str:
    contacts: Any = fields.get("contacts") or fields.get("user")
    if isinstance(contacts, dict):
        contacts = contacts.get("contacts", [contacts])
    if isinstance(contacts, list) and contacts and identity(contacts[0]):
        return identity(contacts[0])
    author = source.get("author")
    ours = isinstance(author, dict) and author.get("type") in ("admin", "bot", "team")
    return "" if ours else identity(author)
