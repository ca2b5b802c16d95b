"""A SQL database, read and never written: rows come in small batches from one read-only statement.

By way of SQLAlchemy. PostgreSQL is what is tested and has its driver here (psycopg); any other
database works where SQLAlchemy has a dialect and its driver is installed, but there nothing beyond
the user's own rights keeps a query from writing, and no limit of time is set.

What drivers say holds addresses, parameters and rows, so none of it is chained or repeated, but the
database's own sentence about a statement that it could not understand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool

from dropforge.errors import DatabaseError, DropforgeError, ProjectError, RetryableError

BATCH = 200
"""Rows fetched at a time: of a megabyte each they still fit a small function's memory."""
TIMEOUT_S = 600
_PASSING = ("08", "40", "53", "55P03", "57P0", "58")
"""SQLSTATEs, or how they begin, of what passes: connection, conflict, resources, shutdown."""
_PSYCOPG = {
    "connect_timeout": 10,
    "application_name": "dropforge-extract",
    # A server that vanished is noticed after a minute, not after two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_ADDRESS_HINT = (
    "The secret holds a URL as postgresql://USER:PASSWORD@HOST:5432/DATABASE, with what is special "
    "in the password percent-encoded (docs/operations.md)."
)


class Answer(NamedTuple):
    """What a query gives: the names of its columns, and its rows as they come."""

    columns: tuple[str, ...]
    rows: Iterator[Sequence[Any]]


@contextmanager
def reading(
    address: str, query: str, cursor: object | None, *, timeout_s: int = TIMEOUT_S
) -> Iterator[Answer]:
    """Run the query in a read-only transaction, which ends with the block.

    The query's own errors and the rows' are raised inside of the block, or when it begins.

    Args:
        address: a SQLAlchemy URL, or an RDS secret's JSON; postgresql:// means psycopg.
        cursor: what `:cursor` stands for; None where the query has none.
        timeout_s: PostgreSQL ends a statement that takes longer, in seconds.

    Raises:
        ProjectError: the database cannot make sense of the query, or it writes.
        DatabaseError: the address is wrong, or the database refuses it.
        RetryableError: the database cannot be reached, or went away meanwhile.
    """
    statement = _statement(query, cursor)
    url = _url(address)
    postgres = url.get_backend_name() == "postgresql"
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            _read_only(connection, url.get_backend_name(), timeout_s)
            values = {} if cursor is None else {"cursor": cursor}
            options = {"yield_per": BATCH}
            with connection.execute(statement, values, execution_options=options) as result:
                if not result.returns_rows:
                    raise ProjectError("extract.query gives no rows.", hint="Write a SELECT.")
                yield Answer(tuple(result.keys()), iter(result))
    except SQLAlchemyError as error:
        raise _meaning(error, query, postgres=postgres) from None
    finally:
        engine.dispose()


def _statement(query: str, cursor: object | None) -> Any:
    """The query as SQLAlchemy has it, once it is seen that `:cursor` is where it has to be."""
    statement = text(query.strip().rstrip(";"))
    named = set(statement.compile().params)
    if cursor is not None and "cursor" not in named:
        raise ProjectError(
            "extract.query has no `:cursor`.",
            hint="Write `WHERE <column> > :cursor ORDER BY <column>`, or leave `cursor:` out.",
        )
    if others := sorted(named - ({"cursor"} if cursor is not None else set())):
        raise ProjectError(
            f"extract.query has :{others[0]}, which stands for nothing.",
            hint="Only `:cursor` has a value, and only where `cursor:` is set; write a colon that "
            r"is meant as it is as `\:`.",
        )
    return statement


