"""The dispatcher's ledger on SQLite: intake offsets, rows of any kind with timers, and the outbox, in one transaction.

Made by ``wiring``, used by the dispatcher through ``ports.Ledger``. Knows nothing of what the rows mean.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from workers.store.sqlite.database import RESERVE_BYTES, Database, Schema
from workers.store.sqlite.store import TABLES, Store, StoredTx, identity
from workers.system.ports import Randomness

_SCHEMA: Final = Schema(
    application_id=0x446F754C,  # "DouL"
    if_damaged=(
        "keep a copy, then move it, its -wal and its -mark away: the dispatcher begins a new ledger, and what was "
        "under way is shown as a conflict where nodes answer it"
    ),
    migrations=(
        (
            *TABLES,
            """CREATE TABLE rows (
                kind TEXT NOT NULL,
                key TEXT NOT NULL,
                value BLOB NOT NULL,
                due_ns INTEGER NOT NULL,
                PRIMARY KEY (kind, key))""",
            "CREATE INDEX rows_due ON rows (kind, due_ns, key) WHERE due_ns > 0",
        ),
    ),
)

_LAST: Final = "\U0010ffff"
"""Sorts behind every other character in SQLite's byte order."""


class SqliteLedgerTx(StoredTx):
    """One ledger transaction."""

    def get(self, kind: str, key: str) -> bytes | None:
        row = self._connection.execute("SELECT value FROM rows WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return row[0] if row is not None else None

    def put(self, kind: str, key: str, value: bytes, *, due_ns: int = 0) -> None:
        self._connection.execute(
            """INSERT INTO rows VALUES (?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET value = excluded.value, due_ns = excluded.due_ns""",
            (kind, key, value, due_ns),
        )

    def delete(self, kind: str, key: str) -> None:
        self._connection.execute("DELETE FROM rows WHERE kind = ? AND key = ?", (kind, key))

    def due(self, kind: str, now_ns: int, *, limit: int = 500) -> Sequence[tuple[str, bytes]]:
        return self._connection.execute(
            """SELECT key, value FROM rows WHERE kind = ? AND due_ns > 0 AND due_ns <= ?
               ORDER BY due_ns, key LIMIT ?""",
            (kind, now_ns, limit),
        ).fetchall()

    def scan(self, kind: str, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        return self._connection.execute(
            "SELECT key, value FROM rows WHERE kind = ? AND key >= ? AND key < ? ORDER BY key",
            (kind, prefix, prefix + _LAST),
        ).fetchall()


class SqliteLedger(Store):
    """``ports.Ledger`` on one file."""

    def __init__(self, path: Path, *, randomness: Randomness, reserve_bytes: int = RESERVE_BYTES) -> None:
        """Open or create the ledger.

        Raises:
            ConfigError, LimitExceeded, PermanentFailure: see ``Database``.
        """
        super().__init__(Database(path, _SCHEMA, reserve_bytes=reserve_bytes))
        try:
            born = str(uuid.UUID(bytes=randomness.bytes(16), version=4))
            identity(self._database, born=born, owner="", chain="dispatcher/{identity}")
        except BaseException:
            self.close()
            raise

    @contextmanager
    def begin(self) -> Iterator[SqliteLedgerTx]:
        with self._database.transaction() as connection:
            tx = SqliteLedgerTx(connection)
            yield tx
            tx.finish()
