"""What exports call things: the usual names of columns and of the two sides, and a project's own.

A *field* is what Dropforge looks for (question, customer, …), a *name* what an export calls it.
Names are compared in one form: "Customer Email", "customerEmail" and "customer_email" are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from dropforge.export.rows import Side, UnknownShapeError
from dropforge.project.data import Columns, Roles

Fields = Mapping[str, Any]
"""A row: canonical name -> value."""

USUAL: dict[str, tuple[str, ...]] = {
    "question": (
        *("question", "prompt", "instruction", "customer_message", "customer_question"),
        *("user_message", "ticket_description", "description_text", "description", "inquiry"),
        *("query", "request", "body", "input", "message", "text"),
    ),
    "answer": (
        *("answer", "completion", "response", "reply", "agent_reply", "agent_response"),
        *("agent_message", "support_reply", "company_response", "output", "resolution"),
    ),
    "customer": (
        *("customer_email", "requester_email", "contact_email", "user_email", "customer_id"),
        *("requester_id", "contact_id", "user_id", "customer", "requester", "email"),
    ),
    "customer_name": ("customer_name", "requester_name", "contact_name", "requester", "name"),
    "id": (
        *("ticket_id", "conversation_id", "conversations_thread_id", "thread_id", "chat_id"),
        *("session_id", "dialogue_id", "dialog_id", "case_id", "case_number", "ticket_number"),
        *("conversation", "id", "ticket"),
    ),
    "language": ("language", "lang", "locale", "detected_language", "ticket_language"),
    "topic": (
        *("topic", "tags", "tag_1", "category", "intent", "queue", "ticket_category"),
        *("ticket_type", "type"),
    ),
    "role": (
        *("role", "author_role", "author_type", "sender_type", "sender_role", "user_type"),
        *("speaker", "direction", "from", "author", "sender", "inbound", "incoming"),
    ),
    "text": ("text", "message", "content", "body", "plain_body", "body_text", "utterance", "value"),
    "time": (
        *("created_at", "timestamp", "sent_at", "time", "date", "datetime", "created"),
        *("message_time", "created_time", "turn", "turn_id", "turn_index", "sequence"),
    ),
    "turns": (),
    "subject": ("subject", "ticket_subject", "ticket_name", "title"),
}
OTHER_NAMES = ("assignee_name", "assignee", "agent_name", "agent", "author_name", "sender_name")
WHOLE_QUESTIONS = frozenset(
    ("question", "prompt", "instruction", "customer_question", "query", "input")
)
"""Names of questions that stand alone; a subject line is read with a ticket's description only."""
ROLES: dict[str, Side | None] = {
    **dict.fromkeys(
        (
            *("user", "customer", "human", "client", "requester", "end-user", "end_user", "lead"),
            *("contact", "visitor", "consumer", "guest", "buyer", "caller", "inbound", "incoming"),
        ),
        "user",
    ),
    **dict.fromkeys(
        (
            *("assistant", "agent", "gpt", "bot", "support", "admin", "staff", "operator", "model"),
            *("chatgpt", "representative", "rep", "advisor", "employee", "teammate", "outbound"),
            *("outgoing", "ai"),
        ),
        "assistant",
    ),
    **dict.fromkeys(("system", "developer", "tool", "function", "note", "internal", "event")),
}
"""The usual words for the sides; None is left out of the conversation."""

_COLUMN_NAME = re.compile(r"[a-z][a-z0-9 _/-]{0,29}")


def canonical(name: str) -> str:
    """A column's or key's name in the form in which names are compared."""
    return _canonical(name) if len(name) <= 64 else name.strip().lower()


@lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name.strip())
    return re.sub(r"[\s-]+", "_", words).lower()


def canonical_keys(value: Mapping[str, Any]) -> Fields:
    """An object under canonical names; of two that are the same then, the first counts."""
    keys = tuple(value)
    ours = _canonical_tuple(keys) if sum(map(len, keys)) <= 1000 else None
    if ours:
        return dict(zip(ours, value.values(), strict=True))
    fields: dict[str, Any] = {}
    for key, inner in value.items():
        fields.setdefault(canonical(key), inner)
    return fields


