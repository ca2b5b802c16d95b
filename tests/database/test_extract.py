"""Extractions from a real PostgreSQL server into S3 and DynamoDB in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from dropforge.backends.database import reading
from dropforge.backends.extraction import Extractor
from dropforge.errors import DatabaseError, DropforgeError, ProjectError, RetryableError
from tests.database.conftest import TICKETS
from tests.database.deployment import BY_ID, BY_TIME, Deployment
from tests.support.postgres import Postgres

ANSWERED = [i for i in range(1, TICKETS + 1) if i % 10]
NEW = """INSERT INTO tickets (id, question, answer, updated_at)
    SELECT i, 'New?', 'Yes.', '2026-06-01T00:00:00Z' FROM generate_series({}, {}) i"""


def test_everything_is_taken_with_its_names_and_types(shop: Deployment) -> None:
    shop.configure({"query": "SELECT * FROM tickets ORDER BY id"})

    outcome = shop.run()

    assert outcome.key == "exports/shop/extracted/all.jsonl.gz"
    assert (outcome.found.rows, outcome.found.unanswered) == (2700, 300)
    assert shop.all_ids() == ANSWERED
    assert shop.rows(outcome.key)[0] == {
        "id": 1,
        "question": "Where is order 1?",
        "answer": "Order 1 is on its way 🚚 — sœur",
        "customer_email": "c1@example.com",
        "total": "1.50",
        "tags": {"n": [1, None]},
        "updated_at": "2026-01-01T00:00:00+00:00",
        "closed_at": "2026-01-01T00:00:01",
        "raw": "grün",
        "opened": "2026-01-01",
        "trace": "00000000-0000-0000-0000-000000000001",
    }


def test_everything_again_is_dropped_only_where_it_changed(shop: Deployment) -> None:
    shop.configure({"query": "SELECT id, question, answer FROM tickets ORDER BY id"})
    shop.run()

    again = shop.run()
    assert (again.version_id, again.why) == (None, "nothing has changed")

    shop.postgres.execute(NEW.format(TICKETS + 1, TICKETS + 1))
    assert shop.run().version_id
    assert len(shop.versions()) == 2
    assert shop.keys() == ["exports/shop/extracted/all.jsonl.gz"]


@pytest.mark.parametrize("extract", [BY_TIME, BY_ID], ids=["timestamp", "integer"])
def test_each_extraction_takes_what_came_since_the_last(
    shop: Deployment, extract: dict[str, Any]
) -> None:
    shop.configure(extract)
    assert shop.run().found.rows == 2700

    nothing = shop.run()
    assert (nothing.version_id, nothing.why) == (None, "nothing new")

    shop.postgres.execute(NEW.format(TICKETS + 1, TICKETS + 5))
    outcome = shop.run()

    assert outcome.found.rows == 5
    assert [row["id"] for row in shop.rows(outcome.key)] == list(range(TICKETS + 1, TICKETS + 6))
    assert len(shop.keys()) == len(shop.versions()) == 2


def test_cursor_keeps_its_type_and_its_zone(shop: Deployment) -> None:
    shop.postgres.execute("ALTER DATABASE shop SET timezone = 'Asia/Kathmandu'")
    try:
        shop.configure(BY_TIME)
        outcome = shop.run()
    finally:
        shop.postgres.execute("ALTER DATABASE shop RESET timezone")

    assert shop.cursor == {"kind": "timestamp", "text": "2026-01-01T07:08:00+00:00"}
    assert shop.rows(outcome.key)[0]["updated_at"] == "2026-01-01T00:00:00+00:00"
    assert shop.run().why == "nothing new"


def test_rows_with_the_same_cursor_are_never_parted(shop: Deployment) -> None:
    """7 tickets share each time; 10 rows end within the second time, and all of it is taken."""
    query = BY_TIME["query"].replace("WHERE", "WHERE id <= 40 AND")
    shop.configure({**BY_TIME, "query": query, "max_rows": 10})

    first, second = shop.run(), shop.run()

    times = [{row["updated_at"] for row in shop.rows(o.key)} for o in (first, second)]
    assert first.found.more
    assert first.found.read == 14
    assert times[0].isdisjoint(times[1])
    while shop.run().version_id:
        pass
    assert shop.all_ids() == ANSWERED[:36]


def test_same_rows_give_the_same_bytes(shop: Deployment) -> None:
    shop.configure(BY_TIME)
    look = [shop.extractor().look("shop", shop.postgres.url) for _ in range(2)]

    assert look[0] == look[1]
    assert shop.keys() == []
    assert shop.cursor is None


def test_turn_in_each_row_keeps_every_row(shop: Deployment) -> None:
    query = """SELECT conversation_id, role, body, closed_at FROM messages
        WHERE closed_at > :cursor ORDER BY closed_at, conversation_id, sent_at"""
    shop.configure(
        {"query": query, "cursor": "closed_at", "start": "2025-01-01", "max_rows": 6},
        columns={"role": "role", "text": "body", "id": "conversation_id"},
    )

    outcome = shop.run()

    turns = [row["conversation_id"] for row in shop.rows(outcome.key)]
    assert turns == [1] * 4 + [2] * 4
    assert outcome.found.unanswered == 0


def test_huge_texts_and_awkward_ones_arrive_whole(shop: Deployment) -> None:
    shop.postgres.execute(
        f"""INSERT INTO tickets (id, question, answer, updated_at)
        VALUES ({TICKETS + 1}, repeat('ü', 3000000), E'line\\n"quoted"\\u2028 \\u0001 :cursor %s',
        '2026-06-01')"""  # noqa: S608
    )
    shop.configure({**BY_ID, "start": str(TICKETS)})

    (row,) = shop.rows(shop.run().key)

    assert row["question"] == "ü" * 3_000_000
    assert row["answer"] == 'line\n"quoted"\u2028 \x01 :cursor %s'


def test_many_rows_pass_in_bounded_memory(shop: Deployment) -> None:
    shop.configure(
        {
            "query": "SELECT i AS id, repeat(md5(i::text), 16) AS question, 'a' AS answer "
            "FROM generate_series(1, 200000) i"
        }
    )
    process = psutil.Process()
    before = process.memory_info().rss
    sizes: list[int] = []
    extractor = shop.extractor(lambda rows: sizes.append(process.memory_info().rss))

    outcome = extractor.look("shop", shop.postgres.url)

    assert outcome.found.rows == 200_000
    assert len(sizes) > 200
    assert max(sizes) - before < 40 << 20, "more than 40 MB for 110 MB of rows"


@pytest.fixture
def stopping(shop: Deployment) -> Iterator[Extractor]:
    """An extractor whose server goes away while it reads."""

    def stop(rows: int) -> None:
        shop.postgres.stop()

    yield shop.extractor(stop)
    shop.postgres.start()


def test_server_that_goes_away_takes_nothing_along(shop: Deployment, stopping: Extractor) -> None:
    shop.configure(BY_TIME)
    with pytest.raises(RetryableError):
        stopping.run("shop", shop.postgres.url)
    with pytest.raises(RetryableError) as unreachable:
        shop.run()

    assert shop.keys() == []
    assert shop.cursor is None
    assert shop.registry.extraction("shop")["error"] == str(unreachable.value)

    shop.postgres.start()
    assert shop.run().found.rows == 2700
    assert shop.registry.extraction("shop")["error"] is None


WRONG = {
    "a column that is not there": ("SELECT nope FROM tickets", 'column "nope" does not exist'),
    "a typo": ("SELECT * FORM tickets", "syntax error"),
    "a statement that deletes": ("DELETE FROM tickets", "only reads"),
    "a deletion inside": ("WITH d AS (DELETE FROM tickets RETURNING *) TABLE d", "only reads"),
    "a function that writes": ("SELECT nextval('counter')", "only reads"),
    "a second statement": ("SELECT 1; DELETE FROM tickets", "multiple commands"),
    "another parameter": ("SELECT * FROM tickets WHERE id > :last", ":last"),
    "a cursor that is not set": ("SELECT * FROM tickets WHERE id > :cursor", ":cursor"),
    "a time beyond Python's": ("SELECT 'infinity'::timestamptz AS answer", "to text"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_query_is_told_with_what_to_do(shop: Deployment, wrong: str) -> None:
    query, said = WRONG[wrong]
    shop.configure({"query": query})

    with pytest.raises(ProjectError, match=said) as error:
        shop.run()

    assert error.value.hint
    assert shop.registry.extraction("shop")["status"] == "failed"
    with shop.postgres.connect() as connection:
        counted = connection.execute("SELECT count(*) FROM tickets").fetchone()
    assert counted == (TICKETS,)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT id, answer FROM tickets WHERE updated_at > :cursor", "no column updated_at"),
        ("SELECT * FROM tickets", "no `:cursor`"),
        ("SELECT * FROM tickets WHERE updated_at > :cursor ORDER BY id DESC", "in the order of"),
        (
            "SELECT NULL::timestamptz AS updated_at, answer FROM tickets "
            "WHERE updated_at > :cursor",
            "NULL",
        ),
    ],
)
def test_query_that_does_not_follow_its_cursor_is_refused(
    shop: Deployment, query: str, said: str
) -> None:
    shop.configure({**BY_TIME, "query": query})
    with pytest.raises(ProjectError, match=said):
        shop.run()
    assert shop.keys() == []


def test_rows_taken_before_are_noticed(shop: Deployment) -> None:
    shop.configure({**BY_ID, "query": BY_ID["query"].replace(">", ">=")})
    shop.run()
    with pytest.raises(ProjectError, match="not newer"):
        shop.run()


def test_query_that_takes_too_long_is_ended(postgres: Postgres) -> None:
    with (
        pytest.raises(DatabaseError, match="longer"),
        reading(postgres.url, "SELECT pg_sleep(20)", None, timeout_s=1) as answer,
    ):
        list(answer.rows)


def test_nothing_secret_is_in_any_error(shop: Deployment) -> None:
    shop.configure(BY_TIME)
    urls = [
        shop.postgres.url.replace("p%40ss", "wr%40ng"),
        shop.postgres.url.replace(f":{shop.postgres.port}/", ":1/"),
        shop.postgres.url.replace("/shop", "/p%40ss%2Fword-is-no-database"),
        shop.postgres.url.replace("postgresql", "sybase"),
        "p@ss/word",
    ]
    for url in urls:
        with pytest.raises(DropforgeError) as error:
            shop.extractor().run("shop", url)
        told = f"{error.value} {error.value.__cause__} {shop.registry.extraction('shop')}"
        assert error.value.__suppress_context__ or error.value.__context__ is None
        assert "ss/word" not in told
        assert "ss%2F" not in told
        assert "127.0.0.1" not in told


def test_extraction_cut_off_before_the_cursor_moved_is_finished_by_the_next(
    shop: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.configure(BY_TIME)
    with monkeypatch.context() as cut:
        cut.setattr(Extractor, "_move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    assert shop.cursor is None
    shop.postgres.execute(NEW.format(TICKETS + 1, TICKETS + 3))

    outcome = shop.run()

    assert [row["id"] for row in shop.rows(outcome.key)] == [TICKETS + 1, TICKETS + 2, TICKETS + 3]
    assert shop.all_ids() == [*ANSWERED, TICKETS + 1, TICKETS + 2, TICKETS + 3]
    assert len(shop.versions()) == 2


def test_of_extractions_at_the_same_time_one_takes_the_rows(shop: Deployment) -> None:
    shop.configure(BY_TIME)
    together = threading.Barrier(2)
    waited = threading.local()

    def wait(rows: int) -> None:
        if not getattr(waited, "once", False):
            waited.once = True
            together.wait(10)

    with ThreadPoolExecutor(2) as pool:
        extractors = [shop.extractor(wait) for _ in range(2)]
        outcomes = list(pool.map(lambda e: e.run("shop", shop.postgres.url), extractors))

    assert sorted(o.version_id is not None for o in outcomes) == [False, True]
    assert len(shop.versions()) == 1
    assert shop.all_ids() == ANSWERED
    assert shop.run().why == "nothing new"
    assert shop.registry.extraction("shop")["revision"] == 1


def test_extraction_overtaken_by_another_doubles_nothing(shop: Deployment) -> None:
    """The slow one has read 3000 rows, the other has taken them and more, when it goes on."""
    shop.configure(BY_TIME)
    overtaken: list[Any] = []

    def overtake(rows: int) -> None:
        if not overtaken:
            overtaken.append(None)
            shop.postgres.execute(NEW.format(TICKETS + 1, TICKETS + 1))
            overtaken[0] = shop.run()

    slow = shop.extractor(overtake).run("shop", shop.postgres.url)

    assert overtaken[0].found.rows == 2701
    assert (slow.version_id, slow.why) == (None, "another extraction took the same rows")
    assert shop.all_ids() == [*ANSWERED, TICKETS + 1]
    assert shop.cursor["text"].startswith("2026-06-01")


def test_unanswered_tickets_alone_are_no_export_and_wait_for_their_answers(
    shop: Deployment,
) -> None:
    shop.configure(BY_TIME)
    shop.run()
    before = shop.cursor
    shop.postgres.execute(
        NEW.format(TICKETS + 1, TICKETS + 2).replace("'Yes.'", "NULL"),
    )

    outcome = shop.run()

    assert (outcome.version_id, outcome.found.unanswered) == (None, 2)
    assert shop.cursor == before
    shop.postgres.execute(f"UPDATE tickets SET answer = 'Now.' WHERE id > {TICKETS}")  # noqa: S608
    assert shop.run().found.rows == 2


def test_few_new_rows_wait_for_more(shop: Deployment) -> None:
    shop.configure({**BY_ID, "min_rows": 3})
    shop.run()
    shop.postgres.execute(NEW.format(TICKETS + 1, TICKETS + 2))
    assert shop.run().why == "fewer than 3 are new"
    shop.postgres.execute(NEW.format(TICKETS + 3, TICKETS + 3))
    assert shop.run().found.rows == 3


def test_another_start_begins_anew(shop: Deployment) -> None:
    shop.configure(BY_ID)
    shop.run()
    shop.configure({**BY_ID, "start": "2000"})

    assert shop.run().found.rows == 900
    assert shop.run().why == "nothing new"


def test_rows_asked_for_again_leave_the_cursor(shop: Deployment) -> None:
    shop.configure(BY_ID)
    shop.run()
    before = shop.cursor

    outcomes = [shop.extractor().again("shop", "2990", shop.postgres.url) for _ in range(2)]

    assert {o.found.rows for o in outcomes} == {9}
    assert outcomes[0].key == outcomes[1].key
    assert shop.cursor == before


def test_without_a_cursor_there_is_no_since(shop: Deployment) -> None:
    shop.configure({"query": "SELECT id FROM tickets"})
    with pytest.raises(ProjectError, match="cursor"):
        shop.extractor().again("shop", "5", shop.postgres.url)


def test_secret_may_be_written_by_rds(postgres: Postgres) -> None:
    secret = {
        "engine": "postgres",
        "host": "127.0.0.1",
        "port": postgres.port,
        "username": "shop",
        "password": postgres.password,
        "dbname": "shop",
    }
    with reading(json.dumps(secret), "SELECT 1 AS one", None) as (columns, rows):
        assert (columns, [tuple(row) for row in rows]) == (("one",), [(1,)])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id::text AS id FROM tickets WHERE question LIKE '%1?' AND id > :cursor;",
        "-- newest\nSELECT id FROM tickets WHERE id > :cursor AND answer <> ' \\:x'",
        "WITH t AS (SELECT * FROM tickets WHERE id > :cursor) SELECT id FROM t WHERE id > :cursor",
    ],
)
def test_query_may_have_casts_percents_colons_and_comments(postgres: Postgres, query: str) -> None:
    with reading(postgres.url, query, 2700) as answer:
        assert list(answer.rows)
