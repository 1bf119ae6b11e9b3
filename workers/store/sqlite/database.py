"""One SQLite file that survives a crash at any instant: opened by one process, written by one thread at a time.

Called by ``store.journal`` and ``store.ledger``. Threads write one after the other and wait for the disk together
(``group_sync``): SQLite leaves its log unsynced, and no thread leaves a transaction, or returns what it read, before
the log is on the disk. Translates SQLite's errors; never retries, never loses a commit it reported, never
goes on after an I/O error.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from workers.domain.errors import ConfigError, InUse, LimitExceeded, PermanentFailure, Problem, WorkerError
from workers.store.sqlite import files
from workers.store.sqlite.digests import Digests
from workers.store.sqlite.group_sync import GroupSync
from workers.store.sqlite.mark import Mark

Migration: TypeAlias = Sequence[str]

RESERVE_BYTES: Final = 4 << 20
"""Space kept free inside the file: some 400 executions at 10 KiB each, their records still waiting for the broker."""

TOP_UP_EVERY: Final = 64
"""Commits between two checks of the reserve."""

_TRANSLATED: Final = (sqlite3.OperationalError, sqlite3.DatabaseError)


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file holds: ``migrations[n]`` leads from version n to n + 1 and is frozen once released."""

    application_id: int
    """Written into the file, so that a ledger is never opened as a journal."""
    migrations: Sequence[Migration]
    if_damaged: str = "restore it from a copy, or move it away"
    """What an operator should do about a damaged file, and what that costs."""


