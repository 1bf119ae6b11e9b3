"""The node's journal on SQLite: every command from intent to published outcome, the log of truth for effects.

Made by ``wiring``, used by the node worker through ``ports.Journal``. Never lets a state, an offset or the time
floor go back.
"""

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from workers.domain.ids import ExecutionId, Incarnation, NodeId
from workers.domain.journal_entry import EntryState, JournalEntry
from workers.domain.outcome import Report, Values
from workers.store.sqlite.database import RESERVE_BYTES, Database, Schema
from workers.store.sqlite.store import HEADERS, TABLES, Store, StoredTx, checked_columns, identity
from workers.system.ports import Randomness
from workers.wire.json_columns import JsonColumn

_SCHEMA: Final = Schema(
    application_id=0x446F754A,  # "DouJ"
    if_damaged=(
        "keep a copy, then move it, its -wal and its -mark away: the node begins a new journal, and commands sent to "
        "the old one are refused; look at what is contained with douse contained"
    ),
    migrations=(
        (
            *TABLES,
            """CREATE TABLE entries (
                entry_no INTEGER PRIMARY KEY AUTOINCREMENT,
                execution_id TEXT NOT NULL UNIQUE,
                state TEXT NOT NULL,
                command BLOB NOT NULL,
                command_sha256 TEXT NOT NULL,
                received_at_ns INTEGER NOT NULL,
                expires_at_ns INTEGER NOT NULL,
                attempt INTEGER NOT NULL,
                seq INTEGER NOT NULL,
                crashes INTEGER NOT NULL,
                claim TEXT NOT NULL,
                report TEXT NOT NULL,
                late INTEGER NOT NULL,
                trace TEXT NOT NULL,
                answer BLOB NOT NULL,
                last_row INTEGER NOT NULL DEFAULT 0)""",
            "CREATE INDEX entries_by_state ON entries (state, entry_no)",
        ),
        (
            "ALTER TABLE entries ADD COLUMN executing INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE entries ADD COLUMN blame INTEGER NOT NULL DEFAULT 0",
            "ALTER TABLE entries ADD COLUMN undone_by TEXT NOT NULL DEFAULT ''",
        ),
    ),
)

_COLUMNS: Final = (
    "execution_id, state, command, command_sha256, received_at_ns, expires_at_ns,"
    " attempt, seq, crashes, claim, report, late, trace, answer, executing, blame, undone_by"
)

_HOLDS: Final = (
    "(undone_by = '' AND CASE report WHEN '' THEN 0 ELSE ifnull(json_extract(report, '$.effect_holds'), 0) END)"
)
"""As ``JournalEntry.holds``."""

_ORDER: Final = tuple(EntryState)

_CLAIM: Final = JsonColumn[Values](Values)
_REPORT: Final = JsonColumn[Report](Report)


class SqliteJournalTx(StoredTx):
    """One journal transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection`` is inside a transaction."""
        super().__init__(connection)
        self._observed: set[ExecutionId] = set()

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        return _one(self._connection, execution_id)

    def put(self, entry: JournalEntry) -> None:
        """Insert or move on an entry. Raises ``ValueError`` when its state would go back or its command change."""
        before = self.entry(entry.execution_id)
        if before is not None:
            _forward(before, entry)
        columns = _row(entry)
        self._connection.execute(
            f"""INSERT INTO entries ({_COLUMNS}) VALUES ({", ".join("?" * len(columns))})
                ON CONFLICT (execution_id) DO UPDATE SET
                    state = excluded.state, attempt = excluded.attempt, seq = excluded.seq, crashes = excluded.crashes,
                    claim = excluded.claim, report = excluded.report, late = excluded.late, trace = excluded.trace,
                    answer = excluded.answer, executing = excluded.executing, blame = excluded.blame,
                    undone_by = excluded.undone_by""",
            columns,
        )
        if entry.state is EntryState.OBSERVED:
            self._observed.add(entry.execution_id)

    def raise_floor(self, at_ns: int) -> None:
        """Time is at least ``at_ns`` from now on; an earlier one than before changes nothing."""
        self._floor_ns = max(self._floor_ns, at_ns)

    def reset_floor(self, at_ns: int) -> None:
        """Time is at least ``at_ns``, even where that is earlier than before."""
        self._floor_ns = at_ns

    def finish(self) -> None:
        """Also remember the newest record that the observed entries wait for."""
        super().finish()
        self._connection.executemany(
            """UPDATE entries SET last_row = (SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'outbox')
               WHERE execution_id = ?""",
            ((execution_id,) for execution_id in self._observed),
        )


