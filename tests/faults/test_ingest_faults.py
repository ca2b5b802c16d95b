"""Faults 1-30: what a dropped file or a delivery can do, named by their numbers."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
import tracemalloc
from typing import Any

import boto3
import pytest

from dropforge.backends.registry import FAILED
from dropforge.clean import Cleaned, clean
from dropforge.errors import EncodingError, NoDataError, SchemaError, TooManyRejectedError
from dropforge.export import Conversation, Reason, Rejected, Row, read
from lambdas import edge
from tests.support.provider import Provider
from tests.support.tickets import table, ticket, tickets_csv, tickets_jsonl
from tests.support.world import World, object_created

GOOD = '{"question": "Why?", "answer": "So."}\n'


def rows(data: str | bytes) -> list[Row]:
    return list(read(data.encode() if isinstance(data, str) else data))


def line_among_good(line: str | bytes) -> Row:
    """What becomes of a line between two good ones, which have to survive it."""
    raw = line.encode() if isinstance(line, str) else line
    first, odd, last = rows(GOOD.encode() + raw + b"\n" + GOOD.encode())
    assert isinstance(first, Conversation)
    assert isinstance(last, Conversation)
    return odd


def quarantined(line: str | bytes, reason: Reason) -> None:
    odd = line_among_good(line)
    assert isinstance(odd, Rejected)
    assert (odd.reason, odd.position, odd.offset) == (reason, 2, len(GOOD))


def cleaned(data: str | bytes) -> Cleaned:
    return clean(rows(data))


@pytest.mark.parametrize("data", [tickets_csv(3), tickets_jsonl(3), json.dumps([json.loads(GOOD)])])
def test_fault_01_byte_order_mark_is_stripped(data: str) -> None:
    assert cleaned(b"\xef\xbb\xbf" + data.encode()) == cleaned(data)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_fault_02_utf16_file_is_refused(encoding: str) -> None:
    with pytest.raises(EncodingError, match="UTF-8"):
        rows(tickets_csv(20).encode(encoding))


def test_fault_03_invalid_utf8_costs_its_line_alone() -> None:
    quarantined(b'{"question": "caf\xe9", "answer": "x"}', Reason.ENCODING)
    good, _, found = rows(b"question,answer\nWhy?,So.\ncaf\xe9,x\nWhy not?,So.\n")[0:3]
    assert isinstance(good, Conversation)
    assert isinstance(found, Conversation)


def test_fault_03_invalid_utf8_in_the_first_line_of_jsonl_costs_it_alone() -> None:
    odd, good = rows(b'{"question": "caf\xe9", "answer": "x"}\n' + GOOD.encode())
    assert isinstance(odd, Rejected)
    assert isinstance(good, Conversation)


def test_fault_04_lone_surrogate_is_quarantined() -> None:
    quarantined(r'{"question": "\ud800", "answer": "x"}', Reason.BROKEN_ROW)


def test_fault_05_nul_escape_is_stripped_and_counted() -> None:
    found = cleaned(r'{"question": "Wh\u0000y?", "answer": "S\u0000o."}' + "\n")
    assert [m.content for m in found.examples[0].messages] == ["Why?", "So."]
    assert found.repaired == {"NUL left out": 1}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_fault_06_what_is_no_number_is_quarantined(number: str) -> None:
    quarantined(f'{{"question": "q", "answer": "a", "n": {number}}}', Reason.BROKEN_ROW)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"question":['])
def test_fault_08_deep_nesting_is_quarantined(opening: str) -> None:
    quarantined(opening * (700_000 // len(opening)), Reason.BROKEN_ROW)


def test_fault_08_deep_nesting_that_is_closed_is_quarantined() -> None:
    value = "[" * 100_000 + "]" * 100_000
    quarantined(f'{{"question": {value}, "answer": "a"}}', Reason.BROKEN_ROW)


def test_fault_09_huge_integer_is_quarantined_at_once() -> None:
    began = time.perf_counter()
    quarantined(f'{{"question": {"9" * 10_000}, "answer": "a"}}', Reason.BROKEN_ROW)
    assert time.perf_counter() - began < 0.1


def test_fault_10_line_over_a_megabyte_is_quarantined() -> None:
    quarantined(f'{{"question": "{"x" * (1 << 20)}", "answer": "a"}}', Reason.TOO_LONG)


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\u2029", "\x0b", "\x1e"])
def test_fault_11_line_separator_inside_a_string_is_one_line(separator: str) -> None:
    line = json.dumps({"question": f"a{separator}b", "answer": "c"}, ensure_ascii=False)
    assert isinstance(line_among_good(line), Conversation)
    (row,) = rows(f"question,answer\na{separator}b,c\n")
    assert isinstance(row, Conversation)


def test_fault_15_cell_over_128_kilobytes_is_accepted() -> None:
    (row,) = rows(f"question,answer\n{'x' * 200_000},a\n")
    assert isinstance(row, Conversation)


@pytest.mark.parametrize("header", ["question,answer,answer", "Question,answer,QUESTION "])
def test_fault_16_repeated_headers_are_refused(header: str) -> None:
    with pytest.raises(SchemaError, match=r"two columns of the same name: (answer|question)"):
        rows(f"{header}\na,b,c\n")


@pytest.mark.parametrize("row", ['a,"b\n', '"a\n', 'a,"b""\nc,d\ne,f\n'])
def test_fault_17_unclosed_quote_is_refused(row: str) -> None:
    with pytest.raises(SchemaError, match="after row 2 is never closed"):
        rows(f"question,answer\na,b\nc,d\n{row}")


def test_fault_19_mixed_shapes_are_read_line_by_line() -> None:
    lines = [
        '{"question": "q", "answer": "a"}',
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}',
        '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}',
        '{"what": "else"}',
        "plain text",
        '"a string"',
    ]
    found = rows("\n".join(lines))
    assert [row.turns[0].text for row in found[:3] if isinstance(row, Conversation)] == ["q"] * 3
    assert [row.reason for row in found[3:] if isinstance(row, Rejected)] == [
        Reason.UNKNOWN_SHAPE,
        Reason.BROKEN_ROW,
        Reason.UNKNOWN_SHAPE,
    ]


@pytest.mark.parametrize(
    "data",
    ["", "\n \n\t\n", "question,answer\n", "question,answer\nWhy?,\n", '{"question": "q"}\n'],
)
def test_fault_20_nothing_usable_stops_before_any_spending(
    world: World, provider: Provider, data: str
) -> None:
    state = world.drop(data)
    with pytest.raises(NoDataError) as stopped:
        world.run(state)
    world.fail(state, stopped.value)
    assert world.store.read("exports/shop/tickets.csv.error.txt").startswith(b"NO_DATA: ")
    assert not provider.files
    assert not world.listed("clean/")


def test_fault_21_more_than_a_fifth_unreadable_publishes_nothing(world: World) -> None:
    state = world.drop(tickets_csv(40) + "one cell\n" * 11)
    with pytest.raises(TooManyRejectedError, match="11 of 51 rows"):
        world.run(state)
    assert not world.listed("clean/")
    assert not world.listed("rejected/")


@pytest.mark.parametrize(
    "name",
    [
        "a+b.csv",
        "a b.csv",
        "100%.csv",
        "100%25.csv",
        "Übergrößen/日本語.csv",
        "'quoted' & <odd>.csv",
        "x" * (1024 - len("exports/shop/")),
    ],
)
def test_fault_22_odd_keys_work_from_drop_to_clean(world: World, name: str) -> None:
    state = world.run(world.drop(tickets_csv(5), f"exports/shop/{name}"), until="clean")
    assert state["run"]["key"] == f"exports/shop/{name}"
    assert state["clean"]["kept"] == 5
    longest = len(name) > 1000
    if not longest:  # the message's key would be over S3's 1,024 bytes
        world.fail(state, NoDataError("No."))
        assert f"exports/shop/{name}.error.txt" in world.listed("exports/")


def test_fault_23_event_delivered_thirty_times_starts_one_execution(world: World) -> None:
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    for _ in range(3):
        assert world.take(*[event] * 10) == {"batchItemFailures": []}
    (state,) = world.executions()
    world.run(state, until="clean")
    assert len(world.listed("clean/")) == 2


def test_fault_24_old_project_file_after_a_new_one_changes_nothing(world: World) -> None:
    key, usual = "projects/shop/project.yaml", "backend: openai\nmodel: "
    old, new = world.put(key, f"{usual}old\n"), world.put(key, f"{usual}new\n")
    world.take(new, old)
    assert (world.registry.get("shop", "config") or {})["model"] == "new"


def test_fault_25_deleted_version_is_acknowledged_and_counted(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    world.delete_version("exports/shop/t.csv", event["detail"]["object"]["version-id"])
    assert world.take(event) == {"batchItemFailures": []}
    assert '"DropsGone":[1.0]' in capsys.readouterr().out
    assert not world.executions()


def test_fault_25_overwritten_object_is_read_in_the_events_version(world: World) -> None:
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    world.put("exports/shop/t.csv", tickets_csv(9))
    world.take(event)
    (state,) = world.executions()
    assert world.run(state, until="clean")["clean"]["read"] == 5


def test_fault_27_poison_message_fails_alone(world: World) -> None:
    events: list[dict[str, Any]] = [
        world.put(f"exports/shop/{i}.csv", tickets_csv(i + 1)) for i in range(9)
    ]
    poison = {"detail": "not an event of S3"}
    told = world.take(*events[:4], poison, *events[4:])
    assert told == {"batchItemFailures": [{"itemIdentifier": "4"}]}
    assert len(world.executions()) == 9


def test_fault_27_missing_version_in_a_batch_stops_no_other(world: World) -> None:
    gone = object_created(world.bucket, "exports/shop/gone.csv", "no-such-version")
    assert world.take(gone, world.put("exports/shop/t.csv", tickets_csv(5))) == {
        "batchItemFailures": []
    }
    assert len(world.executions()) == 1


def test_fault_28_killed_run_leaves_no_lock_and_the_rerun_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world.drop(tickets_csv(40))
    whole = edge.Store.save

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge.Store, "save", die)
    with pytest.raises(KeyboardInterrupt):
        world.run(state, until="clean")
    half = {key: world.store.read(key) for key in world.listed("clean/")}
    monkeypatch.setattr(edge.Store, "save", whole)
    world.run(state, until="clean")
    assert half
    assert half.items() < {key: world.store.read(key) for key in world.listed("clean/")}.items()


CANARIES = {
    "name": "Wilhelmina",
    "email": "canary.bird@mail.example",
    "phone": "+49 30 9876543",
    "card": "4111 1111 1111 1111",
    "iban": "DE89370400440532013000",
    "aws": "AKIAIOSFODNN7CANARY1",
    "key": "sk-live_canarycanary0123",
    "token": "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "password": "h0ppity-c4nary",
}


def with_canaries() -> str:
    """Good tickets, of which some hold every kind of personal data, and some broken rows."""
    mail, person = CANARIES["email"], f"{CANARIES['name']} Vogel"
    everything = " ".join(
        f"my password is {value}." if kind == "password" else value
        for kind, value in CANARIES.items()
    )
    good = [(f"T-{i}", *ticket(i), f"u{i}@mail.example", person) for i in range(60)]
    odd = [
        (f"C-{i}", f"{ticket(i)[0]} {everything}", everything, mail, person) for i in range(60, 64)
    ]
    broken = [("B-1", everything), ("B-2", everything, "", mail, person)]
    return table([*good, *odd, *broken], "id,question,answer,customer_email,customer_name")


def test_fault_30_canaries_are_nowhere_but_in_the_dropped_file(
    world: World,
    provider: Provider,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged = io.StringIO()
    for handler in edge.logger._logger.handlers:
        monkeypatch.setattr(handler, "stream", logged)
    caplog.set_level(logging.INFO)
    state = world.run(world.drop(with_canaries()), until="launch")
    provider.finish()
    world.run(state)
    written = [world.store.read(key) for key in world.listed() if not key.startswith("exports/")]
    items = boto3.resource("dynamodb").Table(world.table).scan()["Items"]
    said = capsys.readouterr()
    everything = "\n".join(
        [
            *(data.decode() for data in (*written, *provider.files)),
            str(items),
            str(provider.chats),
            said.out,
            said.err,
            logged.getvalue(),
            caplog.text,
        ]
    )
    assert "stage done" in logged.getvalue()
    assert "RowsKept" in said.out
    assert "[EMAIL_1]" in everything
    assert [kind for kind, value in CANARIES.items() if value in everything] == []


@pytest.mark.parametrize(
    "data",
    [
        f"{CANARIES['email']},{CANARIES['name']} writes,{CANARIES['key']}\n" * 3,
        table([[CANARIES["email"]]] * 9),
        json.dumps({CANARIES["email"]: CANARIES["name"]}) + "\n",
        json.dumps({"messages": [{"role": CANARIES["name"], "content": "x"}]}) + "\n",
        f'[{{"{CANARIES["email"]}": "{CANARIES["key"]}"',
        f"question,answer,{CANARIES['email']},{CANARIES['email']}\n",
    ],
)
def test_fault_30_refusal_of_a_file_quotes_nothing_of_it(world: World, data: str) -> None:
    """The message of an error is logged by Lambda itself."""
    state = world.drop(data)
    with pytest.raises((SchemaError, NoDataError, TooManyRejectedError)) as refused:
        world.run(state)
    world.fail(state, refused.value)
    told = world.store.read("exports/shop/tickets.csv.error.txt").decode()
    assert world.run_item(state)["status"] == FAILED
    assert not [
        value for value in CANARIES.values() if value.lower() in f"{told}{refused.value}".lower()
    ]


def test_memory_stays_near_the_size_of_the_file() -> None:
    data = tickets_csv(20_000).encode()
    tracemalloc.start()
    count = sum(sys.getsizeof(row) > 0 for row in read(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 8 * len(data)
