"""Faults 20-30: what a drop or a delivery can do, by number; see test_reader_faults.py for 1-20."""

from __future__ import annotations

import io
import json
import logging
import random
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.httpchecksum import Crc32Checksum, StreamingChecksumBody
from botocore.response import StreamingBody
from urllib3.exceptions import ProtocolError

from dropforge.artifacts import Run, error_key
from dropforge.backends.registry import FAILED
from dropforge.errors import NoDataError, RetryableError, SchemaError, TooManyRejectedError
from lambdas import edge
from lambdas.drop import handler as drop_handler
from tests.support.provider import Provider
from tests.support.tickets import table, ticket, tickets_csv
from tests.support.world import World, object_created


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
    world.fail(state, NoDataError("No."))
    told = error_key(f"exports/shop/{name}")
    assert told in world.listed("exports/")
    assert len(name) > 1000 or told == f"exports/shop/{name}.error.txt"


def test_fault_23_event_delivered_a_thousand_times_starts_one_execution(world: World) -> None:
    event = world.put("exports/shop/t.csv", tickets_csv(5))
    for _ in range(100):
        assert world.take(*[event] * 10) == {"batchItemFailures": []}
    (state,) = world.executions()
    world.run(state, until="clean")
    assert len(world.listed("clean/")) == 2


def test_fault_24_old_project_file_after_a_new_one_changes_nothing(world: World) -> None:
    key, usual = "projects/shop/project.yaml", "backend: openai\nmodel: "
    old, new = world.put(key, f"{usual}old\n"), world.put(key, f"{usual}new\n")
    world.take(new, old)
    assert (world.registry.get("shop", "config") or {})["model"] == "new"


@pytest.mark.parametrize(("old", "new"), [("0A", "0A1"), ("0099", "00A0"), ("F", "F0001")])
def test_fault_24_old_event_of_an_export_after_a_new_one_is_dropped(
    world: World, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    """Sequencers are filled up on the right: as integers these would compare the other way."""
    events = [world.put("exports/shop/t.csv", tickets_csv(n)) for n in (5, 9)]
    for event, sequencer in zip(events, (old, new), strict=True):
        event["detail"]["object"]["sequencer"] = sequencer
    assert world.take(*reversed(events)) == {"batchItemFailures": []}
    (state,) = world.executions()
    assert world.run(state, until="clean")["clean"]["read"] == 9
    assert '"DropsStale":[1.0]' in capsys.readouterr().out


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
    good = [(f"T-{i}", *ticket(i), f"u{i}@mail.example", person) for i in range(110)]
    odd = [
        (f"C-{i}", f"{ticket(i)[0]} {everything}", everything, mail, person)
        for i in range(110, 114)
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


def cut(data: bytes) -> StreamingBody:
    """A body that ends before its length."""
    return StreamingBody(io.BytesIO(data[: len(data) // 2]), len(data))


def reset(data: bytes) -> StreamingBody:
    """A connection that is reset in the middle."""

    class Reset(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise ProtocolError("Connection broken: reset by peer")
            return super().read(10)

    return StreamingBody(Reset(data), len(data))


def corrupted(data: bytes) -> StreamingChecksumBody:
    """Bytes that are not those the checksum was taken of."""
    return StreamingChecksumBody(io.BytesIO(data), len(data), Crc32Checksum(), "AAAAAA==")


@pytest.mark.parametrize("damage", [cut, reset, corrupted])
def test_fault_26_damaged_body_is_tried_again_and_publishes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], Any]
) -> None:
    state = world.drop(tickets_csv(200))
    store = edge.store(world.bucket)
    whole = store._body
    with monkeypatch.context() as broken:
        broken.setattr(store, "_body", lambda *where: damage(whole(*where).read()))
        with pytest.raises(RetryableError):
            world.run(state, until="clean")
    assert not world.listed("clean/")
    assert not world.listed("rejected/")
    assert world.run(state, until="clean")["clean"]["kept"] == 200


def test_shuffled_repeated_and_killed_deliveries_lose_nothing_and_double_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQS does it: at least once, in any order, again after a crash; never for ever."""
    chance = random.Random(5)
    events = [world.put(f"exports/shop/{i}.csv", tickets_csv(i + 1)) for i in range(40)]
    waiting = [event for event in events for _ in range(chance.randint(1, 20))]
    chance.shuffle(waiting)
    start = drop_handler.Intake._execute

    def dies(intake: drop_handler.Intake, run: Run) -> None:
        fate = chance.random()
        if fate < 0.1:
            raise KeyboardInterrupt
        start(intake, run)
        if fate > 0.9:
            raise KeyboardInterrupt

    monkeypatch.setattr(drop_handler.Intake, "_execute", dies)
    while waiting:
        batch, waiting = waiting[:10], waiting[10:]
        try:
            assert world.take(*batch) == {"batchItemFailures": []}
        except KeyboardInterrupt:  # the whole batch becomes visible again
            waiting += batch
            chance.shuffle(waiting)
    keys = sorted(state["run"]["key"] for state in world.executions())
    assert keys == sorted(event["detail"]["object"]["key"] for event in events)
