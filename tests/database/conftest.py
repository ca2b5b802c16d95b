"""One PostgreSQL server for the folder, with tickets and messages of a fictional shop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database.deployment import Deployment
from tests.support.postgres import Postgres, running_postgres

TICKETS = 3000
SCHEMA = (
    """CREATE TABLE tickets (
        id bigint PRIMARY KEY, question text NOT NULL, answer text, customer_email text,
        total numeric(10, 2), tags jsonb, updated_at timestamptz, closed_at timestamp,
        raw bytea, opened date, trace uuid)""",
    """CREATE TABLE messages (conversation_id bigint, role text, body text,
        sent_at timestamptz, closed_at timestamptz)""",
    # Every 10th ticket has no answer; 7 tickets share each updated_at.
    f"""INSERT INTO tickets SELECT i, 'Where is order ' || i || '?',
        CASE WHEN i % 10 = 0 THEN NULL ELSE 'Order ' || i || ' is on its way 🚚 — sœur' END,
        'c' || i || '@example.com', i + 0.5, '{{"n": [1, null]}}',
        '2026-01-01T00:00:00Z'::timestamptz + ((i - 1) / 7) * interval '1 minute',
        '2026-01-01'::timestamp + i * interval '1 second', 'gr\\303\\274n'::bytea,
        '2026-01-01'::date, '00000000-0000-0000-0000-000000000001'
        FROM generate_series(1, {TICKETS}) i""",  # noqa: S608
    """INSERT INTO messages SELECT c, CASE WHEN turn % 2 = 1 THEN 'customer' ELSE 'agent' END,
        'turn ' || turn || ' of ' || c, '2026-01-01T00:00:00Z'::timestamptz
        + c * interval '1 hour' + turn * interval '1 minute',
        '2026-01-02T00:00:00Z'::timestamptz + c * interval '1 hour'
        FROM generate_series(1, 500) c, generate_series(1, 4) turn""",
    "CREATE SEQUENCE counter",
)


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with running_postgres() as server:
        server.execute(*SCHEMA)
        yield server


@pytest.fixture
def postgres(server: Postgres) -> Iterator[Postgres]:
    """The server as every test finds it: running, with the rows of the schema alone."""
    yield server
    server.execute(f"DELETE FROM tickets WHERE id > {TICKETS}")  # noqa: S608


@pytest.fixture
def shop(aws: None, postgres: Postgres) -> Deployment:
    """A deployment whose project `shop` extracts from the server."""
    return Deployment(postgres)
