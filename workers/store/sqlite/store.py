"""Offsets, outbox, record numbers and chain head: what every durable producer keeps beside its own rows.

Called by ``store.journal`` and ``store.ledger``, which add their own tables. Offsets and chains never go back.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from workers.domain.errors import PermanentFailure
from workers.domain.ids import ChainId, LogId
from workers.domain.log.record import Headers, LogPosition, OutRecord
from workers.domain.trust.audit import GENESIS, ChainHead
from workers.log.ports import OutboxRow
from workers.store.sqlite.database import Database, Migration
from workers.wire.json_columns import JsonColumn

HEADERS: Final = JsonColumn[Headers](Headers)

TABLES: Final[Migration] = (
    """CREATE TABLE producer (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        identity TEXT NOT NULL,
        owner TEXT NOT NULL,
        floor_ns INTEGER NOT NULL DEFAULT 0,
        record_no INTEGER NOT NULL DEFAULT 0,
        chain_id TEXT NOT NULL,
        chain_no INTEGER NOT NULL DEFAULT 0,
        chain_hash BLOB NOT NULL)""",
    """CREATE TABLE offsets (
        log_id TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (log_id, topic, partition)) WITHOUT ROWID""",
    # AUTOINCREMENT: a row id is never used twice, so a late acknowledgement can never hit another record.
    """CREATE TABLE outbox (
        row_id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        partition INTEGER,
        key BLOB,
        value BLOB,
        headers TEXT NOT NULL)""",
)


class StoredTx:
    """The half of a transaction that ``ports.RecordTx`` names, and offsets.

    What every record of a transaction moves is kept here and written once, by ``finish``.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        """``connection`` is inside a transaction."""
        self._connection = connection
        row = connection.execute("SELECT floor_ns, record_no, chain_id, chain_no, chain_hash FROM producer").fetchone()
        self._floor_ns, self.record_no = row[:2]
        self._head = ChainHead(ChainId(row[2]), *row[3:])
        self._before = (self._floor_ns, self.record_no, self._head)
        self._positions: dict[LogPosition, int] = {}

    def advance(self, position: LogPosition, next_offset: int) -> None:
        """Everything below ``next_offset`` is taken in; a lower one than before changes nothing."""
        self._positions[position] = max(next_offset, self._positions.get(position, 0))

    def publish(self, record: OutRecord) -> None:
        self._connection.execute(
            "INSERT INTO outbox (topic, partition, key, value, headers) VALUES (?, ?, ?, ?, ?)",
            (record.topic, record.partition, record.key, record.value, HEADERS.text(record.headers)),
        )

    def next_record_no(self) -> int:
        """Take the next number; the first is 0."""
        self.record_no += 1
        return int(self.record_no) - 1

    def chain_head(self) -> ChainHead:
        return self._head

    def set_chain_head(self, head: ChainHead) -> None:
        """Move the chain on. Raises ``ValueError`` for another chain, or one that does not move forward."""
        if head.chain_id != self._head.chain_id or head.next_no <= self._head.next_no:
            raise ValueError(f"the chain cannot move from {self._head} to {head}")
        self._head = head

    def finish(self) -> None:
        """Write what was kept; the transaction's last statement."""
        self._connection.executemany(
            """INSERT INTO offsets VALUES (?, ?, ?, ?)
               ON CONFLICT DO UPDATE SET next_offset = max(next_offset, excluded.next_offset)""",
            ((p.log_id, p.topic, p.partition, next_offset) for p, next_offset in self._positions.items()),
        )
        if (self._floor_ns, self.record_no, self._head) != self._before:
            self._connection.execute(
                "UPDATE producer SET floor_ns = ?, record_no = ?, chain_no = ?, chain_hash = ?",
                (self._floor_ns, self.record_no, self._head.next_no, self._head.hash),
            )


class Store:
    """The half of a store that ``ports.Outbox`` names, and offsets."""

    def __init__(self, database: Database) -> None:
        """``database`` has ``TABLES``."""
        self._database = database

    def outbox(self, *, after: int = 0, limit: int = 500) -> Sequence[OutboxRow]:
        with self._database.reading() as connection:
            rows = connection.execute(
                """SELECT row_id, topic, key, value, headers, partition FROM outbox
                   WHERE row_id > ? ORDER BY row_id LIMIT ?""",
                (after, limit),
            ).fetchall()
        with checked_columns():
            return [OutboxRow(r[0], OutRecord(r[1], r[2], r[3], HEADERS.read(r[4]), r[5])) for r in rows]

    def acknowledge(self, row_ids: Iterable[int]) -> None:
        """Not synced by itself: losing it sends a record once more, which is allowed."""
        with self._database.transaction(durable=False) as connection:
            connection.executemany("DELETE FROM outbox WHERE row_id = ?", ((row_id,) for row_id in row_ids))
            self._acknowledged(connection)

    def next_offset(self, position: LogPosition) -> int | None:
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT next_offset FROM offsets WHERE log_id = ? AND topic = ? AND partition = ?",
                (position.log_id, position.topic, position.partition),
            ).fetchone()
        return row[0] if row is not None else None

    def positions(self) -> Mapping[LogPosition, int]:
        with self._database.reading() as connection:
            rows = connection.execute("SELECT log_id, topic, partition, next_offset FROM offsets").fetchall()
        return {LogPosition(LogId(row[0]), row[1], row[2]): row[3] for row in rows}

    def verify(self) -> None:
        self._database.verify()

    def close(self) -> None:
        self._database.close()

    def _acknowledged(self, connection: sqlite3.Connection) -> None:
        """What else follows from records being gone; in the same transaction."""


@contextmanager
def checked_columns() -> Iterator[None]:
    """Around reading columns. Raises ``PermanentFailure`` (``journal_io``) for one that does not hold what was written
    into it: a damaged column never becomes a claim or an outcome."""
    try:
        yield
    except ValueError as error:
        raise PermanentFailure(f"the file is damaged: {error}", code="journal_io") from error


def identity(database: Database, *, born: str, owner: str, chain: str) -> tuple[str, str]:
    """The file's identity and owner, as they were when it was created; ``born``, ``owner`` and ``chain`` (with
    ``{owner}`` and ``{identity}`` to fill in) count only when this call creates it."""
    with database.transaction() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO producer (one, identity, owner, chain_id, chain_hash) VALUES (1, ?, ?, ?, ?)",
            (born, owner, chain.format(owner=owner, identity=born), GENESIS),
        )
        row = connection.execute("SELECT identity, owner FROM producer").fetchone()
    return row[0], row[1]
