"""Whatever bytes are dropped, reading them gives rows or an ExportError, and nothing else.

FUZZ_CASES mutated exports: 5,000 where nothing is said, 100,000 by `make fuzz`. FUZZ_SEED
repeats a run; a failure names the seed, and the case with its number.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import zipfile

import pytest
from backports import zstd

from dropforge.errors import ExportError
from dropforge.export import Conversation, Rejected, read
from tests.unit.export.seeds import HELPDESKS
from tests.unit.export.test_formats import as_csv, as_parquet, as_zip

CASES = int(os.environ.get("FUZZ_CASES", "5000"))
SEED = int(os.environ.get("FUZZ_SEED", "7"))

CHAT = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
FLAT = [
    {"question": "Why?", "answer": "So.", "id": 7, "customer_email": "j@x.example"},
    {"instruction": "Sum", "input": "up", "output": "ok", "tags": ["a"]},
    {"prompt": "a", "completion": "b", "language": "en"},
]
TURNS = [
    {"conversation_id": "A", "role": "user", "text": "Why?", "created_at": "2026-01-01"},
    {"conversation_id": "A", "role": "agent", "text": "So.", "created_at": 1_700_000_000},
]
SHAPES = [*HELPDESKS, CHAT, SHAREGPT, *FLAT, *TURNS]


def lines(values: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def seeds() -> list[bytes]:
    table = as_csv([("Why?", "So."), ("a, b", 'said "no"\nor'), ("é\u2028", "=1+1")])
    plain = [
        table,
        table.replace(b",", b";"),
        b"chat_id\tsender\tmessage\ttime\n1\tuser\thi\t1\n1\tbot\tho\t2\n2\tuser\tx\t3\n",
        lines([CHAT, SHAREGPT, *FLAT]),
        lines(TURNS),
        json.dumps([CHAT, *FLAT]).encode(),
        json.dumps({"count": 2, "tickets": [CHAT, SHAREGPT]}).encode(),
        json.dumps(CHAT, indent=1).encode() * 2,
        *(json.dumps(ticket).encode() for ticket in HELPDESKS),
    ]
    packed = [pack(table) for pack in (gzip.compress, zstd.compress, as_zip)]
    return [*plain, *packed]


TOKENS = [
    *(b'"', b"'", b"\\", b",", b";", b"\t", b"\n", b"\r", b"\0", b":", b"{", b"}", b"[", b"]"),
    *(b'{"', b'":', b'"}', b"null", b"NaN", b"1e999", b"-0", b"true", b'""', b"\\ud800"),
    *(b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"\x1f\x8b", b"PK\x03\x04"),
    *(b"\x28\xb5\x2f\xfd", b"PAR1", b"messages", b"role", b"9" * 400, b"[" * 300),
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with one to eight changes: bytes flipped, cut, doubled, or tokens put in."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.randint(0, 20))
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at:end] = b""
            case 2:
                changed[at:at] = chance.choice(TOKENS)
            case 3:
                changed[at:end] = chance.choice(TOKENS)
            case 4:
                changed[at:at] = changed[at:end] * chance.randint(1, 4)
            case _:
                del changed[at if chance.random() < 0.2 else len(changed) :]
    return bytes(changed)


def hold(data: bytes) -> None:
    """Reads it; what is wrong with what came out is an AssertionError."""
    try:
        found = list(read(io.BytesIO(data)))
    except ExportError:
        return
    for row in found:
        assert isinstance(row, Conversation | Rejected)
        assert row.position > 0
        if isinstance(row, Rejected) and row.offset is not None and data[:1] in b'{["q':
            assert 0 <= row.offset <= len(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # zipfile: a name that is there twice
def test_mutated_exports_are_rows_or_an_export_error() -> None:
    chance = random.Random(SEED)
    sources = seeds()
    for case in range(CASES):
        data = mutated(chance.choice(sources), chance)
        if data.startswith(b"PAR1"):
            continue  # a process each: in the test below
        try:
            hold(data)
        except BaseException as error:
            pytest.fail(f"seed {SEED}, case {case}: {type(error).__name__}: {error}\n{data!r}")


def test_mutated_parquet_is_rows_or_an_export_error() -> None:
    chance = random.Random(SEED)
    columns = {"question": ["Why?", None, "é"] * 50, "answer": ["So.", "b", "c"] * 50}
    source = as_parquet(columns)
    for case in range(CASES // 1_500):
        data = b"PAR1" + mutated(source[4:], chance)
        try:
            hold(data)
        except AssertionError as error:
            pytest.fail(f"seed {SEED}, case {case}: {error}\n{data!r}")


def test_zip_with_a_member_of_every_seed() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(seeds()[:-3]):
            archive.writestr(f"{number}/export", data)
    found = list(read(out))
    assert len(found) > 20
    assert not [row for row in found if isinstance(row, Rejected)]
