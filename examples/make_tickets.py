"""Writes the sample export of Orrinvale, a company that does not exist.

Reads `orrinvale.json`: what customers ask, what agents answer, and questions nobody answered.
Writes `tickets.csv`, the export as a helpdesk gives it out, faults included, and
`tickets.expected.json`, the counts that a cleaner has to find in it. Every run gives the same
bytes.

Two tickets are near-duplicates when the Jaccard similarity of the word 3-grams of question and
answer is at least 0.8. Planted ones reach 0.85 and all other pairs stay below 0.65, so the counts
do not depend on what exactly is called a word.
"""

import csv
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from orrinvale import Ticket, assign_customers, conversations, jaccard, shingles

HERE: Final = Path(__file__).parent
SEED: Final = 20260105
COLUMNS: Final = (
    "ticket_id",
    "created_at",
    "customer_email",
    "customer_name",
    "subject",
    "question",
    "answer",
    "status",
    "agent",
    "tags",
)
EXACT_DUPLICATES: Final = 26
REFORMATTED_DUPLICATES: Final = 9
NEAR_DUPLICATES: Final = 24
COPY_WORDS: Final = 20
HTML_ANSWERS: Final = 10
PLANTED_SIMILARITY: Final = 0.85
OTHER_SIMILARITY: Final = 0.65

PII: Final = {"email": "email", "phone": "phone", "card": "card", "iban": "iban"}
SECRETS: Final = {
    "api_key": "api_key",
    "aws_key": "aws_access_key_id",
    "password": "password",
    "bearer": "token",
    "jwt": "token",
}


def check_similarity(tickets: list[Ticket], word: str) -> None:
    """Holds the planted copies and all other pairs to their bounds.

    Raises:
        ValueError: a copy is too far from its original, or another pair too close.
    """
    answered = [t for t in tickets if t.tag]
    sets = [shingles(t, word) for t in answered]
    for right, ticket in enumerate(answered):
        for left, other in enumerate(answered[:right]):
            close = jaccard(sets[left], sets[right])
            copied = other.kind == "clean" != ticket.kind and other.email == ticket.email
            if copied and other.tag == ticket.tag:
                fits = close >= (PLANTED_SIMILARITY if ticket.kind == "near_duplicate" else 1)
            else:
                fits = close <= OTHER_SIMILARITY
            if not fits:
                raise ValueError(f"similarity {close:.2f} between {other} and {ticket}")


def as_html(ticket: Ticket) -> Ticket:
    """The same answer as a rich-text editor stores it."""
    head, _, tail = ticket.answer.partition(". ")
    return replace(ticket, answer=f"<p>{head}.</p>\n<p>{tail}</p>" if tail else f"<p>{head}</p>")


def reformatted(ticket: Ticket, rng: random.Random) -> Ticket:
    """The same question in other letters or with other white space."""
    spaced = ticket.question.replace(" ", "  ") + "\n"
    forms = (ticket.question.upper(), ticket.question.lower(), spaced)
    return replace(ticket, question=rng.choice([f for f in forms if f != ticket.question]))


def retold(ticket: Ticket, rng: random.Random) -> Ticket:
    """The same ticket sent once more with a word or two added to the question or to the answer."""
    form = rng.choice(("Hi again, {}", "Hello, {}", "Once more: {}", ""))
    if form:
        return replace(ticket, question=form.format(ticket.question))
    return replace(ticket, answer=f"{ticket.answer} {rng.choice(('Bye!', 'Take care.'))}")


def plant_copies(tickets: list[Ticket], rng: random.Random) -> list[Ticket]:
    """Puts exact and near-duplicates a few rows after their originals, with the same customer."""
    counts = Counter(t.email for t in tickets)

    def copyable(ticket: Ticket) -> bool:
        long_enough = len(f"{ticket.question} {ticket.answer}".split()) >= COPY_WORDS
        return long_enough and ticket.kind == "clean" and not ticket.holds

    lonely = [i for i, t in enumerate(tickets) if counts[t.email] == 1 and copyable(t)]
    chosen = rng.sample(lonely, EXACT_DUPLICATES + NEAR_DUPLICATES)
    copies: dict[int, list[Ticket]] = {}
    for rank, index in enumerate(chosen):
        original = tickets[index]
        if rank < EXACT_DUPLICATES:
            copy = reformatted(original, rng) if rank < REFORMATTED_DUPLICATES else original
            copy = replace(copy, kind="duplicate")
        else:
            copy = replace(retold(original, rng), kind="near_duplicate")
        copies.setdefault(index + rng.randrange(1, 6), []).append(copy)
    planted: list[Ticket] = []
    for index in range(len(tickets) + 6):
        planted += tickets[index : index + 1] + copies.get(index, [])
    return planted


