"""Writes the sample export of Quillmere Library, which does not exist.

Reads `quillmere.json`, laid out as `orrinvale.json`. Writes `quillmere.jsonl`, conversations as
Intercom's API gives them out, one a line, and `quillmere.expected.json`, the counts that a cleaner
has to find. Every run gives the same bytes.
https://developers.intercom.com/docs/references/rest-api/api.intercom.io/conversations/conversation
"""

import hashlib
import html
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from make_tickets import check_similarity, faulty_tickets, reformatted
from orrinvale import Ticket, assign_customers, conversations

HERE: Final = Path(__file__).parent
SEED: Final = 20260402
FIRST_ID: Final = 215470000183
OPENED: Final = int(datetime(2026, 4, 2, 9, 30, tzinfo=UTC).timestamp())
DUPLICATES: Final = 5
REFORMATTED: Final = 2
WITH_NOTE: Final = 0.2
WITH_THANKS: Final = 0.25


def plant_copies(tickets: list[Ticket], rng: random.Random) -> Iterator[Ticket]:
    """The tickets with exact duplicates, each a few rows after its original."""
    plain = [i for i, t in enumerate(tickets[:-4]) if t.kind == "clean" and not t.holds]
    chosen = rng.sample(plain, DUPLICATES)
    copies: dict[int, list[Ticket]] = {}
    for rank, index in enumerate(chosen):
        original = tickets[index]
        copy = reformatted(original, rng) if rank < REFORMATTED else original
        copies.setdefault(index + rng.randrange(1, 4), []).append(replace(copy, kind="duplicate"))
    for index, ticket in enumerate(tickets):
        yield ticket
        yield from copies.get(index, [])


def as_html(text: str) -> str:
    """A plain text as the inbox's editor stores it."""
    return "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n") if part.strip())


def spoken(
    ticket: Ticket, author: dict[str, str], data: dict[str, Any], rng: random.Random
) -> Iterator[dict[str, Any]]:
    """The parts that follow the customer's first words: note, answer, thanks, end."""
    agent = {"type": "admin", "name": ticket.agent}
    if rng.random() < WITH_NOTE:
        note = as_html(rng.choice(data["notes"]))
        yield {"part_type": "note", "body": note, "author": agent}
    if ticket.answer.strip():
        yield {"part_type": "comment", "body": as_html(ticket.answer), "author": agent}
        if rng.random() < WITH_THANKS:
            body = as_html(rng.choice(data["thanks"]))
            yield {"part_type": "comment", "body": body, "author": author}
        yield {"part_type": "close", "body": None, "author": agent}


def conversation(
    ticket: Ticket, number: str, created: int, data: dict[str, Any], rng: random.Random
) -> dict[str, Any]:
    """The ticket as one conversation of Intercom's."""
    contact = hashlib.sha256(ticket.email.encode()).hexdigest()[:24]
    author = {"type": "user", "id": contact, "name": ticket.name, "email": ticket.email}
    parts = list(spoken(ticket, author, data, rng))
    tags = [{"type": "tag", "name": ticket.tag}] if ticket.tag else []
    return {
        "type": "conversation",
        "id": number,
        "created_at": created,
        "state": "closed" if ticket.answer.strip() else "open",
        "source": {
            "type": "email" if ticket.subject else "conversation",
            "subject": ticket.subject,
            "body": as_html(ticket.question),
            "author": author,
        },
        "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": contact}]},
        "tags": {"type": "tag.list", "tags": tags},
        "conversation_parts": {
            "type": "conversation_part.list",
            "conversation_parts": parts,
            "total_count": len(parts),
        },
    }


def write_lines(
    tickets: list[Ticket], data: dict[str, Any], rng: random.Random
) -> tuple[bytes, list[str]]:
    """The file's bytes and each row's id; a line of kind "cut_off" ends in its middle."""
    created, lines, ids = OPENED, [], []
    for place, ticket in enumerate(tickets):
        created += rng.randrange(900, 60_000)
        ids.append(str(FIRST_ID + 7 * place))
        row = conversation(ticket, ids[-1], created, data, rng)
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
        lines.append(line[: len(line) // 2] if ticket.kind == "cut_off" else line)
    return b"".join(line + b"\n" for line in lines), ids


def expected(tickets: list[Ticket], ids: list[str], intents: int) -> dict[str, Any]:
    """The counts that a cleaner must report, and the ids behind those of rejected rows."""
    kinds = Counter(t.kind for t in tickets)
    rejected = ("duplicate", "unanswered", "cut_off")
    return {
        "rows": len(tickets),
        "clean": kinds["clean"],
        "intents": intents,
        "customers": len({t.email for t in tickets}),
        "duplicates": kinds["duplicate"],
        "duplicates_reformatted": REFORMATTED,
        "unanswered": kinds["unanswered"],
        "broken": kinds["cut_off"],
        "pii_rows": {k: sum(k in t.holds for t in tickets) for k in ("email", "phone")},
        "conversation_ids": {
            k: [i for i, t in zip(ids, tickets, strict=True) if t.kind == k] for k in rejected
        },
    }


def build() -> tuple[bytes, dict[str, Any]]:
    """The bytes of quillmere.jsonl and the content of quillmere.expected.json."""
    rng = random.Random(SEED)  # noqa: S311 -- texts, not keys
    data = json.loads((HERE / "quillmere.json").read_text(encoding="utf-8"))
    tickets = [*conversations(data, rng), *faulty_tickets(data, rng)]
    rng.shuffle(tickets)
    tickets = list(plant_copies(assign_customers(tickets, data, rng), rng))
    for word in (r"\w+", r"\S+"):
        check_similarity(tickets, word)
    content, ids = write_lines(tickets, data, rng)
    counts = expected(tickets, ids, len(data["intents"]))
    return content, {"sha256": hashlib.sha256(content).hexdigest(), **counts}


def main() -> None:
    """Writes both files beside this script."""
    content, counts = build()
    (HERE / "quillmere.jsonl").write_bytes(content)
    text = json.dumps(counts, indent=2, ensure_ascii=False) + "\n"
    (HERE / "quillmere.expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
