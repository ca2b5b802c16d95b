"""Exports with a turn in each row."""

from __future__ import annotations

import io
import json

import pytest

from dropforge.export import Conversation, Reason, Rejected, Row, Turn, read, transcripts
from dropforge.project.data import Columns, Roles

HEAD = "conversation_id,author,message,created_at\n"


def rows(text: str, columns: Columns | None = None, roles: Roles | None = None) -> list[Row]:
    return list(read(io.BytesIO(text.encode()), columns, roles))


def texts(found: list[Row]) -> list[tuple[str, list[str]]]:
    return [(r.id, [t.text for t in r.turns]) for r in found if isinstance(r, Conversation)]


def test_turns_are_grouped_and_put_in_the_order_of_their_times() -> None:
    found = rows(
        HEAD
        + "A,customer,Why?,2026-01-01T10:00:00Z\n"
        + "B,agent,There.,2026-01-01T10:09:00Z\n"
        + "A,agent,So.,2026-01-01T10:01:00+00:00\n"
        + "B,customer,Where?,2026-01-01 09:00\n"
    )
    assert texts(found) == [("A", ["Why?", "So."]), ("B", ["Where?", "There."])]
    assert [row.position for row in found] == [1, 2]


def test_numbers_order_as_numbers_and_what_is_no_time_changes_nothing() -> None:
    numbers = "chat_id,sender,text,turn\nA,bot,c,10\nA,user,a,2\nA,user,b,9\n"
    assert texts(rows(numbers)) == [("A", ["a", "b", "c"])]
    odd = HEAD + "A,user,x,yesterday\nA,agent,y,2026-01-01\n"
    assert texts(rows(odd)) == [("A", ["x", "y"])]


def test_jsonl_of_turns_with_notes_and_what_it_says_of_the_customer() -> None:
    turns = [
        {"conversation_id": 7, "role": "customer", "text": "Why?", "customer_email": "j@x.example"},
        {"conversation_id": 7, "role": "agent", "text": "VIP", "private": True},
        {"conversation_id": 7, "role": "agent", "text": "So.", "sender_name": "Ana"},
        {"conversation_id": 7, "role": "system", "text": "closed", "language": "en", "tags": ["a"]},
    ]
    (found,) = rows("".join(json.dumps(turn) + "\n" for turn in turns))
    assert found == Conversation(
        1, (Turn("user", "Why?"), Turn("assistant", "So.")), "7", "j@x.example", ("Ana",), "en", "a"
    )


def test_columns_and_roles_of_its_own() -> None:
    text = "fall;wer;was;wann\n1;K;Warum?;1\n1;S;Darum.;2\n1;X;Ende;3\n"
    columns = Columns(id="fall", role="wer", text="was", time="wann")
    roles = Roles(customer=("k",), agent=("S",), ignored=("x",))
    assert texts(rows(text, columns, roles)) == [("1", ["Warum?", "Darum."])]


def test_role_is_found_beside_names_and_addresses_of_the_same_kind() -> None:
    text = (
        "thread_id,from,sender_type,body,is_internal\n"
        "1,jo@x.example,end-user,Why?,FALSE\n1,ana@y.example,Agent,VIP,TRUE\n"
        "1,ana@y.example,Agent,So.,FALSE\n"
    )
    assert texts(rows(text)) == [("1", ["Why?", "So."])]


def test_row_without_conversation_or_known_role_is_rejected_alone() -> None:
    found = rows(HEAD + "A,user,Why?,1\n,user,Lost,2\nA,Jane Roe,Hm,3\nA,agent,So.,4\n")
    odd = [row for row in found if isinstance(row, Rejected)]
    assert [(row.position, row.reason) for row in odd] == [
        (2, Reason.UNKNOWN_SHAPE),
        (3, Reason.UNKNOWN_SHAPE),
    ]
    assert not any("Jane" in row.detail for row in odd)
    assert texts(found) == [("A", ["Why?", "So."])]


def test_window_gives_out_the_longest_untouched_and_rejects_what_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transcripts.Transcripts.__init__, "__defaults__", (5_000,))
    filler = "".join(f"C{i},user,{'x' * 1_000},{i}\n" for i in range(6))
    found = rows(HEAD + "A,user,Why?,1\n" + filler + "A,agent,So.,2\n")
    late = [row for row in found if isinstance(row, Rejected)]
    assert [(row.position, row.reason) for row in late] == [(8, Reason.LATE_TURN)]
    assert texts(found)[0] == ("A", ["Why?"])
    assert len(texts(found)) == 7