def faulty_tickets(data: dict[str, Any], rng: random.Random) -> Iterator[Ticket]:
    """Tickets without an answer, and those whose row will be broken."""
    for question in data["unanswered"]:
        answer, status = rng.choice(("", "", "", " ")), rng.choice(("new", "open", "pending"))
        yield Ticket(question, answer, "Question", "", "", status, "unanswered")
    answer = "We are looking into it and will write to you again."
    for kind, questions in data["broken"].items():
        for question in questions:
            agent = rng.choice(tuple(data["agents"]))
            yield Ticket(question, answer, "Question", "", agent, kind=kind)


def row_bytes(ticket: Ticket, ticket_id: str, created: datetime) -> bytes:
    """One line of the file; a broken ticket loses cells, quotes or its encoding here."""
    stamp = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    cells = [ticket_id, stamp, ticket.email, ticket.name, ticket.subject, ticket.question]
    cells += [ticket.answer, ticket.status, ticket.agent, ticket.tag]
    if ticket.kind == "too_few_cells":
        cells = cells[: COLUMNS.index("question") + 1]
    if ticket.kind == "too_many_cells":
        return (",".join(cells) + "\n").encode()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    if ticket.kind == "invalid_utf8":
        return text.getvalue().encode("latin-1", errors="replace")
    return text.getvalue().encode()


def expected(tickets: list[Ticket], ids: list[str], intents: int) -> dict[str, Any]:
    """The counts that a cleaner must report, and the ticket ids behind those of rejected rows."""
    kinds = Counter(t.kind for t in tickets)
    broken = ("too_few_cells", "too_many_cells", "empty_question", "invalid_utf8")
    listed = ("duplicate", "near_duplicate", "unanswered", *broken)

    def holding(names: dict[str, str]) -> dict[str, int]:
        rows = ({names[h] for h in t.holds if h in names} for t in tickets)
        return dict(sorted(Counter(label for row in rows for label in row).items()))

    return {
        "rows": len(tickets),
        "clean": kinds["clean"],
        "intents": intents,
        "customers": len({t.email for t in tickets}),
        "duplicates": kinds["duplicate"],
        "duplicates_reformatted": REFORMATTED_DUPLICATES,
        "near_duplicates": kinds["near_duplicate"],
        "unanswered": kinds["unanswered"],
        "broken": sum(kinds[k] for k in broken),
        "broken_by_reason": {k: kinds[k] for k in broken},
        "html_rows": sum("</" in t.question + t.answer for t in tickets),
        "pii_rows": holding(PII),
        "secret_rows": holding(SECRETS),
        "ticket_ids": {
            k: [i for i, t in zip(ids, tickets, strict=True) if t.kind == k] for k in listed
        },
    }


def write_rows(tickets: list[Ticket], rng: random.Random) -> tuple[bytes, list[str]]:
    """The file's bytes and each row's ticket id, with ids and times rising from January 2026 on."""
    created = datetime(2026, 1, 5, 7, 30, tzinfo=UTC)
    lines, ids = [",".join(COLUMNS).encode() + b"\n"], []
    for number, ticket in enumerate(tickets, start=10412):
        created += timedelta(seconds=rng.randrange(240, 43_000))
        ids.append(f"T-{number}")
        lines.append(row_bytes(ticket, ids[-1], created))
    return b"".join(lines), ids


def build() -> tuple[bytes, dict[str, Any]]:
    """The bytes of tickets.csv and the content of tickets.expected.json."""
    rng = random.Random(SEED)  # noqa: S311 -- texts, not keys
    data = json.loads((HERE / "orrinvale.json").read_text(encoding="utf-8"))
    tickets = [*conversations(data, rng), *faulty_tickets(data, rng)]
    rng.shuffle(tickets)
    tickets = assign_customers(tickets, data, rng)
    plain = [i for i, t in enumerate(tickets) if t.kind == "clean" and not t.holds]
    for index in rng.sample(plain, HTML_ANSWERS):
        tickets[index] = as_html(tickets[index])
    tickets = plant_copies(tickets, rng)
    for word in (r"\w+", r"\S+"):
        check_similarity(tickets, word)
    content, ids = write_rows(tickets, rng)
    counts = expected(tickets, ids, len(data["intents"]))
    return content, {"sha256": hashlib.sha256(content).hexdigest(), **counts}


def main() -> None:
    """Writes both files beside this script."""
    content, counts = build()
    (HERE / "tickets.csv").write_bytes(content)
    text = json.dumps(counts, indent=2, ensure_ascii=False) + "\n"
    (HERE / "tickets.expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
