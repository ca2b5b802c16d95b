"""Exports with planted cases, as JSONL: what both ways of cleaning have to agree on."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

WORDS = (
    "order parcel refund invoice broken charger delivery late address change password account email"
    " locked screen replace warranty store credit coupon shipping label return cancel subscription"
    " payment card declined update app crash login reset battery camera lens colour size wrong"
).split()
TEMPLATE = (
    "Hello, thank you for writing to us about your order. We have looked into it and the parcel is"
    " on its way to you; it should arrive within three working days at the address you gave us."
)


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words)).capitalize() + "."


def _pair(chance: random.Random, n: int, **more: Any) -> dict[str, Any]:
    question = _sentence(chance, chance.randint(6, 40))
    answer = _sentence(chance, chance.randint(8, 60))
    customer = f"c{chance.randrange(40)}@example.com"
    return {
        "ticket_id": f"t{n}",
        "customer_email": customer,
        "question": question,
        "answer": answer,
        "tags": [chance.choice(("billing", "returns", "login", "other"))],
        **more,
    }


def _changed(chance: random.Random, row: dict[str, Any], words: int) -> dict[str, Any]:
    """A copy with some words of the answer replaced: near, or not near any more."""
    parts = row["answer"].split()
    for _ in range(words):
        parts[chance.randrange(len(parts))] = chance.choice(WORDS)
    return {**row, "answer": " ".join(parts)}


def mixed(seed: int, rows: int = 400) -> bytes:
    """New rows, exact and near duplicates (in another case, with other white space), chains."""
    chance = random.Random(seed)
    made: list[dict[str, Any]] = []
    while len(made) < rows:
        kind = chance.random()
        if not made or kind < 0.5:
            made.append(_pair(chance, len(made)))
            continue
        old = chance.choice(made[-60:])
        if kind < 0.6:
            made.append({**old, "answer": old["answer"].upper(), "ticket_id": f"t{len(made)}"})
        elif kind < 0.65:
            made.append({**old, "question": old["question"].replace(" ", "  \t")})
        elif kind < 0.85:
            made.append(_changed(chance, old, 1))
        else:
            made.append(_changed(chance, old, chance.randint(2, 8)))
    return _lines(made)


def templates(seed: int, rows: int = 300) -> bytes:
    """Buckets with far more rows than are compared: one template, a few words different."""
    chance = random.Random(seed)
    made = []
    for n in range(rows):
        words = TEMPLATE.split()
        for _ in range(chance.randrange(4)):
            words[chance.randrange(len(words))] = chance.choice(WORDS)
        made.append(_pair(chance, n, question="Where is my order?", answer=" ".join(words)))
    return _lines(made)


def rejected(seed: int) -> bytes:
    """Rows of every reason, blank lines, many topics, between rows that are kept."""
    chance = random.Random(seed)
    lines: list[bytes] = []
    odd = [
        b"{not json",
        b"",
        b"   ",
        b'{"question": "\xff\xfe", "answer": "x"}',
        b'{"other": 1}',
        b"[1, 2]",
        json.dumps({"question": "Where is my parcel?", "answer": ""}).encode(),
        json.dumps({"question": "", "answer": "We have sent it to you today."}).encode(),
        json.dumps({"question": "Long?", "answer": "word " * 15_000}).encode(),
        b'{"question": "' + b"x" * (1 << 20) + b'"}',
        json.dumps({"question": "Ok?", "answer": "ok"}).encode(),
        json.dumps({"question": "Hi", "answer": "I am out of the office until Monday."}).encode(),
    ]
    for n in range(260):
        if n % 9 == 4:
            lines.append(odd[(n // 9) % len(odd)])
        row = _pair(chance, n, tags=[f"topic {n if n < 230 else n - 100}"])
        lines.append(json.dumps(row).encode())
    return b"\n".join(lines)


def people(seed: int) -> bytes:
    """Several turns, several languages and scripts, personal data, texts without words."""
    chance = random.Random(seed)
    texts = (
        "Wo bleibt meine Bestellung? Ich warte seit zwei Wochen darauf, bitte antworten Sie.",
        "Где мой заказ? Я жду уже две недели, ответьте пожалуйста.",
        "我的订单在哪里？我已经等了两个星期了。",
        "¿Dónde está mi pedido? Escríbame a maria.lopez@example.com o al +34 612 345 678.",
        "Meine IBAN ist DE89 3704 0044 0532 0130 00, Straße und Maß ändern sich.",
        "🙂 ...",
        "!!! ???",
        "\u00c3\u00bcber caf\u00c3\u00a9 <b>bold</b> &amp; more",
    )
    made: list[dict[str, Any]] = []
    for n in range(160):
        turns = [{"role": "user", "content": chance.choice(texts)}]
        for _ in range(chance.randint(1, 3)):
            turns.append({"role": "assistant", "content": _sentence(chance, 9) if n % 3 else "!!!"})
            turns.append({"role": "user", "content": chance.choice(texts)})
        turns.append({"role": "assistant", "content": chance.choice((TEMPLATE, *texts))})
        made.append({"id": f"c{n}", "messages": turns, "language": "de", "topic": "Lieferung"})
    return b"\xef\xbb\xbf" + _lines(made)


def transcript(seed: int) -> bytes:
    """A turn in each row: conversations come when they end, not in the order they begin."""
    chance = random.Random(seed)
    made: list[dict[str, Any]] = []
    for n in range(90):
        place = max(0, len(made) - chance.randrange(6))
        said = [("customer", _sentence(chance, 12)), ("agent", _sentence(chance, 20))]
        if n % 4 == 3:
            said = [(m["author_role"], m["message"]) for m in made[:2]]
        rows = [{"conversation_id": f"c{n}", "author_role": w, "message": t} for w, t in said]
        made[place:place] = rows[:1]
        made.append(rows[1])
    return _lines(made)


def csv(seed: int, rows: int = 120) -> bytes:
    """A table: not read in ranges."""
    made = [json.loads(line) for line in mixed(seed, rows).splitlines()]
    table = ["question,answer,customer_email,ticket_id"]
    for row in made:
        cells = (row[name] for name in ("question", "answer", "customer_email", "ticket_id"))
        table.append(",".join(f'"{cell}"' for cell in cells))
    return "\n".join(table).encode()


def corpora() -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Each corpus, and into how many ranges and tasks it is cut."""
    return {
        "everything": (people(4) + mixed(1) + templates(2) + rejected(3), (7,)),
        "seeds": (mixed(11) + templates(12, 150) + mixed(13, 150), (1,)),
        "transcript": (transcript(5), (2,)),
        "table": (gzip.compress(csv(6)), (7,)),
        "cut": (gzip.compress(csv(8, 600))[:-2_000], (2,)),
        "broken": (b"{}\n" * 30 + mixed(7, 40), (2,)),
    }


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
