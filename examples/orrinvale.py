"""What customers of Orrinvale ask and what its agents answer, as tickets.

Reads `orrinvale.json`, whose texts hold placeholders: {first} and {name} for the customer, and the
keys of SENSITIVE for personal data and secrets.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import fictional

SENSITIVE: Final[dict[str, Callable[[random.Random], str]]] = {
    "email": fictional.shared_email,
    "phone": fictional.phone,
    "card": fictional.card,
    "iban": fictional.iban,
    "api_key": fictional.api_key,
    "aws_key": fictional.aws_key,
    "password": fictional.password,
    "bearer": fictional.bearer,
    "jwt": fictional.jwt,
}
# An answer is drafted anew, this often at most, until the ticket differs from those before it.
DRAFTS: Final = 30
LIKE: Final = 0.6


@dataclass(frozen=True)
class Ticket:
    """One row before it is written.

    `kind` is "clean" or what is wrong with the row; `holds` names the sensitive data in its text.
    """

    question: str
    answer: str
    subject: str
    tag: str
    agent: str
    status: str = "solved"
    kind: str = "clean"
    email: str = ""
    name: str = ""
    holds: frozenset[str] = frozenset()


def shingles(ticket: Ticket, word: str = r"\w+") -> frozenset[tuple[str, ...]]:
    """The 3-grams of question and answer over what the pattern `word` calls a word."""
    words = re.findall(word, f"{ticket.question} {ticket.answer}".lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def jaccard(left: frozenset[Any], right: frozenset[Any]) -> float:
    """The share of the union that both sets have; 0 for two empty ones."""
    shared = len(left & right)
    return shared / max(1, len(left) + len(right) - shared)


def fill(texts: Iterable[str], first: str, name: str, rng: random.Random) -> list[str]:
    """Fills {first}, {name} and the sensitive placeholders; a repeated one gets the same value."""
    values: dict[str, str] = {"first": first, "name": name}

    def value(match: re.Match[str]) -> str:
        key = match[1]
        if key not in values:
            values[key] = SENSITIVE[key](rng)
        return values[key]

    names = "|".join(("first", "name", *SENSITIVE))
    return [re.sub(rf"\{{({names})\}}", value, text) for text in texts]


def drafts(
    ticket: Ticket, intent: dict[str, Any], note: str, agents: dict[str, Any], rng: random.Random
) -> Iterator[Ticket]:
    """The ticket with answers to choose from: greeting, facts, note for the customer, farewell."""
    for _ in range(DRAFTS):
        agent, manners = rng.choice(tuple(agents.items()))
        parts = (
            rng.choice(manners["greetings"]),
            intent["answer"],
            note,
            rng.choice(manners["farewells"]),
        )
        yield replace(ticket, agent=agent, answer=" ".join(filter(None, parts)))


def conversations(data: dict[str, Any], rng: random.Random) -> Iterator[Ticket]:
    """One ticket for each question of each intent, placeholders unfilled and customer unknown."""
    for intent in data["intents"]:
        sent: list[Ticket] = []
        for entry in intent["questions"]:
            question, note = (entry, "") if isinstance(entry, str) else entry
            asked = Ticket(
                question=question,
                answer="",
                subject=rng.choice(intent["subjects"]),
                tag=intent["tag"],
                agent="",
                status=rng.choice(("solved", "solved", "closed")),
                holds=frozenset(re.findall(r"\{(\w+)\}", question)) & frozenset(SENSITIVE),
            )

            def likeness(draft: Ticket, sent: list[Ticket] = sent) -> float:
                return max((jaccard(shingles(draft), shingles(s)) for s in sent), default=0.0)

            choice = list(drafts(asked, intent, note, data["agents"], rng))
            sent.append(next((d for d in choice if likeness(d) <= LIKE), choice[0]))
        yield from sent


def assign_customers(
    tickets: list[Ticket], data: dict[str, Any], rng: random.Random
) -> list[Ticket]:
    """Gives runs of one to three tickets to the same customer, and fills the placeholders in."""
    assigned: list[Ticket] = []
    taken: set[str] = set()
    left = 0
    for ticket in tickets:
        if left == 0:
            left = rng.choices((1, 2, 3), weights=(6, 3, 1))[0]
            first, last = rng.choice(data["first_names"]), rng.choice(data["last_names"])
            email = fictional.email(rng, first, last)
            while email in taken:
                email = fictional.email(rng, first, last)
            taken.add(email)
        left -= 1
        name = f"{first} {last}"
        question, answer = fill((ticket.question, ticket.answer), first, name, rng)
        assigned.append(replace(ticket, question=question, answer=answer, email=email, name=name))
    return assigned
