"""All that differs between databases: how to connect, how a write transaction begins, and the upsert.

Called by ``store``, ``writing`` and ``schema``. Another database is another entry here and nothing anywhere else.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, ColumnElement, Connection, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.sql.dml import Insert

from workers.core.errors import ConfigError, PermanentFailure, TransientFailure

WRITE: Final = "douse_write"
"""Execution option of a connection whose transaction will write."""

BUSY_S: Final = 5.0
"""Seconds that a connection waits for SQLite's one writer before it gives up."""

_INSERT: Final[dict[str, Callable[[Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def open_engine(url: str, *, busy_s: float = BUSY_S) -> Engine:
    """An engine for a store's URL: ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``.

    Raises:
        ConfigError: not such a URL, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError("history: this is no database URL; write sqlite:////path or postgresql+psycopg://…") from None
    if backend not in _INSERT:
        raise ConfigError(f"history: {backend} is not supported; use sqlite or postgresql+psycopg")
    try:
        return _sqlite(parsed, busy_s) if backend == "sqlite" else create_engine(parsed, pool_pre_ping=True)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise ConfigError(f"history: the driver of {parsed.drivername} is not installed") from None


def insert_new(connection: Connection, table: Table) -> Insert:
    """An insert that leaves a row alone that is there already."""
    statement: Insert = _INSERT[connection.dialect.name](table).on_conflict_do_nothing()
    return statement


def insert_or_replace(
    connection: Connection, table: Table, *, when: Callable[[Any], ColumnElement[bool]] | None = None
) -> Insert:
    """An insert that replaces the row of the same primary key; ``when`` it holds of the new row, if given."""
    statement = _INSERT[connection.dialect.name](table)
    keys: Sequence[str] = [column.name for column in table.primary_key]
    new = statement.excluded
    replaced: Insert = statement.on_conflict_do_update(
        index_elements=keys,
        set_={column.name: new[column.name] for column in table.c if column.name not in keys},
        where=None if when is None else when(new),
    )
    return replaced


@contextmanager
def translated() -> Iterator[None]:
    """SQLAlchemy's errors as ours.

    Raises:
        TransientFailure: the database is away or busy.
        PermanentFailure: ``history_io``: it refuses, or its file is damaged.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise TransientFailure(f"the history database does not answer: {_cause(error)}") from error
    except DatabaseError as error:
        raise PermanentFailure(f"the history database refuses: {_cause(error)}", code="history_io") from error


def _cause(error: DatabaseError | InterfaceError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig is not None else type(error).__name__


def _sqlite(url: URL, busy_s: float) -> Engine:
    database = url.database or ""
    if database in ("", ":memory:"):
        raise ConfigError(f"history: {str(url)!r} names no file; write sqlite:////absolute/path")
    _private_file(Path(database))
    engine = create_engine(url, connect_args={"timeout": busy_s})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own transactions begin late and never IMMEDIATE; ours begin in _begin.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that turns into a writer fails at once when another wrote in between.
        writes = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _private_file(path: Path) -> None:
    """History holds command lines and file names: its file belongs to its user alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"history: {path} cannot be used: {error.strerror}") from None