def _url(address: str) -> URL:
    """The address of the database; nothing of it is told where it is wrong."""
    try:
        url = _of_rds(address) if address.lstrip().startswith("{") else make_url(address.strip())
    except (ArgumentError, ValueError, TypeError, KeyError):
        raise DatabaseError("The database's URL cannot be read.", hint=_ADDRESS_HINT) from None
    if url.drivername in ("postgres", "postgresql"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _of_rds(secret: str) -> URL:
    """The URL of a secret as RDS and Secrets Manager write and rotate it."""
    found = msgspec.json.decode(secret, type=dict[str, Any])
    engine = {"postgres": "postgresql", "mariadb": "mysql"}.get(found["engine"], found["engine"])
    return URL.create(
        str(engine),
        username=found["username"],
        password=found["password"],
        host=found["host"],
        port=int(found["port"]) if "port" in found else None,
        database=found.get("dbname"),
    )


def _engine(url: URL) -> Any:
    psycopg = url.drivername == "postgresql+psycopg"
    try:
        return create_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={k: v for k, v in _PSYCOPG.items() if k not in url.query}
            if psycopg
            else {},
        )
    except (NoSuchModuleError, ImportError):
        name = url.drivername if re.fullmatch(r"[a-z0-9_+]{1,40}", url.drivername) else "this kind"
        raise DatabaseError(
            f"There is no driver for {name} here.",
            hint="PostgreSQL's is; install another's beside Dropforge, and add it to the `data` "
            "group of pyproject.toml for the Lambda function.",
        ) from None
    except (SQLAlchemyError, ValueError, TypeError):
        raise DatabaseError("The database's URL cannot be used.", hint=_ADDRESS_HINT) from None


def _read_only(connection: Connection, backend: str, timeout_s: int) -> None:
    """Have the database itself refuse what writes, where it is known how to ask for it."""
    if backend == "postgresql":
        connection.execution_options(postgresql_readonly=True)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}")
        connection.exec_driver_sql("SET LOCAL TimeZone = 'UTC'")
    elif backend == "sqlite":
        connection.exec_driver_sql("PRAGMA query_only = ON")


def _meaning(error: SQLAlchemyError, query: str, *, postgres: bool) -> DropforgeError:
    """What the error says to a person; see the module's promise about what is left out."""
    if not isinstance(error, DBAPIError):
        return DatabaseError(f"The database cannot be read ({type(error).__name__}).")
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if state.startswith(_PASSING) or error.connection_invalidated:
        return RetryableError("The database ended the connection.", hint="Nothing was taken.")
    if state == "57014":
        return DatabaseError(
            "The query takes longer than it may.",
            hint="Index the cursor column, or lower `extract.max_rows` and add a LIMIT.",
        )
    if state in ("25006", "0A000") or (state == "42601" and not _SELECTS.match(query)):
        return ProjectError(
            "extract.query is no statement that only reads.",
            hint="Write one SELECT (WITH before it is fine, as long as it changes nothing).",
        )
    if state.startswith("28") or state == "3D000":
        return DatabaseError("The database refuses the user.", hint=_ADDRESS_HINT)
    if state.startswith("42"):
        said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or state
        return ProjectError(f"extract.query: the database says: {said}.", hint=_FIX)
    if state.startswith("22") or isinstance(error, DataError):
        return ProjectError(
            "extract.query: a value cannot be read as the type it is compared or cast to.",
            hint="Look at `extract.start` and at the casts in the query; cast a value that Python "
            "has no room for, as 'infinity', to text.",
        )
    if postgres and isinstance(error, OperationalError | InterfaceError):
        return RetryableError(
            "The database cannot be reached, or refuses the user.",
            hint="Where it stays so: the host, port, user and password in the secret, and whether "
            "this network may reach it (docs/operations.md).",
        )
    return DatabaseError(
        f"The database refuses the query ({type(error.orig).__name__}).", hint=_FIX
    )


_SELECTS = re.compile(
    r"\s*(--.*\n\s*|/\*.*?\*/\s*)*\(*\s*(select|with|values|table)\b", re.I | re.S
)
_FIX = "Run the query by hand with the same user; correct `extract:` in project.yaml."
