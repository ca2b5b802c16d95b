"""A ticket as each helpdesk exports it."""

from __future__ import annotations

from typing import Any

ZENDESK: dict[str, Any] = {
    "id": 35436,
    "subject": "Printer on fire",
    "description": "It burns, what now?",
    "requester_id": 20978392,
    "requester": {"id": 20978392, "name": "Jo Doe", "email": "jo@x.example", "locale": "en-US"},
    "assignee": {"name": "Ana Lee"},
    "tags": ["hardware", "fire"],
    "status": "closed",
    "comments": [
        {
            "id": 3,
            "author_id": 7,
            "public": True,
            "plain_body": "Use water.",
            "created_at": "2026-01-02T10:00:00Z",
        },
        {
            "id": 1,
            "author_id": 20978392,
            "public": True,
            "plain_body": "It burns, what now?",
            "html_body": "<p>It",
            "created_at": "2026-01-01T10:00:00Z",
        },
        {
            "id": 2,
            "author_id": 7,
            "public": False,
            "plain_body": "Not again.",
            "created_at": "2026-01-01T11:00:00Z",
        },
    ],
}
INTERCOM: dict[str, Any] = {
    "type": "conversation",
    "id": "1295",
    "source": {
        "type": "conversation",
        "subject": "",
        "body": "<p>Where is my order?</p>",
        "author": {"type": "user", "id": "5310", "name": "Jo Doe", "email": "jo@x.example"},
    },
    "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": "5ba6"}]},
    "tags": {"type": "tag.list", "tags": [{"type": "tag", "id": "1", "name": "shipping"}]},
    "conversation_parts": {
        "type": "conversation_part.list",
        "conversation_parts": [
            {"part_type": "note", "body": "<p>VIP</p>", "author": {"type": "admin", "name": "Ana"}},
            {"part_type": "assignment", "body": None, "author": {"type": "bot"}},
            {
                "part_type": "comment",
                "body": "<p>On its way.</p>",
                "author": {"type": "admin", "name": "Ana"},
            },
            {
                "part_type": "comment",
                "body": "<p>Thanks!</p>",
                "author": {"type": "lead", "name": "Jo Doe"},
            },
        ],
    },
}
FRESHDESK: dict[str, Any] = {
    "id": 20,
    "subject": "Not working",
    "description": "<div>It does nothing.</div>",
    "description_text": "It does nothing.",
    "type": "Problem",
    "requester": {"id": 9, "name": "Jo Doe", "email": "jo@x.example"},
    "conversations": [
        {
            "id": 4,
            "incoming": False,
            "private": True,
            "body_text": "Ask Ana.",
            "created_at": "2015-08-24T11:59:05Z",
        },
        {
            "id": 5,
            "incoming": False,
            "private": False,
            "body_text": "Plug it in.",
            "created_at": "2015-08-24T12:59:05Z",
        },
        {
            "id": 6,
            "incoming": True,
            "private": False,
            "body_text": "It works!",
            "created_at": "2015-08-24T13:59:05Z",
        },
    ],
}
HUBSPOT: dict[str, Any] = {
    "id": "4055",
    "associatedContactId": "97401",
    "messages": [
        {
            "type": "MESSAGE",
            "direction": "OUTGOING",
            "text": "Here.",
            "createdAt": "2024-01-20T10:40:00Z",
            "senders": [{"actorId": "A-1", "name": "Ana"}],
        },
        {"type": "COMMENT", "text": "Ask him.", "createdAt": "2024-01-20T10:35:00Z"},
        {
            "type": "MESSAGE",
            "direction": "INCOMING",
            "text": "Where?",
            "createdAt": "2024-01-20T10:30:00Z",
            "senders": [{"actorId": "V-2", "name": "Jo Doe"}],
        },
    ],
}
HELPDESKS = (ZENDESK, INTERCOM, FRESHDESK, HUBSPOT)
