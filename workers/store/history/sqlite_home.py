"""A history store in a SQLite file, which may be replaced by another while processes have it open.

Called by ``dialect.home_of``. The store's path is the file itself, or, once it was rebuilt, a symbolic link to a
numbered file. A link is replaced in one step, and each file keeps a write-ahead log of its own: a log that stayed
behind under the name of another database would be replayed into it.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DisconnectionError

from workers.domain.errors import ConfigError, TransientFailure
from workers.store.history.home import HALF_WAY, WRITE
from workers.system.lock_file import LockFile

_FILE: Final = "douse_file"
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY")
_DAMAGED: Final = frozenset({11, 26})
"""SQLITE_CORRUPT, SQLITE_NOTADB."""
_COMPANIONS: Final = ("-wal", "-shm", "-journal")


class SqliteHome:
    """Implements ``Home``."""

    def __init__(self, url: URL, busy_s: float) -> None:
        """Raises ``ConfigError`` when it names no file that could be a store."""
        if url.database in (None, "", ":memory:"):
            raise ConfigError(f"history: {str(url)!r} names no file; write sqlite:////absolute/path")
        self._url = url
        self._busy_s = busy_s
        self._path = Path(url.database or "").absolute()
        self._claimed: LockFile | None = None
        _private_file(self._path)

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def engine(self) -> Engine:
        engine = create_engine(self._url, connect_args={"timeout": self._busy_s, "uri": True})

        @event.listens_for(engine, "do_connect")
        def _find(_dialect: Any, record: Any, arguments: list[Any], _named: Any) -> None:
            # By its own name and never created: the file that the link named a moment ago may be gone by now.
            live = os.path.realpath(self._path)
            record.info[_FILE] = _identity(live)
            arguments[0] = f"file:{quote(live)}?mode=rw"

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, _record: Any) -> None:
            # The driver's own transactions begin late and never IMMEDIATE: _begin begins them instead.
            connection.isolation_level = None
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "checkout")
        def _follow(_connection: Any, record: Any, _proxy: Any) -> None:
            if record.info[_FILE] != _identity(self._path):
                raise DisconnectionError("another file is the store now; the pool connects to that one")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # A deferred transaction that turns into a writer fails at once when another wrote in between.
            writes = connection.get_execution_options().get(WRITE, False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
            # A rebuild that replaces a store holds its write lock meanwhile, so this check never comes too early.
            if writes and connection.info[_FILE] != _identity(self._path):
                connection.exec_driver_sql("ROLLBACK")
                raise TransientFailure("a rebuilt history store has replaced this one", code="store_replaced")

        return engine

    def check(self, engine: Engine) -> None:
        try:
            with engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        except DatabaseError as error:
            if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            found = str(error.orig)
        if found != "ok":
            raise ConfigError(
                f"history: {self._path} is damaged: {' '.join(str(found).split())}; keep a copy, move it and its -wal "
                "away, and start again: the projector folds what the log still has"
            )

    def prepare(self, connection: Connection) -> None:
        """Nothing: the file is there."""

    def claim(self) -> None:
        self._claimed = LockFile(self._path.with_name(f"{self._path.name}.rebuild.lock"))
        self._sweep()

    def beside(self) -> "SqliteHome":
        live = Path(os.path.realpath(self._path))
        number = max((number for number, _ in self._numbered()), default=0) + 1
        new = live.with_name(f"{self._path.name}.rebuilt-{number}")
        return SqliteHome(self._url.set(database=str(new)), self._busy_s)

    def replace(self, connection: Connection, *, keep: bool, reach: Callable[[str], None]) -> str:
        """Done when it returns."""
        _number, new = max(self._numbered())
        kept = self._keep() if keep else ""
        link = self._path.with_name(f"{self._path.name}.link")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(new, self._path.parent))
        reach(HALF_WAY)
        link.rename(self._path)
        _sync(self._path.parent)
        return kept

    def release(self) -> None:
        if self._claimed is not None:
            self._sweep()
            self._claimed.release()
            self._claimed = None

    def _keep(self) -> str:
        kept = self._path.with_name(f"{self._path.name}.before-rebuild")
        kept.unlink(missing_ok=True)
        engine = self.engine()
        try:
            # On a connection of its own: it reads what is committed, whatever lock another one holds.
            with closing(engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
                cursor.execute("VACUUM INTO ?", (str(kept),))
        finally:
            engine.dispose()
        kept.chmod(0o600)
        return str(kept)

    def _numbered(self) -> Iterator[tuple[int, Path]]:
        """The files of rebuilds, the live one among them if it is one."""
        name = re.compile(re.escape(self._path.name) + r"\.rebuilt-([0-9]+)")
        for path in Path(os.path.realpath(self._path)).parent.iterdir():
            if found := name.fullmatch(path.name):
                yield int(found[1]), path

    def _sweep(self) -> None:
        """Remove what is not live. A process that still has it open keeps it until it closes it."""
        live = Path(os.path.realpath(self._path))
        dead = [path for _, path in self._numbered() if path != live]
        for path in dead:
            path.unlink(missing_ok=True)
        for path in dead if live == self._path else [*dead, self._path]:
            for companion in _COMPANIONS:
                path.with_name(path.name + companion).unlink(missing_ok=True)


def _identity(path: str | Path) -> tuple[int, int]:
    """Which file it is; a name does not prove that."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked at every transaction
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _private_file(path: Path) -> None:
    """History holds command lines and file names: its file belongs to its user alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"history: {path} cannot be used: {error.strerror}") from None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
