"""Zendesk: a ticket with its `comments`, as the JSON export and the Tickets API give them.

A comment has `author_id`, `public` (false: an internal note) and its text as `plain_body`, `body`
and `html_body`; the customer is the ticket's `requester_id`.
https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_comments/
"""

from __future__ import annotations

from typing import Any

from dropforge.export.mapping import Fields, Names, canonical_keys, plain
from dropforge.export.rows import Side, Turn
from dropforge.export.shapes.found import (
    Found,
    identity,
    in_time_order,
    is_internal,
    objects,
    person,
)


def may_be(keys: frozenset[str], _: Names) -> bool:
    return "comments" in keys


def read(fields: Fields, names: Names) -> Found | None:
    ticket = fields.get("ticket")
    if isinstance(ticket, dict):
        fields = {**fields, **canonical_keys(ticket)}
    if not isinstance(fields["comments"], list):
        return None
    comments = in_time_order([c for c in objects(fields["comments"]) if not is_internal(c)])
    requester = _requester(fields, comments)
    turns = [
        Turn(side, text)
        for comment in comments
        if (text := _text(comment)) and (side := _side(comment, requester, names))
    ]
    if not any(turn.role == "user" for turn in turns) and plain(fields.get("description")):
        turns.insert(0, Turn("user", plain(fields.get("description"))))
    people = [person(fields.get(key)) for key in ("requester", "assignee", "submitter")]
    return Found(
        turns,
        id=plain(fields.get("id")),
        customer=identity(fields.get("requester")) or plain(requester),
        people=(*people, *(person(comment.get("author")) for comment in comments)),
        subject=plain(fields.get("subject")) or plain(fields.get("raw_subject")),
    )


def _requester(fields: Fields, comments: list[Fields]) -> Any:
    """The customer's id; the author of the first comment where the ticket does not say."""
    requester = fields.get("requester")
    stated = requester.get("id") if isinstance(requester, dict) else None
    stated = fields.get("requester_id") or stated
    return stated or (_author(comments[0]) if comments else None)


def _author(comment: Fields) -> Any:
    author = comment.get("author")
    return comment.get("author_id") or (author.get("id") if isinstance(author, dict) else author)


def _side(comment: Fields, requester: Any, names: Names) -> Side | None:
    author = comment.get("author")
    if isinstance(author, dict) and isinstance(author.get("role"), str):
        return names.side(author["role"])
    return "user" if str(_author(comment)) == str(requester) else "assistant"


def _text(comment: Fields) -> str:
    return next(
        (t for k in ("plain_body", "body", "html_body") if (t := plain(comment.get(k)))), ""
    )
