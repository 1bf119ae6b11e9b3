"""What differs between databases: which one a URL names, the upserts, snapshots, and the translation of errors.

Called by the other modules of this package. How a database is connected to, and how one store replaces another, stands
in ``sqlite_home`` and ``postgresql_home``; a third database would be a third module.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, Table, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.sql.dml import Insert

from workers.domain.errors import ConfigError, PermanentFailure, TransientFailure
from workers.store.history.home import BUSY_S, SNAPSHOT, Home
from workers.store.history.postgresql_home import PostgresqlHome
from workers.store.history.sqlite_home import SqliteHome

_HOMES: Final[dict[str, Callable[..., Home]]] = {"sqlite": SqliteHome, "postgresql": PostgresqlHome}
_INSERT: Final[dict[str, Callable[[Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def home_of(url: str, *, busy_s: float = BUSY_S) -> Home:
    """The home that a store's URL names: ``sqlite:////absolute/path`` or ``postgresql+psycopg://…``.

    Raises:
        ConfigError: not such a URL, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError("history: this is no database URL; write sqlite:////path or postgresql+psycopg://…") from None
    if backend not in _HOMES:
        raise ConfigError(f"history: {backend} is not supported; use sqlite or postgresql+psycopg")
    try:
        return _HOMES[backend](parsed, busy_s)
    except (NoSuchModuleError, ModuleNotFoundError):
        raise ConfigError(
            f"history: the driver of {parsed.drivername} is not installed; for PostgreSQL write "
            "postgresql+psycopg://… and install douse[postgresql]"
        ) from None


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A connection on which all answers are of the same moment."""
    with engine.connect() as plain:
        chosen = plain.execution_options(**SNAPSHOT[plain.dialect.name])
        with chosen.begin():
            yield chosen


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
    """SQLAlchemy's errors as those of ``domain.errors``.

    Raises:
        TransientFailure: the database is unreachable or busy.
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