class SqliteJournal(Store):
    """``ports.Journal`` on one file."""

    def __init__(
        self, path: Path, *, node_id: NodeId, randomness: Randomness, reserve_bytes: int = RESERVE_BYTES
    ) -> None:
        """Open or create the journal; ``node_id`` counts only when it is created: see the property.

        Raises:
            ConfigError, LimitExceeded, PermanentFailure: see ``Database``.
        """
        super().__init__(Database(path, _SCHEMA, reserve_bytes=reserve_bytes))
        try:
            born = str(uuid.UUID(bytes=randomness.bytes(16), version=4))
            names = identity(self._database, born=born, owner=node_id, chain="node/{owner}/{identity}")
        except BaseException:
            self.close()
            raise
        self._incarnation, self._node_id = Incarnation(names[0]), NodeId(names[1])

    @property
    def incarnation(self) -> Incarnation:
        """Created with the journal."""
        return self._incarnation

    @property
    def node_id(self) -> NodeId:
        """The node this journal was created for, whatever is configured later."""
        return self._node_id

    @contextmanager
    def begin(self) -> Iterator[SqliteJournalTx]:
        with self._database.transaction() as connection:
            tx = SqliteJournalTx(connection)
            yield tx
            tx.finish()

    def entry(self, execution_id: ExecutionId) -> JournalEntry | None:
        with self._database.reading() as connection:
            return _one(connection, execution_id)

    def entries(self, *states: EntryState) -> Sequence[JournalEntry]:
        marks = ", ".join("?" * len(states))
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE state IN ({marks}) ORDER BY received_at_ns, entry_no", states
            ).fetchall()
        return [_entry(row) for row in rows]

    def holding(self) -> Sequence[JournalEntry]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE state IN (?, ?) AND {_HOLDS} ORDER BY received_at_ns, entry_no",
                (EntryState.OBSERVED, EntryState.PUBLISHED),
            ).fetchall()
        return [_entry(row) for row in rows]

    def floor_ns(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute("SELECT floor_ns FROM producer").fetchone()[0])

    def prune(self, *, ended_before_ns: int) -> int:
        with self._database.transaction() as connection:
            return connection.execute(
                f"DELETE FROM entries WHERE state = ? AND expires_at_ns < ? AND NOT {_HOLDS}",
                (EntryState.PUBLISHED, ended_before_ns),
            ).rowcount

    def _acknowledged(self, connection: sqlite3.Connection) -> None:
        """An outbox empties in order, so an entry's records are gone when all up to its newest are: that needs no
        record to know its entry, and errs only towards PUBLISHED too late."""
        connection.execute(
            """UPDATE entries SET state = ? WHERE state = ?
               AND last_row < ifnull((SELECT min(row_id) FROM outbox), 9223372036854775807)""",
            (EntryState.PUBLISHED, EntryState.OBSERVED),
        )


def _forward(before: JournalEntry, after: JournalEntry) -> None:
    if _ORDER.index(after.state) < _ORDER.index(before.state):
        raise ValueError(f"{after.execution_id} cannot go back from {before.state} to {after.state}")
    if (after.command, after.command_sha256) != (before.command, before.command_sha256):
        raise ValueError(f"{after.execution_id} has another command in the journal already")


def _one(connection: sqlite3.Connection, execution_id: ExecutionId) -> JournalEntry | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM entries WHERE execution_id = ?", (execution_id,)).fetchone()
    return _entry(row) if row is not None else None


def _row(entry: JournalEntry) -> tuple[object, ...]:
    return (
        entry.execution_id,
        entry.state,
        entry.command,
        entry.command_sha256,
        entry.received_at_ns,
        entry.expires_at_ns,
        entry.attempt,
        entry.seq,
        entry.crashes,
        _CLAIM.text(entry.claim),
        _REPORT.text(entry.report) if entry.report is not None else "",
        entry.late,
        HEADERS.text(entry.trace),
        entry.answer,
        entry.executing,
        entry.blame,
        entry.undone_by,
    )


def _entry(row: Sequence[Any]) -> JournalEntry:
    (execution_id, state, command, digest, received, expires, attempt, seq, crashes, claim, report, late, *rest) = row
    trace, answer, executing, blame, undone_by = rest
    with checked_columns():
        return JournalEntry(
            execution_id=ExecutionId(execution_id),
            state=EntryState(state),
            command=command,
            command_sha256=digest,
            received_at_ns=received,
            expires_at_ns=expires,
            attempt=attempt,
            seq=seq,
            crashes=crashes,
            claim=_CLAIM.read(claim),
            report=_REPORT.read(report) if report else None,
            late=bool(late),
            trace=HEADERS.read(trace),
            answer=answer,
            executing=bool(executing),
            blame=blame,
            undone_by=ExecutionId(undone_by),
        )