class Database:
    """The file, its lock and its one connection."""

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        """Open, or make, the file; ``reserve_bytes`` 0 keeps no reserve. ``sync`` makes a descriptor's file durable.

        Raises:
            ConfigError: the path cannot be used, the file is damaged, something else, or of a newer version.
            LimitExceeded: ``journal_full``.
            InUse: another process uses it.
            PermanentFailure: ``journal_io`` where the disk fails.
        """
        self._path = path
        self._schema = schema
        self._reserve = reserve_bytes
        self._lock = threading.RLock()
        self._writing = False
        self._broken: WorkerError | None = None
        self._commits = 0
        self._promised = 0
        """The newest commit that a caller may rely on."""
        files.prepare(path)
        self._connection = self._connect()
        self._log = files.open_log(path)
        self._synced = GroupSync(lambda: sync(self._log.fileno()), lambda: self._commits)
        self._digests = Digests(self._connection)
        self._mark: Mark | None = None
        try:
            self._check_content()
            self._migrate(schema)
            self._digests.watch()
            files.reserve_log(path, reserve_bytes)
            self._top_up()
        except BaseException:
            self._close_files()
            raise

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Exclusive; on leaving commits, and waits for the disk; rolls back on an exception. Not ``durable`` leaves
        the wait to the next commit: if losing the work only repeats something harmless.

        Raises:
            LimitExceeded: ``journal_full``; nothing was changed, and later transactions may succeed.
            PermanentFailure: ``journal_io``; nothing may be assumed, and every later transaction raises it too.
            RuntimeError: this thread is inside a transaction already.
        """
        with self._lock:
            with self._committing() as connection:
                yield connection
            self._commits += 1
            number, stored = self._commits, self._digests.commits
            if durable:
                self._promised = number
            if number % TOP_UP_EVERY == 0:
                self._top_up()
        if durable:
            self._make_durable(number)
            if self._mark is not None:
                self._mark.write(stored)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The committed state, durable when this is left; inside a transaction of this thread, that transaction's own.

        Raises:
            PermanentFailure: ``journal_io``.
        """
        with self._lock, self._translating():
            yield self._connection
            read_up_to = 0 if self._writing else self._promised
        self._make_durable(read_up_to)

    def verify(self) -> None:
        """Compare all content with its digests, as at the start: 0.3 s for 100 MB. Holds up every other caller.

        Raises:
            PermanentFailure: ``journal_io``; every later transaction raises it too.
        """
        with self._lock, self._translating():
            differing = self._digests.differing()
        if differing:
            self._broken = PermanentFailure(str(self._differs(differing)), code="journal_io")
            raise self._broken

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._close_files()
            with suppress(OSError):
                files.reserve_log(self._path, self._reserve)

    def _close_files(self) -> None:
        self._log.close()
        self._connection.close()
        if self._mark is not None:
            self._mark.close()
            self._mark = None

    def _make_durable(self, number: int) -> None:
        try:
            self._synced.reach(number)
        except OSError as error:
            self._broken = PermanentFailure(
                f"the journal cannot be trusted any more: its log did not reach the disk: {error.strerror}",
                code="journal_io",
            )
            raise self._broken from error

    @contextmanager
    def _committing(self) -> Iterator[sqlite3.Connection]:
        if self._writing:
            raise RuntimeError("a transaction is open on this thread already; transactions do not nest")
        if self._broken is not None:
            raise self._broken
        connection = self._connection
        self._writing = True
        try:
            with self._translating():
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                self._digests.write()
                connection.execute("COMMIT")
                self._digests.committed()
        finally:
            self._writing = False
            self._digests.forget()
            self._roll_back()

    def _roll_back(self) -> None:
        """Nothing of a transaction remains, however it ended."""
        with suppress(sqlite3.OperationalError):  # the failure that led here is on its way to the caller already
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if type(error) not in _TRANSLATED:  # misuse and broken constraints are bugs: they come through as they are
                raise
            failure = translate(error)
            # A page cache that failed to reach the disk once must not be trusted again: only a new start re-reads it.
            if isinstance(failure, PermanentFailure):
                self._broken = failure
            raise failure from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0.0)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # before WAL: a second process is refused at once
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")  # syncs at checkpoints; GroupSync syncs the log
            connection.execute("PRAGMA temp_store=MEMORY")
            connection.execute(f"PRAGMA wal_autocheckpoint={self._checkpoint_pages():d}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()  # indexes too
        except sqlite3.Error as error:
            connection.close()
            raise self._at_opening(error) from error
        if found != "ok":
            connection.close()
            raise self._damaged(found)
        return connection

    def _check_content(self) -> None:
        try:
            differing = self._digests.differing()
            self._mark = Mark(self._path)
            missing = self._mark.read() - self._digests.commits
        except sqlite3.Error as error:
            raise self._at_opening(error) from error
        except OSError as error:
            raise ConfigError((Problem(f"{self._path}-mark", f"cannot be used: {error.strerror}"),)) from error
        if differing:
            raise self._differs(differing)
        if missing > 0:
            raise self._damaged(
                f"its last {missing} commits are gone: its log ({self._path.name}-wal) was damaged, cut or deleted, or "
                "this is an older copy"
            )

    def _at_opening(self, error: sqlite3.Error) -> WorkerError:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY:
                reason = f"{self._path} is in use by another process; stop that one first"
                return InUse(reason)
            case sqlite3.SQLITE_NOTADB:
                return self._damaged("it is not a database, or its first page is damaged")
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
                return self._damaged(str(error))
            case _:
                return translate(error)

    def _differs(self, tables: Sequence[str]) -> ConfigError:
        return self._damaged(f"the content of {', '.join(tables)} is not what was written")

    def _damaged(self, found: str) -> ConfigError:
        reason = f"is damaged: {' '.join(found.split())}; {self._schema.if_damaged}"
        return ConfigError((Problem(str(self._path), reason),))

    def _checkpoint_pages(self) -> int:
        """SQLite's own 1000, or less, so that the log starts over while it is still inside its reserve."""
        return min(1000, self._reserve // 2 // 4096) or 1000

    def _migrate(self, schema: Schema) -> None:
        version, newest = self._pragma("user_version"), len(schema.migrations)
        application = self._pragma("application_id")
        if version and application != schema.application_id:
            raise ConfigError((Problem(str(self._path), "is another kind of file; correct the path"),))
        if version > newest:
            reason = f"was written by a newer version (schema {version}, this one knows {newest}); upgrade, or restore"
            raise ConfigError((Problem(str(self._path), reason),))
        if version == newest and self._digests.kept():
            return
        with self.transaction() as connection:
            for migration in schema.migrations[version:]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={schema.application_id:d}")
            connection.execute(f"PRAGMA user_version={newest:d}")
            self._digests.keep()

    def _pragma(self, name: str) -> int:
        with self.reading() as connection:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _top_up(self) -> None:
        """Let the file hold free pages again, so that a full disk stops growth but not work. Best effort: where there
        is no space for a reserve, there may still be enough for the work itself."""
        missing = self._reserve - self._pragma("freelist_count") * self._pragma("page_size")
        if missing <= self._reserve // 2:
            return
        with suppress(LimitExceeded):
            with self._committing() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS reserve (filler BLOB)")
                connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (missing,))
            with self._committing() as connection:
                connection.execute("DELETE FROM reserve")


def translate(error: sqlite3.Error) -> WorkerError:
    """A full disk is a limit; everything else is the disk's or the file's fault."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return LimitExceeded("no space left for the journal", code="journal_full")
    return PermanentFailure(f"the journal cannot be trusted any more: {error}", code="journal_io")