@lru_cache(maxsize=1024)
def _canonical_tuple(keys: tuple[str, ...]) -> tuple[str, ...] | None:
    """The canonical names of an object's keys; None if two of them are the same."""
    ours = tuple(map(canonical, keys))
    return ours if len(set(ours)) == len(ours) else None


def named(names: Iterable[str]) -> str:
    """Column names for a message: none where one of them may be a customer's words instead."""
    listed = list(names)
    if not all(_COLUMN_NAME.fullmatch(name) for name in listed if name):
        return "not told, since they do not look like column names"
    return ", ".join(listed[:12]) or "none"


class Names:
    """Where the fields of one project's exports are found, and who its roles are."""

    def __init__(self, columns: Columns | None = None, roles: Roles | None = None) -> None:
        columns, roles = columns or Columns(), roles or Roles()
        own = {field: getattr(columns, field, None) for field in USUAL}
        self.chosen = {field: name.strip() for field, name in own.items() if name}
        self._names = {
            field: (canonical(self.chosen[field]),) if field in self.chosen else usual
            for field, usual in USUAL.items()
        }
        self.sides: dict[str, Side | None] = {
            **ROLES,
            **dict.fromkeys((word.strip().lower() for word in roles.customer), "user"),
            **dict.fromkeys((word.strip().lower() for word in roles.agent), "assistant"),
            **dict.fromkeys(word.strip().lower() for word in roles.ignored),
        }

    def among(self, keys: Iterable[str]) -> Names:
        """The same for rows that have only these keys, and so with fewer names to try."""
        known = frozenset(keys)
        fewer = Names.__new__(Names)
        fewer.chosen, fewer.sides = self.chosen, self.sides
        fewer._names = {
            field: names if field in self.chosen else tuple(n for n in names if n in known)
            for field, names in self._names.items()
        }
        return fewer

    def of(self, field: str) -> tuple[str, ...]:
        """The canonical names that a field may have, the likeliest first."""
        return self._names[field]

    def value(self, fields: Fields, field: str) -> Any:
        """The first value that says anything; None if there is none."""
        for name in self._names[field]:
            found = fields.get(name)
            if found is None and field in self.chosen:
                found = reach(fields, self.chosen[field])
            if found is not None and found != "":
                return found
        return None

    def text(self, fields: Fields, field: str) -> str:
        """The field's text, stripped; "" where there is none. Numbers become text."""
        return plain(self.value(fields, field))

    def has(self, fields: Iterable[str], field: str) -> bool:
        """Whether a row with these canonical names has the field, if only an empty one."""
        if field in self.chosen and "." in self.chosen[field]:
            root = canonical(self.chosen[field].split(".")[0])
            return any(name in (root, *self._names[field]) for name in fields)
        return any(name in fields for name in self._names[field])

    def knows(self, word: str) -> bool:
        """Whether the word is a role: the usual ones or the project's own."""
        return word in self.sides or word.strip().lower() in self.sides

    def side(self, word: Any) -> Side | None:
        """Whose turn it is; None for turns that are left out (system, tools, notes).

        Raises:
            UnknownShapeError: the word is none of those known.
        """
        role = word if isinstance(word, str) else str(word)
        if role not in self.sides:
            role = role.strip().lower()
        if role not in self.sides:
            raise UnknownShapeError("a turn of neither the customer nor the agent")
        return self.sides[role]


def reach(fields: Fields, path: str) -> Any:
    """The value at a dotted path of keys, `a.b.c`; None where it leads nowhere."""
    value: Any = fields
    for step in path.split("."):
        if not isinstance(value, dict):
            return None
        name = canonical(step)
        value = value.get(step, value.get(name))
        if value is None:
            return None
        if isinstance(value, dict):
            value = canonical_keys(value)
    return value


def plain(value: Any) -> str:
    """A text or number as stripped text; "" for anything else."""
    if isinstance(value, str):
        return value.strip()
    if value is None or isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, (int, float)) else ""
